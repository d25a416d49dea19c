"""The drift check: streams of held-out users with and without a splice, through the public API of a model.

Shape legend: T events of a stream.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from driftline.drift.calibration import OrderCalibration, run_length
from driftline.drift.classification import WITHIN_EVENTS, AlarmDelays
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.report import DriftReport
from driftline.drift.streams import SEVERITIES, Recipe, Severity, Stream, TasteDistance, Track, draw_streams
from driftline.evaluation.auroc import clustered_auroc
from driftline.evaluation.bootstrap import Interval
from driftline.sequences.batches import History

DriftBatch = Callable[[Sequence[Sequence[str]]], list[DriftReport]]
AGES = (10, 20, 40)
"""W: events since the change point at which P(drift) is compared."""
STREAMS_PER_CALL = 50
SELECTIONS: dict[str, tuple[Severity, ...]] = {"random B": SEVERITIES, "far B": ("far",)}


@dataclass(frozen=True)
class DriftFigures:
    """What the check measures for one choice of B."""

    auroc: dict[int, Interval]
    """Stream AUROC of P(drift) by W: nothing but the events is given."""
    detected: dict[int, float]
    """Share of drifted streams with an alarm within so many events of the change; false alarms before it leave."""
    alarms: AlarmDelays
    """The same streams as a classifier sees them."""
    median_delay_events: float
    """Infinite if fewer than half are detected."""
    achieved_arl_events: float
    """Steady events per false alarm, after the warm-up; infinite without alarms."""
    median_location_error_events: float
    """Of the estimated change point, where one is reported at the end of a drifted stream."""
    streams: int

    def as_json(self) -> dict[str, object]:
        """Plain values; infinity becomes None."""
        return {
            "stream_auroc": {str(w): {"mean": i.mean, "low": i.low, "high": i.high} for w, i in self.auroc.items()},
            "detected_within": {str(w): _finite(share) for w, share in self.detected.items()},
            "classification": self.alarms.figures(),
            "median_delay_events": _finite(self.median_delay_events),
            "achieved_arl_events": _finite(self.achieved_arl_events),
            "median_location_error_events": _finite(self.median_location_error_events),
            "streams": self.streams,
        }


def check_drift(
    drift_batch: DriftBatch,
    item_ids: Sequence[str],
    histories: Mapping[str, History],
    taste: TasteDistance,
    calibration: OrderCalibration,
    splices: int,
    seed: int,
    track: Track = "X",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, DriftFigures]:
    """Measure stream AUROC and detection on splices of held-out users.

    Parameters
    ----------
    drift_batch
        ``model.drift_batch``: external item ids in, reports out.
    item_ids
        ``model.item_ids``, which the item indices of ``histories`` and ``taste`` follow.
    histories
        Held-out users only.
    taste
        What far means.
    calibration
        Says what alarms: that of the track's order.
    splices
        Streams per choice of B: one half drifted, the other half not.
    progress
        Told how many streams of how many are done.
    """
    pairs = max(splices // 2, 1)
    drawn = {
        name: draw_streams(histories, taste, Recipe(track), pairs, seed, severities)
        for name, severities in SELECTIONS.items()
    }
    total, done = sum(map(len, drawn.values())), 0
    figures = {}
    for name, streams in drawn.items():
        reports: list[DriftReport] = []
        for first in range(0, len(streams), STREAMS_PER_CALL):
            part = streams[first : first + STREAMS_PER_CALL]
            reports += drift_batch([[item_ids[item] for item in stream.items] for stream in part])
            done += len(part)
            progress(done, total)
        figures[name] = summarise(streams, reports, calibration, seed)
    return figures


def summarise(
    streams: Sequence[Stream], reports: Sequence[DriftReport], calibration: OrderCalibration, seed: int = 0
) -> DriftFigures:
    """Figures of scanned streams."""
    drifted = [(s, r) for s, r in zip(streams, reports, strict=True) if s.drifted]
    steady = [(s, r) for s, r in zip(streams, reports, strict=True) if not s.drifted]

    def level(report: DriftReport) -> NDArray[np.float64]:
        return calibration.level(report.statistic, report.p_drift_by_event)

    threshold = calibration.alarms_at
    alarms = AlarmDelays(
        *(np.array([delay(s, level(r), threshold) for s, r in of_class]) for of_class in (drifted, steady))
    )
    delays = alarms.drifted_P[alarms.drifted_P >= 1]
    errors = [abs(r.change_point - s.change_point) for s, r in drifted if r.change_point is not None]
    return DriftFigures(
        auroc={
            age: clustered_auroc(
                np.array([_p_at(s, r, age) for s, r in drifted]),
                np.array([_p_at(s, r, age) for s, r in steady]),
                [(s.user, s.other or "") for s, _ in drifted],
                [(s.user,) for s, _ in steady],
                seed=seed,
            )
            for age in AGES
        },
        detected={age: float((delays <= age).mean()) if len(delays) else float("nan") for age in AGES},
        alarms=alarms,
        median_delay_events=float(np.median(delays)) if len(delays) else float("inf"),
        achieved_arl_events=run_length([level(r) for _, r in steady], threshold).arl_events,
        median_location_error_events=float(np.median(errors)) if errors else float("nan"),
        streams=len(streams),
    )


def classification(figures: Mapping[str, DriftFigures]) -> str:
    """Precision, recall, F1 and support of 'alarm within 20 events', one block per choice of B."""
    blocks = (f"{name}: alarm within {WITHIN_EVENTS} events\n{one.alarms.report()}" for name, one in figures.items())
    return "\n".join(blocks)


def table(figures: Mapping[str, DriftFigures], arl_events: int, users: int, track: Track = "X") -> Table:
    """One column per choice of B."""
    sheet = Table(title=f"Drift on track {track}, {users} held-out users, alarms calibrated to ARL {arl_events}")
    sheet.add_column("")
    for name in figures:
        sheet.add_column(name, justify="right", no_wrap=True)
    every = list(figures.values())
    for w in AGES:
        intervals = [f.auroc[w] for f in every]
        sheet.add_row(f"stream AUROC, W={w}", *(f"{i.mean:.3f} ({i.low:.3f}-{i.high:.3f})" for i in intervals))
    for w in AGES:
        sheet.add_row(f"alarm within {w} events", *(f"{f.detected[w]:.2f}" for f in every))
    sheet.add_row("median delay, events", *(f"{f.median_delay_events:.0f}" for f in every))
    sheet.add_row("achieved ARL, events", *(f"{f.achieved_arl_events:.0f}" for f in every))
    sheet.add_row("change point off by, events", *(f"{f.median_location_error_events:.0f}" for f in every))
    return sheet


def delay(stream: Stream, level_T: NDArray[np.float64], threshold: float) -> float:
    """Events from the change to the first alarm, the alarming event included; infinite without an alarm.

    0 or less if the first alarm (after the warm-up) came before the change: a false alarm, and no delay.
    """
    crossed = np.flatnonzero(level_T[WARM_UP_EVENTS:] >= threshold)
    if not len(crossed):
        return float("inf")
    return float(crossed[0] + WARM_UP_EVENTS - stream.change_point + 1)


def _p_at(stream: Stream, report: DriftReport, age: int) -> float:
    """P(drift) after the ``age``-th event past the change, or after the last event of a shorter stream."""
    return float(report.p_drift_by_event[min(stream.change_point + age, len(stream.items)) - 1])


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
