"""How likely each event is, had the user started afresh at any earlier event.

Shape legend: K = T = n events of a history (restart k, event t), N items, D width, S = states of a suffix, P pairs
(k, t).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.models.recommender import Recommender
from driftline.models.user_encoder import MeanBody, UserEncoder
from driftline.sequences.batches import History, collate
from driftline.sequences.gaps import UNKNOWN_GAP

SUFFIXES_PER_BATCH = 32
"""Suffixes encoded at once: they are of like length, so little is padded."""
MAX_LOGIT_GAP = 80.0
"""float32 ends at 88. Where logits can be larger, an item more likely than the real one by more nats than this counts
as this many."""


@torch.no_grad()
def restart_log_probabilities(
    model: Recommender,
    table_ND: Tensor,
    bias_N: Tensor,
    history: NDArray[np.int64],
    window_events: int,
) -> NDArray[np.float64]:
    """``log p(x_t | x_k .. x_{t-1})`` for every restart ``k <= t`` of the newest events, in nats.

    Every row is normalised over the same items: where the catalogue has no repeats, those that the *whole* history
    before ``t`` does not hold (events before the window and before the restart included).

    Parameters
    ----------
    model
        The drift encoder, in evaluation mode. It is given no times: its gaps are 'unknown'.
    table_ND, bias_N
        ``model.items()``, computed once by the caller.
    history
        Item indices, oldest first.
    window_events
        Newest events that are read, n = min(len(history), window_events).

    Returns
    -------
    ndarray ``log_p_KT``, n by n
        Row ``k``: the user begins at event ``k`` of the window. Zero where ``t < k``.
    """
    window = history[-window_events:]
    n = len(window)
    log_p_KT = np.zeros((n, n))
    if n == 0:
        return log_p_KT
    states_KTD = _restart_states(model, table_ND, window)
    # the largest logit there can be: where it is small, exponentials need no reference
    bound = states_KTD.norm(dim=-1).max() * table_ND.norm(dim=-1).max() + bias_N.abs().max()
    is_bounded = bool(bound < MAX_LOGIT_GAP)
    open_N = torch.ones_like(bias_N)  # 0 where an item can no longer come next
    if model.mask_seen:
        open_N[torch.from_numpy(history[:-n].copy())] = 0.0
    table_DN = table_ND.T.contiguous()
    for t, item in enumerate(window.tolist()):
        logits_KN = torch.addmm(bias_N, states_KTD[: t + 1, t], table_DN)
        own_K = logits_KN[:, item].clone()
        if not is_bounded:
            # relative to the own item's logit, the normaliser is the sum itself: no pass for a maximum is needed
            logits_KN = (logits_KN - own_K[:, None]).clamp_(max=MAX_LOGIT_GAP)
            own_K = torch.zeros_like(own_K)
        open_N[item] = 1.0
        log_p_KT[: t + 1, t] = (own_K - (logits_KN.exp_() @ open_N).log()).cpu().double().numpy()
        if model.mask_seen:
            open_N[item] = 0.0
    return log_p_KT


@torch.no_grad()
def log_probabilities(
    states_TD: Tensor, table_ND: Tensor, bias_N: Tensor, items_T: NDArray[np.int64], mask_seen: bool
) -> NDArray[np.float64]:
    """``log p(x_t | H_t)`` for given interests, in nats; with ``mask_seen`` among the items not yet in the stream."""
    items = torch.from_numpy(items_T.copy())
    logits_TN = torch.addmm(bias_N, states_TD, table_ND.T)
    own_T1 = logits_TN.gather(1, items[:, None])
    if mask_seen:
        first_N = torch.full((len(bias_N),), len(items))
        first_N.scatter_reduce_(0, items, torch.arange(len(items)), "amin")
        logits_TN[first_N < torch.arange(len(items))[:, None]] = -torch.inf
        logits_TN.scatter_(1, items[:, None], own_T1)  # the item itself can come, whatever the stream holds
    log_p_T: NDArray[np.float64] = (own_T1.squeeze(1) - logits_TN.logsumexp(dim=1)).cpu().double().numpy()
    return log_p_T


def _restart_states(model: Recommender, table_ND: Tensor, window: NDArray[np.int64]) -> Tensor:
    """Interest before event ``t`` of a user who began at event ``k <= t``: ``states_KTD``, zero where ``k > t``."""
    n = len(window)
    states_KTD = table_ND.new_zeros(n, n, table_ND.shape[1])
    if isinstance(model.encoder.body, MeanBody):
        k, t = torch.triu_indices(n, n)
        states_KTD[k, t] = _mean_states(model.encoder, model.encoder.body, table_ND[torch.from_numpy(window)], k, t)
        return states_KTD
    for first in range(0, n, SUFFIXES_PER_BATCH):
        starts = range(first, min(first + SUFFIXES_PER_BATCH, n))
        batch = collate([History(window[k:]) for k in starts]).to(table_ND.device)
        suffixes_BSD = model.interests(batch, table_ND)
        for row, k in enumerate(starts):
            states_KTD[k, k:] = suffixes_BSD[row, : n - k]
    return states_KTD


def _mean_states(encoder: UserEncoder, body: MeanBody, events_LD: Tensor, k: Tensor, t: Tensor) -> Tensor:
    """What a mean-pooling encoder makes of events ``k .. t-1``, for many ``(k, t)``: sums are differences of sums."""
    events_LD = events_LD + encoder.gap.weight[UNKNOWN_GAP]
    sums_SD = torch.cat([torch.zeros_like(events_LD[:1]), events_LD.cumsum(dim=0)])
    mean_PD = (encoder.start_D + sums_SD[t] - sums_SD[k]) / (t - k + 1).unsqueeze(-1)
    states_PD: Tensor = encoder.norm(mean_PD + body.feed(mean_PD))
    return states_PD
