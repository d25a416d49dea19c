"""The best of many scores are those that a full, stable sort puts first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.ranking.order import best_first


@given(st.lists(st.sampled_from([-np.inf, -3.0, -2.0, -1.5, 0.0]), max_size=30), st.integers(0, 40))
def test_as_a_stable_sort_of_what_is_possible(scores: list[float], count: int) -> None:
    values = np.array(scores, dtype=np.float32)
    possible = np.flatnonzero(values > -np.inf)
    expected = possible[np.argsort(-values[possible], kind="stable")][:count]
    assert best_first(values, count).tolist() == expected.tolist()


@pytest.mark.parametrize(("count", "places"), [(1, [1]), (3, [1, 3, 0]), (9, [1, 3, 0])])
def test_equals_come_by_position(count: int, places: list[int]) -> None:
    assert best_first(np.array([1, 2, -np.inf, 2], dtype=np.float32), count).tolist() == places
