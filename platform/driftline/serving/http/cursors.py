"""Cursors of paged answers: a place in a history, as text that a client hands back unread.

A cursor holds no more than a position. It is not signed, as a forged one opens nothing: every page is read for the
tenant and the user of the request, and whatever fits the pattern is a position.
"""

import base64
import struct
from typing import Final

from driftline.state.records import Cursor

_PLACE: Final = struct.Struct(">dq")
PATTERN: Final = "^([A-Za-eg-z0-9-][A-Za-z0-9_-]|[f_][A-Za-z0-9-])[A-Za-z0-9_-]{19}[AQgw]$"
"""16 bytes in URL-safe base64, the first 8 a finite number: exponents of all ones begin with f_ or __."""


def write_cursor(place: Cursor) -> str:
    """A place as text."""
    return base64.urlsafe_b64encode(_PLACE.pack(*place)).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """The place of a text that fits the pattern."""
    timestamp, number = _PLACE.unpack(base64.urlsafe_b64decode(f"{text}=="))
    return timestamp, number
