"""Gains of lists against numbers worked out by hand. Ranks 1, 3 and 11 have NDCG@10 of 1, 1/2 and 0."""

import pandas as pd
import pytest

from driftline.drift.benchmark.downstream import ACTED, downstream_figures
from driftline.drift.benchmark.trial import Trial


def row(
    user: str, other: str | None, steady: list[float], mixture: list[float], acted: list[bool]
) -> dict[str, object]:
    others = {f"rank {name}": steady for name in ("always-recency", "random alarms", "oracle alarms")}
    return {
        "user": user, "other": other, "kind": "sudden", "severity": "far" if other else None,
        "label": other is not None, "reach": len(steady) + 1,
        "rank steady": steady, "rank mixture": mixture, ACTED: acted, **others,
    }  # fmt: skip


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    rows = [
        row("a", "b", [3, 11, 3, 3, 3, 3], [1, 3, 3, 3, 3, 11], [True, True, False, False, False, True]),
        row("a", None, [1, 1, 1, 1, 1, 1], [3, 1, 1, 1, 1, 1], [True, False, False, False, False, False]),
        row("b", "a", [11, 11], [1, 11], [False, True]),
        row("b", None, [3, 3], [3, 3], [False, False]),
    ]
    return downstream_figures([Trial(pd.DataFrame(rows), {"thresholds": {}, "prevalence": 0.5})])


def test_difference_in_differences(figures: dict) -> None:
    gain = figures["gain"]["NDCG@10"]["mixture"]
    # drifted: 1/2 + 1/2 - 1/2 + 1 over eight lists; undrifted: -1/2 over eight
    assert gain["all"]["drifted"].mean == pytest.approx(1.5 / 8)
    assert gain["all"]["undrifted"].mean == pytest.approx(-0.5 / 8)
    assert gain["all"]["difference"].mean == pytest.approx(2 / 8)
    # without the sixth list
    assert gain["1-5"]["difference"].mean == pytest.approx(2 / 7 + 0.5 / 7)
    assert gain["6-10"]["difference"].mean == pytest.approx(-0.5)
    assert gain["all"]["drifted"].low <= gain["all"]["drifted"].mean <= gain["all"]["drifted"].high
    hits = figures["gain"]["HR@10"]["mixture"]["all"]
    assert (hits["drifted"].mean, hits["undrifted"].mean) == (pytest.approx((1 - 1 + 1) / 8), 0)


def test_levels_and_rates(figures: dict) -> None:
    assert figures["lists"] == 16
    assert figures["whole_history"]["NDCG@10"]["drifted"].mean == pytest.approx(2.5 / 8)
    assert figures["whole_history"]["HR@10"]["undrifted"].mean == 1
    assert figures["acted_per_1000"]["drifted"].mean == pytest.approx(500)
    assert figures["acted_per_1000"]["undrifted"].mean == pytest.approx(125)


def test_severity_keeps_whole_pairs(figures: dict) -> None:
    far, near = (figures["gain_by_severity"][name]["NDCG@10"]["mixture"]["all"] for name in ("far", "near"))
    assert far["difference"].mean == pytest.approx(2 / 8)
    assert pd.isna(near["difference"].mean)  # no such pair
