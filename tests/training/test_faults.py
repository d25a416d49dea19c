"""What a cluster does to a run: every fault ends in a finished run with the undisturbed figures, or in a clear error
and a checkpoint to go on from. Real workers, real raylets, a real S3 server, a full disk. Only ``make test-faults``."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from driftline.config import Config
from driftline.errors import TrainingError
from tests.tiny import ROOT, tiny_config
from tests.training import nodes

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

TOLERANCE = 1e-6
SHORT = ("text.epochs=0", "drift.enabled=false", "training.epochs=4", "training.validate_every_epochs=1")


def run(config: Config, resume: str | None = None) -> tuple[dict[str, float], str]:
    """Train; the bundle's figures and what was on the screen."""
    from driftline.training.trainer import train

    screen = io.StringIO()
    result = train(config, Console(file=screen, width=200), resume)
    return result.metrics, screen.getvalue()


def short(folder: Path, name: str, *overrides: str) -> Config:
    return tiny_config(folder, [*SHORT, f"storage={folder / name}", f"name={name}", *overrides])


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: str, tiny_folder: Path) -> dict[str, float]:
    """The figures of the short run when nothing happens."""
    return run(short(tiny_folder, "undisturbed"))[0]


def run_name(error: TrainingError) -> str:
    """The run that an error says to go on with."""
    return str(error).rsplit("--resume ", 1)[1].split()[0]


# --- nodes ------------------------------------------------------------------------------------------------------------


def scenario(name: str, folder: Path) -> dict[str, object]:
    """Run :mod:`tests.training.nodes` in a process of its own: its cluster is not the suite's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.nodes", name, str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def undisturbed_nodes(ray_cluster: str, tiny_folder: Path) -> dict[str, float]:
    config = tiny_config(tiny_folder, [*nodes.OVERRIDES, f"storage={tiny_folder / 'undisturbed-nodes'}"])
    return run(config)[0]


def test_a_node_removed_inside_an_epoch(undisturbed_nodes: dict[str, float], tiny_folder: Path) -> None:
    found = scenario("remove", tiny_folder)
    assert found["log"] == ["node removed"]
    assert "batches into the next" in str(found["screen"])
    assert found["metrics"] == pytest.approx(undisturbed_nodes, abs=TOLERANCE)


def test_a_preemption_notice_leads_to_a_checkpoint_just_in_time(
    undisturbed_nodes: dict[str, float], tiny_folder: Path
) -> None:
    """Validation saves between epochs only: a place inside an epoch can only come from the notice. A preemption does
    not count as a failure, of which none is allowed here."""
    found = scenario("preempt", tiny_folder)
    assert found["log"] == ["checkpoint on notice", "node removed"]
    assert "a node is about to be taken away" in str(found["screen"])
    assert found["metrics"] == pytest.approx(undisturbed_nodes, abs=TOLERANCE)


def test_an_elastic_run_goes_on_with_the_worker_that_is_left(tiny_folder: Path) -> None:
    found = scenario("shrink", tiny_folder)
    assert found["log"] == ["node removed"]
    assert found["worlds"] == [1]
    assert "resuming after epoch" in str(found["screen"])
    assert found["metrics"]["ranker/NDCG@10"] > 0.03  # type: ignore[index]  # 10 of 390 at random: .012


# --- one rank fails ---------------------------------------------------------------------------------------------------


def test_the_first_failing_ranks_traceback_is_what_is_told(ray_cluster: str, tiny_folder: Path) -> None:
    """Rank 1 cannot read the data: it has no such file, while rank 0 waits for it in a collective."""
    from driftline.training import trainer

    config = short(tiny_folder, "raises", "training.max_failures=0")
    with pytest.raises(TrainingError) as caught:
        _fit_with(config, trainer, "tests.training.test_faults.fail_on_rank_1")
    told = str(caught.value)
    assert "training worker 1 failed first" in told
    assert "ZeroDivisionError" in told
    assert "test_faults.py" in told


def fail_on_rank_1(settings: dict[str, object]) -> None:
    """A train function whose second rank raises in its third batch, by an ordinary programming mistake."""
    import ray.train

    from driftline.training.loop import train_worker
    from driftline.training.stages import Stages

    original = Stages._loss
    batches = 0

    def loss(self: Stages, engine: object, batch: object) -> object:
        nonlocal batches
        batches += 1
        if ray.train.get_context().get_world_rank() == 1 and batches == 3:
            return 1 / 0
        return original(self, engine, batch)

    Stages._loss = loss  # type: ignore[method-assign,assignment]
    train_worker(settings)


def _fit_with(config: Config, trainer: object, function: str) -> None:
    """``train`` with another train function in the workers."""
    from importlib import import_module

    module, name = function.rsplit(".", 1)
    original = trainer.train_worker  # type: ignore[attr-defined]
    trainer.train_worker = getattr(import_module(module), name)  # type: ignore[attr-defined]
    try:
        run(config)
    finally:
        trainer.train_worker = original  # type: ignore[attr-defined]


def test_a_loss_that_is_no_number_is_not_tried_again_and_its_batch_is_kept(ray_cluster: str, tiny_folder: Path) -> None:
    config = short(tiny_folder, "diverges", "training.learning_rate=1e30", "training.max_failures=3")
    with pytest.raises(TrainingError, match=r"stage ranker: loss is (nan|inf) at epoch \d, step \d") as caught:
        run(config)
    (written,) = (config.storage / "runs").glob("diverges-*-failure.json")
    assert str(written) in str(caught.value)
    for rank in json.loads(written.read_text()):
        assert rank["stage"] == "ranker"
        assert len(rank["ids"]) == config.training.batch_users
        assert all(user.startswith("u") for user in rank["ids"])


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a file system: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(undisturbed: dict[str, float], tiny_folder: Path, small_disk: Path) -> None:
    """The disk fills up once the run has its first checkpoint of the ranking stage; with room again it can go on."""
    config = short(tiny_folder, "full", f"training.checkpoints.storage={small_disk}", "training.max_failures=0")
    filling, stop = small_disk / "something-else", threading.Event()

    def fill() -> None:
        while not any(state["stage"] == "ranker" for state in nodes.states(small_disk)):
            if stop.wait(0.02):
                return
        with filling.open("wb") as file, _until_full():
            while True:
                file.write(b"0" * 65536)
                file.flush()

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        with pytest.raises(TrainingError, match="No space left on device") as caught:
            run(config)
    finally:
        stop.set()
        thread.join()
    filling.unlink()
    assert run(config, run_name(caught.value))[0] == pytest.approx(undisturbed, abs=TOLERANCE)


class _until_full:
    """Ends a block at the error that the disk is full."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        return isinstance(error, OSError)


