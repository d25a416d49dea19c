"""The cold-item protocol on the suite's synthetic data, and on MovieLens-100K."""

from pathlib import Path

import numpy as np
import pytest

from driftline.config import parse_config
from driftline.evaluation.cold import content_baselines
from driftline.evaluation.protocols import baselines_of, rank_batch, rankings, summarise
from driftline.events.splits import is_cold_item
from driftline.models.collaborative import CollaborativeTables
from driftline.samples import home
from driftline.sequences.dataset import Dataset, load_dataset, ranking_split
from driftline.sequences.stream import ranking_counts, ranking_sampler
from driftline.training.stages import factor_sequences, ranking_targets
from tests.tiny import tiny_config


def cold_of(dataset: Dataset) -> np.ndarray:
    return np.array([is_cold_item(item) for item in dataset.catalog.ids])


@pytest.mark.parametrize("exclude_held_out", [False, True])
def test_nothing_that_is_fitted_has_seen_a_cold_item(tiny_folder: Path, exclude_held_out: bool) -> None:
    """Everything that a run learns from: batches, tables, factors, what it validates on, the drift part's users."""
    choice = f"ranking.exclude_held_out={str(exclude_held_out).lower()}"
    config = tiny_config(tiny_folder, ["protocol=cold-item", choice])
    dataset = load_dataset(config)
    cold_N = cold_of(dataset)
    assert 60 < cold_N.sum() < 95  # a fifth of 390
    split = ranking_split(dataset, config)
    fitted = [history.items for history in dataset.histories(split.fit).values()]
    validated = ranking_targets(dataset, split.validation)
    drift = dataset.histories(dataset.split.fit, dataset.users_of("train")).values()
    batches = [batch.items_BL[batch.mask_BL].numpy() for batch in ranking_sampler(dataset, config).epoch(0)]
    learnt_from = [
        *fitted,
        *batches,
        *factor_sequences(dataset, config),
        *(history.items for history in drift),
        *(history.items for history in validated.histories),
        validated.targets_T,
    ]
    assert not cold_N[np.concatenate(learnt_from)].any()
    assert ranking_counts(dataset, config)[cold_N].sum() == 0
    tables = CollaborativeTables.fit(fitted, len(cold_N))
    for table in (
        tables.popularity_N,
        tables.item_item_NN,
        tables.item_item_NN.T,
        tables.markov_NN,
        tables.markov_NN.T,
    ):
        assert not table[cold_N].any()
    tested = dataset.split.test
    assert cold_N[dataset.indices(tested.item_ids)].all()
    assert 0 < len(tested) < 150


@pytest.mark.slow
def test_movielens_has_338_cold_items_and_175_targets() -> None:
    """Content baselines are above chance (0.03), and ridge regression on genre and year near what a pilot had.

    The pilot's (0.183 / 0.091) read a history as its items' mean; here recent items count more.
    """
    config = parse_config({"data": {"sample": "ml-100k"}, "protocol": "cold-item", "storage": str(home())})
    dataset = load_dataset(config)
    assert cold_of(dataset).sum() == 338
    assert len(dataset.split.test) == 175
    sequences = [history.items for history in dataset.histories(dataset.split.train).values()]
    tables = CollaborativeTables.fit(sequences, len(dataset.catalog))
    models = baselines_of(tables) | content_baselines(dataset)
    among_cold, among_all = (
        summarise(dataset, ranking, [rank_batch(dataset, ranking, slice(0, 175), models)], tables.popularity_N, 0)
        for ranking in rankings("cold-item", dataset)
    )
    found = {model.model: (model.metrics["HR@10"].mean, model.metrics["NDCG@10"].mean) for model in among_cold.models}
    assert found["markov"][0] == 0  # all tie in the middle of the list
    assert found["genre kNN"][0] > 0.05
    assert found["TF-IDF kNN"] == pytest.approx((0.183, 0.096), abs=0.02)
    assert found["ridge genre+year"] == pytest.approx((0.206, 0.117), abs=0.01)
    in_all = {model.model: model.metrics["HR@10"].mean for model in among_all.models}
    assert all(in_all[name] <= found[name][0] for name in found)
