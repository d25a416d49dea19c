"""The evaluator on a log of four users and five items that can be ranked by hand."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from driftline.columns import Targets as Columns
from driftline.config import parse_config
from driftline.evaluation.html_report import html_report
from driftline.evaluation.protocols import (
    ProtocolResult,
    Ranking,
    ScoreFunction,
    Stratum,
    baselines_of,
    batches,
    rank_batch,
    rankings,
    summarise,
)
from driftline.evaluation.report import as_json, sheets
from driftline.events.splits import Targets
from driftline.models.collaborative import CollaborativeTables
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset, load_dataset

POPULARITY = np.array([4, 3, 2, 1, 0], dtype=np.float32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Items a to e; the targets are u1: c after a b, u2: e after a b, u3: a after b c d, u4: b after a c."""
    rows = ["user_id,item_id,timestamp"]
    for user, items in {"u1": "abc", "u2": "abe", "u3": "bcda", "u4": "acb"}.items():
        rows += [f"{user},{item},{time}" for time, item in enumerate(items)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(rows) + "\n", encoding="utf-8")
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n" + "".join(f"{item},Item {item}\n" for item in "abcde"), encoding="utf-8")
    data = {"interactions": str(log), "items": str(items)}
    return load_dataset(parse_config({"data": data, "storage": str(tmp_path)}))


def constant(scores: Sequence[float]) -> ScoreFunction:
    return lambda histories: np.tile(np.array(scores, dtype=np.float32), (len(histories), 1))


def evaluated(dataset: Dataset, targets: Targets | None = None, /, **models: ScoreFunction) -> ProtocolResult:
    ranking = Ranking("leave-one-out", dataset.split.test if targets is None else targets)
    ranked = [rank_batch(dataset, ranking, part, models) for part in batches(ranking.targets, len(POPULARITY))]
    return summarise(dataset, ranking, ranked, POPULARITY, seed=7)


def test_ranks_and_metrics_by_hand(dataset: Dataset) -> None:
    """Order a b c d e, minus what was seen: c is 1st of c d e, e 3rd of c d e, a 1st of a e, b 1st of b d e."""
    result = evaluated(dataset, alphabet=constant([5, 4, 3, 2, 1]))
    ranks = dict(zip(result.rows[Columns.USER], result.rows[Columns.RANK], strict=True))
    assert ranks == {"u1": 1, "u2": 3, "u3": 1, "u4": 1}
    metrics = result.models[0].metrics
    assert metrics["HR@10"].mean == 1
    assert metrics["NDCG@10"].mean == pytest.approx(1 / 4 * (1 + 1 / 2 + 1 + 1))
    assert metrics["MRR@10"].mean == pytest.approx(1 / 4 * (1 + 1 / 3 + 1 + 1))
    assert result.targets == 4


def test_the_dump_names_every_target(dataset: Dataset) -> None:
    rows = evaluated(dataset, one=constant([5, 4, 3, 2, 1]), two=constant([0] * 5)).rows
    assert len(rows) == 8
    first = rows[(rows[Columns.USER] == "u3") & (rows[Columns.MODEL] == "two")].iloc[0].to_dict()
    assert first == {
        Columns.PROTOCOL: "leave-one-out",
        Columns.USER: "u3",
        Columns.ITEM: "a",
        Columns.HISTORY_LENGTH: 3,
        Columns.RANK: 1.5,  # a and e tie
        Columns.MODEL: "two",
        Columns.SEED: 7,
    }


def test_a_model_sees_items_and_times_of_the_history_only(dataset: Dataset) -> None:
    seen: list[History] = []

    def spy(histories: Sequence[History]) -> NDArray[np.float32]:
        seen.extend(histories)
        return np.zeros((len(histories), 5), dtype=np.float32)

    evaluated(dataset, spy=spy)
    assert sorted((h.items.tolist(), h.times_s.tolist()) for h in seen if h.times_s is not None) == [
        ([0, 1], [0, 1]),
        ([0, 1], [0, 1]),
        ([0, 2], [0, 1]),
        ([1, 2, 3], [0, 1, 2]),
    ]


def test_the_moment_of_a_target_is_told_in_a_table_of_its_own(dataset: Dataset) -> None:
    """u1 to u4 ask for what comes at 2, 2, 3, 2."""
    plain, told = rankings("leave-one-out", dataset, with_moment=True)
    assert [table.name for table in rankings("leave-one-out", dataset)] == [plain.name] == ["leave-one-out"]
    assert told.name == "leave-one-out, given the target's time gap"

    asked: list[float | None] = []

    def spy(histories: Sequence[History]) -> NDArray[np.float32]:
        asked.extend(history.now_s for history in histories)
        return np.zeros((len(histories), 5), dtype=np.float32)

    for table in (plain, told):
        rank_batch(dataset, table, slice(0, 4), {"spy": spy})
    assert asked[:4] == [None] * 4
    assert sorted(asked[4:]) == [2, 2, 2, 3]  # type: ignore[type-var]


def test_where_items_repeat_nothing_is_masked(dataset: Dataset) -> None:
    repeats = replace(dataset, catalog=replace(dataset.catalog, repeat_consumption=True))
    rows = evaluated(repeats, alphabet=constant([5, 4, 3, 2, 1])).rows
    assert dict(zip(rows[Columns.USER], rows[Columns.RANK], strict=True)) == {"u1": 3, "u2": 5, "u3": 1, "u4": 2}


