"""Which trace a request belongs to: W3C Trace Context (level 2), B3.

It must not decide what a span says, only whose child it is.

Contract: a header that its specification calls invalid is ignored as if it were absent, and reported as
malformed so that it can be counted. `traceparent` wins over B3: it is the header that OpenTelemetry writes by
default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SAMPLED = 0x01
"""The trace flag of W3C Trace Context §3.2.2.5.1; set on traces that start here, since the span is being
exported."""

MAX_TRACESTATE_MEMBERS = 32
"""List members of a tracestate (W3C Trace Context §3.3.1.1); a longer list is invalid as a whole."""

MAX_TRACESTATE_LENGTH = 8192
"""Characters of a tracestate kept. The specification asks for 512 at least and sets no upper end; headers end
near 8 KiB."""

_INVALID_TRACE_ID = "0" * 32
_INVALID_SPAN_ID = "0" * 16

# Version 00 is exactly four fields; a later version may carry more after another dash (§3.2.4 "Versioning of
# traceparent").
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

# Level 2 keys: a letter or a digit first, then up to 255 more characters (§3.3.1.3.1).
_TRACESTATE_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)

# {trace id}-{span id}-{sampling state}-{parent span id}, the last two optional; `d` is debug, which implies
# sampled.
_B3_SINGLE = re.compile(
    r"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?", re.IGNORECASE
)
_B3_DENY_ONLY = frozenset("01dD")
_B3_TRACE_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}", re.IGNORECASE)
_B3_SPAN_ID = re.compile(r"[0-9a-f]{16}", re.IGNORECASE)


class TraceContext(NamedTuple):
    """The span that a request says it was made under. A tuple, because nearly every span has one."""

    trace_id: bytes
    span_id: bytes
    flags: int
    state: str
    """The tracestate list, normalised to single commas; empty when there is none or it is invalid."""


class ContextReading(NamedTuple):
    """What the headers of one request said: a context, or none, and how many headers were malformed."""

    context: TraceContext | None
    malformed: int


NO_CONTEXT = ContextReading(context=None, malformed=0)


def read_trace_context(headers: Mapping[str, Sequence[str]]) -> ContextReading:
    """Read the trace context of a request from its headers (names in lower case, values in order of arrival).

    Sources: W3C Trace Context level 2 §3.2 and §3.3, openzipkin B3 propagation (single and multiple headers).
    """
    malformed = 0
    traceparent = headers.get("traceparent")
    if traceparent is not None:
        parent = _parse_traceparent(traceparent[0]) if len(traceparent) == 1 else None
        if parent is not None:
            trace_id, span_id, flags = parent
            state, state_malformed = _read_tracestate(headers.get("tracestate"))
            return ContextReading(TraceContext(trace_id, span_id, flags, state), state_malformed)
        malformed += 1
    if "b3" not in headers and "x-b3-traceid" not in headers:
        return ContextReading(None, malformed) if malformed else NO_CONTEXT
    context, b3_malformed = _read_b3(headers)
    return ContextReading(context, malformed + b3_malformed)


def _parse_traceparent(value: str) -> tuple[bytes, bytes, int] | None:
    match = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace_id == _INVALID_TRACE_ID or span_id == _INVALID_SPAN_ID:
        return None
    return bytes.fromhex(trace_id), bytes.fromhex(span_id), int(flags, 16)


def _read_tracestate(values: Sequence[str] | None) -> tuple[str, int]:
    """Return the list and how many were malformed. Several headers are one list (RFC 9110 §5.3)."""
    if values is None:
        return "", 0
    joined = ",".join(values)
    members = [member for part in joined.split(",") if (member := part.strip(" \t"))]
    if len(joined) > MAX_TRACESTATE_LENGTH or len(members) > MAX_TRACESTATE_MEMBERS:
        return "", 1
    keys = set()
    for member in members:
        match = _TRACESTATE_MEMBER.fullmatch(member)
        if match is None or match[1] in keys:
            return "", 1
        keys.add(match[1])
    return ",".join(members), 0


def _read_b3(headers: Mapping[str, Sequence[str]]) -> tuple[TraceContext | None, int]:
    single = headers.get("b3")
    if single is not None:
        value = single[0].strip(" \t")
        if value in _B3_DENY_ONLY:
            return None, 0
        match = _B3_SINGLE.fullmatch(value) if len(single) == 1 else None
        if match is None:
            return None, 1
        trace_id, span_id, state = match.groups()
        return _b3_context(trace_id, span_id, sampled=state in {None, "1", "d", "D"})
    trace_ids, span_ids = headers["x-b3-traceid"], headers.get("x-b3-spanid", ())
    if len(trace_ids) != 1 or len(span_ids) != 1:
        return None, 1
    trace_id, span_id = trace_ids[0].strip(" \t"), span_ids[0].strip(" \t")
    if not _B3_TRACE_ID.fullmatch(trace_id) or not _B3_SPAN_ID.fullmatch(span_id):
        return None, 1
    decision = headers.get("x-b3-sampled", ("1",))[0].strip(" \t").lower()
    debug = headers.get("x-b3-flags", ("0",))[0].strip(" \t") == "1"
    return _b3_context(trace_id, span_id, sampled=debug or decision in {"1", "true"})


def _b3_context(trace_id: str, span_id: str, *, sampled: bool) -> tuple[TraceContext | None, int]:
    # A 64-bit trace id is left-padded with zeros (B3 propagation, "TraceId").
    trace_id = trace_id.rjust(32, "0")
    if trace_id == _INVALID_TRACE_ID or span_id == _INVALID_SPAN_ID:
        return None, 1
    return TraceContext(bytes.fromhex(trace_id), bytes.fromhex(span_id), SAMPLED if sampled else 0, ""), 0
