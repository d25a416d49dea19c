"""How likely each event is, had the user started afresh at any earlier event.

Shape legend: K = T = n events of a history (restart k, event t), N items, D width, S = states of a suffix, A restarts
that are computed for one event, P of all events.
"""

from functools import cache

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
MAX_LOGIT = 80.0
"""float32 ends at 88. Where logits can be larger they are taken relative to the real item's, and one that is more
likely by more nats than this counts as this many."""

COMPUTED_AGES = np.array([*range(9), *range(10, 17, 2), *range(20, 33, 4), *range(40, 4096, 8)])
"""Events since a restart at which it is computed rather than interpolated."""


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

    The nine newest restarts and the oldest are computed, older ones ever more sparsely, and those between are
    interpolated: one event more or less changes little of what a long context says.

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
    anchors = [_anchors(t) for t in range(n)]
    ends_T = np.cumsum([len(k_A) for k_A in anchors])
    k_P = torch.from_numpy(np.concatenate(anchors))
    t_P = torch.from_numpy(np.repeat(np.arange(n), np.diff(ends_T, prepend=0)))
    states_PD = _restart_states(model, table_ND, window, k_P, t_P)
    items_P = torch.from_numpy(window.copy())[t_P]
    own_P = (states_PD * table_ND[items_P]).sum(dim=1) + bias_N[items_P]
    # the largest logit there can be: where it is small, exponentials need no reference
    is_bounded = bool(states_PD.norm(dim=1).max() * table_ND.norm(dim=1).max() + bias_N.abs().max() < MAX_LOGIT)
    sums_P = torch.empty_like(own_P)
    open_N = torch.ones_like(bias_N)  # 0 where an item can no longer come next
    if model.mask_seen:
        open_N[torch.from_numpy(history[:-n].copy())] = 0.0
    table_DN = table_ND.T.contiguous()
    for t, item in enumerate(window.tolist()):
        rows = slice(ends_T[t] - len(anchors[t]), ends_T[t])
        logits_AN = torch.addmm(bias_N, states_PD[rows], table_DN)
        if not is_bounded:
            logits_AN = (logits_AN - own_P[rows, None]).clamp_(max=MAX_LOGIT)
        open_N[item] = 1.0
        torch.mv(logits_AN.exp_(), open_N, out=sums_P[rows])
        if model.mask_seen:
            open_N[item] = 0.0
    log_p_P = (own_P * is_bounded - sums_P.log()).cpu().double().numpy()
    for t, log_p_A in enumerate(np.split(log_p_P, ends_T[:-1])):
        log_p_KT[: t + 1, t] = np.interp(np.arange(t + 1), anchors[t], log_p_A)
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


@cache
def _anchors(t: int) -> NDArray[np.int64]:
    """Restarts that are computed for event ``t``, in ascending order."""
    return np.append(0, (t - COMPUTED_AGES[t > COMPUTED_AGES])[::-1])


def _restart_states(
    model: Recommender, table_ND: Tensor, window: NDArray[np.int64], k_P: Tensor, t_P: Tensor
) -> Tensor:
    """Interest before event ``t`` of a user who began at event ``k <= t``, for many ``(k, t)``: ``states_PD``."""
    if isinstance(model.encoder.body, MeanBody):
        return _mean_states(model.encoder, model.encoder.body, table_ND[torch.from_numpy(window)], k_P, t_P)
    n = len(window)
    states_KSD = table_ND.new_zeros(n, n, table_ND.shape[1])
    for first in range(0, n, SUFFIXES_PER_BATCH):
        starts = range(first, min(first + SUFFIXES_PER_BATCH, n))
        batch = collate([History(window[k:]) for k in starts]).to(table_ND.device)
        states_KSD[starts.start : starts.stop, : n - first] = model.interests(batch, table_ND)[:, :-1]
    return states_KSD[k_P, t_P - k_P]


def _mean_states(encoder: UserEncoder, body: MeanBody, events_LD: Tensor, k_P: Tensor, t_P: Tensor) -> Tensor:
    """What a mean-pooling encoder makes of events ``k .. t-1``, for many ``(k, t)``: sums are differences of sums."""
    events_LD = events_LD + encoder.gap.weight[UNKNOWN_GAP]
    sums_SD = torch.cat([torch.zeros_like(events_LD[:1]), events_LD.cumsum(dim=0)])
    mean_PD = (encoder.start_D + sums_SD[t_P] - sums_SD[k_P]) / (t_P - k_P + 1).unsqueeze(-1)
    states_PD: Tensor = encoder.norm(mean_PD + body.feed(mean_PD))
    return states_PD
