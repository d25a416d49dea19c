"""Shares of a score among the events of a history, on functions whose Shapley values are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from driftline.ranking.explain import Reading, contributions


def a_reading(n: int, recent_from: int = 0, weight_recent: float = 0.0) -> Reading:
    items = np.arange(n)
    return Reading(items, recent_from, weight_recent, 0.0, items)


def with_interaction(kept_Sn: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Two items: ``x0 + 2 x1 + 4 x0 x1``, and ten times that with a constant."""
    x = kept_Sn.astype(float)
    game = x[:, 0] + 2 * x[:, 1] + 4 * x[:, 0] * x[:, 1]
    return np.stack([game, 10 * game + 7], axis=1)


def test_an_interaction_is_shared_evenly() -> None:
    """An order and its reverse: event 0 first gives 1, last 1 + 4: mean 3; event 1: (2 + 6) / 2 = 4."""
    found = contributions(with_interaction, a_reading(2), window_events=10)
    assert found.players == [(0, 1), (1, 2)]
    assert found.contribution_PK[:, 0] == pytest.approx([3, 4])
    assert found.contribution_PK[:, 1] == pytest.approx([30, 40])
    assert found.baseline_K == pytest.approx([0, 7])
    assert found.contribution_PK.sum(axis=0) == pytest.approx(found.score_K - found.baseline_K)


def test_events_before_the_window_are_one_player() -> None:
    found = contributions(lambda kept: kept.sum(axis=1, keepdims=True) * 1.0, a_reading(5), window_events=2)
    assert found.players == [(0, 3), (3, 4), (4, 5)]
    assert found.contribution_PK[:, 0] == pytest.approx([3, 1, 1])


def test_what_no_reading_holds_is_no_player() -> None:
    found = contributions(
        lambda kept: kept[:, 3:].sum(axis=1, keepdims=True) * 1.0, a_reading(5, recent_from=3, weight_recent=1.0), 10
    )
    assert found.players == [(3, 4), (4, 5)]
    assert found.contribution_PK[:, 0] == pytest.approx([1, 1])


@pytest.mark.parametrize("n", [0, 1])
def test_a_history_of_no_or_one_event(n: int) -> None:
    found = contributions(lambda kept: kept.sum(axis=1, keepdims=True) * 2.0, a_reading(n), window_events=10)
    assert found.contribution_PK[:, 0].tolist() == [2.0] * n
    assert found.score_K[0] == 2.0 * n


def test_the_cost_is_bounded_and_the_sum_still_complete() -> None:
    asked: list[int] = []

    def squared(kept_Sn: NDArray[np.bool_]) -> NDArray[np.float64]:
        asked.append(len(kept_Sn))
        return (kept_Sn.sum(axis=1, keepdims=True) ** 2).astype(float)

    found = contributions(squared, a_reading(40), window_events=100, evaluations=160)
    assert sum(asked) <= 2 + 160
    assert found.contribution_PK.sum() == pytest.approx(1600)
