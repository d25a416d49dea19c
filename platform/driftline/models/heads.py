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
        nothing: Tensor = predicted_BL.sum() * 0  # keeps the head in the graph: every rank needs its gradient
        if batch.values_BL is None:
            return nothing
        known_BL = batch.mask_BL & torch.isfinite(batch.values_BL)
        if not known_BL.any():
            return nothing
        return nn.functional.mse_loss(predicted_BL[known_BL], batch.values_BL[known_BL])


class DriftHead(nn.Module):
    """``U_t = A H_t + B``: evidence in the interest vector after event ``t`` that the history was spliced before it.

    Trained on spliced streams (:func:`splice`): ``H_t`` has read the stream up to ``t`` and nothing later, so the head
    learns how an encoder looks from inside when a history stops being one user's.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)

    def forward(self, interests_BSD: Tensor) -> Tensor:
        """Logit of 'spliced by now' at every state: ``U_BS``."""
        evidence_BS: Tensor = self.linear(interests_BSD).squeeze(-1)
        return evidence_BS

    def loss(self, interests_BSD: Tensor, spliced_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Binary cross-entropy over the real events of spliced streams.

        Parameters
        ----------
        interests_BSD
            Of the batch that :func:`splice` made.
        spliced_BL
            Its labels.
        mask_BL
            Its mask.
        """
        evidence_BL = self(interests_BSD[:, 1:])[mask_BL]
        return nn.functional.binary_cross_entropy_with_logits(evidence_BL, spliced_BL[mask_BL].to(evidence_BL.dtype))


def splice(batch: Batch) -> tuple[Batch, Tensor]:
    """Let every other sequence go on as the next sequence of the batch, from the same position on.

    The cut is random, in the middle half of a sequence (torch's generator). Both parts are read from the same position,
    so that what people do early or late in their history does not give the splice away.

    Returns
    -------
    batch
        As many sequences; the odd ones are as before.
    spliced_BL
        bool, true at events after a cut.
    """
    B, L = batch.items_BL.shape
    length_B = batch.mask_BL.sum(dim=1)
    middle_B = 0.25 + 0.5 * torch.rand(B, device=length_B.device)
    cut_B = (middle_B * length_B).long().clamp(min=1)
    even_B = torch.arange(B, device=length_B.device) % 2 == 0
    position_L = torch.arange(L, device=length_B.device)
    after_BL = (position_L >= cut_B.unsqueeze(1)) & even_B.unsqueeze(1)

    def joined(own_BL: Tensor) -> Tensor:
        return torch.where(after_BL, own_BL.roll(-1, dims=0), own_BL)

    mask_BL = joined(batch.mask_BL)
    gaps_BL = None if batch.gaps_BL is None else joined(batch.gaps_BL)
    values_BL = None if batch.values_BL is None else joined(batch.values_BL)
    types_BL = None if batch.types_BL is None else joined(batch.types_BL)
    items_BL, own_BA = joined(batch.items_BL), batch.attributes_BA  # of the user it begins with
    return Batch(items_BL, mask_BL, gaps_BL, values_BL, types_BL=types_BL, attributes_BA=own_BA), after_BL & mask_BL
