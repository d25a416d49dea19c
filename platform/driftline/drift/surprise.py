"""How likely each event is, had the user started afresh at any earlier event.

Shape legend: K events of a window (restart k, event t), T events, H histories, N items, D width, S = states of a
suffix, U suffixes, E events that are read, A restarts that are computed for one of them, P of all, R of some events.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftline.drift.restart import FloatArray
from driftline.models.recommender import Recommender
from driftline.models.user_encoder import MeanBody, UserEncoder
from driftline.sequences.batches import History, collate
from driftline.sequences.gaps import UNKNOWN_GAP

ItemArray = NDArray[np.int64]

SUFFIXES_PER_BATCH = 32
"""Suffixes encoded at once: they are of like length, so little is padded."""
EVENTS_PER_PASS = 16
"""Events whose logits are worked out at once: those of a few thousand items then stay in a processor's cache."""
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
    histories: Sequence[ItemArray],
    newest: Sequence[int],
    window_events: int,
) -> list[list[FloatArray]]:
    """``log p(x_t | x_k .. x_{t-1})`` of the newest events of some histories, for every restart ``k <= t``, in nats.

    Every event has a window of its own, which it ends. Its figures are normalised over the same items: where the
    catalogue has no repeats, those that the *whole* history before it does not hold (events before the window and
    before the restart included).

    The nine newest restarts and the oldest are computed, older ones ever more sparsely, and those between are
    interpolated: one event more or less changes little of what a long context says.

    Parameters
    ----------
    model
        The drift encoder, in evaluation mode. It is given no times: its gaps are 'unknown'.
    table_ND, bias_N
        ``model.items()``, computed once by the caller.
    histories
        Item indices, oldest first.
    newest
        How many events of each history are read; the others are only context.
    window_events
        Length of a full window.

    Returns
    -------
    list of list of ndarray ``log_p_K``
        For each history, for each event read: by restart, the oldest of its window first, itself last.
    """
    rows = _Rows.of([len(history) for history in histories], newest, window_events)
    if not len(rows.t_E):
        return [[] for _ in histories]
    states = _restart_states(model, table_ND, histories, rows)
    log_p_P = _own_log_probabilities(states, table_ND, bias_N, histories, rows, model.mask_seen)
    log_p_E = [
        np.interp(np.arange(k_A[-1] + 1), k_A, log_p_A)
        for k_A, log_p_A in zip(rows.anchors_E, np.split(log_p_P, rows.ends_E[:-1]), strict=True)
    ]
    ends_H = np.cumsum(newest).tolist()
    return [log_p_E[end - count : end] for end, count in zip(ends_H, newest, strict=True)]


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


class _Rows(NamedTuple):
    """What is computed: one row per event that is read and restart. ``k`` and ``t`` count from a history's start."""

    h_E: NDArray[np.int64]
    t_E: NDArray[np.int64]
    anchors_E: list[NDArray[np.int64]]
    """Restarts in the event's own window, ascending; the last one is the event itself."""
    ends_E: NDArray[np.int64]
    """Where the rows of each event end."""
    e_P: NDArray[np.int64]
    k_P: NDArray[np.int64]

    @classmethod
    def of(cls, lengths: Sequence[int], newest: Sequence[int], window_events: int) -> "_Rows":
        t_E = np.concatenate([np.arange(length - count, length) for length, count in zip(lengths, newest, strict=True)])
        first_E = np.maximum(t_E + 1 - window_events, 0)
        anchors_E = [_anchors(t) for t in (t_E - first_E).tolist()]
        sizes_E = [len(k_A) for k_A in anchors_E]
        e_P = np.repeat(np.arange(len(t_E)), sizes_E)
        k_P = np.concatenate([np.empty(0, np.int64), *anchors_E]) + first_E[e_P]
        return cls(np.repeat(np.arange(len(lengths)), newest), t_E, anchors_E, np.cumsum(sizes_E), e_P, k_P)


@cache
def _anchors(t: int) -> NDArray[np.int64]:
    """Restarts that are computed for event ``t`` of a window, in ascending order."""
    return np.append(0, (t - COMPUTED_AGES[t > COMPUTED_AGES])[::-1])


