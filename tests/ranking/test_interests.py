"""Interest vectors in memory are those that the model would work out again."""

import numpy as np
import pytest
import torch

from driftline.config import EncoderConfig, HeadsConfig
from driftline.models.item_table import ItemTable
from driftline.models.recommender import Recommender
from driftline.models.user_encoder import UserEncoder
from driftline.ranking.interests import Interests
from driftline.sequences.batches import Batch, History, collate

ITEMS, DIM, WINDOW = 9, 8, 4


class Counting(Recommender):
    """Counts the histories that it reads."""

    num_read = 0

    def last_interests(self, batch: Batch, table_ND: torch.Tensor) -> torch.Tensor:
        self.num_read += len(batch.items_BL)
        return super().last_interests(batch, table_ND)


@pytest.fixture
def ranker() -> Counting:
    torch.manual_seed(5)
    config = EncoderConfig(kind="transformer", dim=DIM, layers=2, window_events=WINDOW)
    items = ItemTable(torch.randn(ITEMS, 3), torch.ones(ITEMS, dtype=torch.bool), DIM, 0.1)
    made = Counting(items, UserEncoder(config), HeadsConfig(rating=0))
    torch.nn.init.normal_(made.encoder.gap.weight)  # zeros would make times no difference
    return made.eval()


@pytest.fixture
def table_ND(ranker: Counting) -> torch.Tensor:
    return ranker.items()[0].detach()


def history(*items: int, times: list[float] | None = None) -> History:
    return History(np.array(items, dtype=np.int64), None if times is None else np.array(times))


@torch.no_grad()
def test_every_vector_is_the_models_own_whatever_was_read_before(ranker: Counting, table_ND: torch.Tensor) -> None:
    interests = Interests(ranker, table_ND)
    asked = [history(1, 2), history(), history(3), history(1, 2), history(1, 2, times=[0.0, 1e6])]
    for _ in range(2):
        found = interests(asked)
        for row, one in enumerate(asked):
            torch.testing.assert_close(found[row], Recommender.last_interests(ranker, collate([one]), table_ND)[0])
    assert ranker.num_read == 4  # the same history twice, and times make another one
    assert not torch.allclose(found[0], found[4])


def test_histories_that_agree_in_the_window_are_one(ranker: Counting, table_ND: torch.Tensor) -> None:
    interests = Interests(ranker, table_ND)
    interests([history(8, 1, 2, 3, 4)])
    interests([history(7, 7, 1, 2, 3, 4)])
    assert ranker.num_read == 1


def test_memory_is_bounded(ranker: Counting, table_ND: torch.Tensor) -> None:
    interests = Interests(ranker, table_ND, max_kept=2)
    for items in ([1], [2], [1], [3]):  # 2 goes
        interests([history(*items)])
    interests([history(1)])
    assert ranker.num_read == 3
    interests([history(2)])
    assert ranker.num_read == 4
