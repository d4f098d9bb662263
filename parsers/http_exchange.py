"""The records of HTTP: one request with its response, and what more was understood of it.

Contract: bytes stay bytes as they were on the wire, except the body, which is free of transfer coding and of
content coding. None means unknown, never 0 or an empty value. What a protocol on top of HTTP adds (gRPC,
WebSocket, GraphQL, JSON-RPC) stands beside the HTTP part and never changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from ebpf.events import Direction, Missing
from parsers.exchange import Exchange
from parsers.prologue import Prologue

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Fields in wire order; names as sent, values without white space around, obs-fold already one space. A tuple
is shared by the messages that have the same fields."""

HeaderList: TypeAlias = list[tuple[bytes, bytes]]
"""Headers while they are read."""


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


_BY_DESIGN: Final = Missing.BUDGET | Missing.SENDFILE


def truncation_of(missing: Missing) -> Truncation:
    """Return what bytes missing for these causes do to content: GAP unless it is by design alone."""
    if not missing or missing & ~_BY_DESIGN:
        return Truncation.GAP
    return Truncation.SENDFILE if missing & Missing.SENDFILE else Truncation.LIMIT


def missing_of(truncation: Truncation | None) -> Missing:
    """Return why what is behind the end of content is missing; no cause unless it is by design."""
    if truncation is Truncation.LIMIT:
        return Missing.BUDGET
    return Missing.SENDFILE if truncation is Truncation.SENDFILE else Missing(0)


@dataclass(slots=True)
class StreamReset:
    """How one end gave an HTTP/2 stream up."""

    direction: Direction
    """Direction of the frame that said so, as the socket saw it."""
    code: int | None
    """Error code of RST_STREAM (RFC 9113 §7). None when it was not seen, and of a GOAWAY."""
    untaken: bool = False
    """The frame was a GOAWAY: its sender has not begun to process the stream (RFC 9113 §6.8)."""


class DeclaredCoding(NamedTuple):
    """Content codings that a message declares and that are not simply undone."""

    names: str
    """Lower-cased, in the order in which they were applied, separated by commas."""
    is_applied: bool
    """The content is still in them: they are unknown, or too many. False when the content never was in them,
    although the message says so."""


@dataclass(slots=True)
class Body:
    """A message body."""

    size: int | None
    """True size on the wire: content-coded, without transfer coding. None when it can't be known."""
    content: bytes
    """What was kept: free of content coding but for `coding`, at most `ParserLimits.max_body`.

    Textual content is cut on a character boundary.
    """
    charset: str | None
    """Python codec name when the content is textual; None for binary content."""
    truncation: Truncation | None = None
    captured_size: int = 0
    """Wire bytes (content-coded, without transfer coding) that went into `content`."""
    coding: DeclaredCoding | None = None
    """What the message declares of content codings, where they are not simply undone."""


@dataclass(slots=True)
class HttpRequest:
    """The request of an exchange."""

    method: bytes | None
    """None over HTTP/2 where it refers to compression state that was not seen, and of a refused head over
    HTTP/1 in which none can be read."""
    target: bytes | None
    """Request target as sent: origin, absolute, authority or asterisk form. Over HTTP/2 `:path`, or
    `:authority` of a CONNECT; None when that is unknown."""
    version: str
    """`1.0`, `1.1`, `2`; of a refused head over HTTP/1 what it claims, empty when it claims none."""
    headers: Headers
    """Over HTTP/2 without pseudo-fields."""
    body: Body
    start_ktime_ns: int
    """When the call that moved the first byte returned."""
    end_ktime_ns: int
    """When the call that moved the last byte seen returned."""
    trailers: Headers = field(default_factory=list)
    dropped_headers: int = 0
    """Fields beyond `ParserLimits.max_headers`."""
    unknown_headers: int = 0
    """Fields whose name or value is unknown (HPACK state that was not seen); they are left out."""
    scheme: bytes | None = None
    """`:scheme` of HTTP/2."""
    authority: bytes | None = None
    """`:authority` of HTTP/2."""
    protocol: bytes | None = None
    """`:protocol` of an extended CONNECT (RFC 8441)."""
    wire_size: int | None = None
    """Bytes of the whole message that passed, start line, fields and transfer coding included. Only of a
    chunked body whose rest was left out on purpose: its own size is unknown then. None otherwise."""


@dataclass(slots=True)
class HttpResponse:
    """The final response of an exchange."""

    status: int | None
    """None only over HTTP/2, where it may refer to compression state that was not seen."""
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
    unknown_headers: int = 0
    """As for a request."""
    wire_size: int | None = None
    """As for a request."""


@dataclass(slots=True)
class MessageFlow:
    """The messages that one direction of a stream carried: of a gRPC call, or of a WebSocket."""

    count: int = 0
    """Messages that ended; those that a gap swallowed are not among them."""
    size: int = 0
    """Their bytes on the wire, without their framing."""
    uncounted: bool = False
    """A gap, or an end in the middle of a message: there were more messages or bytes than counted."""


@dataclass(slots=True)
class GrpcMessage:
    """One length-prefixed message."""

    size: int
    """Length by its prefix, bytes on the wire."""
    content: bytes
    """Decompressed where it was compressed; cut to what the body limit leaves."""
    compressed: bool
    truncation: Truncation | None = None


