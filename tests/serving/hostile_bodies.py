"""Bodies that no route may take: texts that are no JSON, JSON that requests may not hold, and values of wrong types."""

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

JSON = "application/json"
Hostile = tuple[str, bytes, str]
"""Name, body, content type."""

VALID = b'{"user_id": "u", "k": 5}'
_BAD_UTF8 = {
    "lone 0xFF": b"\xff",
    "lone continuation": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong NUL": b"\xc0\x80",
    "encoded surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut short": b"\xe2\x82",
}
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "nan", "01", "+1", ".5", "1.", "1e", "0x10", "1_000", "-", "--1", "1e+")
_NO_STRINGS = (rb'"\x41"', rb'"\u12"', rb'"\u{41}"', rb'"\\', b'"a\nb"', b'"a\x01b"', b"'u'", b'"u', b'u"', b'"\\"')
_NO_JSON = {
    "empty": b"",
    "blank": b"  \n\t ",
    "a comma": b",",
    "a trailing comma": b'{"user_id": "u",}',
    "a comment": b'{"user_id": "u"} // why not',
    "a block comment": b'{/* why not */"user_id": "u"}',
    "a name without quotes": b'{user_id: "u"}',
    "no colon": b'{"user_id" "u"}',
    "a number as name": b'{1: "u"}',
    "two documents": b"{}{}",
    "two lines": b"{}\n{}",
    "crossed brackets": b'{"user_id": ["u"}]',
    "XML": b"<user_id>u</user_id>",
    "YAML": b"user_id: u",
    "pickle": b"\x80\x04K\x01.",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00C\xbf\xa6\xa3\x02\x00\x00\x00",
    "True": b"True",
    "None": b"None",
    "undefined": b"undefined",
}
_WRONG_SCALARS = {"null": b"null", "true": b"true", "7": b"7", "1.5": b"1.5", "a string": b'"u"', "empty string": b'""'}
_WRONG_TYPES = (
    "",
    JSON + "-patch+json",
    "text/json",
    "text/plain",
    "text/html",
    "application/xml",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/vnd.api+json",
    "json",
    "*/*",
)
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "2**63": 2**63,
    "10**400": 10**400,
    "1e308": 1e308,
    "empty string": "",
    "a string": "x",
    "a blank": " \t",
    "a digit": "5",
    "NUL": "a\0b",
    "a high surrogate": "\ud800",
    "a low surrogate": "\udfff",
    "30,000 characters": "x" * 30_000,
    "empty array": [],
    "an array": [1, "a"],
    "arrays": [[["i1"]]],
    "12,000 items": ["i1"] * 12_000,
    "empty object": {},
    "an object": {"a": 1},
    "an operator": {"$gt": ""},
}


def texts() -> Iterator[Hostile]:
    """Bodies that say nothing of a route: hostile whatever it takes."""
    yield from ((name, body, JSON) for name, body in _NO_JSON.items())
    yield from ((f"a bare {name}", body, JSON) for name, body in _WRONG_SCALARS.items())
    for stop in range(1, len(VALID), 2):
        yield f"cut after {stop}", VALID[:stop], JSON
    for place in range(0, len(VALID) + 1, 4):
        yield f"NUL at {place}", VALID[:place] + b"\0" + VALID[place:], JSON
    for name, wrong in _BAD_UTF8.items():
        yield f"{name} in a value", b'{"user_id": "' + wrong + b'"}', JSON
        yield f"{name} in a name", b'{"' + wrong + b'": "u"}', JSON
        yield f"{name} alone", wrong, JSON
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037"):
        yield encoding, VALID.decode().encode(encoding), JSON
    for number in _NO_NUMBERS:
        yield f"the number {number}", b'{"user_id": "u", "k": ' + number.encode() + b"}", JSON
    for string in _NO_STRINGS:
        yield f"the string {string!r}", b'{"user_id": ' + string + b"}", JSON
    for digits in (400, 5_000, 100_000):
        yield f"an integer of {digits} digits", b"9" * digits, JSON
        yield f"a fraction of {digits} digits", b"0." + b"9" * digits, JSON
        yield f"an exponent of {digits} digits", b"1e" + b"9" * digits, JSON
    for depth in (33, 500, 1_000, 10_000, 60_000):
        yield f"{depth} arrays", b"[" * depth + b"]" * depth, JSON
        yield f"{depth} arrays, open", b"[" * depth, JSON
        yield f"{depth} objects", b'{"":' * depth + b"1" + b"}" * depth, JSON
        yield f"{depth} objects, open", b'{"user_id":' * min(depth, 10_000), JSON
        yield f"{depth} of both", b'[{"a":' * (depth // 2 + 1) + b"1" + b"}]" * (depth // 2 + 1), JSON
        yield f"{depth} closers", b"]" * depth, JSON
    yield "a name twice", b'{"user_id": "u", "user_id": "v"}', JSON
    yield "a name twice, once escaped", rb'{"user_id": "u", "user\u005fid": "v"}', JSON
    yield "a thousand unknown names", json.dumps({f"n{number}": number for number in range(1_000)}).encode(), JSON
    yield "__proto__", b'{"__proto__": {"admin": true}}', JSON
    yield from ((f"as {kind!r}", VALID, kind) for kind in _WRONG_TYPES)


def wrong_fields(document: dict[str, Any], schema: dict[str, Any], example: dict[str, Any]) -> Iterator[Hostile]:
    """Every field of a body in turn missing, unknown, or of a value that its schema excludes."""
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert validator.is_valid(example), example
    for name in (*_properties(document, schema), "a name that no route knows"):
        for label, value in VALUES.items():
            body = example | {name: value}
            if not validator.is_valid(body):
                yield f"{name} is {label}", json.dumps(body).encode(), JSON
    for name in example:
        less = {other: value for other, value in example.items() if other != name}
        if not validator.is_valid(less):
            yield f"without {name}", json.dumps(less).encode(), JSON


def _properties(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    name = schema["$ref"].rpartition("/")[2]
    return list(document["components"]["schemas"][name]["properties"])
