"""Two tastes for drift tests: 130 items each, every user draws mostly from one; and a model that learnt them."""

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import DriftConfig, EncoderConfig, EncoderKind, HeadsConfig
from driftline.drift.recipe import drift_sampler
from driftline.models.collaborative import popularity
from driftline.models.item_table import ItemTable
from driftline.models.recommender import Recommender
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import History

ITEMS_PER_TASTE = 130
ITEMS = 2 * ITEMS_PER_TASTE
OWN_SHARE = 0.85
EVENTS = 110
CONFIG = DriftConfig(
    encoder=EncoderConfig(kind="mean", dim=16, dropout=0.1, id_dropout=0.0, window_events=120),
    batch_users=16,
    epochs=12,
)


def users(count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Histories without repeats: most events are of the user's own taste."""
    rng = np.random.default_rng(seed)
    histories = {}
    for number in range(count):
        own = np.where(np.arange(ITEMS) // ITEMS_PER_TASTE == number % 2, OWN_SHARE, 1 - OWN_SHARE)
        # Gumbel top-k: draws without replacement in proportion to `own`
        histories[f"{seed}-{number}"] = np.argsort(-(np.log(own) + rng.gumbel(size=ITEMS)))[:EVENTS]
    return histories


def fresh_model(seed: int = 0, mask_seen: bool = True, kind: EncoderKind = "mean") -> Recommender:
    """An untrained drift model without text."""
    torch.manual_seed(seed)
    items = ItemTable(torch.zeros(ITEMS, 4), torch.ones(ITEMS, dtype=torch.bool), CONFIG.encoder.dim, 0.0)
    heads = HeadsConfig(rating=0.0, drift=0.0)
    encoder = UserEncoder(CONFIG.encoder.model_copy(update={"kind": kind}))
    return Recommender(items, encoder, heads, mask_seen=mask_seen).eval()


def trained_model() -> Recommender:
    """The drift model after a few seconds of training on 80 users."""
    model = fresh_model().train()
    histories = [History(items) for items in users(80, seed=1).values()]
    model.items.start_from_popularity(torch.from_numpy(popularity([h.items for h in histories], ITEMS)))
    sampler = drift_sampler(histories, CONFIG, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for epoch in range(CONFIG.epochs):
        for batch in sampler.epoch(epoch):
            optimizer.zero_grad()
            model(batch).total.backward()
            optimizer.step()
    return model.eval()
