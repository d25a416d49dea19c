"""Bodies of a media type that schemathesis does not know."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> dict[str, Any]:
    """A text as it is, anything else as one line."""
    return {"data": (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")}
