"""A log whose truth is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from driftline.catalog.items import read_items
from driftline.errors import DataError
from driftline.events import synthetic
from driftline.events.readers import read_events
from driftline.events.synthetic import write_synthetic_log


def test_events_follow_the_tastes_and_their_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "EVENTS_PER_FILE", 15_000)
    told: list[tuple[int, int]] = []
    log = write_synthetic_log(
        tmp_path, 40_000, 300, 100, 1, tastes=5, drifting_share=0.3, tell=lambda *done: told.append(done)
    )
    assert told == [(15_000, 40_000), (30_000, 40_000), (40_000, 40_000)]
    events = pd.concat(read_events(path).events for path in sorted(log.events.iterdir()))
    assert len(events) == 40_000
    assert events["timestamp"].is_monotonic_increasing
    truth = pd.read_parquet(log.truth)
    changed = truth["changed_at"] < np.inf
    assert 0.2 < changed.mean() < 0.4
    assert (truth["taste"] != truth["later_taste"])[changed].all()
    joined = events.merge(truth, on="user_id")
    expected = np.where(joined["timestamp"] < joined["changed_at"], joined["taste"], joined["later_taste"])
    taste = joined["item_id"].str[1:].astype(int) // 20
    assert (taste == expected).mean() == pytest.approx(0.8 + 0.2 / 5, abs=0.01)
    items = read_items(log.items).items
    assert items["item_id"].tolist() == [f"i{number}" for number in range(100)]
    assert items["categories"].tolist()[19:21] == ["taste-0", "taste-1"]
    counts = events["item_id"].value_counts()
    assert counts["i0"] > 3 * counts["i19"]  # 1 / 20^-0.8 = 11 within a taste, diluted by the skew of the users


def test_the_same_seed_writes_the_same_rows(tmp_path: Path) -> None:
    def rows(name: str, seed: int) -> pd.DataFrame:
        return pd.read_parquet(write_synthetic_log(tmp_path / name, 500, 20, 40, seed).events)

    pd.testing.assert_frame_equal(rows("a", 1), rows("b", 1))
    assert not rows("c", 2).equals(rows("a2", 1))


def test_what_makes_no_sense_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events=0 must(.|\n)*items=30 must be a multiple of tastes=20"):
        write_synthetic_log(tmp_path, 0, 10, 30)
    write_synthetic_log(tmp_path, 10, 10, 20)
    with pytest.raises(DataError, match="holds files already"):
        write_synthetic_log(tmp_path, 10, 10, 20)
