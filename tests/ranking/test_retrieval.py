"""The best items chunk by chunk and by FAISS, against a sort of all scores."""

import numpy as np
import pytest
import torch

from driftline.ranking import retrieval
from driftline.ranking.retrieval import FaissIndex, exact_top_k

TABLE = torch.tensor([[1.0, 0], [0, 1], [1, 1], [-1, 0], [2, 0]])
BIAS = torch.tensor([0.0, 0, -2, 0, 0.5])


def test_three_best_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interest (1, 0) scores 1, 0, -1, -1, 2.5; chunks of two items."""
    monkeypatch.setattr(retrieval, "SCORES_AT_ONCE", 2)
    found = exact_top_k(torch.tensor([[1.0, 0]]), TABLE, BIAS, k=3)
    assert found.items_BK.tolist() == [[4, 0, 1]]
    assert found.scores_BK.tolist() == [[2.5, 1, 0]]


@pytest.mark.parametrize("chunk", [7, 64, 10**6])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "SCORES_AT_ONCE", chunk)
    torch.manual_seed(0)
    table, bias, interests = torch.randn(300, 8), torch.randn(300), torch.randn(5, 8)
    seen = [np.arange(n * 40) for n in range(5)]
    scores = (interests @ table.T + bias).numpy()
    for row, items in enumerate(seen):
        scores[row, items] = -np.inf
    found = exact_top_k(interests, table, bias, 20, seen)
    assert found.items_BK.tolist() == np.argsort(-scores, axis=1)[:, :20].tolist()


def test_places_that_nothing_is_left_for() -> None:
    found = exact_top_k(torch.tensor([[1.0, 0]]), TABLE, BIAS, 4, [np.array([4, 2])])
    assert found.items_BK.tolist() == [[0, 1, 3, -1]]
    assert found.scores_BK[0, 3] == -np.inf
    found = FaissIndex(TABLE, BIAS, cells=1).top_k(torch.tensor([[1.0, 0]]), 4, [np.array([4, 2])])
    assert found.items_BK.tolist() == [[0, 1, 3, -1]]
    assert found.scores_BK.tolist() == [[1, 0, -1, -np.inf]]


def test_faiss_with_all_cells_is_exact_and_with_one_reads_less() -> None:
    torch.manual_seed(0)
    centres = torch.randn(10, 8).repeat_interleave(100, dim=0)
    table, bias = centres + 0.3 * torch.randn(1000, 8), 0.1 * torch.randn(1000)
    interests = torch.randn(40, 8)
    exact = exact_top_k(interests, table, bias, 10)
    index = FaissIndex(table, bias, cells=10, probes=10)
    found = index.top_k(interests, 10)
    assert found.items_BK.tolist() == exact.items_BK.tolist()
    np.testing.assert_allclose(found.scores_BK, exact.scores_BK, rtol=1e-5)
    index.probes = 1
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(index.top_k(interests, 10)[0], exact[0], strict=True)])
    assert 0.5 < kept < 1
