"""What detectors read: everything about a stream that costs more than a glance, computed once and shared by all.

Shape legend: K = T = n events of the window (restart k, event t), N items, G genres, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.drift.restart import FloatArray
from driftline.drift.surprise import ItemArray, log_probabilities, restart_log_probabilities
from driftline.errors import DataError
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History, collate

HISTORIES_PER_PASS = 16
"""Histories that share a pass through the model."""


@dataclass(frozen=True)
class Event:
    """One event as a detector meets it, with the window that it ends. Nothing of it is from later events."""

    log_p_K: FloatArray
    """``log p`` of the event had the user started afresh at each event of the window; the last entry: at itself."""
    vectors_KD: NDArray[np.float32]
    """Unit item vectors of the window's events, this one last."""
    verifier_KD: NDArray[np.float32]
    """Their rows of the verifier's table; of no width without one."""
    genres_KG: FloatArray
    """1 where an item has a genre."""
    signals: Mapping[str, float]
    """Named figures of the event, nats; see :class:`Reading`."""


@dataclass(frozen=True)
class Reading:
    """The newest events of one history."""

    items_T: ItemArray
    log_p_KT: FloatArray
    """``log p`` of event t had the user started afresh at event k of the window; 0 where ``t < k``. Row 0 is 'no
    restart': each event given all of its own window, which in a long history begins before this one."""
    vectors_TD: NDArray[np.float32]
    """Unit vectors of the items, the catalogue's mean taken away."""
    verifier_TD: NDArray[np.float32]
    """Rows of the verifier's table; of no width without one, as the bundles of before it."""
    genres_TG: FloatArray
    signals: Mapping[str, FloatArray]
    """One figure per event: ``surprise`` = ``-log p`` given the window before; ``lift`` = ``log p`` minus the log
    share of popularity among the items that could come; ``oracle`` (benchmark only) = ``log p`` under the law of the
    user who takes over minus that under the user's own."""

    def __len__(self) -> int:
        return len(self.items_T)

    def signal(self, name: str) -> FloatArray:
        """One figure per event.

        Raises
        ------
        DataError
            If this reading was made without what the signal needs.
        """
        if name not in self.signals:
            raise DataError(f"there is no signal {name!r} in this reading, only {sorted(self.signals)}")
        return self.signals[name]

    def events(self) -> Iterator[Event]:
        """The stream, event by event."""
        for t in range(len(self)):
            signals = {name: float(series_T[t]) for name, series_T in self.signals.items()}
            past = slice(0, t + 1)
            yield Event(
                self.log_p_KT[past, t], self.vectors_TD[past], self.verifier_TD[past], self.genres_TG[past], signals
            )


class Reader:
    """Reads histories with one model; holds its item table so that it is computed once.

    Parameters
    ----------
    model
        The drift encoder; it is put into evaluation mode.
    window_events
        Newest events that are read.
    verifier_ND
        From :func:`driftline.drift.verifier.verifier_table`; without it readings say nothing of the verifier.
    genres_NG
        1 where an item has a genre; without it readings have no genres.
    popularity_N
        Events of each item among the training users; without it readings have no ``lift``.
    """

    def __init__(
        self,
        model: Recommender,
        window_events: int,
        verifier_ND: NDArray[np.float32] | None = None,
        genres_NG: FloatArray | None = None,
        popularity_N: NDArray[np.float32] | None = None,
    ) -> None:
        self.model = model.eval()
        self.window_events = window_events
        with torch.no_grad():
            self.table_ND, self.bias_N = (tensor.detach().clone() for tensor in model.items())
        centred_ND = self.table_ND - self.table_ND.mean(dim=0)
        self.unit_ND: NDArray[np.float32] = torch.nn.functional.normalize(centred_ND, dim=1).cpu().numpy()
        self.verifier_ND = np.zeros((len(self.table_ND), 0), np.float32) if verifier_ND is None else verifier_ND
        self._genres_NG = np.zeros((len(self.table_ND), 0)) if genres_NG is None else genres_NG
        self._popularity_N = None if popularity_N is None else popularity_N + 1.0

    def read(self, history: ItemArray) -> Reading:
        """Read the newest ``window_events`` events of a history of item indices, oldest first."""
        return self.read_all([history])[0]

    def read_all(self, histories: Sequence[ItemArray]) -> list[Reading]:
        """Read many histories; they share passes through the model."""
        counts = [min(len(history), self.window_events) for history in histories]
        columns = self.log_probabilities(histories, counts)
        return [self._reading(history, log_p_TK) for history, log_p_TK in zip(histories, columns, strict=True)]

    def log_probabilities(self, histories: Sequence[ItemArray], newest: Sequence[int]) -> list[list[FloatArray]]:
        """Of the ``newest`` events of each history, by restart: see :func:`restart_log_probabilities`."""
        found = []
        for first in range(0, len(histories), HISTORIES_PER_PASS):
            part = slice(first, first + HISTORIES_PER_PASS)
            found += restart_log_probabilities(
                self.model, self.table_ND, self.bias_N, histories[part], newest[part], self.window_events
            )
        return found

    def with_oracle(self, reading: Reading, change_point: int, before: ItemArray, after: ItemArray) -> Reading:
        """Add what only somebody who made the stream can know: how likely each event is for the user who takes over.

        Parameters
        ----------
        reading
            Of a whole stream, no longer than the window.
        change_point
            k; the user's own law is frozen there, so that the splice does not teach it.
        before, after
            The user's own events before ``change_point``, and those of the other user at the same life position.
        """
        prefixes = [History(before[: min(t, change_point)]) for t in range(change_point + 1)]
        batch = collate([*prefixes, History(after)]).to(self.table_ND.device)
        states_BD = self.model.last_interests(batch, self.table_ND)
        place_T = torch.arange(len(reading)).clamp(max=change_point)
        own_TD, other_TD = states_BD[place_T], states_BD[-1:].expand(len(reading), -1)
        own_T, other_T = (
            log_probabilities(states_TD, self.table_ND, self.bias_N, reading.items_T, self.model.mask_seen)
            for states_TD in (own_TD, other_TD)
        )
        return replace(reading, signals={**reading.signals, "oracle": other_T - own_T})

    def _reading(self, history: ItemArray, log_p_TK: Sequence[FloatArray]) -> Reading:
        n = len(log_p_TK)
        log_p_KT = np.zeros((n, n))
        for t, log_p_K in enumerate(log_p_TK):
            log_p_KT[0, t] = log_p_K[0]
            log_p_KT[1 : t + 1, t] = log_p_K[len(log_p_K) - t :]
        window = history[len(history) - n :]
        log_p_T = log_p_KT[0] if n else np.zeros(0)
        signals = {"surprise": -log_p_T}
        if self._popularity_N is not None:
            signals["lift"] = log_p_T - self._log_popularity(history)[len(history) - n :]
        vectors_TD, verifier_TD = self.unit_ND[window], self.verifier_ND[window]
        return Reading(window, log_p_KT, vectors_TD, verifier_TD, self._genres_NG[window], signals)

    def _log_popularity(self, history: ItemArray) -> FloatArray:
        """Log share of each event's item among the items that could come, by training events plus one."""
        assert self._popularity_N is not None
        counts_T = self._popularity_N[history]
        open_T = np.full(len(history), self._popularity_N.sum())
        if self.model.mask_seen:
            first_T = np.isin(np.arange(len(history)), np.unique(history, return_index=True)[1])
            # what came before is gone, except the event's own item: it did come
            open_T -= np.cumsum(counts_T * first_T) - counts_T
        return np.asarray(np.log(counts_T) - np.log(open_T))
