from itertools import pairwise

import numpy as np
import pytest
import torch

from driftline.drift.verifier import Verifier, train_verifier, unlike, verifier_table
from driftline.errors import DataError
from driftline.sequences.batches import History
from tests.drift.tastes import ITEMS, users


def plain(vectors_ND: list[list[float]]) -> Verifier:
    """U = H: an identity and no bias."""
    verifier = Verifier(torch.tensor(vectors_ND)).eval()
    with torch.no_grad():
        verifier.read_out.bias.zero_()
    return verifier


def test_windows_are_compared_without_the_items_that_both_hold() -> None:
    verifier = plain([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    items = [np.array(window) for window in ([0], [0, 1], [1, 2])]
    alike_BB = verifier([items[0], items[1]], [items[1], items[2]])
    # before [0] = (1, 0): after [0, 1] without 0 = (0, 1): cosine 0; after [1, 2] = (1, 2) / 2: cosine 1 / sqrt 5;
    # before [0, 1] = (1, 1) / 2: nothing is left of after [0, 1]; after [1, 2] without 1 = (1, 1): cosine 1
    expected_BB = np.array([[0, 1 / np.sqrt(5)], [0, 1]])
    np.testing.assert_allclose(alike_BB.detach(), expected_BB, atol=1e-6)
    # the table says the same
    table_ND = verifier.table()
    for row, before in enumerate(items[:2]):
        for column, after in enumerate(items[1:]):
            both = np.concatenate([before, after])
            assert unlike(table_ND[both], both, len(before)) == pytest.approx(1 - expected_BB[row, column])


def test_the_table_is_the_read_out_of_every_item_at_mean_length_one() -> None:
    verifier = plain([[3.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        verifier.read_out.bias.copy_(torch.tensor([0.0, 1.0]))
    # U = (3, 1) and (0, 2): mean square length (10 + 4) / 2
    np.testing.assert_allclose(verifier.table(), np.array([[3, 1], [0, 2]]) / np.sqrt(7), rtol=1e-6)


def test_too_short_histories_are_told() -> None:
    with pytest.raises(DataError, match="two training users with 70 events, there are 1"):
        train_verifier([History(np.arange(70)), History(np.arange(69))], torch.zeros(70, 4), "X", seed=0)


def test_it_learns_who_is_who_and_the_same_again() -> None:
    histories = [History(items, np.arange(len(items), dtype=float)) for items in users(80, seed=1).values()]
    table_ND, again_ND = (verifier_table(histories, ITEMS, 16, "N", seed=0, steps=40) for _ in range(2))
    assert (table_ND.shape, table_ND.dtype) == ((ITEMS, 16), np.float32)
    np.testing.assert_array_equal(table_ND, again_ND)
    held_out = list(users(20, seed=2).values())  # even and odd users have different tastes

    def strange(before: np.ndarray, after: np.ndarray) -> float:
        items = np.concatenate([before, after])
        return unlike(table_ND[items], items, len(before))

    own = [strange(items[:30], items[50:70]) for items in held_out]
    other = [strange(a[:30], b[50:70]) for a, b in pairwise(held_out)]
    assert np.mean(np.array(own)[:, None] < np.array(other)) > 0.9
