"""What is remembered of a user between events: enough to score the next one without reading the window again.

Shape legend: K events of the window.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.drift.restart import FloatArray

VERSION = 1
_HEAD = struct.Struct("<HH")


@dataclass(frozen=True, eq=False)
class DriftState:
    """After the last event of a window. 4 + 8 K bytes: 964 for a window of 120 events.

    Parameters
    ----------
    items_K
        Items of the window, oldest first: they tell which events are new.
    ratio_K
        Restart ratio by restart, nats, from :func:`driftline.drift.restart.advance`; stored as float32.
    """

    items_K: NDArray[np.int64]
    ratio_K: FloatArray

    def rest_of(self, history: NDArray[np.int64], window_events: int) -> int | None:
        """How many events of a history came after this state, fewer than a window; None if it is not of that history.

        A full window that recurs, of the same item over and over, is taken for its latest occurrence.
        """
        n, most = len(self.items_K), len(history) - len(self.items_K)
        counts = (
            range(min(most + 1, window_events)) if n == window_events else range(most, min(most + 1, window_events))
        )
        return next((c for c in counts if np.array_equal(history[most - c : most - c + n], self.items_K)), None)

    def to_bytes(self) -> bytes:
        """Version, K, items (int32), ratios (float32)."""
        head = _HEAD.pack(VERSION, len(self.items_K))
        return head + self.items_K.astype("<i4").tobytes() + self.ratio_K.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, stored: bytes) -> "DriftState | None":
        """Read what :meth:`to_bytes` wrote; None if another version did."""
        version, n = _HEAD.unpack_from(stored)
        if version != VERSION:
            return None
        items_K = np.frombuffer(stored, "<i4", n, _HEAD.size).astype(np.int64)
        return cls(items_K, np.frombuffer(stored, "<f4", n, _HEAD.size + 4 * n).astype(np.float64))
