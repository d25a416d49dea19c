"""What a loaded bundle answers, on ten items."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import driftline
from driftline.drift.report import DriftVerdict
from driftline.errors import UnknownIdError
from driftline.ranking.requests import RankRequest, Recommendation
from driftline.registry.bundle import write_bundle
from driftline.registry.model import Model
from driftline.registry.served import score_functions
from driftline.sequences.batches import History
from tests.registry.parts import ITEMS, config_of, contents_of, manifest_of

HISTORY = ["i0", "i3", "i5", "i1", "i8"]
TARGET_GAP = {"kind": "gru", "dim": 8, "layers": 1, "window_events": 6, "target_gap": True}
NEW = {"n1": "Crooked Prairie (1955).", "n2": "Distant Nebula (1999)."}


def ids(answer: Recommendation) -> list[str]:
    return [item.item_id for item in answer.items]


def scores(answer: Recommendation) -> dict[str, float]:
    return {item.item_id: item.score for item in answer.items}


def test_what_was_seen_is_not_recommended(model: Model) -> None:
    answer = model.recommend(HISTORY, k=100)  # longer than the catalogue
    assert sorted(ids(answer)) == ["i2", "i4", "i6", "i7", "i9"]
    assert [item.score for item in answer.items] == sorted((item.score for item in answer.items), reverse=True)
    assert sum(np.exp(item.score) for item in answer.items) == pytest.approx(1, rel=1e-5)
    assert all(item.title == model.titles[item.item_id] for item in answer.items)
    assert ids(model.recommend(HISTORY, k=2)) == ids(answer)[:2]


def test_a_list_follows_the_scores(model: Model) -> None:
    series = model.score(HISTORY)
    assert isinstance(series, pd.Series)
    assert series.index.tolist() == ITEMS
    assert series[np.isneginf(series)].index.tolist() == ["i0", "i1", "i3", "i5", "i8"]
    found = series.sort_values(ascending=False)
    assert ids(model.recommend(HISTORY)) == found.index[:5].tolist()


def test_where_items_repeat_they_are_recommended_again(base: Path) -> None:
    config = config_of(base, base.parent, drift={"enabled": True, "encoder": {"kind": "mean", "mask_seen": False}})
    repeating = Model(contents_of(config, repeats=True))
    assert sorted(ids(repeating.recommend(HISTORY, k=10))) == ITEMS
    assert np.isfinite(repeating.score(HISTORY)).all()


def test_unknown_ids_are_passed_over_and_reported(model: Model) -> None:
    answer = model.recommend(["x", "i0", "i3", "y", "i5", "i1", "i8", "x"])
    assert answer.unknown_items == ["x", "y", "x"]
    assert answer.items == model.recommend(HISTORY).items
    assert model.recommend(HISTORY).unknown_items == []


def test_an_empty_history_gets_a_cold_start(model: Model) -> None:
    for history in ([], ["nobody knows this"]):
        answer = model.recommend(history)
        assert (answer.policy.name, answer.policy.weight_recent) == ("cold-start", 0.0)
        assert len(answer.items) == 10
    assert model.recommend([]).items == model.recommend(["nobody knows this"]).items


def test_duplicates_in_a_history(model: Model) -> None:
    answer = model.recommend(["i0", "i0", "i3", "i0", "i3"])
    assert sorted(ids(answer)) == [item for item in ITEMS if item not in {"i0", "i3"}]
    assert answer.policy.name == "steady"  # five events, even if of two items


def test_exclude_takes_items_out_and_leaves_the_other_scores(model: Model) -> None:
    full, without = model.recommend(HISTORY), model.recommend(HISTORY, exclude=["i2", "i9", "x", "i0"])
    assert ids(without) == [item for item in ids(full) if item not in {"i2", "i9"}]
    assert scores(without).items() <= scores(full).items()


def test_candidates_narrow_the_choice(model: Model) -> None:
    full = model.recommend(HISTORY)
    narrow = model.recommend(HISTORY, candidates=["i9", "i4", "i4", "i0", "x"])  # i0 was seen
    assert ids(narrow) == [item for item in ids(full) if item in {"i4", "i9"}]
    assert model.recommend(HISTORY, candidates=[]).items == []


def test_rank_orders_all_candidates_also_the_seen_ones(model: Model) -> None:
    answer = model.rank(HISTORY, ["i0", "i4", "n1", "i8"], new_items=NEW)
    assert sorted(ids(answer)) == ["i0", "i4", "i8", "n1"]
    assert [item.score for item in answer.items] == sorted((item.score for item in answer.items), reverse=True)
    assert model.rank(HISTORY, []).items == []
    assert ids(model.rank(HISTORY, ["i4", "i4"])) == ["i4"]


def test_rank_refuses_candidates_that_nobody_described(model: Model) -> None:
    with pytest.raises(UnknownIdError, match=r"unknown candidates \['n2', 'x'\].*pass their text as new_items"):
        model.rank(HISTORY, ["i4", "n2", "n1", "x"], new_items={"n1": NEW["n1"]})


def test_new_items_are_ranked_by_their_text(model: Model) -> None:
    answer = model.recommend(HISTORY, k=100, new_items=NEW)
    assert sorted(ids(answer)) == ["i2", "i4", "i6", "i7", "i9", "n1", "n2"]
    assert {item.item_id: item.title for item in answer.items}["n1"] == NEW["n1"]
    assert scores(answer)["n1"] != scores(answer)["n2"]
    # item i9 has no events, so a new item with its text is its equal in every component
    twins = scores(model.recommend(HISTORY, k=100, new_items={"twin": model.catalog.texts[9]}))
    assert twins["twin"] == pytest.approx(twins["i9"], abs=1e-4)


def test_an_id_that_the_bundle_knows_keeps_its_trained_vector(model: Model) -> None:
    assert model.recommend(HISTORY, new_items={"i4": "Something else"}).items == model.recommend(HISTORY).items


def test_diversity_changes_the_order_only(model: Model) -> None:
    plain, diverse = model.recommend([], k=10), model.recommend([], k=10, diversity=0.9, new_items=NEW)
    assert ids(diverse)[0] == ids(model.recommend([], k=1, new_items=NEW))[0]
    assert set(ids(model.recommend([], k=10, diversity=0.9))) == set(ids(plain))
    assert ids(model.recommend([], k=10, diversity=0.9)) != ids(plain)
    assert ids(model.recommend([], k=10, diversity=0.0)) == ids(plain)


REQUESTS = [
    RankRequest(HISTORY),
    RankRequest([]),
    RankRequest(["i2", "x", "i2", "i4", "i6", "i7"], k=3, new_items={"n1": NEW["n1"]}),
    RankRequest(HISTORY, new_items={"n1": "Another text under the same id"}, exclude=["i2"]),
    RankRequest(HISTORY, candidates=["n1", "i2"]),
    RankRequest(["i9"], diversity=0.5, keep_seen=True),
]


def test_a_batch_equals_its_requests_one_by_one(model: Model) -> None:
    for together, request in zip(model.recommend_batch(REQUESTS), REQUESTS, strict=True):
        alone = model.recommend_batch([request])[0]
        assert ids(together) == ids(alone)
        assert [i.score for i in together.items] == pytest.approx([i.score for i in alone.items], abs=1e-4)
        assert [i.title for i in together.items] == [i.title for i in alone.items]
        assert (together.policy, together.unknown_items) == (alone.policy, alone.unknown_items)
    assert model.recommend_batch([]) == []


def test_new_items_of_one_request_are_nobody_elses(model: Model) -> None:
    lists = [ids(answer) for answer in model.recommend_batch(REQUESTS)]
    assert ["n1" in found for found in lists] == [False, False, "n1" in lists[2], True, False, False]
    assert lists[4] == ["i2"]


def test_drift_reports_have_one_entry_per_given_event(model: Model) -> None:
    history = ["x", *HISTORY, "y", "i6"]
    report = model.drift(history)
    assert len(report.statistic) == len(report.p_drift_by_event) == len(history)
    assert report.unknown_items == ["x", "y"]
    known = model.drift([*HISTORY, "i6"])
    assert report.p_drift == pytest.approx(known.p_drift)
    np.testing.assert_allclose(report.statistic[[1, 2, 3, 4, 5, 7]], known.statistic)
    assert report.p_drift == pytest.approx(1 / (1 + np.exp(2)))  # log-odds of -2 whatever the history


def test_drift_of_many_equals_drift_of_each(model: Model) -> None:
    histories = [HISTORY, [], ["x"], ["i2"], ITEMS]
    for together, history in zip(model.drift_batch(histories), histories, strict=True):
        alone = model.drift(history)
        np.testing.assert_allclose(together.statistic, alone.statistic, atol=1e-5)
        np.testing.assert_allclose(together.surprise, alone.surprise, atol=1e-5)
        np.testing.assert_array_equal(together.change_point_by_event, alone.change_point_by_event)
        assert together.p_drift == pytest.approx(alone.p_drift, abs=1e-5)
        assert together.unknown_items == alone.unknown_items
    assert model.drift([]).p_drift == 0


def test_drift_is_followed_past_unknown_items(model: Model) -> None:
    (_, empty), (_, state) = model.follow_drift([[], ["x", *HISTORY[:3]]], [None, None])
    grown = ["x", *HISTORY[:3], "y", *HISTORY[3:]]
    for (verdict, _), history in zip(
        model.follow_drift([grown, HISTORY], [state, empty]), (grown, HISTORY), strict=True
    ):
        report = model.drift(history)
        assert verdict.p_drift == pytest.approx(report.p_drift)
        assert (verdict.change_point, verdict.alarm) == (report.change_point, report.alarm)


def stored(p_drift: float, change_point: int) -> DriftVerdict:
    return DriftVerdict(p_drift, change_point, alarm=True)


def log_p(model: Model, **request: object) -> np.ndarray:
    return model.log_probabilities([RankRequest(HISTORY, **request)])[0]  # type: ignore[arg-type]


def recent_only(model: Model, first: int, p_drift: float) -> np.ndarray:
    """What the scorer says of the events from ``first`` on, with everything masked that was ever seen."""
    items = np.array([model.catalog.index[item] for item in HISTORY])
    return model.scorer.log_probabilities([History(items[first:])], [items], np.array([p_drift]))[0]


def test_a_drifting_user_is_read_twice_and_mixed(model: Model) -> None:
    whole, recent = recent_only(model, 0, 0.7), recent_only(model, 3, 0.7)
    found = log_p(model, drift=stored(0.7, 3))
    possible = np.isfinite(whole)
    assert np.exp(found[possible]) == pytest.approx(
        0.3 * np.exp(whole[possible]) + 0.7 * np.exp(recent[possible]), rel=1e-4
    )
    assert np.exp(found).sum() == pytest.approx(1, rel=1e-4)
    answer = model.recommend_batch([RankRequest(HISTORY, drift=stored(0.7, 3))])[0]
    assert (answer.policy.name, answer.policy.weight_recent) == ("drifting", 0.7)
    assert not set(ids(answer)) & set(HISTORY)


def test_after_a_reset_only_the_new_regime_is_read(model: Model) -> None:
    found = log_p(model, drift=stored(0.99, 3))
    np.testing.assert_allclose(found, recent_only(model, 3, 0.99), atol=1e-5)
    assert np.isneginf(found[[0, 3, 5]]).all()  # what came before is still what the user has had


def test_a_change_point_counts_events_of_the_given_history(model: Model) -> None:
    """Unknown items before it shift it: event 5 of the given history is event 3 of the known ones."""
    history = ["x", *HISTORY[:2], "y", *HISTORY[2:]]
    shifted = model.log_probabilities([RankRequest(history, drift=stored(0.99, 5))])[0]
    np.testing.assert_allclose(shifted, log_p(model, drift=stored(0.99, 3)), atol=1e-5)


def test_only_the_drifting_user_of_a_batch_is_mixed(model: Model) -> None:
    requests = [RankRequest(HISTORY), RankRequest(HISTORY, drift=stored(0.8, 2)), RankRequest(["i4"])]
    together = model.log_probabilities(requests)
    for row, request in enumerate(requests):
        np.testing.assert_allclose(together[row], model.log_probabilities([request])[0], atol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_a_stored_drift_state_is_not_computed_again(model: Model) -> None:
    report = stored(0.1, 2)
    assert model.recommend_batch([RankRequest(HISTORY, drift=report)])[0].drift is report
    computed = model.recommend(HISTORY).drift
    assert computed is not None
    np.testing.assert_equal(asdict(computed), asdict(model.drift(HISTORY)))


def test_evaluation_scores_what_is_served(model: Model) -> None:
    functions = score_functions(model)
    assert functions.keys() == {"driftline", "driftline neural"}
    histories = [History(np.array([0, 3, 5, 1, 8]), np.arange(5.0)), History(np.empty(0, np.int64))]
    served, neural = functions["driftline"](histories), functions["driftline neural"](histories)
    np.testing.assert_allclose(served[0], model.score(HISTORY, np.arange(5.0)).to_numpy(), atol=1e-5)
    np.testing.assert_allclose(neural, model.scorer.neural(histories))


def test_the_times_of_a_history_are_read_wherever_it_is_read(model: Model) -> None:
    times_s = [0.0, 1.0, 500.0, 501.0, 90_000.0]
    bare, timed = model.score(HISTORY), model.score(HISTORY, times_s)
    assert np.abs(timed - bare)[np.isfinite(bare)].max() > 1e-3
    pd.testing.assert_series_equal(model.score(HISTORY, [np.nan] * 5), bare)  # unknown ones are like none
    with_unknown = model.score([*HISTORY[:2], "nobody's", *HISTORY[2:]], [*times_s[:2], 7.0, *times_s[2:]])
    pd.testing.assert_series_equal(with_unknown, timed)
    assert model.recommend(HISTORY, times_s=times_s, now_s=90_001.0) == model.recommend(HISTORY, times_s=times_s)
    with pytest.raises(ValueError, match="times_s has 2 entries for 5 events"):
        RankRequest(HISTORY, times_s=[1.0, 2.0])


def test_where_it_was_trained_to_a_bundle_reads_the_moment_of_the_request(base: Path, tmp_path: Path) -> None:
    made = Model(contents_of(config_of(base, tmp_path, encoder=TARGET_GAP)))
    folder = write_bundle(tmp_path / "b1", made.contents.save, lambda: manifest_of("b1"))
    loaded, times_s = driftline.load(folder), [0.0, 1.0, 500.0, 501.0, 90_000.0]

    def scored(now_s: float | None, times_s: list[float] | None = times_s) -> dict[str, float]:
        return scores(loaded.recommend(HISTORY, times_s=times_s, now_s=now_s))

    assert scored(90_000.0) == scores(made.recommend(HISTORY, times_s=times_s, now_s=90_000.0))
    assert scored(None) != scored(90_000.0) != scored(90_001.0) == scored(90_002.0)  # 1 and 2 s are one bucket
    assert scored(90_000.0, None) == scored(None, None)  # no last event's time: no gap
    told = History(np.array([0, 3, 5, 1, 8]), np.array(times_s), now_s=90_000.0)
    evaluated = score_functions(loaded)["driftline"]([told, replace(told, now_s=None)])
    for row, now_s in enumerate((90_000.0, None)):
        listed = scored(now_s)
        assert evaluated[row, [ITEMS.index(item) for item in listed]] == pytest.approx(list(listed.values()), abs=1e-5)
