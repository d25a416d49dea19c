"""Settings of the whole suite, made before torch and Ray are first imported, and the one Ray cluster that it shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.postgres import PostgresMissingError, PostgresServer

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share few cores: spinning thread pools stall all
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched from a hub
os.environ["RAY_AUTH_MODE"] = "disabled"  # or a local cluster writes ~/.ray/auth_token and wants it back
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# for the processes that tests start; pytest's own path is set in pyproject.toml
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "platform"), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A local Ray cluster of 8 logical CPUs, started once for the suite; yields its address.

    Eight whatever the machine has: trainers, trials and replicas each claim one, and few of them compute at a time.
    """
    import ray

    context = ray.init(address="local", num_cpus=8, object_store_memory=512 * 1024**2, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the suite's tiny base model, data and runs lie; see ``tests/tiny.py``."""
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def tiny_bundle(ray_cluster: str, tiny_folder: Path) -> Path:
    """A bundle, trained once for the suite: the whole job on two workers, a minute on two cores."""
    from rich.console import Console

    from driftline.training.trainer import train
    from tests.tiny import tiny_config

    return train(tiny_config(tiny_folder), Console()).bundle


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; without one, tests that need it are skipped, except where they must run."""
    try:
        server = PostgresServer()
    except PostgresMissingError as error:
        if os.environ.get("DRIFTLINE_REQUIRE_POSTGRES") == "1":
            raise
        pytest.skip(str(error))
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'events.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()
