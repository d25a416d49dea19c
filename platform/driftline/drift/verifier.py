"""User verification: are two windows of events one user's? Learnt from windows of training users.

In natural order a model that predicts the next item takes every new browsing session for a new user. The verifier
learns what of an interest vector stays with a user across a gap in browsing: ``U = A H + B``, ``H`` the mean of the
item vectors of a window, trained to tell a user's later window from those of all others at the same life position.
``U`` of a window is the mean of those of its items, so that a table of items is all that is kept of it.

Shape legend: B users of a step, N items, D width, E events of all windows, S of them held before, P = B B pairs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftline.config import RankingConfig
from driftline.drift.streams import Track, in_order
from driftline.errors import DataError
from driftline.models.item_factors import item_factors
from driftline.sequences.batches import History

ItemArray = NDArray[np.int64]
STEPS = 180
BATCH_USERS = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01
EVENT_DROPOUT = 0.3
INVERSE_TEMPERATURE = 10.0
"""Of the cosine in the softmax, to begin with; it is learnt."""
WINDOW_EVENTS = (10, 40)
"""Shortest and longest window."""
SKIP_EVENTS = 20
"""Own events left out between the two windows."""


class Verifier(nn.Module):
    """The read-out and its own copy of the item vectors, which it goes on training.

    Parameters
    ----------
    vectors_ND
        Item vectors to begin with.
    """

    def __init__(self, vectors_ND: Tensor) -> None:
        super().__init__()
        dim = vectors_ND.shape[1]
        self.vectors_ND = nn.Parameter(vectors_ND.clone())
        self.read_out = nn.Linear(dim, dim)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(INVERSE_TEMPERATURE))))
        with torch.no_grad():
            self.read_out.weight.copy_(torch.eye(dim))
            self.read_out.bias.copy_(-vectors_ND.mean(dim=0))

    def forward(self, before: Sequence[ItemArray], after: Sequence[ItemArray]) -> Tensor:
        """Cosine of ``U`` of every user's earlier and every user's later window: ``alike_BB``.

        Items that the earlier window holds are left out of the later one: nobody meets them twice, so that they would
        tell a stranger without regard to taste.
        """
        B, D = len(before), self.vectors_ND.shape[1]
        held_BN = torch.zeros(B, len(self.vectors_ND), dtype=torch.bool)
        for row, items in enumerate(before):
            held_BN[row, torch.from_numpy(items)] = True
        items_E, window_E = self._events(after)
        vectors_ED = self.vectors_ND[items_E]
        sums_BD = torch.zeros(B, D).index_add(0, window_E, vectors_ED)
        first_S, event_S = held_BN[:, items_E].nonzero(as_tuple=True)
        pair_S = first_S * B + window_E[event_S]
        shared_PD = torch.zeros(B * B, D).index_add(0, pair_S, vectors_ED[event_S])
        left_P = torch.bincount(window_E, minlength=B).repeat(B) - torch.bincount(pair_S, minlength=B * B)
        later_PD = (sums_BD.repeat(B, 1) - shared_PD) / left_P.clamp(min=1).unsqueeze(1)
        items_E, window_E = self._events(before)
        count_B1 = torch.bincount(window_E, minlength=B).clamp(min=1).unsqueeze(1)
        earlier_BD = torch.zeros(B, D).index_add(0, window_E, self.vectors_ND[items_E]) / count_B1
        later_BBD = functional.normalize(self.read_out(later_PD), dim=1).view(B, B, D)
        return (functional.normalize(self.read_out(earlier_BD), dim=1).unsqueeze(1) * later_BBD).sum(dim=2)

    @torch.no_grad()
    def table(self) -> NDArray[np.float32]:
        """``U`` of every item, scaled so that the mean square of their lengths is 1: ``verifier_ND``."""
        table_ND = self.read_out(self.vectors_ND)
        table_ND /= table_ND.square().sum(dim=1).mean().sqrt()
        scaled_ND: NDArray[np.float32] = table_ND.numpy()
        return scaled_ND

    def _events(self, windows: Sequence[ItemArray]) -> tuple[Tensor, Tensor]:
        """Items and windows of all events; in training some are dropped."""
        items_E = torch.from_numpy(np.concatenate(windows))
        window_E = torch.arange(len(windows)).repeat_interleave(torch.tensor([len(window) for window in windows]))
        kept_E = torch.rand(len(items_E)) >= EVENT_DROPOUT * self.training
        return items_E[kept_E], window_E[kept_E]


def verifier_table(
    histories: Sequence[History],
    num_items: int,
    dim: int,
    track: Track,
    seed: int,
    steps: int = STEPS,
    dense_up_to: int = RankingConfig().dense_tables_up_to,
) -> NDArray[np.float32]:
    """Train on windows of training users, from their own item factors: :meth:`Verifier.table`, ``[N, dim]``.

    Parameters and errors are those of :func:`train_verifier`; ``dense_up_to`` as in
    :func:`~driftline.models.item_factors.item_factors`.
    """
    factors_ND = item_factors([history.items for history in histories], num_items, dim, dense_up_to)
    return train_verifier(histories, torch.from_numpy(factors_ND), track, seed, steps).table()


def unlike(verifier_TD: NDArray[np.float32], items_T: ItemArray, change_point: int) -> float:
    """1 - cosine of ``U`` of the windows on either side of a change point: high = another user.

    Items that the earlier window holds are left out of the later one, as in training; 1 if none is left.
    """
    new_T = ~np.isin(items_T[change_point:], items_T[:change_point])
    before_D, after_D = verifier_TD[:change_point].sum(axis=0), verifier_TD[change_point:][new_T].sum(axis=0)
    return 1 - float(before_D @ after_D) / max(float(np.linalg.norm(before_D) * np.linalg.norm(after_D)), 1e-12)


def train_verifier(
    histories: Sequence[History], vectors_ND: Tensor, track: Track, seed: int, steps: int = STEPS
) -> Verifier:
    """Train on windows of training users, in the track's order.

    InfoNCE (van den Oord et al. 2018) in both directions, AdamW with a cosine to 0. All windows of a step are cut at
    the same positions: what people do early or late in a history must not tell.

    Parameters
    ----------
    histories
        Of training users; shorter ones than two windows and the gap take no part.
    vectors_ND
        Item vectors to begin with.
    track
        X and G: shuffled orders; N: natural ones.
    seed
        Fixes everything.
    steps
        Of 128 users each, or of all where there are fewer.

    Raises
    ------
    DataError
        If fewer than two users are long enough for every window.
    """
    shortest, longest = WINDOW_EVENTS
    needed = longest + SKIP_EVENTS + shortest
    enough = sum(len(history) >= needed for history in histories)
    if enough < 2:
        raise DataError(
            f"the verifier needs two training users with {needed} events, there are {enough}: use more data"
        )
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    verifier = Verifier(vectors_ND).train()
    optimizer = torch.optim.AdamW(verifier.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        k, after_events = rng.integers(shortest, longest + 1, size=2)
        users = [history for history in histories if len(history) >= k + SKIP_EVENTS + shortest]
        chosen = rng.permutation(len(users))[:BATCH_USERS]
        orders = [in_order(users[number], track, rng) for number in chosen]
        later = slice(k + SKIP_EVENTS, k + SKIP_EVENTS + after_events)
        logits_BB = verifier.log_scale.exp() * verifier([o[:k] for o in orders], [o[later] for o in orders])
        own_B = torch.arange(len(orders))
        loss = functional.cross_entropy(logits_BB, own_B) + functional.cross_entropy(logits_BB.T, own_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return verifier.eval()
