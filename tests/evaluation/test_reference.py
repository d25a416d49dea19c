"""The evaluator and the untrained models reproduce the reference figures of MovieLens-100K to 0.002."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from driftline.config import parse_config
from driftline.evaluation.protocols import Ranking, ScoreFunction, batches, rank_batch, summarise
from driftline.models.collaborative import CollaborativeTables
from driftline.models.item_knn import item_knn
from driftline.models.recency import binary_weights, weighted_rows
from driftline.samples import home
from driftline.sequences.batches import History
from driftline.sequences.dataset import load_dataset

REFERENCE = json.loads((Path(__file__).parent.parent / "assets/ml100k_reference.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["leave-one-out", "temporal-successive"])
def test_untrained_models_score_what_the_reference_says(protocol: str) -> None:
    config = parse_config({"data": {"sample": "ml-100k"}, "protocol": protocol, "storage": str(home())})
    dataset = load_dataset(config)
    sequences = [history.items for history in dataset.histories(dataset.split.train).values()]
    num_items = len(dataset.catalog)
    tables = CollaborativeTables.fit(sequences, num_items)
    neighbours_csr = item_knn(sequences, num_items)

    def knn(histories: Sequence[History]) -> NDArray[np.float32]:
        return weighted_rows(binary_weights([history.items for history in histories]), neighbours_csr)

    def from_table(name: str) -> ScoreFunction:
        return lambda histories: tables.score(name, [history.items for history in histories])

    models = {"item-knn": knn} | {n: from_table(n) for n in ("popularity", "ease", "ease-recency", "markov")}
    ranking = Ranking(protocol, dataset.split.test)
    ranked = [rank_batch(dataset, ranking, part, models) for part in batches(ranking.targets, num_items)]
    result = summarise(dataset, ranking, ranked, tables.popularity_N, seed=0)

    expected = dict(REFERENCE[protocol])
    assert result.targets == expected.pop("targets")
    assert {model.model for model in result.models} == expected.keys()
    for model in result.models:
        found = {metric: interval.mean for metric, interval in model.metrics.items()}
        assert found == pytest.approx(expected[model.model], abs=0.002), model.model
