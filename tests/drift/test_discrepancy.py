import numpy as np
import pytest

from driftline.drift.discrepancy import measure, two_sample


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_two_sample_of_two_opposite_blocks() -> None:
    # 5 events at +1, 5 at -1: within both sides the similarity is 1, across -1: MMD² = 1 + 1 + 2 = 4; scale 25/10
    vectors = np.repeat([[1.0], [-1.0]], 5, axis=0)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 0)
    mmd = two_sample(similarity)
    assert mmd[5, 9] == pytest.approx(4 * 25 / 10)
    assert np.isneginf(mmd[4, 9])
    assert np.isneginf(mmd[6, 9])


def test_two_sample_against_plain_means() -> None:
    vectors = unit(14, 0).astype(np.float64)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 0)
    mmd, k, t = two_sample(similarity), 6, 12
    a, b = k, t + 1 - k
    within = similarity[:k, :k].sum() / (a * (a - 1)) + similarity[k : t + 1, k : t + 1].sum() / (b * (b - 1))
    assert mmd[k, t] == pytest.approx((within - 2 * similarity[:k, k : t + 1].mean()) * a * b / (a + b))


def test_measure_reads_nothing_ahead() -> None:
    vectors = unit(30, 1)
    whole, part = measure(vectors, 40), measure(vectors[:20], 40)
    np.testing.assert_allclose(whole.split_T[:20], part.split_T)
    np.testing.assert_allclose(whole.coherence_T[:20], part.coherence_T)


def test_coherence_of_equal_events_is_one() -> None:
    sides = measure(np.ones((12, 1), dtype=np.float32), 40)
    np.testing.assert_allclose(sides.coherence_T, [0] + [1] * 11)
    np.testing.assert_allclose(sides.split_T, 0)


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_short_histories_have_no_split(n: int) -> None:
    np.testing.assert_array_equal(measure(unit(n, 2), 40).split_T, np.zeros(n))
