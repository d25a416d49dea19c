"""The champion and its challengers in a real MLflow on SQLite."""

from dataclasses import replace
from pathlib import Path

import pytest

from driftline.config import Config, parse_config
from driftline.registry.bundle import Manifest
from driftline.training.tracking import Registry, mlflow_client, tracking_uri

MANIFEST = Manifest(
    id="b1",
    protocol="leave-one-out",
    seed=0,
    data_fingerprint="aaaa",
    base_model="tiny",
    base_sha256="",
    metrics={"validation/NDCG@10": 0.1},
    versions={},
    created="2026-01-01T00:00:00+00:00",
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for the module: MLflow needs seconds to create its tables. Tests use models of their own."""
    return tmp_path_factory.mktemp("tracking")


def config_of(storage: Path, model_name: str = "driftline") -> Config:
    tracking = {"model_name": model_name, "experiment": "tests"}
    return parse_config({"storage": str(storage), "data": {"sample": "ml-100k"}, "tracking": tracking})


def register(registry: Registry, config: Config, name: str, ndcg: float, **changes: str) -> tuple[str, str]:
    """Register a bundle called ``name``."""
    bundle = config.storage / config.tracking.model_name / name
    bundle.mkdir(parents=True)
    manifest = replace(MANIFEST, id=name, metrics={"validation/NDCG@10": ndcg}, **changes)
    return registry.register(bundle, manifest)


def holder(config: Config, alias: str) -> str:
    """Name of the bundle that has an alias."""
    version = mlflow_client(config).get_model_version_by_alias(config.tracking.model_name, alias)
    return Path(version.tags["path"]).name


def test_the_better_of_comparable_bundles_is_champion(storage: Path) -> None:
    config = config_of(storage, "better")
    registry = Registry(config)
    assert register(registry, config, "b1", 0.10) == ("champion", "no champion so far")
    assert register(registry, config, "b2", 0.12) == (
        "champion",
        "validation NDCG@10 0.1200 beats the champion's 0.1000",
    )
    alias, reason = register(registry, config, "b3", 0.12)
    assert (alias, reason) == ("challenger", "validation NDCG@10 0.1200 does not beat the champion's 0.1200")
    assert (holder(config, "champion"), holder(config, "challenger")) == ("b2", "b3")
    # figures of other data or another protocol do not compare
    for name, changes in {"b4": {"data_fingerprint": "bbbb"}, "b5": {"protocol": "temporal-successive"}}.items():
        alias, reason = register(registry, config, name, 0.99, **changes)
        assert alias == "challenger"
        assert "other data or another protocol" in reason
    assert (holder(config, "champion"), holder(config, "challenger")) == ("b2", "b5")
    # a champion whose bundle is gone reigns no longer
    (config.storage / "better" / "b2").rmdir()
    alias, reason = register(registry, config, "b6", 0.05)
    assert alias == "champion"
    assert reason.endswith("b2 is gone")


def test_an_uri_of_ones_own_is_used(tmp_path: Path) -> None:
    config = config_of(tmp_path / "storage")
    assert tracking_uri(config) == f"sqlite:///{tmp_path}/storage/mlflow.db"
    own = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://mlflow:5000"})})
    assert tracking_uri(own) == "http://mlflow:5000"
