"""W3C trace context: the ``traceparent`` of a request is taken up, logged, and answered with ``traceresponse``.

Nothing is exported. The log of the Router ties the trace id to the request id, and Ray Serve hands the request id on to
every deployment that works for the request, whose log lines carry it. Ray's own OpenTelemetry tracing, if a cluster is
started with it, reads the same header.

Source: W3C Recommendation "Trace Context" (2021), and "Trace Context Level 2" for ``traceresponse``.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Final

_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = "01"


@dataclass(frozen=True)
class Trace:
    """A span of this service within a trace; ids in lower-case hexadecimal."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def header(self) -> str:
        """Value of ``traceresponse``."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def take_up(traceparent: str | None) -> Trace:
    """Go on with the caller's trace; without a valid header, begin one, as the recommendation demands."""
    span_id = secrets.token_hex(8)
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return Trace(secrets.token_hex(16), span_id, _SAMPLED)
    version, trace_id, parent_id, flags, more = match.groups()
    if not trace_id.strip("0") or not parent_id.strip("0") or (version == "00" and more):
        return Trace(secrets.token_hex(16), span_id, _SAMPLED)
    return Trace(trace_id, span_id, flags)