def _own_log_probabilities(
    states: Callable[[slice], Tensor],
    table_ND: Tensor,
    bias_N: Tensor,
    histories: Sequence[ItemArray],
    rows: _Rows,
    mask_seen: bool,
) -> FloatArray:
    """Of the event of each row, given the row's state: ``log_p_P``."""
    items_E = torch.from_numpy(np.array([histories[h][t] for h, t in zip(rows.h_E, rows.t_E, strict=True)]))
    items_P = items_E[rows.e_P].to(table_ND.device)
    largest_row, largest_bias = table_ND.norm(dim=1).max(), bias_N.abs().max()
    begins_E = np.append(0, rows.ends_E).tolist()
    parts = []
    for first in range(0, len(items_E), EVENTS_PER_PASS):
        last = min(first + EVENTS_PER_PASS, len(items_E))
        begin = begins_E[first]
        part = slice(begin, begins_E[last])
        states_RD = states(part)
        own_R = (states_RD * table_ND[items_P[part]]).sum(dim=1) + bias_N[items_P[part]]
        logits_RN = torch.addmm(bias_N, states_RD, table_ND.T)
        # where the largest logit there can be is small, exponentials need no reference
        is_bounded = bool(states_RD.norm(dim=1).max() * largest_row + largest_bias < MAX_LOGIT)
        if not is_bounded:
            logits_RN = (logits_RN - own_R[:, None]).clamp_(max=MAX_LOGIT)
        logits_RN.exp_()
        open_EN = np.ones((last - first, len(bias_N)), dtype=np.float32)  # 0: can no longer come next
        if mask_seen:
            for open_N, h, t in zip(open_EN, rows.h_E[first:last], rows.t_E[first:last], strict=True):
                open_N[histories[h][:t]] = 0.0
                open_N[histories[h][t]] = 1.0
        of_event = zip(begins_E[first:last], begins_E[first + 1 : last + 1], torch.from_numpy(open_EN), strict=True)
        sums_R = torch.cat([logits_RN[b - begin : e - begin] @ open_N.to(bias_N.device) for b, e, open_N in of_event])
        parts.append(own_R * is_bounded - sums_R.log())
    log_p_P: FloatArray = torch.cat(parts).cpu().double().numpy()
    return log_p_P


def _restart_states(
    model: Recommender, table_ND: Tensor, histories: Sequence[ItemArray], rows: _Rows
) -> Callable[[slice], Tensor]:
    """Interest before event ``t`` of a user who began at event ``k``, for any part of the rows: ``states_RD``."""
    h_P, t_P = rows.h_E[rows.e_P], rows.t_E[rows.e_P]
    if isinstance(model.encoder.body, MeanBody):
        return _mean_states(model.encoder, model.encoder.body, table_ND, histories, (h_P, rows.k_P, t_P))
    # each suffix is encoded once, up to the last event that wants it
    longest = max(map(len, histories))
    suffix_U, u_P = np.unique(h_P * longest + rows.k_P, return_inverse=True)
    stop_U = np.zeros_like(suffix_U)
    np.maximum.at(stop_U, u_P, t_P)
    suffixes = [History(histories[s // longest][s % longest : stop]) for s, stop in zip(suffix_U, stop_U, strict=True)]
    states_PD = table_ND.new_empty(len(u_P), table_ND.shape[1])
    for first in range(0, len(suffixes), SUFFIXES_PER_BATCH):
        batch = collate(suffixes[first : first + SUFFIXES_PER_BATCH]).to(table_ND.device)
        interests_USD = model.interests(batch, table_ND)
        here = np.flatnonzero((u_P >= first) & (u_P < first + SUFFIXES_PER_BATCH))
        states_PD[here] = interests_USD[u_P[here] - first, (t_P - rows.k_P)[here]]
    return states_PD.__getitem__


def _mean_states(
    encoder: UserEncoder,
    body: MeanBody,
    table_ND: Tensor,
    histories: Sequence[ItemArray],
    places: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> Callable[[slice], Tensor]:
    """What a mean-pooling encoder makes of events ``k .. t-1``: sums are differences of sums."""
    h_P, k_P, t_P = places
    begin_H = np.array([len(history) for history in histories])
    np.minimum.at(begin_H, h_P, k_P)  # what no restart reaches is not read
    read = collate([History(history[begin:]) for history, begin in zip(histories, begin_H, strict=True)])
    events_HTD = nn.functional.embedding(read.items_BL.to(table_ND.device), table_ND) + encoder.gap.weight[UNKNOWN_GAP]
    sums_HSD = torch.cat([torch.zeros_like(events_HTD[:, :1]), events_HTD.cumsum(dim=1)], dim=1)
    sums_XD, length = sums_HSD.flatten(0, 1), sums_HSD.shape[1]
    from_P, to_P = (
        torch.from_numpy(h_P * length + place_P - begin_H[h_P]).to(table_ND.device) for place_P in (k_P, t_P)
    )

    def states(part: slice) -> Tensor:
        from_R, to_R = from_P[part], to_P[part]
        mean_RD = (encoder.start_D + sums_XD[to_R] - sums_XD[from_R]) / (to_R - from_R + 1).unsqueeze(-1)
        states_RD: Tensor = encoder.norm(mean_RD + body.feed(mean_RD))
        return states_RD

    return states
