"""A bundle of random parts measured as jobs/evaluate.py does it."""

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from driftline.config import Config
from driftline.errors import ConfigError
from driftline.evaluation import protocols as evaluator
from driftline.evaluation.protocols import ProtocolResult
from driftline.registry.bundle import write_bundle
from driftline.registry.model import load
from driftline.training.measurement import measure, protocols
from driftline.training.sibling import for_protocol
from tests.registry.parts import ITEMS, config_of, contents_of, manifest_of
from tests.tiny import write_base

LOGS = {"a": (0, 3, 5, 1, 8), "b": (2, 1, 0), "c": (4, 5, 6, 9), "d": (6, 4, 7, 8, 0, 2, 3), "e": (1, 2)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten items, five users; four of them have a target."""
    folder = tmp_path_factory.mktemp("measured")
    rows = [f"{user},{ITEMS[item]},{time}" for user, items in LOGS.items() for time, item in enumerate(items)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n", encoding="utf-8")
    (folder / "items.csv").write_text("\n".join(["item_id", *ITEMS]) + "\n", encoding="utf-8")
    data = {"interactions": str(folder / "log.csv"), "items": str(folder / "items.csv")}
    contents = contents_of(config_of(write_base(folder / "base"), folder, data=data))
    return write_bundle(folder / "bundle", contents.save, lambda: manifest_of("measured"))


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.mark.slow
def test_processes_that_share_the_targets_find_the_same_figures(
    bundle: Path, ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five tables of four targets: a batch each, and with two targets at a time ten, in whatever process."""
    alone = measure(bundle, load(bundle), "cold-user", quiet())
    shared = measure(bundle, load(bundle), "cold-user", quiet(), workers=2)
    assert [result.targets for result in alone] == [4] * 5
    for one, other in zip(alone, shared, strict=True):
        assert isinstance(one, ProtocolResult)
        assert isinstance(other, ProtocolResult)
        assert one.models == other.models
        pd.testing.assert_frame_equal(one.rows, other.rows, check_exact=True)
    names = [model.model for model in alone[0].models]
    assert names == ["popularity", "ease-recency", "markov", "driftline neural", "driftline"]
    monkeypatch.setattr(evaluator, "BATCH_TARGETS", 3)
    halves = measure(bundle, load(bundle), "cold-user", quiet())
    for one, other in zip(alone, halves, strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)


def test_all_stands_for_every_protocol_that_the_bundle_allows(bundle: Path) -> None:
    config = config_of(bundle.parent / "base", bundle.parent)
    every = ["leave-one-out", "cold-user", "temporal-successive", "cold-item", "rating"]
    assert protocols(["all"], config, quiet()) == every
    assert protocols(["rating", "leave-one-out"], config, quiet()) == ["leave-one-out", "rating"]
    console = quiet()
    assert protocols(["all"], streamed(config, rating=0), console) == ["leave-one-out", "cold-user"]
    assert isinstance(console.file, io.StringIO)
    assert "cold-item is left out: data.ingest=ray-data" in console.file.getvalue()


def test_a_protocol_that_cannot_be_measured_is_named_with_those_that_can(bundle: Path) -> None:
    config = config_of(bundle.parent / "base", bundle.parent, heads={"rating": 0})
    with pytest.raises(ConfigError) as error:
        protocols(["cold-itm", "rating"], config, quiet())
    assert "--protocol cold-itm: unknown; valid: leave-one-out, cold-user" in str(error.value)
    assert "--protocol rating: heads.rating=0, so there is no rating head" in str(error.value)


def test_no_sibling_is_trained_of_what_cannot_be_split(bundle: Path) -> None:
    model = load(bundle)
    model.config = streamed(model.config, rating=0.1)
    with pytest.raises(ConfigError, match="data.ingest=ray-data splits by user and so needs protocol=leave-one-out"):
        for_protocol(bundle, model, "cold-item", quiet())


def streamed(config: Config, rating: float) -> Config:
    data = config.data.model_copy(update={"ingest": "ray-data"})
    return config.model_copy(update={"data": data, "heads": config.heads.model_copy(update={"rating": rating})})
