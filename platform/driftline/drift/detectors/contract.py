"""What every detector is.

A *statistic* is an algorithm: it turns events into one figure each, high where the user seems to have changed. A
:class:`Detector` is a statistic with a threshold: it raises alarms. Every statistic of this package lies in a file of
its own, and ``tests/drift/test_contract.py`` runs over all of them.

Shape legend: T events of a stream, K events of the window.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray
from driftline.errors import BundleError

WARM_UP_EVENTS = 15
"""No alarm is raised before so many events were read; run lengths are counted from there on."""

State = dict[str, FloatArray]
"""What a statistic remembers of the events so far, by name; stored as float32."""


class Step(NamedTuple):
    """What one event leads to."""

    state: State
    statistic: float
    onset: int | None = None
    """Index in the window of the most probable first event of a new regime; None where the statistic does not say."""


class Statistic(Protocol):
    """An algorithm that watches a stream. Immutable: what it remembers is its ``State``."""

    @property
    def name(self) -> str:
        """Unique among the statistics."""
        ...

    @property
    def version(self) -> int:
        """Counts up whenever the meaning of ``State`` changes."""
        ...

    def start(self) -> State:
        """Before the first event."""
        ...

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        ...

    def series(self, reading: Reading) -> FloatArray:
        """The statistic after every event of a reading, as ``step`` gives it, to 1e-4: ``statistic_T``."""
        ...


@runtime_checkable
class Mergeable(Protocol):
    """A statistic whose states of two successive pieces of one stream give the state of the whole."""

    def merge(self, first: State, second: State) -> State:
        """The state after the second piece, had both been read in one go."""
        ...


@dataclass(frozen=True)
class Alarm:
    """The statistic is at or above the threshold."""

    event: int
    """Index of the alarming event, counted from the last reset."""
    statistic: float
    change_point: int | None
    """Index of the estimated first event of the new regime, counted likewise; None where the detector does not say."""


@dataclass(frozen=True, eq=False)
class Scanned:
    """One stream in one go."""

    statistic_T: FloatArray
    alarm_T: NDArray[np.bool_]


class Detector:
    """A statistic with a threshold, watching one stream.

    An alarm is raised at every event at which the statistic is at or above the threshold. Whoever acts on an alarm
    calls :meth:`reset`, and a new regime begins.

    Parameters
    ----------
    statistic
        The algorithm.
    threshold
        In the statistic's own units; :func:`driftline.drift.calibration.threshold_for` finds it for a run length.
    warm_up_events
        Events without alarms after a reset.

    Examples
    --------
    >>> detector = Detector(ShiryaevRoberts(), threshold=5.3)
    >>> alarms = [detector.update(event) for event in reader.read(history).events()]
    """

    def __init__(self, statistic: Statistic, threshold: float, warm_up_events: int = WARM_UP_EVENTS) -> None:
        self.statistic = statistic
        self.threshold = threshold
        self.warm_up_events = warm_up_events
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._state = self.statistic.start()
        self._events = 0
        self.value = 0.0

    def update(self, event: Event) -> Alarm | None:
        """Take in one event; afterwards ``value`` is the statistic."""
        self._state, self.value, onset = self.statistic.step(self._state, event)
        self._events += 1
        if self._events <= self.warm_up_events or self.value < self.threshold:
            return None
        gone = self._events - len(event.log_p_K)  # events before the window
        return Alarm(self._events - 1, self.value, None if onset is None else onset + gone)

    def scan(self, readings: Sequence[Reading]) -> list[Scanned]:
        """Watch whole streams, each from its first event on; the detector's own state stays as it is."""
        scanned = []
        for reading in readings:
            statistic_T = self.statistic.series(reading)
            alarm_T = statistic_T >= self.threshold
            alarm_T[: self.warm_up_events] = False
            scanned.append(Scanned(statistic_T, alarm_T))
        return scanned

    @property
    def state(self) -> bytes:
        """Everything remembered; the same events can go on in another process, or after another's state was set."""
        return pack(self.statistic, self._state, self._events)

    @state.setter
    def state(self, stored: bytes) -> None:
        self._state, self._events = unpack(self.statistic, stored)

    def merge(self, later: bytes) -> None:
        """Go on from the state of a detector that has read what follows.

        Raises
        ------
        TypeError
            If the statistic's increments depend on the events before.
        """
        if not isinstance(self.statistic, Mergeable):
            raise TypeError(f"states of {self.statistic.name} cannot be merged: what an event adds depends on the past")
        second, events = unpack(self.statistic, later)
        self._state, self._events = self.statistic.merge(self._state, second), self._events + events


_HEAD = struct.Struct("<IHI")


def pack(statistic: Statistic, state: State, events: int) -> bytes:
    """Name (CRC-32), version and number of events; then each array in order of its name: shape and float32 values."""
    parts = [_HEAD.pack(zlib.crc32(statistic.name.encode()), statistic.version, events)]
    for name in sorted(state):
        array = np.asarray(state[name])
        parts.append(struct.pack(f"<B{array.ndim}H", array.ndim, *array.shape))
        parts.append(array.astype("<f4").tobytes())
    return b"".join(parts)


def unpack(statistic: Statistic, stored: bytes) -> tuple[State, int]:
    """State and number of events.

    Raises
    ------
    BundleError
        If another statistic, or another version of it, wrote this.
    """
    written, version, events = _HEAD.unpack_from(stored)
    if (written, version) != (zlib.crc32(statistic.name.encode()), statistic.version):
        raise BundleError(
            f"this state was not written by {statistic.name} of version {statistic.version} (its version: {version}): "
            "read the history again"
        )
    state: State = {}
    at = _HEAD.size
    for name in sorted(statistic.start()):
        (ndim,) = struct.unpack_from("<B", stored, at)
        shape = struct.unpack_from(f"<{ndim}H", stored, at + 1)
        at += 1 + 2 * ndim
        count = int(np.prod(shape))
        state[name] = np.frombuffer(stored, "<f4", count, at).astype(np.float64).reshape(shape)
        at += 4 * count
    return state, events
