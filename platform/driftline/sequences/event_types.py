"""What kind an event is, as a number. 0 is 'unknown': a bare list of item ids has no types."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftline.events.schema import EVENT_TYPES

UNKNOWN_TYPE: Final = 0
NUM_TYPES: Final = 1 + len(EVENT_TYPES)
_NUMBER: Final = {name: number for number, name in enumerate(EVENT_TYPES, start=1)}


def type_numbers(names: Iterable[str]) -> NDArray[np.int64]:
    """Number of each event type; those that the schema lacks are unknown."""
    return np.fromiter((_NUMBER.get(name, UNKNOWN_TYPE) for name in names), dtype=np.int64)


def type_names(numbers: NDArray[np.int64]) -> list[str]:
    """What :func:`type_numbers` read; unknown ones are ''."""
    return [EVENT_TYPES[number - 1] if number else "" for number in numbers.tolist()]
