"""How likely each event is, had the user started afresh at any earlier event.

Shape legend: K = T = n events of a history (restart k, event t), N items, D width, S = states of a suffix.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.models.recommender import Recommender
from driftline.sequences.batches import History, collate

SUFFIXES_PER_BATCH = 32
"""Suffixes encoded at once: they are of like length, so little is padded."""
MAX_LOGIT_GAP = 80.0
"""An item more likely than the real one by more than this many nats counts as this many: float32 ends at 88."""


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
    states_KSD = _suffix_states(model, table_ND, window)
    open_N = torch.ones_like(bias_N)  # 0 where an item can no longer come next
    if model.mask_seen:
        open_N[torch.from_numpy(history[:-n].copy())] = 0.0
    table_DN = table_ND.T.contiguous()
    for t, item in enumerate(window.tolist()):
        # the interest at event t after a restart at k <= t is the state of suffix k after t - k events
        k = torch.arange(t + 1)
        logits_KN = torch.addmm(bias_N, states_KSD[k, t - k], table_DN)
        # relative to the own item's logit, the normaliser is the sum itself: no pass for a maximum is needed
        logits_KN -= logits_KN[:, item : item + 1].clone()
        open_N[item] = 1.0
        log_p_KT[: t + 1, t] = -(logits_KN.clamp_(max=MAX_LOGIT_GAP).exp_() @ open_N).log().cpu().double().numpy()
        if model.mask_seen:
            open_N[item] = 0.0
    return log_p_KT


def _suffix_states(model: Recommender, table_ND: Tensor, window: NDArray[np.int64]) -> Tensor:
    """Interests before each event of each suffix ``window[k:]``: ``states_KSD``, zero beyond a suffix's end."""
    n = len(window)
    states_KSD = table_ND.new_zeros(n, n, table_ND.shape[1])
    for first in range(0, n, SUFFIXES_PER_BATCH):
        starts = range(first, min(first + SUFFIXES_PER_BATCH, n))
        batch = collate([History(window[k:]) for k in starts]).to(table_ND.device)
        states_KSD[starts.start : starts.stop, : n - first] = model.interests(batch, table_ND)[:, :-1]
    return states_KSD
