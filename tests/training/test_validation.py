"""What decides which epoch is kept."""

import numpy as np
import pytest

from driftline.training.validation import in_step, log_likelihood, slices


def test_log_likelihood_by_hand() -> None:
    scores = np.log(np.array([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]], dtype=np.float32))
    excluded = np.array([[False, False, True], [True, False, False]])
    # 2 / (1 + 2); the target of the second row is excluded, and is a candidate all the same: 4 / (4 + 4 + 8)
    found = log_likelihood(scores, np.array([1, 0]), excluded)
    assert found == pytest.approx(np.log(2 / 3) + np.log(4 / 16), abs=1e-6)


def test_every_rank_makes_equally_many_passes_and_every_batch_counts_once() -> None:
    shares = [in_step(["a", "b", "c"], rank, 2) for rank in range(2)]
    assert shares == [[("a", True), ("c", True)], [("b", True), ("a", False)]]


def test_slices_cover_all_targets_and_keep_every_rank_busy() -> None:
    assert slices(5, 2, num_items=9) == [slice(0, 3), slice(3, 6)]
    assert slices(300, 2, num_items=9) == [slice(0, 128), slice(128, 256), slice(256, 384)]
    assert slices(9, 2, num_items=10**6) == [slice(0, 4), slice(4, 8), slice(8, 12)]  # 4 million scores at once
