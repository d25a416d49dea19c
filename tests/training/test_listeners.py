"""What MLflow, TensorBoard and Weights & Biases hold of a run, read back from their own files."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from driftline.config import Config, parse_config
from driftline.errors import ConfigError
from driftline.training.listeners import Listeners, MlflowRun, TensorBoardRun, listeners
from driftline.training.progress import Update
from driftline.training.tracking import mlflow_client

UPDATES = (
    Update("text", 5, 10, loss=2.5, throughput={"tokens/s": 100.0}, gauges={"gradient_norm": 0.5}),
    Update("text", 10, 10, validation={"HR@10": 0.25}),
    Update("ranker", 1, 20, loss=7.5),  # a stage counts its own steps
)
FIGURES = {
    ("text/loss", 5): 2.5,
    ("text/tokens/s", 5): 100.0,
    ("text/gradient_norm", 5): 0.5,
    ("text/HR_at_10", 10): 0.25,
    ("ranker/loss", 1): 7.5,
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for the module: MLflow needs seconds to create its tables."""
    return tmp_path_factory.mktemp("listeners")


@pytest.fixture(scope="module")
def database(storage: Path) -> str:
    """For tests that write everything else into a folder of their own."""
    return f"sqlite:///{storage / 'mlflow.db'}"


def config_of(storage: Path, **tracking: Any) -> Config:
    tracking = {"experiment": "tests", **tracking}
    return parse_config({"storage": str(storage), "data": {"sample": "ml-100k"}, "tracking": tracking})


def told(heard_by: Listeners, metrics: dict[str, float]) -> None:
    """Tell a whole run."""
    for update in UPDATES:
        heard_by.hear(update)
    heard_by.finish(metrics)


def event_figures(folder: Path) -> dict[tuple[str, int], float]:
    """(tag, step) -> value of all scalars in a folder of event files."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for event in events(path.read_bytes()):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag, event.step] = value.simple_value
    return found


def events(raw: bytes) -> Iterator[Any]:
    """Records of an event file: length, its checksum, an ``Event``, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    start = 0
    while start < len(raw):
        (length,) = struct.unpack_from("<Q", raw, start)
        yield Event.FromString(raw[start + 12 : start + 12 + length])
        start += 12 + length + 4


BLOCK, HEADER = 32_768, 7
"""W&B's file is a LevelDB log: blocks of records, each after checksum (4 bytes), length (2) and kind (1)."""


