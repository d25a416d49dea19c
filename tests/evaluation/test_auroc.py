import numpy as np
import pytest

from driftline.evaluation.auroc import auroc, clustered_auroc


def test_pairs_are_counted_and_ties_are_halves() -> None:
    # 3 beats 1 and 2, 2 beats 1 and ties with 2: (2 + 1.5) / 4
    assert auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4


def test_interval_of_separated_scores_is_a_point() -> None:
    interval = clustered_auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0]), [("a", "b"), ("b", "c")], [("a",), ("b",)])
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)


def test_one_user_behind_many_scores_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
    apart = [(f"u{n}",) for n in range(60)]
    together = [(f"u{n // 10}",) for n in range(60)]
    positive_together = positive + np.repeat(rng.normal(0, 1, 6), 10)
    narrow = clustered_auroc(positive, negative, apart, apart)
    wide = clustered_auroc(positive_together, negative, together, together)
    assert wide.high - wide.low > narrow.high - narrow.low
    assert narrow.mean == pytest.approx(auroc(positive, negative))
