"""Training losses.

Shape legend: B sequences, L events, S = L + 1 states, D width, N items.
"""

import torch
from torch import Tensor
from torch.nn import functional

from driftline.sequences.batches import Batch


def next_item_loss(
    interests_BSD: Tensor,
    table_ND: Tensor,
    bias_N: Tensor,
    batch: Batch,
    mask_seen: bool,
    log_stands_for_N: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of each event given those before it.

    With ``mask_seen`` the items before an event are left out of its normaliser: they cannot be the answer.

    Parameters
    ----------
    log_stands_for_N
        Where the items are a sample (:mod:`driftline.models.item_sample`): log of how many each stands for in the
        normaliser. An event's own item stands for itself.

    Returns
    -------
    Tensor
        Scalar: mean over real events, in nats; 0 where there is none.
    """
    logits_BLN = interests_BSD[:, :-1] @ table_ND.T + bias_N
    if log_stands_for_N is not None:
        own_BL1 = logits_BLN.gather(-1, batch.items_BL.unsqueeze(-1))
        logits_BLN = logits_BLN + log_stands_for_N  # float32, whatever the weights are
        logits_BLN = logits_BLN.scatter(-1, batch.items_BL.unsqueeze(-1), own_BL1.to(logits_BLN.dtype))
    if mask_seen:
        logits_BLN = logits_BLN.masked_fill(seen_before(batch, table_ND.shape[0]), -torch.inf)
    log_p_BL = functional.log_softmax(logits_BLN, dim=-1).gather(-1, batch.items_BL.unsqueeze(-1)).squeeze(-1)
    return -log_p_BL[batch.mask_BL].sum() / batch.mask_BL.sum().clamp(min=1)


def seen_before(batch: Batch, num_items: int) -> Tensor:
    """Whether an item was in the history strictly before each event: bool ``seen_BLN``.

    An event's own item is never marked, even if a catalogue with repeats holds it twice.
    """
    B, L = batch.items_BL.shape
    first_BN = torch.full((B, num_items), L, dtype=torch.long, device=batch.items_BL.device)
    position_BL = torch.arange(L, device=batch.items_BL.device).expand(B, L)
    position_BL = position_BL.masked_fill(~batch.mask_BL, L)
    first_BN.scatter_reduce_(1, batch.items_BL, position_BL, reduce="amin")
    seen_BLN = first_BN.unsqueeze(1) < torch.arange(L, device=batch.items_BL.device).view(1, L, 1)
    return seen_BLN.scatter(2, batch.items_BL.unsqueeze(-1), False)
