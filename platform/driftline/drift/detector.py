"""The drift detector: histories in, calibrated verdicts out. It keeps nothing: states are handed out and in.

Shape legend: T = K = n events of the window, H histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from driftline.config import DriftConfig
from driftline.drift.calibration import DriftCalibration
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.evidence import Evidence, weigh, weigh_now
from driftline.drift.judge.judge import Judge
from driftline.drift.posterior import recent_onset, recent_restarts, restart_posterior
from driftline.drift.reading import Reader, Reading
from driftline.drift.report import DriftReport, DriftVerdict
from driftline.drift.restart import FloatArray, advance, shiryaev_roberts
from driftline.drift.state import DriftState
from driftline.models.recommender import Recommender

BELIEVED_ABOVE = 0.5
"""A change point is reported if drift is more probable than not."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What is said about one history of known items, event by event.

    All arrays have one entry per event of the history. Events before the window (``DriftConfig.encoder.window_events``)
    carry what an empty history does: they are not read, only kept out of what can come next.
    """

    surprise: FloatArray
    """``-log p`` of each event given everything in the window before it, nats; nan before the window."""
    statistic: FloatArray
    """log(1 + Shiryaev-Roberts), nats; 0 = no evidence."""
    cusum: FloatArray
    """nats."""
    p_drift: FloatArray
    """Calibrated probability that the current regime began within the last R events."""
    change_points: NDArray[np.int64]
    """Index of the most probable first event of a new regime, believed or not; -1 where there is none."""
    posterior: FloatArray
    """After the last event: ``posterior[k]`` = P(current regime began at event k), k = 0 'no change'; adds up to 1.

    The recent restarts (within R events) add up to the calibrated ``p_drift[-1]``.
    """
    alarm: bool
    """Whether ``p_drift`` is at or above the calibrated threshold after the last event, and no judge overrules it."""

    def report(self, kept: Sequence[int], history: Sequence[str]) -> DriftReport:
        """The same in terms of a given history, of which only the positions ``kept`` are known items.

        An unknown item repeats the verdict of the event before it.
        """
        n = len(history)
        # number of known events up to and with each given event
        known_T = np.searchsorted(np.asarray(kept, dtype=np.int64), np.arange(n), side="right")
        p_drift_T = np.concatenate([[0.0], self.p_drift])[known_T]
        believed = (self.p_drift > BELIEVED_ABOVE) & (self.change_points > 0)
        places = np.asarray(kept, dtype=np.int64)
        change_T = np.where(believed, places[self.change_points], -1) if len(places) else np.empty(0, np.int64)
        change = int(change_T[-1]) if len(change_T) and change_T[-1] >= 0 else None
        surprise_T = np.full(n, np.nan)
        surprise_T[places] = self.surprise
        known = set(kept)
        return DriftReport(
            p_drift=float(p_drift_T[-1]) if n else 0.0,
            change_point=change,
            statistic=np.concatenate([[0.0], self.statistic])[known_T],
            p_drift_by_event=p_drift_T,
            alarm=self.alarm,
            surprise=surprise_T,
            change_point_by_event=np.concatenate([[-1], change_T])[known_T],
            unknown_items=[item for position, item in enumerate(history) if position not in known],
        )


class DriftDetector:
    """Restart likelihood ratios under a trained model, calibrated.

    Parameters
    ----------
    model
        The drift encoder.
    calibration
        From :func:`driftline.drift.calibration.calibrate` with the same model and configuration.
    config
        Hazard, window, what counts as recent.
    judge
        Asked about every alarm; what it overrules is none.
    verifier_ND
        The verifier's table that the calibration saw; None if it saw none.
    """

    def __init__(
        self,
        model: Recommender,
        calibration: DriftCalibration,
        config: DriftConfig,
        judge: Judge | None = None,
        verifier_ND: NDArray[np.float32] | None = None,
    ) -> None:
        self.reader = Reader(model, config.encoder.window_events, verifier_ND)
        self.calibration = calibration
        self.config = config
        self.judge = judge
        self.order = calibration.natural if config.event_order == "natural" else calibration.shuffled

    def scan(self, histories: Sequence[NDArray[np.int64]]) -> list[Scan]:
        """Scan histories of item indices, oldest first; any length, also none. They share passes through the model."""
        arrays = [np.asarray(history, dtype=np.int64) for history in histories]
        readings = self.reader.read_all(arrays)
        return [self._scan(history, reading) for history, reading in zip(arrays, readings, strict=True)]

    def follow(
        self, histories: Sequence[NDArray[np.int64]], states: Sequence[DriftState | None]
    ) -> list[tuple[DriftVerdict, DriftState]]:
        """What :meth:`scan` says after the last event of each history, and the state to go on from.

        Given the state after earlier events of the same history, only those that came since are read. Without one, or
        if it does not fit, the window is read again.
        """
        window_events = self.reader.window_events
        newest: list[int] = []
        ratios: list[FloatArray] = []
        for history, state in zip(histories, states, strict=True):
            rest = state.rest_of(history, window_events) if state else None
            newest.append(min(len(history), window_events) if rest is None else rest)
            # without a state, zeros stand for older restarts: by the last event they have all left the window
            older = min(len(history) - newest[-1], window_events - 1)
            ratios.append(np.zeros(older) if state is None or rest is None else state.ratio_K)
        found = []
        log_p_H = self.reader.log_probabilities(histories, newest)
        for history, before_K, log_p_TK in zip(histories, ratios, log_p_H, strict=True):
            ratio_K = reduce(advance, log_p_TK, before_K)
            unread = len(history) - len(ratio_K)
            state = DriftState(history[unread:], ratio_K)
            found.append((self._verdict(state, unread), state))
        return found

    def _verdict(self, state: DriftState, unread: int) -> DriftVerdict:
        if not len(state.items_K):
            return DriftVerdict(0.0, None, False)
        log_posterior_K = restart_posterior(state.ratio_K[:, None], self.config.hazard)[:, 0]
        vectors_KD, verifier_KD = self.reader.unit_ND[state.items_K], self.reader.verifier_ND[state.items_K]
        features_F = weigh_now(log_posterior_K, vectors_KD, verifier_KD, self.config)
        p_drift = float(self.order.p_drift(features_F[None])[0])
        onset = recent_onset(log_posterior_K, self.config.recent_events)
        statistic = shiryaev_roberts(state.ratio_K[:, None])[0]
        return DriftVerdict(
            p_drift,
            onset + unread if onset is not None and p_drift > BELIEVED_ABOVE else None,
            self._alarms(statistic, p_drift, state.items_K, onset),
        )

    def _alarms(self, statistic: float, p_drift: float, window: NDArray[np.int64], onset: int | None) -> bool:
        level = statistic if self.order.p_alarm is None else p_drift
        if len(window) <= WARM_UP_EVENTS or level < self.order.alarms_at:
            return False
        return self.judge is None or self.judge.keeps(window, -1 if onset is None else onset)

    def _scan(self, history: NDArray[np.int64], reading: Reading) -> Scan:
        evidence = weigh(reading, self.config)
        p_drift_T = self.order.p_drift(evidence.features_TF)
        unread = len(history) - len(p_drift_T)
        pad = np.zeros(unread)
        return Scan(
            surprise=np.concatenate([np.full(unread, np.nan), evidence.surprise_T]),
            statistic=np.concatenate([pad, evidence.statistic_T]),
            cusum=np.concatenate([pad, evidence.cusum_T]),
            p_drift=np.concatenate([pad, p_drift_T]),
            change_points=np.concatenate(
                [np.full(unread, -1), np.where(evidence.change_point_T > 0, evidence.change_point_T + unread, -1)]
            ),
            posterior=self._posterior(evidence, p_drift_T, unread),
            alarm=bool(len(history))
            and self._alarms(
                evidence.statistic_T[-1], p_drift_T[-1], reading.items_T, int(evidence.change_point_T[-1])
            ),
        )

    def _posterior(self, evidence: Evidence, p_drift_T: FloatArray, unread: int) -> FloatArray:
        """The posterior over restarts, scaled so that the recent ones have the calibrated mass."""
        n = len(p_drift_T)
        if n < 2:
            return np.ones(n)
        recent_K = recent_restarts(n, self.config.recent_events)[:, -1]
        scaled_K = np.empty(n)
        scaled_K[recent_K] = p_drift_T[-1] * softmax(evidence.log_posterior_K[recent_K])
        scaled_K[~recent_K] = (1 - p_drift_T[-1]) * softmax(evidence.log_posterior_K[~recent_K])
        # 'no change in the window' is entry 0 of the history; events before the window cannot be told apart from it
        return np.concatenate([scaled_K[:1], np.zeros(unread), scaled_K[1:]])