def wandb_records(folder: Path) -> Iterator[Any]:
    """All records of the one offline run under a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("offline-run-*/run-*.wandb")
    raw = path.read_bytes()
    assert raw.startswith(b":W&B")
    start, whole = HEADER, b""
    while start < len(raw):
        if BLOCK - start % BLOCK < HEADER:  # padding
            start += BLOCK - start % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", raw, start + 4)
        whole += raw[start + HEADER : start + HEADER + length]
        start += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def test_mlflow_holds_the_figures_the_configuration_and_the_end(storage: Path) -> None:
    config = config_of(storage)
    heard_by = listeners(config, "run", print)
    told(heard_by, {"validation/NDCG@10": 0.125, "ranker/NDCG@10": 9.0})
    client = mlflow_client(config)
    run = client.get_run(heard_by.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.metrics == {name: value for (name, _), value in FIGURES.items()} | {"validation/NDCG_at_10": 0.125}
    assert run.data.params["encoder.kind"] == "transformer"
    assert run.data.params["training.deepspeed.zero_stage"] == "2"
    heard = {(m.key, m.step): m.value for name, _ in FIGURES for m in client.get_metric_history(heard_by.run_id, name)}
    assert heard == FIGURES


def test_a_run_that_failed_is_marked_so(storage: Path) -> None:
    config = config_of(storage)
    heard_by = listeners(config, "fails", print)
    heard_by.fail()
    assert mlflow_client(config).get_run(heard_by.run_id).info.status == "FAILED"


def test_tensorboard_files_hold_the_figures_and_the_configuration(storage: Path) -> None:
    config = config_of(storage, tensorboard=True)
    told(listeners(config, "board", print), {"validation/NDCG@10": 0.125})
    folder = storage / "tensorboard" / "board"
    assert event_figures(folder) == FIGURES | {("validation/NDCG_at_10", 0): 0.125}
    (path,) = folder.iterdir()
    texts = [value.tensor.string_val for event in events(path.read_bytes()) for value in event.summary.value]
    assert b"zero_stage: 2" in texts[0][0]


@pytest.mark.slow
def test_an_offline_wandb_run_holds_the_figures(tmp_path: Path, database: str) -> None:
    """Each stage has a step of its own: W&B drops what comes with an earlier step than the last."""
    import json

    pytest.importorskip("wandb")
    lines: list[str] = []
    told(
        listeners(config_of(tmp_path, uri=database, wandb="offline"), "w", lines.append), {"validation/NDCG@10": 0.125}
    )
    assert not lines
    records = list(wandb_records(tmp_path / "wandb"))
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    heard = {}
    for row in rows:
        (stage,) = {name.split("/")[0] for name in row if not name.startswith("_")}
        step = row.pop(f"{stage}/step")
        heard |= {(name, step): value for name, value in row.items() if not name.startswith("_")}
    assert heard == FIGURES
    summary = [item for r in records if r.WhichOneof("record_type") == "summary" for item in r.summary.update]
    final = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in summary}
    assert final["validation/NDCG_at_10"] == 0.125


@pytest.mark.slow
def test_figures_that_are_no_numbers_break_nobody(tmp_path: Path, database: str) -> None:
    pytest.importorskip("wandb")
    config = config_of(tmp_path, uri=database, tensorboard=True, wandb="offline")
    lines: list[str] = []
    heard_by = listeners(config, "odd", lines.append)
    odd = {"gradient_norm": math.inf, "MFU": -math.inf}
    heard_by.hear(Update("text", 1, 2, loss=math.nan, gauges=odd))
    heard_by.hear(Update("text", 2, 2, loss=1.0))
    heard_by.finish({"validation/NDCG@10": math.nan})
    assert not lines
    figures = event_figures(tmp_path / "tensorboard" / "odd")
    assert math.isnan(figures["text/loss", 1])
    assert figures["text/gradient_norm", 1] == math.inf
    assert figures["text/loss", 2] == 1.0
    first, second = mlflow_client(config).get_metric_history(heard_by.run_id, "text/loss")
    assert math.isnan(first.value)
    assert second.value == 1.0


@pytest.mark.parametrize(("name", "value"), [("tensorboard", True), ("wandb", "offline")])
def test_a_place_that_cannot_be_written_is_said_before_the_run(
    tmp_path: Path, database: str, name: str, value: Any
) -> None:
    """A file lies where the folder should be (root may write to read-only folders). The MLflow run is closed."""
    if name == "wandb":
        pytest.importorskip("wandb")
    (tmp_path / name).write_text("in the way")
    config = config_of(tmp_path, uri=database, **{name: value})
    with pytest.raises(ConfigError, match=rf"`tracking.{name}`: cannot write to .*/{name}: (FileExists|NotADirectory)"):
        listeners(config, f"blocked {name}", print)
    client = mlflow_client(config)
    experiment = client.get_experiment_by_name("tests").experiment_id
    (run,) = client.search_runs([experiment], filter_string=f"run_name = 'blocked {name}'")
    assert run.info.status == "FAILED"


def test_a_tracking_server_that_is_not_there_is_said_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = config_of(tmp_path, uri="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"`tracking.uri`: cannot write to http://127.0.0.1:9: MlflowException"):
        listeners(config, "blocked", print)


def test_wandb_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"`tracking.wandb` = offline: .*pip install 'driftline\[wandb\]'"):
        listeners(config_of(tmp_path, wandb="offline"), "run", print)


def test_a_listener_that_fails_later_is_told_once_and_the_others_go_on(storage: Path) -> None:
    """Its file is closed under it; the next writes fail as they would on a full disk."""
    config = config_of(storage, tensorboard=True)
    record, board = MlflowRun(config, "later"), TensorBoardRun(config, "later")
    lines: list[str] = []
    heard_by = Listeners(record, [board], lines.append)
    heard_by.hear(Update("text", 1, 3, loss=3.0))
    board.fail()
    heard_by.hear(Update("text", 2, 3, loss=2.0))
    heard_by.hear(Update("text", 3, 3, loss=1.0))
    assert len(lines) == 1
    assert lines[0].startswith("TensorBoard takes no more figures of this run: ValueError: ")
    history = mlflow_client(config).get_metric_history(record.run_id, "text/loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert event_figures(storage / "tensorboard" / "later") == {("text/loss", 1): 3.0}
    heard_by.finish({})
    assert [line.split(":")[0] for line in lines[1:]] == ["TensorBoard could not be closed"]
    run: mlflow.entities.Run = mlflow_client(config).get_run(record.run_id)
    assert run.info.status == "FINISHED"
