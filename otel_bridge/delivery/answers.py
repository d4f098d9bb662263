"""What an answer of a backend means: delivered, try again, too large, or refused for good.

Owns that meaning for both protocols. It must not send or read. Reasons are as the backend gave them, to be
quoted in a log line.

Contract: no content of an answer raises. Whatever may pass later is tried again, because a span that was
given up cannot be had back:

| answer | outcome |
|---|---|
| 2xx, OK | delivered, less what a partial success says |
| 2xx with a page of HTML, as a login portal sends | try again |
| 413, or a status that speaks of the size of a message | too large |
| 400, 422, INVALID_ARGUMENT | refused for good |
| anything else, redirects and authentication included | try again, after Retry-After or RetryInfo if given |

Sources: OpenTelemetry protocol specification, "OTLP/gRPC Response" and "OTLP/HTTP Response". It calls some of
these answers final; a key that was just replaced, a route that is not there yet and a proxy that restarts
give the same ones.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_bridge.delivery.transport import (
    MAX_RESPONSE_BYTES,
    Delivered,
    Outcome,
    Refused,
    TooLarge,
    TryAgain,
)
from otel_bridge.foreign_text import MAX_QUOTED_CHARACTERS

_OTLP_CONTENT_TYPES: Final = frozenset({"application/x-protobuf", "application/json", ""})
_HTML: Final = "text/html"
_REFUSED_STATUSES: Final = frozenset({400, 422})
_TOO_LARGE_STATUS: Final = 413
_REFUSED_CODES: Final = frozenset({"INVALID_ARGUMENT"})
_MESSAGE_SIZE: Final = re.compile(
    r"message (?:is )?(?:larger than|too large|exceeds|size|length)"
    r"|(?:larger|greater|bigger) than max"
    r"|max(?:imum)?\.? (?:message|request) (?:size|length)"
    r"|(?:request|payload|body|entity) (?:is )?too large"
    r"|status:? 413",
    re.IGNORECASE,
)
"""How gRPC in C, Go, Java and Rust, and proxies, say that a message is over their limit. Rate limits, which
say RESOURCE_EXHAUSTED as well, speak of something else."""

_PORT_OF_HTTP1: Final = re.compile(r"http1\.x server|Expected SETTINGS frame|http2 header with status")
_ANSWER_OVER_BOUND: Final = re.compile(rf"CLIENT: .*larger than max \(\d+ vs\. {MAX_RESPONSE_BYTES}\)")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")


def read_http_answer(
    status: int,
    reason: str,
    body: bytes,
    *,
    content_type: str = "",
    retry_after: str | None = None,
    location: str | None = None,
    now_unix_seconds: float,
) -> Outcome:
    """Return what an HTTP response means; `body` may be cut. `location` is where a redirect leads."""
    kind = content_type.partition(";")[0].strip().lower()
    if 200 <= status < 300:
        if kind == _HTML:
            return TryAgain(f"HTTP {status} with a page of HTML: is the endpoint that of a backend?")
        return _delivered(body, kind)
    said = f"HTTP {status} {reason}".rstrip()
    if 300 <= status < 400:
        where = location or "an address that it does not name"
        return TryAgain(f"{said}: redirects are not followed; set the endpoint to {where}")
    said = f"{said}: {_status_message(body)}"
    if status == _TOO_LARGE_STATUS:
        return TooLarge(said)
    if status in _REFUSED_STATUSES:
        return Refused(said)
    return TryAgain(said, _retry_after_seconds(retry_after, now_unix_seconds))


def read_grpc_answer(answer: bytes) -> Outcome:
    """Return what the message of a call that ended with OK means."""
    return _delivered(answer, "")


def read_grpc_status(code: str, details: str, retry_info: bytes | None) -> Outcome:
    """Return what a gRPC status means.

    `code` is its name; `retry_info` the serialised google.rpc.RetryInfo among its metadata.
    """
    said = f"{code}: {details}"
    if _ANSWER_OVER_BOUND.search(details) is not None:
        return Delivered(0, "its answer is too large to be read")
    if _MESSAGE_SIZE.search(details) is not None:
        return TooLarge(said)
    if code in _REFUSED_CODES:
        return Refused(said)
    if code == "UNAVAILABLE" and _PORT_OF_HTTP1.search(details) is not None:
        said = (
            f"{said} (this port speaks HTTP/1: set the OTLP protocol to http/protobuf, or use the gRPC port)"
        )
    return TryAgain(said, None if retry_info is None else _retry_info_seconds(retry_info))


def _delivered(answer: bytes, kind: str) -> Delivered:
    if kind not in _OTLP_CONTENT_TYPES:
        return Delivered(0, f"its answer is of type {kind}, which is none of OTLP")
    if kind == "application/json":
        return Delivered()
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return Delivered(0, "its answer cannot be read")
    return Delivered(partial.rejected_spans, partial.error_message)


def _status_message(body: bytes) -> str:
    """Return the message of a google.rpc.Status, or whatever else was sent."""
    try:
        message = Status.FromString(body).message
    except DecodeError:
        message = ""
    return message or body[:MAX_QUOTED_CHARACTERS].decode("utf-8", "replace")


def _retry_after_seconds(value: str | None, now_unix_seconds: float) -> float | None:
    """Return the seconds of a Retry-After field: a number, or a date (RFC 9110 §10.2.3)."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # More digits than that are a pause beyond every bound.
        return float(text) if _DIGITS.fullmatch(text) else float("inf")
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_unix_seconds)
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _retry_info_seconds(retry_info: bytes) -> float | None:
    try:
        delay = RetryInfo.FromString(retry_info).retry_delay
    except (DecodeError, TypeError):
        return None
    return max(0.0, float(delay.seconds + delay.nanos / 1e9))
