"""JSON as requests may hold it: UTF-8, of bounded depth, each name once in an object, no NaN."""

import json
import re
from collections import Counter
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Arrays and objects within one another. The deepest body of the API has 4."""
EXACT: Final = 2**53
"""Below it every integer is a float and the other way round."""
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")


class JsonFault(ValueError):
    """Why a text is not JSON, or not JSON that requests may hold."""


def parse_json(text: bytes) -> Any:
    """Parse a text.

    The depth is checked before the parser sees the text, so what a body costs does not depend on the interpreter's
    recursion limit.

    Raises
    ------
    JsonFault
        With the reason.
    """
    if b"\0" in text:
        raise JsonFault("it holds a NUL byte")
    if text.startswith(b"\xef\xbb\xbf"):
        raise JsonFault("it begins with a byte order mark")
    check_depth(text)
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_number
        )
    except UnicodeDecodeError as error:
        raise JsonFault(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise JsonFault(f"{error.msg} at character {error.pos}") from error
    except JsonFault:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise JsonFault(str(error)) from error


def check_depth(text: bytes) -> None:
    """Refuse a text whose arrays and objects lie more than ``MAX_DEPTH`` within one another.

    Strings are taken out, then everything but brackets; each round then removes the innermost pairs. What is left
    after ``MAX_DEPTH`` rounds is nested too deeply or not balanced, and openers tell which.

    Raises
    ------
    JsonFault
        If it is too deep.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", text).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if brackets.count(b"[") > 0:
        raise JsonFault(f"it is nested more than {MAX_DEPTH} deep, or not closed")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise JsonFault(f"the name {twice[:60]!r} stands twice in one object")
    return found


def _number(text: str) -> float | int:
    """JSON has one kind of number: 5.0 is the integer 5, as JSON Schema has it."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < EXACT else value


def _constant(name: str) -> float:
    raise JsonFault(f"{name} is not JSON")
