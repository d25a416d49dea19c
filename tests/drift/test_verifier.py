from itertools import pairwise

import numpy as np
import pytest
import torch

from driftline.drift.benchmark.verifier import Verifier, train_verifier
from driftline.errors import DataError
from driftline.models.item_factors import item_factors
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
    # before [0] = (1, 0); after [0, 1] without 0 = (0, 1): cosine 0; after [1, 2] = (1, 2) / 2: cosine 1 / sqrt 5
    assert verifier.unlike(items[0], items[1]) == pytest.approx(1)
    assert verifier.unlike(items[0], items[2]) == pytest.approx(1 - 1 / np.sqrt(5))
    alike_BB = verifier([items[0], items[1]], [items[1], items[2]])
    # before [0, 1] = (1, 1) / 2: nothing is left of after [0, 1]; after [1, 2] without 1 = (1, 1): cosine 1
    np.testing.assert_allclose(alike_BB.detach(), [[0, 1 / np.sqrt(5)], [0, 1]], atol=1e-6)


def test_too_short_histories_are_told() -> None:
    with pytest.raises(DataError, match="two training users with 70 events, there are 1"):
        train_verifier([History(np.arange(70)), History(np.arange(69))], torch.zeros(70, 4), "X", seed=0)


def test_it_learns_who_is_who_and_the_same_again() -> None:
    histories = [History(items, np.arange(len(items), dtype=float)) for items in users(80, seed=1).values()]
    vectors_ND = torch.from_numpy(item_factors([history.items for history in histories], ITEMS, 16))
    verifier, again = (train_verifier(histories, vectors_ND, "N", seed=0, steps=40) for _ in range(2))
    torch.testing.assert_close(verifier.read_out.weight, again.read_out.weight)
    held_out = list(users(20, seed=2).values())  # even and odd users have different tastes
    own = [verifier.unlike(items[:30], items[50:70]) for items in held_out]
    other = [verifier.unlike(a[:30], b[50:70]) for a, b in pairwise(held_out)]
    assert np.mean(np.array(own)[:, None] < np.array(other)) > 0.9