def test_a_corrupt_checkpoint_is_passed_over(undisturbed: dict[str, float], tiny_folder: Path) -> None:
    """A finished run's newest checkpoints are damaged; it goes on from the one before, to the same figures."""
    config = short(tiny_folder, "corrupt", "training.checkpoints.keep=6")
    run(config)
    (folder,) = [path for path in (config.storage / "runs").iterdir() if path.is_dir()]
    *_, older, newest = sorted(folder.glob("checkpoint_*/"))
    (newest / "files-1.json").unlink()
    weights = older / "current" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    figures, screen = run(config, folder.name)
    assert "is corrupt on another rank" in screen  # the list that is missing was that of rank 1
    assert "going back to checkpoint_" in screen
    assert figures == pytest.approx(undisturbed, abs=TOLERANCE)


def test_a_finished_run_that_another_world_looks_at_again_stays_whole(ray_cluster: str, tiny_folder: Path) -> None:
    """One worker resumes what two have finished: nothing is left to train, and its checkpoint is one of one rank."""
    from driftline.training.checkpoints import check, read

    config = short(tiny_folder, "again")
    expected, _ = run(config)
    (folder,) = [path for path in (config.storage / "runs").iterdir() if path.is_dir()]
    figures, _ = run(short(tiny_folder, "again", "training.num_workers=1"), folder.name)
    assert figures == pytest.approx(expected, abs=TOLERANCE)
    newest = max(folder.glob("checkpoint_*/"))
    check(newest)
    assert read(newest).progress.world_size == 1


def test_checkpoints_in_an_s3_bucket(undisturbed: dict[str, float], tiny_folder: Path, bucket: str) -> None:
    """Given up after a worker was killed, and resumed by name: all that is known of the run lies in the bucket."""
    import signal

    from tests.training.test_recovery import _worker_pid

    config = short(tiny_folder, "s3", f"training.checkpoints.storage={bucket}", "training.max_failures=0")
    from driftline.training.storage import Runs

    def kill() -> None:
        while not _checkpoints(bucket):
            time.sleep(0.05)
        import ray

        os.kill(_worker_pid(ray.get_runtime_context().gcs_address), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(TrainingError, match=r"training worker \d died") as caught:
        run(config)
    thread.join()
    name = run_name(caught.value)
    assert Runs.of(config).names() == [name]
    assert run(config, name)[0] == pytest.approx(undisturbed, abs=TOLERANCE)


def _checkpoints(bucket: str) -> list[str]:
    import pyarrow.fs

    files, path = pyarrow.fs.FileSystem.from_uri(bucket)
    found = files.get_file_info(pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True))
    return [info.path for info in found if info.base_name == "state.json"]


@pytest.fixture
def bucket() -> Iterator[str]:
    """An S3-compatible server on a free port, and the URI of a folder in a bucket of it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    import httpx

    httpx.put(f"http://{host}:{port}/driftline").raise_for_status()
    yield f"s3://test:test@driftline/runs?endpoint_override={host}%3A{port}&scheme=http&region=us-east-1"
    server.stop()
