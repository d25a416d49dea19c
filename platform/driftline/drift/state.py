"""What is remembered of a user between events: enough to score the next one without reading the window again.

Shape legend: K events of the window.
"""

import struct
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from driftline.drift.restart import FloatArray

VERSION = 1
_HEAD = struct.Struct("<HH8s")


@dataclass(frozen=True, eq=False)
class DriftState:
    """After the last event of a window. 12 + 8 K bytes: 972 for a window of 120 events.

    The window tells which history a state is of. What lies before it only keeps items out of what can come next: where
    that changed (an old event came late, retention took one), the ratios of up to a window's events stay as they were.

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
        if most < 0:
            return None
        least = 0 if n == window_events else most  # a shorter window began with the history
        counts = range(least, min(most + 1, window_events))
        return next((c for c in counts if np.array_equal(history[most - c : most - c + n], self.items_K)), None)

    def to_bytes(self, bundle: str) -> bytes:
        """Version, K, hash of the bundle's id, items (int32), ratios (float32)."""
        head = _HEAD.pack(VERSION, len(self.items_K), _hash(bundle))
        return head + self.items_K.astype("<i4").tobytes() + self.ratio_K.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, stored: bytes, bundle: str) -> "DriftState | None":
        """Read what :meth:`to_bytes` wrote; None if another version or bundle did."""
        version, n, written_by = _HEAD.unpack_from(stored)
        if version != VERSION or written_by != _hash(bundle):
            return None
        items_K = np.frombuffer(stored, "<i4", n, _HEAD.size).astype(np.int64)
        return cls(items_K, np.frombuffer(stored, "<f4", n, _HEAD.size + 4 * n).astype(np.float64))


def _hash(bundle: str) -> bytes:
    return sha256(bundle.encode()).digest()[:8]
