"""Exchanges and spans to test with."""

from __future__ import annotations

from ebpf.events import ClockSample, Origin, Role, SocketInfo
from otel_bridge.clock import ClockOffset
from otel_bridge.span import Resource, Span, SpanKind
from otel_bridge.spans.builder import SpanCounters, build_span
from otel_bridge.spans.options import SpanOptions
from parsers.http_exchange import Body, Headers, HttpExchange, HttpRequest, HttpResponse, Truncation

SERVER_SOCKET = SocketInfo("ipv4", "10.0.0.2", 8080, "10.0.0.1", 50123, 4026531840, 77, 1)
CLIENT_SOCKET = SocketInfo("ipv4", "10.0.0.1", 50123, "10.0.0.2", 8080, 4026531840, 78, 2)
RESOURCE = Resource({"service.name": "shop", "process.pid": 42})
BOOT_UNIX_NS = 1_790_000_000_000_000_000
CLOCK = ClockOffset(ClockSample(0, BOOT_UNIX_NS))


class PlainIds:
    """The connection's id and the ordinal, as they are."""

    def generate(self, connection_id: int, ordinal: int) -> tuple[bytes, bytes]:
        return connection_id.to_bytes(16, "big"), ordinal.to_bytes(8, "big")


def body(
    content: bytes = b"",
    charset: str | None = "utf-8",
    *,
    size: int | None = None,
    truncation: Truncation | None = None,
) -> Body:
    return Body(len(content) if size is None else size, content, charset, truncation, len(content))


def request(
    method: bytes = b"GET",
    target: bytes = b"/orders/17?page=2",
    headers: Headers | None = None,
    content: Body | None = None,
) -> HttpRequest:
    return HttpRequest(
        method=method,
        target=target,
        version="1.1",
        headers=[(b"Host", b"shop.example:8080")] if headers is None else headers,
        body=content or body(),
        start_ktime_ns=1_000,
        end_ktime_ns=2_000,
    )


def response(status: int = 200, headers: Headers | None = None, content: Body | None = None) -> HttpResponse:
    return HttpResponse(
        status=status,
        reason=b"",
        version="1.1",
        headers=headers or [],
        body=content or body(),
        start_ktime_ns=3_000,
        end_ktime_ns=4_000,
    )


_WHOLE = object()


def exchange(
    role: Role = Role.SERVER,
    request_: HttpRequest | object | None = _WHOLE,
    response_: HttpResponse | object | None = _WHOLE,
    *,
    socket: SocketInfo | None = None,
) -> HttpExchange:
    return HttpExchange(
        connection_id=1,
        ordinal=2,
        socket=socket or (SERVER_SOCKET if role is Role.SERVER else CLIENT_SOCKET),
        role=role,
        origin=Origin(1_000, 42, 43),
        request=request() if request_ is _WHOLE else request_,  # type: ignore[arg-type] # the sentinel is gone here
        response=response() if response_ is _WHOLE else response_,  # type: ignore[arg-type] # likewise
    )


def span_of(
    given: HttpExchange, options: SpanOptions | None = None, counters: SpanCounters | None = None
) -> Span:
    return build_span(given, RESOURCE, CLOCK, PlainIds(), options or SpanOptions(), counters)


def span(number: int = 1, *, resource: Resource = RESOURCE, filler: str = "") -> Span:
    """A span that is told from others by its number."""
    return Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=None,
        trace_state="",
        trace_flags=1,
        name="GET",
        kind=SpanKind.SERVER,
        start_unix_ns=BOOT_UNIX_NS,
        end_unix_ns=BOOT_UNIX_NS + 1_500_000,
        is_error=False,
        resource=resource,
        attributes={"http.request.method": "GET", "filler": filler},
    )
