"""One tiny base model for all tests of bundles."""

from pathlib import Path

import pytest

from driftline.registry.model import Model
from tests.registry.parts import config_of, contents_of
from tests.tiny import write_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("registry") / "base")


@pytest.fixture(scope="session")
def model(base: Path) -> Model:
    """With a drift part that believes in no drift."""
    return Model(contents_of(config_of(base, base.parent)))
