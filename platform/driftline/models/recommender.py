"""The recommender: item table + autoregressive user encoder + heads.

Shape legend: B sequences, L events, S = L + 1 states, D width, N items.
"""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from driftline.config import HeadsConfig
from driftline.models.heads import DriftHead, RatingHead, splice
from driftline.models.item_sample import ItemSample, sample_items
from driftline.models.item_table import ItemTable
from driftline.models.losses import next_item_loss
from driftline.models.text_head import TextHead
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import Batch
from driftline.sequences.gaps import NO_GAP, UNKNOWN_GAP

TOLD: Final = 0.5
"""Share of the training sequences with times that are told the time to each next event, with ``encoder.target_gap``:
lists must stay good where it is not known."""


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
        self.as_input = None if encoder.config.tied_output else nn.Embedding(len(items.known_N), dim)
        if self.as_input is not None:
            nn.init.zeros_(self.as_input.weight)

    def interests(self, batch: Batch, table_ND: Tensor) -> Tensor:
        """``H`` before the first and after each event: ``interests_BSD``."""
        events_BLD = self._events(batch, table_ND, batch.items_BL)
        return self._read(events_BLD, batch)

    def forward(self, batch: Batch) -> Losses:
        """Multi-task training loss of a batch; of a large catalogue, over a sample of it."""
        config = self.encoder.config
        if self.training and len(self.items.share_N) > config.full_softmax_up_to:
            return self.losses(batch, sample_items(batch, self.items.share_N, config.sampled_items))
        return self.losses(batch)

    def losses(self, batch: Batch, sample: ItemSample | None = None) -> Losses:
        """Multi-task training loss over the catalogue, or over a sample that stands for it."""
        stands_for, items_BL = None, batch.items_BL
        if sample is not None:
            batch, stands_for = sample.batch, sample.log_stands_for_M
        if self.training and self.encoder.config.target_gap:
            batch = _told(batch)
        table_ND, bias_N = self.items(None if sample is None else sample.items_M)
        events_BLD = self._events(batch, table_ND, items_BL)
        interests_BSD = self._read(events_BLD, batch)
        next_item = next_item_loss(interests_BSD, table_ND, bias_N, batch, self.mask_seen, stands_for)
        total, parts = next_item, {"next_item": float(next_item.detach())}
        if self.training and self.encoder.config.adversarial:
            worse_BLD = events_BLD + self._worst_step(next_item, events_BLD)
            worse_BSD = self._read(worse_BLD, batch)
            adversarial = next_item_loss(worse_BSD, table_ND, bias_N, batch, self.mask_seen, stands_for)
            total = total + adversarial
            parts["adversarial"] = float(adversarial.detach())
        if self.rating_head is not None:
            rating = self.rating_head.loss(interests_BSD, table_ND, batch)
            total = total + self.weights.rating * rating
            parts["rating"] = float(rating.detach())
        if self.drift_head is not None:
            spliced, after_cut_BL = splice(batch)
            spliced_items_BL = spliced.items_BL if sample is None else sample.items_M[spliced.items_BL]
            spliced_BLD = self._events(spliced, table_ND, spliced_items_BL)
            spliced_BSD = self._read(spliced_BLD, spliced)
            drift = self.drift_head.loss(spliced_BSD, after_cut_BL, spliced.mask_BL)
            total = total + self.weights.drift * drift
            parts["drift"] = float(drift.detach())
        if self.text_head is not None:
            text = self.text_head.loss(interests_BSD, self.items.known_N, batch, self.mask_seen, sample)
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

    def _events(self, batch: Batch, table_ND: Tensor, items_BL: Tensor) -> Tensor:
        """Item vectors of the histories; in training some are left out, and only their time and place are seen.

        The batch numbers the rows of the table, ``items_BL`` the catalogue.
        """
        events_BLD = nn.functional.embedding(batch.items_BL, table_ND)
        if self.as_input is not None:
            events_BLD = events_BLD + self.as_input(items_BL)
        share = self.encoder.config.item_dropout
        if self.training and share:
            kept_BL = torch.rand(batch.items_BL.shape, device=events_BLD.device) >= share
            events_BLD = events_BLD * kept_BL.unsqueeze(-1)
        return events_BLD

    def _read(self, events_BLD: Tensor, batch: Batch, last_only: bool = False) -> Tensor:
        """What the encoder makes of a batch, whose items are given as vectors."""
        told = batch.gaps_BL, batch.types_BL, batch.attributes_BA, batch.next_gaps_BS
        interests: Tensor = self.encoder(events_BLD, batch.mask_BL, *told, last_only=last_only)
        return interests

    def _worst_step(self, loss: Tensor, events_BLD: Tensor) -> Tensor:
        """The step that raises the loss most, to first order: FGM (Miyato et al. 2017, eq. 8).

        Its length is ``encoder.adversarial`` times that of each sequence's item vectors together.
        """
        (gradient_BLD,) = torch.autograd.grad(loss, events_BLD, retain_graph=True)
        length_B11 = events_BLD.detach().norm(dim=(1, 2), keepdim=True) * self.encoder.config.adversarial
        step_BLD: Tensor = length_B11 * gradient_BLD / gradient_BLD.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        return step_BLD

    @torch.no_grad()
    def last_interests(self, batch: Batch, table_ND: Tensor) -> Tensor:
        """``H`` after the whole history: ``interests_BD``."""
        events_BLD = self._events(batch, table_ND, batch.items_BL)
        return self._read(events_BLD, batch, last_only=True)


def _told(batch: Batch) -> Batch:
    """Some of the sequences told of their gaps (torch's generator). What comes after the last event is no target: it is
    said to come at once."""
    told_B = torch.rand(len(batch.items_BL), device=batch.items_BL.device) < TOLD
    return replace(batch, now_gaps_B=torch.where(told_B, NO_GAP, UNKNOWN_GAP))
