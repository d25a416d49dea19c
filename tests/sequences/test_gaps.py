"""Time gaps become buckets: 0 unknown, 1 none, then one per factor of four."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.sequences.gaps import GAP_BUCKETS, UNKNOWN_GAP, gap_buckets


@pytest.mark.parametrize(
    ("gap_s", "bucket"),
    [
        (0, 1),  # log2(1) / 2 = 0
        (1, 2),  # log2(2) / 2 = 0.5
        (3, 2),  # log2(4) / 2 = 1
        (4, 3),  # log2(5) / 2 = 1.16
        (15, 3),  # log2(16) / 2 = 2
        (16, 4),
        (4**14 - 1, 15),  # log2(4**14) / 2 = 14: the last bucket
        (10**12, 15),
        (-5, 1),  # a clock that goes backwards counts as no gap
        (math.nan, UNKNOWN_GAP),
    ],
)
def test_bucket_of_one_gap(gap_s: float, bucket: int) -> None:
    assert gap_buckets([100.0, 100.0 + gap_s]).tolist() == [UNKNOWN_GAP, bucket]


def test_an_unknown_moment_hides_the_gaps_on_both_sides() -> None:
    assert gap_buckets([0, 1, math.nan, 2, 2]).tolist() == [0, 2, 0, 0, 1]


def test_no_event_has_no_gap() -> None:
    assert gap_buckets([]).tolist() == []


@settings(deadline=None)  # other processes may share the cores
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), max_size=20))
def test_buckets_fit_the_embedding(times_s: list[float]) -> None:
    buckets = gap_buckets(times_s)
    assert len(buckets) == len(times_s)
    assert np.all((buckets >= 0) & (buckets < GAP_BUCKETS))


@settings(deadline=None)  # other processes may share the cores
@given(st.floats(0, 1e15), st.floats(0, 1e15))
def test_a_longer_gap_never_gets_a_lower_bucket(one_s: float, other_s: float) -> None:
    shorter, longer = sorted([one_s, other_s])
    assert gap_buckets([0, shorter])[1] <= gap_buckets([0, longer])[1]
