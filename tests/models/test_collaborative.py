"""Closed-form models against small examples worked out by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from driftline.models.collaborative import (
    CollaborativeTables,
    co_occurrence,
    ease,
    markov,
    popularity,
)
from driftline.models.content import ContentRidge
from driftline.models.item_factors import item_factors, raw_factors
from driftline.models.item_knn import item_knn
from driftline.models.recency import binary_weights, recency_weights, weighted_rows
from driftline.models.trend import FADE_S, Trend
from driftline.models.user_knn import UserNeighbours
from driftline.sequences.batches import History


def sequences(*histories: list[int]) -> list[np.ndarray]:
    return [np.array(items, dtype=np.int64) for items in histories]


EMPTY = np.empty(0, np.int64)


def test_popularity_counts_events() -> None:
    assert popularity(sequences([0, 1], [0, 0]), num_items=4).tolist() == [3, 1, 0, 0]
    assert popularity([], num_items=2).tolist() == [0, 0]


def test_ease_of_two_items_by_hand() -> None:
    """Gram [[2, 1], [1, 1]] + 1 on the diagonal; its inverse is [[2, -1], [-1, 3]] / 5: B_ij = -P_ij / P_jj."""
    weights = ease(sequences([0, 1], [0]), num_items=2, l2=1.0)
    assert weights == pytest.approx(np.array([[0, 1 / 3], [1 / 2, 0]]))


def test_ease_solves_each_item_by_ridge_regression_on_the_others() -> None:
    """Column j of EASE is ridge regression of item j on the other items: that defines it (Steck 2019, eq. 2)."""
    X = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0]], dtype=float)
    weights = ease([np.flatnonzero(row) for row in X], num_items=3, l2=2.0)
    for item in range(3):
        others = [other for other in range(3) if other != item]
        A = X[:, others]
        expected = np.linalg.solve(A.T @ A + 2.0 * np.eye(2), A.T @ X[:, item])
        assert weights[others, item] == pytest.approx(expected, abs=1e-6)
        assert weights[item, item] == 0


def test_ease_counts_a_repeated_item_once() -> None:
    assert ease(sequences([0, 1, 0], [1]), 2).tolist() == ease(sequences([0, 1], [1]), 2).tolist()


def test_markov_weighs_pairs_by_distance() -> None:
    """0 1 2 and 0 2: from 0 to 1 weighs 1, from 0 to 2 1/2 + 1, from 1 to 2 1; then over sqrt(2.5) and sqrt(1)."""
    weights = markov(sequences([0, 1, 2], [0, 2]), num_items=3).toarray()
    assert weights == pytest.approx(np.array([[0, 1, 1.5], [0, 0, 1], [0, 0, 0]]) / np.sqrt([[2.5], [1], [1]]))


def test_markov_looks_five_steps_ahead() -> None:
    weights = markov(sequences([0, 1, 2, 3, 4, 5, 6]), num_items=7).toarray()
    row_sum = 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5
    assert weights[0] * np.sqrt(row_sum) == pytest.approx([0, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 0])
    assert weights[5] == pytest.approx([0, 0, 0, 0, 0, 0, 1])


def test_a_small_row_is_not_blown_up() -> None:
    row = markov(sequences([0, 1, 1, 2]), 3, steps=3).toarray()[0]
    assert row == pytest.approx(np.array([0, 1.5, 1 / 3]) / np.sqrt(11 / 6))
    # from 0 to 2 at distance two only would be 1/2 in a row of its own: divided by 1, not by sqrt(1/2)
    assert markov(sequences([0, 2]), 3, steps=1).toarray()[0].tolist() == [0, 0, 1]


def test_item_knn_by_hand() -> None:
    """Items 0 and 1 share two users, 0 and 2 one; shrunk by 10 their cosines are 2 / (sqrt(3 * 2) + 10) and so on."""
    weights = item_knn(sequences([0, 1], [0, 1], [0, 2], [3]), num_items=4).toarray()
    s01, s02 = 2 / (np.sqrt(6) + 10), 1 / (np.sqrt(3) + 10)
    expected = [[0, s01, s02, 0], [s01, 0, 0, 0], [s02, 0, 0, 0], [0, 0, 0, 0]]
    assert weights == pytest.approx(np.array(expected))


def test_item_knn_keeps_the_nearest_neighbours_and_the_first_of_those_that_tie() -> None:
    log = sequences([0, 1], [0, 1], [0, 2], [0, 3])
    assert np.flatnonzero(item_knn(log, 4, neighbours=1).toarray()[0]).tolist() == [1]
    assert np.flatnonzero(item_knn(log, 4, neighbours=2).toarray()[0]).tolist() == [1, 2]


def test_item_knn_counted_block_by_block_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [np.random.default_rng(user).integers(0, 40, size=12) for user in range(50)]
    whole = item_knn(log, 40, neighbours=5)
    assert np.diff(whole.indptr).max() == 5
    monkeypatch.setattr("driftline.models.item_knn.BLOCK_ENTRIES", 3 * 40)
    np.testing.assert_array_equal(item_knn(log, 40, neighbours=5).toarray(), whole.toarray())


def as_dict(weights: tuple[np.ndarray, np.ndarray]) -> dict[int, float]:
    return dict(zip(weights[0].tolist(), weights[1].tolist(), strict=True))


def test_recency_weights_decay_from_the_newest_event() -> None:
    full, empty = recency_weights(sequences([0, 1, 2], []), decay=0.5)
    assert (as_dict(full), as_dict(empty)) == ({2: 1, 1: 0.5, 0: 0.25}, {})


def test_a_repeated_item_counts_at_its_newest_place() -> None:
    assert as_dict(recency_weights(sequences([0, 1, 0]), decay=0.5)[0]) == {0: 1, 1: 0.5}


def test_only_the_last_events_are_read() -> None:
    weights = as_dict(recency_weights([np.arange(25)], decay=0.9)[0])
    assert sorted(weights) == list(range(5, 25))
    assert weights[5] == pytest.approx(0.9**19)


def test_binary_weights() -> None:
    assert [as_dict(one) for one in binary_weights(sequences([2, 0, 2], []))] == [{2: 1, 0: 1}, {}]


def test_weighted_rows_read_the_same_from_both_forms_of_a_table() -> None:
    table = np.array([[0, 1, 2], [3, 0, 0], [0, 0, 4]], dtype=np.float32)
    weights = recency_weights(sequences([0, 1, 0], [], [2]), decay=0.5)
    for form in (table, csr_array(table)):
        assert weighted_rows(weights, form).tolist() == [[1.5, 1, 2], [0, 0, 0], [0, 0, 4]]


LOG = sequences([0, 1, 2], [0, 2], [1, 2])


def test_tables_score_a_history_by_name() -> None:
    tables = CollaborativeTables.fit(LOG, num_items=3)
    history = sequences([0, 1])
    assert tables.names == ("popularity", "ease", "ease-recency", "markov", "co-occurrence")
    assert tables.score("popularity", history).tolist() == [[2, 2, 3]]
    weights, chain = tables.item_item_NN, tables.markov_NN
    assert weights.tolist() == ease(LOG, 3).tolist()
    assert tables.score("ease", history)[0] == pytest.approx(weights[0] + weights[1])
    assert tables.score("ease-recency", history)[0] == pytest.approx(0.9 * weights[0] + weights[1])
    assert tables.score("markov", history)[0] == pytest.approx(0.6 * chain[0] + chain[1])
    for name in ("ease", "ease-recency", "markov"):
        assert tables.score(name, [EMPTY]).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match="'item-knn'; valid: popularity, ease, ease-recency, markov"):
        tables.score("item-knn", history)


def test_beyond_a_size_the_tables_are_sparse_and_item_knn_stands_in_the_place_of_ease() -> None:
    dense, tables = CollaborativeTables.fit(LOG, 3, dense_up_to=3), CollaborativeTables.fit(LOG, 3, dense_up_to=2)
    history = sequences([0, 1])
    assert tables.names == ("popularity", "item-knn", "item-knn-recency", "markov", "co-occurrence")
    assert tables.score("markov", history) == pytest.approx(dense.score("markov", history))
    neighbours = item_knn(LOG, 3).toarray()
    assert tables.score("item-knn", history)[0] == pytest.approx(neighbours[0] + neighbours[1])
    assert tables.score("item-knn-recency", history)[0] == pytest.approx(0.9 * neighbours[0] + neighbours[1])
    with pytest.raises(ValueError, match="'ease'; valid: popularity, item-knn, item-knn-recency, markov"):
        tables.score("ease", history)


@pytest.mark.parametrize("dense_up_to", [3, 2])
def test_co_occurrence_is_fitted_where_it_is_asked_for(dense_up_to: int) -> None:
    tables = CollaborativeTables.fit(LOG, 3, dense_up_to, with_co_occurrence=False)
    assert tables.names[-1] == "markov"
    assert not any(name.startswith("co_occurrence") for name in tables.to_arrays())
    assert CollaborativeTables.from_arrays(tables.to_arrays()).names == tables.names
    with pytest.raises(ValueError, match="'co-occurrence'; valid: popularity"):
        tables.score("co-occurrence", sequences([0]))


def test_co_occurrence_counts_both_directions() -> None:
    """0-1 once at distance 1, 1-2 twice, 0-2 at distance 2 and at 1; rows are over the root of their sums."""
    pairs = np.array([[0, 1, 1.5], [1, 0, 2], [1.5, 2, 0]])
    expected = pairs / np.sqrt(pairs.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(co_occurrence(LOG, 3).toarray(), expected, rtol=1e-6)
    tables = CollaborativeTables.fit(LOG, 3)
    np.testing.assert_allclose(
        tables.score("co-occurrence", sequences([0, 1]))[0], 0.6 * expected[0] + expected[1], rtol=1e-6
    )


def test_a_trend_fades_and_knows_nothing_of_later() -> None:
    """Three events, one fade apart: item 0 at the start, item 1 after one, item 0 again after two."""
    log = [History(np.array([0, 0]), np.array([0.0, 2 * FADE_S])), History(np.array([1]), np.array([FADE_S]))]
    trend = Trend.fit([*log, History(np.array([2]))], num_items=3)  # an event without a time is in no trend
    assert trend.moments_P == pytest.approx(FADE_S * np.array([0.4, 0.8, 1.2, 1.6, 2.0]))

    def at(*times: float) -> np.ndarray:
        return trend.score([History(np.zeros(len(times), np.int64), np.array(times))])[0]

    e = np.exp
    assert at(2 * FADE_S) == pytest.approx(np.log1p([1 + e(-2), e(-1), 0]))
    assert at(9e9).tolist() == at(2 * FADE_S).tolist() == trend.score([History(np.array([0]))])[0].tolist()
    assert at(1.5 * FADE_S) == pytest.approx(np.log1p([e(-1.2), e(-0.2), 0]))  # as of the moment before, at 1.2
    assert at(0.5 * FADE_S) == pytest.approx(np.log1p([e(-0.4), 0, 0]))
    assert at(-1.0).tolist() == at(FADE_S, -1.0).tolist() == [0, 0, 0]
    asked = History(np.array([0]), np.array([-1.0]), now_s=2 * FADE_S)
    assert trend.score([asked])[0].tolist() == at(2 * FADE_S).tolist()
    assert Trend.fit([History(np.array([0]))], 2).score([log[0], History(EMPTY)]).tolist() == [[0, 0], [0, 0]]


def test_user_knn_sums_squared_cosines_of_those_who_had_an_item() -> None:
    """idf: item 0 log 3, item 1 log(3/2), item 2 log(3/3) = 0: what everybody had says nothing."""
    neighbours = UserNeighbours.fit(sequences([0, 2], [1, 2, 1], [1, 2]), num_items=4)
    alike = neighbours.score(sequences([1], [0, 1], [2], []))
    assert alike[0] == pytest.approx([0, 2, 2, 0])  # the cosine with either user of item 1 is 1
    zero, one = 0.98 * np.log(3), np.log(1.5)
    squared = zero**2 + one**2
    assert alike[1] == pytest.approx([zero**2 / squared, 2 * one**2 / squared, (zero**2 + 2 * one**2) / squared, 0])
    assert alike[2:].tolist() == [[0, 0, 0, 0]] * 2


def test_only_the_nearest_users_vote() -> None:
    far = [[0, 2, 3 + n] for n in range(90)]
    scores = UserNeighbours.fit(sequences(*far, *[[0, 1]] * 80, [2]), num_items=100).score(sequences([0]))[0]
    assert scores[1] > 0
    assert scores[2:].tolist() == [0] * 98


@pytest.mark.parametrize("dense_up_to", [3, 0])
def test_every_table_comes_back_from_its_file(dense_up_to: int, tmp_path: Path) -> None:
    tables = CollaborativeTables.fit(LOG, 3, dense_up_to)
    trend = Trend.fit([History(one, np.arange(len(one)) * 1e6) for one in LOG], 3)
    content = ContentRidge.fit(LOG, np.array([[1.0], [2], [4]]), dense_up_to)
    tables = dataclasses.replace(tables, trend=trend, user_knn=UserNeighbours.fit(LOG, 3), content=content)
    save_file(tables.to_arrays(), tmp_path / "tables.safetensors")  # safetensors writes views with strides as garbage
    read = CollaborativeTables.from_arrays(load_file(tmp_path / "tables.safetensors"))
    history = sequences([0, 1], [])
    assert read.names == tables.names
    for name in read.names:
        assert read.score(name, history).tolist() == tables.score(name, history).tolist()
    assert read.user_knn is not None
    assert tables.user_knn is not None
    assert read.user_knn.score(history).tolist() == tables.user_knn.score(history).tolist()
    assert read.content is not None
    assert (
        read.content.score(history, np.ones((1, 1), np.float32)).tolist()
        == content.score(history, np.ones((1, 1), np.float32)).tolist()
    )
    assert read.trend is not None
    assert read.trend.counts_PN.tolist() == trend.counts_PN.tolist()
    assert read.trend.moments_P.tolist() == trend.moments_P.tolist()
    assert len(trend.moments_P) > 2


def test_a_column_beyond_the_catalogue_is_refused() -> None:
    arrays = CollaborativeTables.fit(LOG, 3, dense_up_to=0).to_arrays()
    arrays["markov_NN.indices"] = arrays["markov_NN.indices"] + 3
    with pytest.raises(ValueError, match="indices"):
        CollaborativeTables.from_arrays(arrays)


def test_item_factors_tell_communities_apart() -> None:
    """Two groups of users over items 0-4 and 5-9: cosines are high inside a group and low across."""
    rng = np.random.default_rng(0)
    log = [rng.choice(5, size=3, replace=False) + 5 * (user % 2) for user in range(40)]
    factors = item_factors(log, num_items=10, dim=2)
    cosine = factors @ factors.T
    assert cosine[:5, :5].min() > 0.9
    assert np.abs(cosine[:5, 5:]).max() < 0.1
    assert np.linalg.norm(factors, axis=1) == pytest.approx(np.ones(10), abs=1e-5)


def test_item_factors_approximate_the_normalised_interactions() -> None:
    """One user with items 0 and 1: both are the same direction, and an unseen item has none."""
    factors = item_factors(sequences([0, 1]), num_items=3, dim=2)
    assert factors @ factors.T == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]]), abs=1e-6)


def test_item_factors_of_a_large_catalogue_approximate_the_exact_ones() -> None:
    rng = np.random.default_rng(0)
    log = [rng.choice(20, size=8, replace=False) + 20 * (user % 3) for user in range(90)]
    exact, found = (item_factors(log, 60, dim=3, dense_up_to=limit) for limit in (60, 59))
    assert found @ found.T == pytest.approx(exact @ exact.T, abs=1e-4)
    np.testing.assert_array_equal(found, item_factors(log, 60, dim=3, dense_up_to=59))
    exact, found = (raw_factors(log, 60, dim=3, dense_up_to=limit) for limit in (60, 59))
    assert found @ found.T == pytest.approx(exact @ exact.T, abs=1e-4)


def test_raw_factors_are_singular_vectors_of_the_interactions() -> None:
    """Squared singular values 4 and 1: items 0 and 1 together, item 2 alone; item 3 nobody had."""
    factors = raw_factors(sequences([0, 1], [1, 0, 1], [2]), num_items=4, dim=3)
    assert factors.shape == (4, 2)
    expected = [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert factors @ factors.T == pytest.approx(np.array(expected), abs=1e-6)


def test_item_factors_are_padded_to_the_wanted_width_and_always_the_same() -> None:
    log = sequences([0, 1], [1, 2], [0, 2], [3])  # three users in a ring: two singular values coincide
    factors = item_factors(log, num_items=5, dim=8)
    assert factors.shape == (5, 8)
    assert np.count_nonzero(np.abs(factors).max(axis=0)) == 4  # the rank of the interactions
    assert np.all(factors[4] == 0)  # an item that nobody had
    np.testing.assert_array_equal(factors, item_factors(log, num_items=5, dim=8))
