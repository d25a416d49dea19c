"""The recommender: item table + autoregressive user encoder + heads.

Shape legend: B sequences, L events, S = L + 1 states, D width, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from driftline.config import HeadsConfig
from driftline.models.heads import DriftHead, RatingHead, splice
from driftline.models.item_table import ItemTable
from driftline.models.losses import next_item_loss
from driftline.models.text_head import TextHead
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import Batch


@dataclass(frozen=True)
class Losses:
    """What one training step optimises."""

    total: Tensor
    next_item: Tensor
    parts: dict[str, float]


class Recommender(nn.Module):
    """``p(x_{t+1} | x_<=t)`` over all items and the interest vector ``H_t`` at every step.

    The ranking model and the drift model are two instances of this class.

    Parameters
    ----------
    items
        The item table.
    encoder
        The user encoder.
    heads
        Weights of the auxiliary tasks; a weight of 0 leaves the head out.
    mask_seen
        Take items that a user already had out of the softmax (catalogues without repeat consumption).
    attributes_NA
        Of all items, for the text head.
    """

    def __init__(
        self,
        items: ItemTable,
        encoder: UserEncoder,
        heads: HeadsConfig,
        mask_seen: bool = True,
        attributes_NA: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.items = items
        self.encoder = encoder
        self.mask_seen = mask_seen
        self.weights = heads
        dim = encoder.config.dim
        self.rating_head = RatingHead(dim) if heads.rating else None
        self.drift_head = DriftHead(dim) if heads.drift else None
        self.text_head = None
        if heads.text:
            text_NH = items.text_vectors_NH
            features = text_NH if attributes_NA is None else torch.cat([attributes_NA, text_NH], dim=1)
            self.text_head = TextHead(features, dim)

    def interests(self, batch: Batch, table_ND: Tensor) -> Tensor:
        """``H`` before the first and after each event: ``interests_BSD``."""
        events_BLD = nn.functional.embedding(batch.items_BL, table_ND)
        interests_BSD: Tensor = self.encoder(events_BLD, batch.mask_BL, batch.gaps_BL)
        return interests_BSD

    def forward(self, batch: Batch) -> Losses:
        """Multi-task training loss of a batch."""
        table_ND, bias_N = self.items()
        interests_BSD = self.interests(batch, table_ND)
        next_item = next_item_loss(interests_BSD, table_ND, bias_N, batch, self.mask_seen)
        total, parts = next_item, {"next_item": float(next_item.detach())}
        if self.rating_head is not None:
            rating = self.rating_head.loss(interests_BSD, table_ND, batch)
            total = total + self.weights.rating * rating
            parts["rating"] = float(rating.detach())
        if self.drift_head is not None:
            spliced, after_cut_BL = splice(batch)
            drift = self.drift_head.loss(self.interests(spliced, table_ND), after_cut_BL, spliced.mask_BL)
            total = total + self.weights.drift * drift
            parts["drift"] = float(drift.detach())
        if self.text_head is not None:
            text = self.text_head.loss(interests_BSD, self.items.known_N, batch, self.mask_seen)
            total = total + self.weights.text * text
            parts["text"] = float(text.detach())
        return Losses(total, next_item, parts)

    def outputs(self) -> tuple[Tensor, Tensor]:
        """What interests are multiplied with: the item table, with :class:`TextHead`'s rows for items without events.

        Returns
        -------
        table_ND, bias_N
        """
        table_ND, bias_N = self.items()
        if self.text_head is None:
            return table_ND, bias_N
        by_text_ND, text_bias_N = self.text_head()
        known_N = self.items.known_N
        return torch.where(known_N.unsqueeze(1), table_ND, by_text_ND), torch.where(known_N, bias_N, text_bias_N)

    def outputs_of(self, features_MF: Tensor) -> tuple[Tensor, Tensor]:
        """The same of items that are not in the table, from what their text says: ``table_MD, bias_M``."""
        if self.text_head is None:
            return self.items.from_text(features_MF), features_MF.new_zeros(len(features_MF))
        by_text: tuple[Tensor, Tensor] = self.text_head(features_MF)
        return by_text

    @torch.no_grad()
    def last_interests(self, batch: Batch, table_ND: Tensor) -> Tensor:
        """``H`` after the whole history: ``interests_BD``."""
        events_BLD = nn.functional.embedding(batch.items_BL, table_ND)
        interests_BD: Tensor = self.encoder(events_BLD, batch.mask_BL, batch.gaps_BL, last_only=True)
        return interests_BD
