"""Known items shown to the gate as if nobody had had them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from driftline.columns import Events
from driftline.config import Config
from driftline.models.build import build_ranker
from driftline.models.collaborative import CollaborativeTables
from driftline.models.content import ContentRidge, features
from driftline.models.fusion import FusionGate
from driftline.ranking.scoring import Scorer
from driftline.sequences.dataset import Dataset, load_dataset
from driftline.training.stages import alignment_items, factor_sequences, ranking_targets
from driftline.training.unknown_items import as_unknown
from tests.tiny import tiny_config


def untrained(config: Config, dataset: Dataset) -> Scorer:
    """A random ranker with a text head beside tables of all training events."""
    torch.manual_seed(0)
    vectors_NT = normalize(torch.randn(len(dataset.catalog), 8), dim=-1)
    sequences = [history.items for history in dataset.histories(dataset.split.fit).values()]
    tables = CollaborativeTables.fit(sequences, len(dataset.catalog))
    content = ContentRidge.fit(sequences, features(dataset.catalog.texts, vectors_NT.numpy()))
    ranker = build_ranker(config, vectors_NT, torch.from_numpy(tables.popularity_N > 0), texts=dataset.catalog.texts)
    return Scorer(ranker, replace(tables, content=content), vectors_NT, FusionGate(("neural", "content")), True)


def test_content_has_not_learnt_from_an_item_that_is_taken_for_unknown(tiny_folder: Path) -> None:
    """Scores stay as they are if others had had the items: only whom their events are of is changed, not how many."""
    config = tiny_config(tiny_folder, ["protocol=cold-item", "heads.text=0.1"])
    dataset = load_dataset(config)
    held_out, aligned = alignment_items(factor_sequences(dataset, config), len(dataset.catalog), config.seed)
    targets = ranking_targets(dataset, dataset.split.validation)
    found = np.isin(targets.targets_T, held_out)
    assert 0 < found.sum() < len(targets)
    (examples,) = as_unknown(config, dataset, untrained(config, dataset), targets, np.zeros(len(targets)))
    assert held_out[examples.targets_B].tolist() == targets.targets_T[found].tolist()
    assert examples.candidate_BN.shape == (found.sum(), len(held_out))

    fit = dataset.split.fit.copy()
    moved = np.isin(dataset.indices(fit[Events.ITEM]), held_out) & fit[Events.USER].isin(dataset.users_of("train"))
    fit.loc[moved, Events.USER] = fit.loc[moved, Events.USER].to_numpy()[::-1]
    others = replace(dataset, split=replace(dataset.split, fit=fit, train=fit))
    assert alignment_items(factor_sequences(others, config), len(dataset.catalog), config.seed)[0].tolist() == (
        held_out.tolist()
    )
    scorer = untrained(config, others)
    assert scorer.tables.content is not None
    assert not np.allclose(scorer.tables.content.weights_FD, untrained(config, dataset).tables.content.weights_FD)  # type: ignore[union-attr]
    (again,) = as_unknown(config, others, scorer, targets, np.zeros(len(targets)))
    torch.testing.assert_close(again.z_CBN[1], examples.z_CBN[1], atol=1e-4, rtol=1e-4)
    # a target that both text tower and text head may have learnt from is never shown so
    assert not np.isin(held_out, aligned).any()
