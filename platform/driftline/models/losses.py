"""Training losses.

Shape legend: B sequences, L events, S = L + 1 states, D width, N items.
"""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from driftline.sequences.batches import Batch

SCORES_AT_ONCE: Final = 2**22
"""Scores that are in memory where no gradient is wanted: 16 MB."""


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


def next_item_log_p(
    interests_BSD: Tensor,
    table_ND: Tensor,
    bias_N: Tensor,
    batch: Batch,
    mask_seen: bool,
    at_once: int = SCORES_AT_ONCE,
) -> Tensor:
    """``-next_item_loss`` of each event, chunk by chunk of the catalogue: ``log_p_BL`` in nats, for measuring.

    Parameters
    ----------
    at_once
        Scores in memory, whatever the catalogue; those of one item at least.
    """
    before_BLD, own_BL = interests_BSD[:, :-1].float(), batch.items_BL
    chunk = max(1, at_once // own_BL.numel())
    total_BL = torch.full_like(before_BLD[..., 0], -torch.inf)
    for first in range(0, len(table_ND), chunk):
        part_CD, part_bias_C = table_ND[first : first + chunk].float(), bias_N[first : first + chunk].float()
        logits_BLC = before_BLD @ part_CD.T + part_bias_C
        if mask_seen:
            size, place_BL = len(part_CD), own_BL - first
            is_inside_BL = (place_BL >= 0) & (place_BL < size)
            inside = replace(batch, items_BL=torch.where(is_inside_BL, place_BL, size))  # one place for all others
            logits_BLC.masked_fill_(seen_before(inside, size + 1)[..., :size], -torch.inf)
        total_BL = torch.logaddexp(total_BL, logits_BLC.logsumexp(dim=-1))
    return (before_BLD * table_ND[own_BL]).sum(dim=-1) + bias_N[own_BL] - total_BL


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
