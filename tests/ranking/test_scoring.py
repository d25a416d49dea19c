"""Components and their fusion over a catalogue of six items."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import issparse

from driftline.config import EncoderConfig, HeadsConfig
from driftline.models.collaborative import CollaborativeTables
from driftline.models.content import ContentRidge
from driftline.models.fusion import FusionGate
from driftline.models.item_table import ItemTable
from driftline.models.recommender import Recommender
from driftline.models.trend import Trend
from driftline.models.user_encoder import UserEncoder
from driftline.models.user_knn import UserNeighbours
from driftline.ranking.order import best_first
from driftline.ranking.scoring import Scorer
from driftline.sequences.batches import History

ITEMS, DIM, WINDOW = 6, 8, 4
COMPONENTS = ("neural", "ease-recency", "markov", "popularity", "attention")
TEXT = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 1], [-1, 0]]), dim=-1)
SEQUENCES = [np.array(items) for items in ([0, 1, 4], [2, 3, 4], [0, 4, 1], [3, 2], [1, 0])]  # nobody had item 5


def scorer(
    mask_seen: bool = True,
    components: tuple[str, ...] = COMPONENTS,
    text: torch.Tensor = TEXT,
    tables: CollaborativeTables | None = None,
    attributes: torch.Tensor | None = None,
) -> Scorer:
    torch.manual_seed(3)
    tables = tables or CollaborativeTables.fit(SEQUENCES, ITEMS)
    known_N = torch.from_numpy(tables.popularity_N > 0)
    config = EncoderConfig(kind="transformer", dim=DIM, layers=1, window_events=WINDOW)
    heads = HeadsConfig(rating=0, text=0 if attributes is None else 1)
    items = ItemTable(text, known_N, DIM, 0.1)
    ranker = Recommender(items, UserEncoder(config), heads, attributes_NA=attributes)
    for parameter in ranker.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    gate = FusionGate(components)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter)
    return Scorer(ranker, tables, text, gate, mask_seen)


def history(*items: int) -> History:
    return History(np.array(items, dtype=np.int64))


def test_attention_by_hand() -> None:
    """Read 0 then 2: 0.9 (1, 0) + 1 (0, 1), made a unit vector; softmax of its dot products over 0.1."""
    pooled = np.array([0.9, 1]) / math.hypot(0.9, 1)
    logits = TEXT.numpy() @ pooled / 0.1
    expected = np.exp(logits - logits.max())
    found = scorer().attention([history(0, 2)])[0].numpy()
    assert found == pytest.approx(expected / expected.sum(), rel=1e-4)


def test_attention_without_history_is_even() -> None:
    assert scorer().attention([history()])[0].tolist() == pytest.approx([1 / ITEMS] * ITEMS)


def test_attention_ranks_a_new_item_by_its_text() -> None:
    weights = scorer().attention([history(0)], torch.tensor([[1.0, 0], [0, 1]]))[0]
    assert weights.sum() == pytest.approx(1)
    assert weights[6] == pytest.approx(float(weights[1]))
    assert weights[7] == pytest.approx(float(weights[2]))


@torch.no_grad()
def test_neural_scores_are_table_times_interest_plus_bias() -> None:
    made = scorer()
    batch_scores = made.neural([history(0, 1), history()])
    table_ND, bias_N = made.ranker.items()
    events = table_ND[torch.tensor([[0, 1]])]
    interest = made.ranker.encoder(events, torch.ones(1, 2, dtype=torch.bool))[0, -1]
    torch.testing.assert_close(batch_scores[0], table_ND @ interest + bias_N)


@torch.no_grad()
def test_a_new_item_scores_like_an_untrained_one_of_the_same_text() -> None:
    scores = scorer().neural([history(0, 3)], TEXT[[5]])
    assert float(scores[0, 6]) == pytest.approx(float(scores[0, 5]))


@torch.no_grad()
def test_so_it_does_where_a_text_head_reads_attributes_too() -> None:
    attributes = torch.eye(ITEMS)
    made, new = scorer(attributes=attributes), torch.cat([attributes, TEXT], dim=1)[[5]]
    scores = made.neural([history(0, 3)], new)[0]
    assert float(scores[6]) == pytest.approx(float(scores[5]))
    table_ND, bias_N = made.ranker.items()
    by_table = made.interests([history(0, 3)])[0] @ table_ND.T + bias_N
    torch.testing.assert_close(scores[:5], by_table[:5])  # of items with events
    assert float(scores[5]) != pytest.approx(float(by_table[5]))
    weights = made.attention([history(0)], new)[0]
    assert float(weights[6]) == pytest.approx(float(weights[5]))


@torch.no_grad()
def test_only_the_window_is_read_by_the_encoder() -> None:
    made = scorer()
    torch.testing.assert_close(made.neural([history(5, 5, 0, 1, 2, 3)]), made.neural([history(0, 1, 2, 3)]))


def test_popularity_counts_on_a_log_scale() -> None:
    z, _ = scorer(components=("popularity",)).components([history()], [np.empty(0, np.int64)])
    logs = np.log1p([3, 3, 2, 2, 3, 0])
    assert z[0, 0].numpy() == pytest.approx((logs - logs.mean()) / logs.std(), rel=1e-5)


def log_p(made: Scorer, *histories: History, **new: object) -> np.ndarray:
    return made.log_probabilities(histories, [h.items for h in histories], np.full(len(histories), 0.3), **new)  # type: ignore[arg-type]


def test_probabilities_of_what_can_come_next_add_up_to_one() -> None:
    found = log_p(scorer(), history(0, 2, 0), history())
    assert np.exp(found).sum(axis=1) == pytest.approx([1, 1], rel=1e-5)
    assert np.flatnonzero(np.isneginf(found[0])).tolist() == [0, 2]
    assert np.isfinite(found[1]).all()


def test_where_items_repeat_nothing_is_masked() -> None:
    assert np.isfinite(log_p(scorer(mask_seen=False), history(0, 2))).all()


def test_a_user_who_has_everything_gets_no_nan() -> None:
    assert np.isneginf(log_p(scorer(), history(*range(ITEMS)))).all()


def test_a_batch_equals_its_histories_one_by_one() -> None:
    made = scorer()
    histories = [history(0, 1, 4, 2, 3), history(), history(3), history(1, 1, 1)]
    together = log_p(made, *histories)
    for row, one in enumerate(histories):
        np.testing.assert_allclose(together[row], log_p(made, one)[0], atol=1e-5)


def test_a_list_does_not_depend_on_new_items_offered_to_others() -> None:
    made = scorer()
    offered = np.array([[True], [False]])
    together = log_p(made, history(0), history(1), new_vectors_MT=TEXT[[2]] * -1, new_offered_BM=offered)
    assert np.isfinite(together[0, 6])
    assert np.isneginf(together[1, 6])
    np.testing.assert_allclose(together[1, :6], log_p(made, history(1))[0], atol=1e-5)


def test_the_ranker_is_used_in_evaluation_mode() -> None:
    made = scorer()
    np.testing.assert_array_equal(log_p(made, history(0, 1)), log_p(made, history(0, 1)))
    assert not made.ranker.training


def plain_log_p(made: Scorer, items: np.ndarray, p_drift: float) -> np.ndarray:
    """The same by the textbook: whole tables, float64, one item after the other where it matters."""
    N, tables = len(made.bias_N), made.tables

    def weights(decay: float) -> np.ndarray:
        found = np.zeros(N)
        for age, item in enumerate(items[::-1][:20]):
            found[item] = max(found[item], decay**age)
        return found

    def log_share(score: np.ndarray) -> np.ndarray:
        return np.log(score / max(score.sum(), 1e-9) + 0.02 / N)

    fitted = (tables.item_item_NN, tables.markov_NN, tables.co_occurrence_NN)
    item_item, chain, pairs = (t.toarray() if issparse(t) else t for t in fitted)
    with torch.no_grad():
        table, bias = made.ranker.items()
        read = torch.from_numpy(items[-WINDOW:] if len(items) else np.zeros(1, dtype=np.int64))
        interests = made.ranker.encoder(table[read].unsqueeze(0), torch.full((1, len(read)), len(items) > 0))
    pooled = weights(0.9) @ made.text_vectors_NT.numpy()
    logits = made.text_vectors_NT.numpy() @ (pooled / max(np.linalg.norm(pooled), 1e-12)) / 0.1
    by_name = {
        "neural": (table @ interests[0, len(items[-WINDOW:])] + bias).double().numpy(),
        f"{tables.item_item}-recency": weights(0.9) @ item_item,
        "markov": weights(0.6) @ chain,
        "popularity": np.log1p(tables.popularity_N),
        "co-occurrence": log_share(weights(0.6) @ pairs),
        "attention": np.exp(logits) / np.exp(logits).sum(),
    }
    possible = ~np.isin(np.arange(N), items)
    history = np.array([np.log1p(len(items)) / 6, p_drift])
    kind = np.stack([np.log1p(tables.popularity_N) / 6, tables.popularity_N == 0], axis=1)
    gate = {name: p.detach().double().numpy() for name, p in made.gate.named_parameters()}
    total = np.zeros(N)
    for c, name in enumerate(made.gate.components):
        score = by_name[name]
        spread = score[possible].std()
        z = (score - score[possible].mean()) / spread if spread > 1e-6 * np.abs(score[possible]).max() else np.zeros(N)
        weight = gate["base_C"][c] + history @ gate["history_FC"][:, c] + kind @ gate["item_GC"][:, c]
        total += np.log1p(np.exp(weight)) * z
    total[~possible] = -np.inf
    return total - np.log(np.exp(total[possible]).sum())


@pytest.mark.parametrize("dense_up_to", [60, 0])
def test_fast_scores_rank_like_the_plain_ones(dense_up_to: int) -> None:
    """Three hundred random histories over sixty items, both forms of the tables."""
    rng = np.random.default_rng(1)
    sequences = [rng.permutation(60)[: rng.integers(2, 30)] for _ in range(80)]
    tables = CollaborativeTables.fit(sequences, 60, dense_up_to)
    made = scorer(
        components=("neural", f"{tables.item_item}-recency", "markov", "co-occurrence", "popularity", "attention"),
        text=torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(60, 8)).astype(np.float32)), dim=-1),
        tables=tables,
    )
    histories = [history(*rng.integers(0, 60, size=length)) for length in rng.integers(0, 40, size=300)]
    p_drift = rng.random(300)
    found = made.log_probabilities(histories, [h.items for h in histories], p_drift)
    for row, one in enumerate(histories):
        expected = plain_log_p(made, one.items, p_drift[row])
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)
        assert best_first(found[row], 60).tolist() == best_first(expected, 60).tolist()


def test_a_long_batch_is_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scorer()
    histories = [history(0), history(1, 2), history(), history(3), history(4, 0)]
    offered = np.array([[True], [False], [True], [True], [False]])
    new = {"new_vectors_MT": TEXT[[2]] * -1, "new_offered_BM": offered}
    whole = log_p(made, *histories, **new)
    monkeypatch.setattr("driftline.ranking.scoring.SCORES_AT_ONCE", 2 * 7)
    np.testing.assert_allclose(log_p(made, *histories, **new), whole, atol=1e-5)


def test_trend_user_knn_and_content_are_components_where_they_were_fitted() -> None:
    log = [History(one, np.arange(len(one)) * 1e6) for one in SEQUENCES]
    components, asked = ("trend", "user-knn", "content"), log[2].slice(0, 2)
    with pytest.raises(ValueError, match=r"fusion\.components has trend"):
        scorer(components=components).components([asked], [asked.items])
    trend, users = Trend.fit(log, ITEMS), UserNeighbours.fit(SEQUENCES, ITEMS)
    content = ContentRidge.fit(SEQUENCES, TEXT.numpy())
    tables = replace(CollaborativeTables.fit(SEQUENCES, ITEMS), trend=trend, user_knn=users, content=content)
    z_CBN, open_BN = scorer(components=components, tables=tables).components([asked], [asked.items])
    scores = (trend.score([asked])[0], users.score([asked.items])[0], content.score([asked.items])[0])
    for found, score in zip(z_CBN[:, 0].numpy(), scores, strict=True):
        others = score[open_BN[0].numpy()]
        assert found[open_BN[0].numpy()] == pytest.approx((others - others.mean()) / others.std(), abs=1e-4)


def test_content_ranks_a_new_item_like_an_unknown_one_of_the_same_content() -> None:
    attributes = torch.eye(ITEMS)
    read = torch.cat([attributes, TEXT], dim=1)
    tables = replace(CollaborativeTables.fit(SEQUENCES, ITEMS), content=ContentRidge.fit(SEQUENCES, read.numpy()))
    scores = scorer(components=("content",), tables=tables, attributes=attributes).content(
        [history(0, 3)], read[[5, 2]]
    )
    assert float(scores[0, 6]) == pytest.approx(float(scores[0, 5]), rel=1e-5)
    assert float(scores[0, 7]) != pytest.approx(float(scores[0, 2]), rel=1e-2)  # others have had item 2
