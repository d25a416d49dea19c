"""Task heads beside next-item prediction.

Shape legend: B sequences, L events, S = L + 1 states, D width, N items.
"""

import torch
from torch import Tensor, nn

from driftline.sequences.batches import Batch


class RatingHead(nn.Module):
    """Explicit value of the next item by MSE: ``w . (H_t * e_item) + b``, in units of the scaled value (0..1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(dim, 1)

    def forward(self, interests_BLD: Tensor, items_BLD: Tensor) -> Tensor:
        """Predicted value of each item for the interest beside it: ``values_BL``."""
        predicted_BL: Tensor = self.out(interests_BLD * items_BLD).squeeze(-1)
        return predicted_BL

    def loss(self, interests_BSD: Tensor, table_ND: Tensor, batch: Batch) -> Tensor:
        """Mean squared error over the events that carry a value; 0 if none does."""
        predicted_BL = self(interests_BSD[:, :-1], nn.functional.embedding(batch.items_BL, table_ND))
        if batch.values_BL is None:
            return predicted_BL.sum() * 0
        known_BL = batch.mask_BL & torch.isfinite(batch.values_BL)
        if not known_BL.any():
            return predicted_BL.sum() * 0
        return nn.functional.mse_loss(predicted_BL[known_BL], batch.values_BL[known_BL])


class DriftHead(nn.Module):
    """``U_t = A H_t + B``: evidence in the interest vector that the history was spliced.

    Trained on streams spliced inside the batch: the second half of each sequence's states is set against the first
    half of its own (no drift) and of another user's (drift).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, 1)

    def forward(self, before_BD: Tensor, after_BD: Tensor) -> Tensor:
        """Logit of 'these two interests are not one user's': ``U_B``."""
        features = torch.cat([before_BD * after_BD, (before_BD - after_BD).abs()], dim=-1)
        evidence_B: Tensor = self.linear(features).squeeze(-1)
        return evidence_B

    def loss(self, interests_BSD: Tensor, batch: Batch) -> Tensor:
        """Binary cross-entropy on own pairs (0) and pairs with the next sequence of the batch (1)."""
        last_B = batch.mask_BL.sum(dim=1)
        rows = torch.arange(len(last_B), device=last_B.device)
        before_BD, after_BD = interests_BSD[rows, last_B // 2], interests_BSD[rows, last_B]
        own_B, spliced_B = self(before_BD, after_BD), self(before_BD.roll(1, 0), after_BD)
        logits = torch.cat([own_B, spliced_B])
        labels = torch.cat([torch.zeros_like(own_B), torch.ones_like(spliced_B)])
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)