@dataclass(slots=True)
class GrpcCall:
    """What makes an exchange a gRPC call (unary and streaming; gRPC-Web when `web`)."""

    method: str | None
    """Full method name without the leading slash, `package.Service/Method`; None when unknown."""
    status: int | None
    """`grpc-status` of the trailers, or of a response of headers only; None when none was seen."""
    status_message: str | None
    """`grpc-message`, percent-decoded."""
    request_messages: list[GrpcMessage]
    """The first ones, within the body limit."""
    response_messages: list[GrpcMessage]
    request_flow: MessageFlow
    response_flow: MessageFlow
    web: bool = False
    trailers: Headers = field(default_factory=list)
    """Trailers of gRPC-Web, which travel in the body."""
    anomalies: tuple[str, ...] = ()
    """As for the exchange: `grpc_status_invalid`."""


@dataclass(slots=True)
class WebSocketMessage:
    """One message, or one control frame, of a WebSocket (RFC 6455)."""

    direction: Direction
    """As the socket saw it."""
    opcode: int
    """1 text, 2 binary, 8 close, 9 ping, 10 pong."""
    size: int
    """Payload bytes on the wire, all fragments together, as compressed."""
    content: bytes
    """Unmasked and decompressed; cut to the bounds."""
    ktime_ns: int
    """When the call that moved its last byte returned."""
    truncation: Truncation | None = None


@dataclass(slots=True)
class WebSocketSession:
    """What passed over a connection after the handshake that the exchange describes."""

    messages: list[WebSocketMessage]
    """The first ones, within the bounds."""
    ingress: MessageFlow
    egress: MessageFlow
    dropped_messages: int = 0
    """Messages and control frames beyond the bounds: counted, not kept."""
    subprotocol: str | None = None
    compression: str | None = None
    """`permessage-deflate`; None when messages are as they are, or coded in a way that is not known."""
    close_code: int | None = None
    """Of the first close frame; None when none was seen or it had no body."""
    close_reason: str | None = None
    closed_by: Direction | None = None
    """Direction of the first close frame."""
    end_ktime_ns: int = 0
    """When the last byte passed, or the connection ended."""
    carried: GraphQlRequest | JsonRpcBatch | None = None
    """What the client asked in the messages that were kept, and with which errors the server answered."""


@dataclass(slots=True)
class GraphQlOperation:
    """One GraphQL operation of a request."""

    name: str | None
    type: str | None
    """`query`, `mutation` or `subscription`; None when only a persisted query's hash or a name was sent."""


@dataclass(slots=True)
class GraphQlRequest:
    """The operations of a GraphQL request, several when batched."""

    operations: list[GraphQlOperation]
    """At most `ParserLimits.max_operations`."""
    count: int
    """All operations of the batch, also those beyond the bound; of a cut batch, those seen."""
    error_count: int | None = None
    """`errors` of the response, all operations together; None when the response does not show it."""


@dataclass(slots=True)
class JsonRpcCall:
    """One call of a JSON-RPC request."""

    method: str
    identity: str | None
    """`id` as text; None for a notification, and when it was cut off or is a fraction."""
    version: str
    """`1.0` or `2.0`."""
    error_code: int | None = None
    """`error.code` of the response with the same id; None without an error."""
    error_message: str | None = None


@dataclass(slots=True)
class JsonRpcBatch:
    """The calls of a JSON-RPC request; one unless batched."""

    calls: list[JsonRpcCall]
    """At most `ParserLimits.max_operations`."""
    count: int
    """All calls of the batch, also those beyond the bound; of a cut batch, those seen."""
    batched: bool = False


Application: TypeAlias = GrpcCall | WebSocketSession | GraphQlRequest | JsonRpcBatch
"""What an exchange carries on top of HTTP."""


@dataclass(slots=True)
class HttpExchange(Exchange):
    """One HTTP request and its response.

    At least one of `request` and `response` is present. `origin` is that of the request's first byte, or of
    the response's when there is no request.
    """

    request: HttpRequest | None
    response: HttpResponse | None
    upgraded: bool = False
    """The connection, or the HTTP/2 stream, left HTTP with this exchange (101, or CONNECT with 2xx)."""
    application: Application | None = None
    """What was understood of its content; None when nothing was, or it is plain HTTP."""
    pushed: bool = False
    """The server promised the request (HTTP/2 PUSH_PROMISE): no client sent it."""
    prologue: Prologue | None = None
    """What stood in front of HTTP on the connection; None when nothing did, or it was not seen."""
    answered: bool = False
    """The response is whole, whatever is missing of the request."""
    reset: StreamReset | None = None
    """Of an exchange that is `Incomplete.RESET`: by which end, and why."""

    @property
    def start_ktime_ns(self) -> int:
        """Time of the request's first byte, or of the response's when there is no request."""
        first = self.request or self.response
        assert first is not None, "an exchange has a request or a response"
        return first.start_ktime_ns

    @property
    def end_ktime_ns(self) -> int:
        """Time of the last byte of the last message; of a WebSocket, that of its session."""
        first, last = self.request or self.response, self.response or self.request
        assert first is not None, "an exchange has a request or a response"
        assert last is not None
        end = last.end_ktime_ns
        if end < first.start_ktime_ns:
            end = first.start_ktime_ns
        application = self.application
        if application is not None and isinstance(application, WebSocketSession):
            return max(end, application.end_ktime_ns)
        return end

    @property
    def held_bytes(self) -> int:
        """Bytes of both bodies."""
        request, response = self.request, self.response
        held = 0 if request is None else len(request.body.content)
        return held if response is None else held + len(response.body.content)
