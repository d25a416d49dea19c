"""Explicit values on a log of three users that can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from driftline.columns import Targets as Columns
from driftline.config import parse_config
from driftline.evaluation.ratings import rate, rating_baselines
from driftline.evaluation.report import as_json
from driftline.sequences.dataset import Dataset, load_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three users have i0 to i9 in order and give 1, 3 and 5 to all of them."""
    rows = ["user_id,item_id,timestamp,rating"]
    rows += [f"u{user},i{n},{n},{value}" for user, value in enumerate((1, 3, 5)) for n in range(10)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return load_dataset(
        parse_config({"data": {"interactions": str(log)}, "protocol": "rating", "storage": str(tmp_path)})
    )


def test_errors_by_hand(dataset: Dataset) -> None:
    """The targets are i9 with 1, 3 and 5; predictions are cut to 1..5."""
    models = {
        "three": lambda histories, items: np.full(len(items), 3.0),
        "driftline": lambda histories, items: np.array([float(h.user == "u2") * 9 + 2 for h in histories]),
    }
    result = rate(dataset, dataset.split.test, models, seed=7)
    three, own = result.models
    assert (three.metrics["MSE"].mean, three.metrics["MAE"].mean) == pytest.approx((8 / 3, 4 / 3))
    assert (own.metrics["MSE"].mean, own.metrics["MAE"].mean) == pytest.approx((2 / 3, 2 / 3))  # 2, 2 and 5
    assert result.comparisons()["three"]["MSE"].mean == pytest.approx(-2)
    assert result.rows[result.rows[Columns.MODEL] == "driftline"][Columns.PREDICTED].tolist() == [2, 2, 5]
    assert result.rows[Columns.VALUE].tolist() == [1, 3, 5] * 2
    assert as_json(result)["driftline minus"]["three"]["MAE"]["mean"] == pytest.approx(-2 / 3)


def test_baselines_read_training_events_only(dataset: Dataset) -> None:
    """Nobody gave i8 or i9 anything in training, so the means leave the user alone: (v - 3) * 8 / (8 + 10)."""
    models = rating_baselines(dataset)
    targets = dataset.split.test
    histories = [dataset.target_history(targets, number) for number in range(3)]
    items = dataset.indices(targets.item_ids)
    assert models["mean"](histories, items).tolist() == [3, 3, 3]
    assert models["user-item mean"](histories, items) == pytest.approx([3 - 16 / 18, 3, 3 + 16 / 18])
    assert np.abs(models["biased MF"](histories, items) - [1, 3, 5]).max() < 1.3
