"""Predictors of explicit values on tables small enough to check."""

import numpy as np
import pytest

from driftline.models.ratings import Values, biased_mf, damped_means, tuned_biased_mf


def values(*rows: tuple[int, int, float]) -> Values:
    users, items, given = zip(*rows, strict=True)
    return Values(np.array(users), np.array(items), np.array(given, dtype=float))


def test_damped_means_by_hand() -> None:
    """Mean 3; items: 1/26 and -1/26 from it; user 0: (1 - 1/26) / 11, user 1: (-1 + 1/26) / 11."""
    model = damped_means(values((0, 0, 4.0), (1, 1, 2.0)), num_users=2, num_items=3)
    user = (25 / 26) / 11
    predicted = model.predict(np.array([0, 1, 0, -1]), np.array([0, 1, 2, -1]))
    assert predicted == pytest.approx([3 + 1 / 26 + user, 3 - 1 / 26 - user, 3 + user, 3])


@pytest.fixture
def tastes() -> tuple[Values, Values]:
    """40 users of two tastes give 5 to items of their own and 1 to the others; a tenth is held out. Means say 3."""
    rng = np.random.default_rng(0)
    users, items = (part.ravel() for part in np.meshgrid(np.arange(40), np.arange(30), indexing="ij"))
    given = np.where(users % 2 == items % 2, 5.0, 1.0)
    held = rng.random(len(users)) < 0.1
    return Values(users[~held], items[~held], given[~held]), Values(users[held], items[held], given[held])


def test_factors_find_what_means_cannot(tastes: tuple[Values, Values]) -> None:
    known, held = tastes

    def error(predicted: np.ndarray) -> float:
        return float(((predicted - held.values_E) ** 2).mean())

    assert error(damped_means(known, 40, 30).predict(held.users_E, held.items_E)) > 3.5
    assert error(biased_mf(known, 40, 30, factors=2, l2=1.0).predict(held.users_E, held.items_E)) < 0.1
    told: list[tuple[int, int]] = []
    chosen = tuned_biased_mf(known, held, 40, 30, lambda done, total: told.append((done, total)))
    assert error(chosen.predict(held.users_E, held.items_E)) < 0.5
    assert told[0] == (1, 18)
    assert told[-1] == (18, 18)


def test_whoever_is_unknown_has_no_part_in_a_value(tastes: tuple[Values, Values]) -> None:
    model = biased_mf(tastes[0], 41, 31, factors=2, l2=1.0)  # user 40 and item 30 have no events
    assert model.predict(np.array([40, -1]), np.array([30, -1])) == pytest.approx([model.mean, model.mean])
