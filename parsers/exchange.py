"""The records the parsers emit: one request with its response.

Contract: bytes stay bytes as they were on the wire, except the body, which is free of transfer coding and of
content coding. None means unknown, never 0 or an empty value. An exchange that is not whole says so and why;
what was seen of it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ebpf.events import Role, SocketInfo

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Fields in wire order; names as sent, values without white space around, obs-fold already one space."""


class Truncation(StrEnum):
    """Why the kept content of a body is shorter than the body, or not decoded.

    The attribute `wirespan.request.body.truncated` or `wirespan.response.body.truncated`.
    """

    LIMIT = "limit"
    """Longer than the body limit."""
    GAP = "gap"
    """Bytes were lost on the way."""
    SENDFILE = "sendfile"
    """Bytes that never were in user memory."""
    DECODE_ERROR = "decode_error"
    """The content coding did not decode; the content is what decoded before, else the coded bytes."""
    BOMB = "bomb"
    """Decoding would exceed the bound by far (ratio); stopped."""


class Incomplete(StrEnum):
    """Why an exchange is not whole (attribute `wirespan.incomplete`)."""

    JOINED_LATE = "joined_late"
    """Its beginning, or its counterpart, was before the capture of this connection."""
    LOST_BYTES = "lost_bytes"
    """A gap swallowed a part that frames the message, or made the pairing uncertain."""
    ONE_SIDE = "one_side"
    """Only one direction of the connection carried anything that could be its counterpart."""
    CLOSED = "closed"
    """The connection ended before the message did."""
    TIMED_OUT = "timed_out"
    """Nothing more came within the idle bound."""
    EVICTED = "evicted"
    """Given up to keep within a memory bound."""
    STOPPED = "stopped"
    """The capture ended first."""
    INVALID = "invalid"
    """Bytes that no server would take for HTTP, or whose framing is ambiguous (request smuggling)."""


@dataclass(slots=True)
class Body:
    """A message body."""

    size: int | None
    """True size on the wire: content-coded, without transfer coding. None when it can't be known."""
    content: bytes
    """What was kept: free of content coding, at most `ParserLimits.max_body`.

    Textual content is cut on a character boundary.
    """
    charset: str | None
    """Python codec name when the content is textual; None for binary content."""
    truncation: Truncation | None = None
    captured_size: int = 0
    """Wire bytes (content-coded, without transfer coding) that went into `content`."""


@dataclass(slots=True)
class HttpRequest:
    """The request of an exchange."""

    method: bytes
    target: bytes
    """Request target as sent: origin, absolute, authority or asterisk form."""
    version: str
    """`1.0`, `1.1`, `2`."""
    headers: Headers
    body: Body
    start_ktime_ns: int
    """When the call that moved the first byte returned."""
    end_ktime_ns: int
    """When the call that moved the last byte seen returned."""
    trailers: Headers = field(default_factory=list)
    dropped_headers: int = 0
    """Fields beyond `ParserLimits.max_headers`."""


@dataclass(slots=True)
class HttpResponse:
    """The final response of an exchange."""

    status: int
    reason: bytes
    version: str
    headers: Headers
    body: Body
    start_ktime_ns: int
    end_ktime_ns: int
    trailers: Headers = field(default_factory=list)
    dropped_headers: int = 0
    interim: tuple[int, ...] = ()
    """Status codes of the 1xx responses that came before it."""


@dataclass(slots=True)
class HttpExchange:
    """One request and its response, as one socket saw them.

    At least one of `request` and `response` is present. `incomplete` is None only when both are, and both are
    whole and surely belong together.
    """

    connection_id: int
    socket: SocketInfo
    role: Role
    """This socket's part: CLIENT sent the request, SERVER received it. Never UNKNOWN: the messages tell."""
    tgid: int
    """Process that moved the request's first byte, or the response's when there is no request."""
    request: HttpRequest | None
    response: HttpResponse | None
    incomplete: Incomplete | None = None
    anomalies: tuple[str, ...] = ()
    """What a strict parser would refuse although a server took it, e.g. `bare_lf`, `obs_fold`."""
    upgraded: bool = False
    """The connection left HTTP with this exchange (101, or CONNECT with 2xx)."""
