"""One rank in pytest's own process: DeepSpeed without other processes, for whatever is not between ranks."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def one_rank() -> Iterator[None]:
    """A gloo group of one, made once: DeepSpeed remembers the first group it sees."""
    import torch.distributed as dist

    os.environ.setdefault("LOCAL_RANK", "0")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
