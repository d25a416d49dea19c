"""What an item is to the softmax if nothing but its text is known.

Shape legend: B sequences, L events, S = L + 1 states, N items, M some of them, F features, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from driftline.models.item_sample import ItemSample
from driftline.models.losses import next_item_loss
from driftline.sequences.batches import Batch

L2 = 0.1
"""Penalty on the squared weights, in nats: texts tell items apart, and the head would learn these by heart."""


class TextHead(nn.Module):
    """Output vectors and biases of items from their text alone.

    It learns to predict the next item with every item known by its text only, as items without events are known (cf.
    DropoutNet, Volkovs et al. 2017, where one projection serves both). Interest vectors are taken as they are: what the
    head learns does not touch the scores of known items.

    Parameters
    ----------
    features_NF
        What is said of each item: :class:`~driftline.catalog.attributes.Attributes`, its text vector, and vectors of
        other modalities.
    dim
        D.
    """

    features_NF: Tensor
    held_out_N: Tensor
    """bool, items that it does not learn from: what it makes of them shows what it makes of new ones."""

    def __init__(self, features_NF: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("features_NF", features_NF.float(), persistent=False)
        self.register_buffer("held_out_N", torch.zeros(len(features_NF), dtype=torch.bool), persistent=False)
        self.project = nn.Linear(features_NF.shape[1], dim + 1)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def forward(self, features_MF: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``table_MD, bias_M`` of items by their features, by default of the catalogue; the bias says how popular such
        items are. Features that are missing at the end count as 0."""
        features = self.features_NF if features_MF is None else features_MF
        features = nn.functional.pad(features, (0, self.project.in_features - features.shape[1]))
        rows_MD1: Tensor = self.project(features.to(self.project.weight.dtype))
        return rows_MD1[:, :-1], rows_MD1[:, -1]

    def loss(
        self, interests_BSD: Tensor, known_N: Tensor, batch: Batch, mask_seen: bool, sample: ItemSample | None = None
    ) -> Tensor:
        """Cross-entropy of each event given those before it, over the items to learn from, and the penalty.

        These have training events and are not held out; events of others are no targets.

        Parameters
        ----------
        sample
            Items that stand for the catalogue; the batch then numbers them.
        """
        features_NF, learnt_N, stands_for = self.features_NF, known_N & ~self.held_out_N, None
        if sample is not None:
            features_NF, learnt_N = features_NF[sample.items_M], learnt_N[sample.items_M]
            stands_for = sample.log_stands_for_M
        table_ND, bias_N = self(features_NF)
        bias_N = bias_N.masked_fill(~learnt_N, -torch.inf)
        batch = replace(batch, mask_BL=batch.mask_BL & learnt_N[batch.items_BL])
        next_item = next_item_loss(interests_BSD.detach(), table_ND, bias_N, batch, mask_seen, stands_for)
        return next_item + L2 * self.project.weight.square().sum()
