"""Two real ranks on one machine, without Ray: processes with a gloo group, for what is between ranks."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def _rank(rank: int, world_size: int, store: str, job: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ["LOCAL_RANK"] = "0"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        job(rank, world_size, *arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def run_ranks(world_size: int, job: Callable[..., None], *arguments: Any) -> None:
    """``job(rank, world_size, *arguments)`` in so many processes; the first exception of a rank is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        torch.multiprocessing.spawn(_rank, (world_size, store, job, arguments), nprocs=world_size)
