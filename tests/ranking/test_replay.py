"""Every policy ranks the same item from the same prefix, and from nothing that comes later."""

import numpy as np
import pandas as pd
import pytest
import torch

from driftline.config import PolicyConfig
from driftline.drift.benchmark.trial import Trial
from driftline.ranking.replay import RECENT_EVENTS, Acts, Prefixes, policies, rank, replay
from tests.drift.small_world import small_world
from tests.ranking.test_scoring import scorer

K, REACH, THRESHOLD = 20, 5, 1.0


def stream(number: int, label: bool, p_drift: list[float], change_point: list[int], log_odds: list[float]) -> dict:
    """Series after 21, 22, 23 and 24 events; quiet before and after."""
    length = K + 10
    series = {"p_drift": (0.1, p_drift), "change_point": (-1, change_point), "fused": (-9.0, log_odds)}
    found = {
        name: np.array([quiet] * K + values + [quiet] * (length - K - 4)) for name, (quiet, values) in series.items()
    }
    return {
        "stream_id": str(number), "user": "a", "other": "b" if label else None, "track": "X", "kind": "sudden",
        "severity": "far" if label else None, "seed": 0, "label": label, "k": K, "reach": REACH,
        "items": np.arange(number, number + length), **found,
    }  # fmt: skip


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        [
            # no alarm; a mixture; no change point; a reset
            stream(0, True, [0.9, 0.7, 0.9, 0.97], [18, 18, -1, 19], [0.9, 1.0, 2.0, 2.0]),
            stream(3, False, [0.1, 0.1, 0.1, 0.6], [-1, -1, -1, 12], [0, 0, 0, 1.5]),
        ]
    )


def test_prefixes_end_before_their_targets(rows: pd.DataFrame) -> None:
    prefixes = Prefixes.of(rows)
    assert [len(items) for items in prefixes.before] == [21, 22, 23, 24] * 2
    assert prefixes.targets_E.tolist() == [21, 22, 23, 24, 24, 25, 26, 27]
    assert all(before[-1] + 1 == target for before, target in zip(prefixes.before, prefixes.targets_E, strict=True))


def test_what_policies_do(rows: pd.DataFrame) -> None:
    acts = policies(rows, THRESHOLD, PolicyConfig(drifting_above=0.5, reset_above=0.95), seed=0)
    assert acts["steady"].weight_E.tolist() == [0] * 8
    assert acts["mixture"].weight_E.tolist() == pytest.approx([0, 0.7, 0, 1, 0, 0, 0, 0.6])
    assert acts["mixture"].newest_E[[1, 3, 7]].tolist() == [22 - 18, 24 - 19, 24 - 12]
    assert (acts["always-recency"].weight_E.tolist(), set(acts["always-recency"].newest_E)) == (
        [1] * 8,
        {RECENT_EVENTS},
    )
    assert acts["oracle alarms"].weight_E.tolist() == [1] * 4 + [0] * 4
    assert acts["oracle alarms"].newest_E[:4].tolist() == [1, 2, 3, 4]


def test_random_alarms_are_the_same_ones_at_other_events(rows: pd.DataFrame) -> None:
    places = set()
    for seed in range(5):
        acts = policies(rows, THRESHOLD, PolicyConfig(), seed)
        own, random = (
            sorted(zip(a.weight_E, a.newest_E, strict=True)) for a in (acts["mixture"], acts["random alarms"])
        )
        assert own == random
        places.add(tuple(np.flatnonzero(acts["random alarms"].weight_E)))
    assert len(places) > 1


def test_ranks_by_hand() -> None:
    """Text of items 0 and 1 is (1, 0), of 2 and 3 (0, 1), of 4 their sum, of 5 (-1, 0); attention alone ranks.

    Of 0 then 2, item 4 is nearest, then 3, then 1, then 5. Of 2 alone: 3, then 4, then 1 and 5 alike.
    """
    prefixes = Prefixes([np.array([0, 2])] * 4, np.array([4, 3, 1, 1]))
    whole, newest = np.zeros(4), np.ones(4)
    one = np.ones(4, dtype=np.int64)
    acts = {"whole": Acts(whole, one), "newest": Acts(newest, one), "one of each": Acts(np.array([0, 1, 0, 1.0]), one)}
    attention = scorer(components=("attention",))
    for parameter in attention.gate.parameters():
        torch.nn.init.zeros_(parameter)  # the same weight for every item
    ranks = rank(attention, prefixes, acts)
    assert ranks["whole"].tolist() == [1, 2, 3, 3]
    assert ranks["newest"].tolist() == [2, 1, 3.5, 3.5]
    assert ranks["one of each"].tolist() == [1, 1, 3, 3.5]


def test_later_events_change_nothing(rows: pd.DataFrame) -> None:
    world = small_world()
    model, summary = world.fresh_model(), {"track": "X", "seed": 0, "thresholds": {"fused": {"200": THRESHOLD}}}
    changed = rows.copy()
    changed["items"] = [np.concatenate([items[:23], items[23:] + 100]) for items in rows["items"]]
    found, other = (replay(world, model, Trial(r, summary)).rows for r in (rows, changed))
    assert found["acted"][0].tolist() == [False, True, False, True]
    for name in ("steady", "mixture", "always-recency", "random alarms", "oracle alarms"):
        ranks, ranks_after = (np.stack(r[f"rank {name}"].tolist()) for r in (found, other))
        np.testing.assert_array_equal(ranks[:, :2], ranks_after[:, :2])  # after 21 and 22 events
        assert (ranks[:, 2:] != ranks_after[:, 2:]).any()
