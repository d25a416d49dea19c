"""Explicit values that a bundle predicts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from driftline.errors import BundleError
from driftline.registry.model import Model
from driftline.registry.ratings import value_function
from driftline.sequences.batches import History, collate
from tests.registry.parts import config_of, contents_of


def test_the_rating_head_answers_in_the_scale_of_the_data(model: Model) -> None:
    """The head's share of the range from 1 to 5, of each history's own item."""
    histories = [History(np.array(items)) for items in ([0, 3, 5], [1])]
    found = value_function(model, (1.0, 5.0))(histories, np.array([9, 2]))
    ranker = model.scorer.ranker
    assert ranker.rating_head is not None
    with torch.no_grad():
        table_ND, _ = ranker.items()
        interests_BD = ranker.last_interests(collate(histories), table_ND)
        shares = (interests_BD * table_ND[[9, 2]]) @ ranker.rating_head.out.weight[0] + ranker.rating_head.out.bias
    assert found == pytest.approx(1 + 4 * shares.numpy(), rel=1e-5)


def test_without_a_head_there_is_no_value(base: Path) -> None:
    model = Model(contents_of(config_of(base, base.parent, heads={"rating": 0})))
    with pytest.raises(BundleError, match="heads.rating=0"):
        value_function(model, (1.0, 5.0))