def test_differences_are_taken_target_by_target(dataset: Dataset) -> None:
    forwards, backwards = constant([5, 4, 3, 2, 1]), constant([1, 2, 3, 4, 5])
    found = evaluated(dataset, driftline=forwards, bad=backwards, same=forwards).comparisons()
    # backwards: c is 3rd, e 1st, a 2nd, b 3rd
    good, bad = np.array([1, 1 / 3, 1, 1]), np.array([1 / 3, 1, 1 / 2, 1 / 3])
    difference = found["bad"]["MRR@10"]
    assert difference.mean == pytest.approx((good - bad).mean())
    assert difference.low < difference.mean < difference.high
    assert found["same"]["HR@10"].low == found["same"]["HR@10"].high == 0
    opposite = evaluated(dataset, driftline=backwards, other=forwards).comparisons()["other"]["MRR@10"]
    assert opposite.mean == pytest.approx(-difference.mean)
    assert evaluated(dataset, driftline=forwards).comparisons() == evaluated(dataset, bad=backwards).comparisons() == {}


def test_breakdowns_count_every_target_once(dataset: Dataset) -> None:
    model = evaluated(dataset, alphabet=constant([5, 4, 3, 2, 1])).models[0]

    def figures(strata: dict[str, Stratum]) -> dict[str, tuple[int, float]]:
        return {label: (stratum.targets, stratum.ndcg.mean) for label, stratum in strata.items()}

    assert figures(model.by_length) == {"1-3": (4, pytest.approx(3.5 / 4))}
    # five items fall into deciles 1, 3, 5, 7, 9 from rare to popular; e is the rarest
    assert figures(model.by_popularity) == {"1": (1, 0.5), "5": (1, 1.0), "7": (1, 1.0), "9": (1, 1.0)}
    # training events are a, b and c for the first time at 0, 0 and 1 s: deciles 1, 4 and 7; nobody had e
    assert figures(model.by_age) == {"1": (1, 1.0), "4": (1, 1.0), "7": (1, 1.0), "new": (1, 0.5)}


def test_among_some_candidates_only_they_are_ranked(dataset: Dataset) -> None:
    """Of b, c and e: b c e minus what was seen; c is 1st of c e, e 2nd of c e, and u3's a, the target, 1st of a e."""
    ranking = Ranking("some", dataset.split.test, np.array([False, True, True, False, True]))
    models = {"alphabet": constant([5, 4, 3, 2, 1])}
    ranked = [rank_batch(dataset, ranking, slice(part, part + 2), models) for part in (0, 2)]
    result = summarise(dataset, ranking, ranked, POPULARITY, seed=7)
    assert dict(zip(result.rows[Columns.USER], result.rows[Columns.RANK], strict=True)) == {
        "u1": 1, "u2": 2, "u3": 1, "u4": 1,
    }  # fmt: skip
    assert set(result.rows[Columns.PROTOCOL]) == {"some"}
    assert result.models[0].beyond["coverage@10"] == 1


def test_cold_users_have_their_newest_events_only(dataset: Dataset) -> None:
    tables = {ranking.name: ranking.targets for ranking in rankings("cold-user", dataset)}
    assert list(tables) == [f"cold-user, {events} events" for events in (0, 1, 2, 3, 5)]
    assert tables["cold-user, 1 events"].history(2) == ["d"]  # u3: a after b c d
    assert tables["cold-user, 5 events"].history(2) == ["b", "c", "d"]
    seen: list[list[int]] = []

    def spy(histories: Sequence[History]) -> NDArray[np.float32]:
        seen.extend(history.items.tolist() for history in histories)
        return constant([5, 4, 3, 2, 1])(histories)

    rows = evaluated(dataset, tables["cold-user, 0 events"], spy=spy).rows
    assert seen == [[], [], [], []]
    assert rows[Columns.RANK].tolist() == [3, 5, 1, 2]  # of a b c d e: nothing is known to be seen


def test_lists_are_as_long_as_the_catalogue_allows(dataset: Dataset) -> None:
    assert evaluated(dataset, alphabet=constant([5, 4, 3, 2, 1])).models[0].beyond["coverage@10"] == 1


def test_baselines_are_fitted_on_what_they_are_given() -> None:
    models = baselines_of(CollaborativeTables.fit([np.array([0, 1]), np.array([0, 2])], num_items=3))
    assert list(models) == ["popularity", "ease-recency", "markov"]
    assert models["popularity"]([History(np.array([0]))]).tolist() == [[2, 1, 1]]
    assert models["markov"]([History(np.array([0]))])[0].tolist() == pytest.approx([0, 1 / np.sqrt(2), 1 / np.sqrt(2)])


def test_report_as_tables_json_and_page(dataset: Dataset) -> None:
    result = evaluated(dataset, driftline=constant([5, 4, 3, 2, 1]), **{"<bad>": constant([0] * 5)})
    console = Console(width=160, record=True, file=io.StringIO())
    for sheet in sheets(result, note="A note."):
        console.print(sheet)
    text = console.export_text()
    assert "leave-one-out: 4 targets" in text
    assert " .875 " in text  # NDCG@10 of driftline
    assert "ties get the" in text
    assert "NDCG@10 by age decile" in text
    assert "by history length" not in text  # all are of one length
    parsed = json.loads(json.dumps(as_json(result)))
    assert [model["model"] for model in parsed["models"]] == ["driftline", "<bad>"]
    assert parsed["targets"] == 4
    assert parsed["models"][0]["metrics"]["NDCG@10"]["mean"] == pytest.approx(0.875)
    assert parsed["driftline minus"]["<bad>"]["HR@10"] == asdict(result.comparisons()["<bad>"]["HR@10"])
    page = html_report([result], ["A note."], {"seed": 7}, "bundle-1")
    assert page.count('<img alt="leave-one-out, ') == 4  # metrics, differences, popularity, age
    assert "&lt;bad&gt;" in page
    assert "<bad>" not in page
    assert "0.8750 [" in page
