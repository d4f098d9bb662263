"""An HTTP exchange becomes a span: name, kind, times, status, attributes.

Owns what a span says, by the semantic conventions for HTTP spans (v1.44) and, for bodies, their unreleased
head. It must not read clocks, make ids, or know how spans travel. Where a header points (trace, client) is
read here or in `trace_context`; where a message went to is in `addresses`; what must not leave is in
`redaction`.

Contract: pure. Everything in a span is redacted. Attributes come in order of worth (what the conventions
name, then bodies, then headers), so that a bound cuts the least of them, and what it cut is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ebpf.events import Role
from otel_bridge.clock import ClockOffset
from otel_bridge.redaction.redactor import Redactor
from otel_bridge.redaction.secret_shapes import REDACTED
from otel_bridge.span import AttributeValue, Resource, Span, SpanKind
from otel_bridge.spans.addresses import (
    HostPort,
    format_authority,
    forwarded_client,
    forwarded_scheme,
    network_attributes,
    parse_authority,
)
from otel_bridge.spans.application import add_application_attributes
from otel_bridge.spans.connection_failures import find_failure, reset_attributes
from otel_bridge.spans.message_text import FieldReader, Fields, decode_value, read_content
from otel_bridge.spans.prologue import add_prologue_attributes, tunnel_end
from otel_bridge.spans.request_target import RequestTarget, TargetReader
from otel_bridge.spans.routes import infer_route
from otel_bridge.spans.rpc import CallDescription, CallReader
from otel_bridge.spans.span_events import (
    DEFAULT_MAX_EVENT_ATTRIBUTES,
    DEFAULT_MAX_EVENTS,
    EventOptions,
    SessionEvents,
    add_websocket_attributes,
    build_websocket_events,
)
from otel_bridge.spans.span_ids import IdGenerator
from otel_bridge.spans.trace_context import SAMPLED, read_trace_context
from otel_bridge.spans.trust import DEFAULT_TRUSTED_PROXIES, ProxyClaim, TrustedPeers
from parsers.exchange import Body, GrpcCall, HttpExchange, HttpResponse, Incomplete, WebSocketSession

KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""RFC 9110, RFC 5789 and QUERY: what the conventions call known unless
OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS says other."""

DEFAULT_MAX_ATTRIBUTES = 128
"""The specification's default of OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT; many backends keep no more."""

_ERROR_FROM_STATUS = {SpanKind.SERVER: 500, SpanKind.CLIENT: 400}

# A sender may announce any size; an attribute holds 64 bits.
_MAX_INT64 = 2**63 - 1

_NO_FIELDS: Fields = {}
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanOptions:
    """What goes into spans."""

    capture_headers: bool = True
    capture_bodies: bool = True
    max_attributes: int = DEFAULT_MAX_ATTRIBUTES
    max_value_length: int | None = None
    """Characters (bytes of a bytes value) of one attribute value; None for no limit, as the specification's
    default."""
    max_events: int = DEFAULT_MAX_EVENTS
    max_event_attributes: int = DEFAULT_MAX_EVENT_ATTRIBUTES
    known_methods: frozenset[str] = KNOWN_METHODS
    redaction: bool = True
    redacted_names: tuple[str, ...] = ()
    """Names of headers, parameters, fields and members that are credentials besides those known by
    themselves."""
    trusted_proxies: tuple[str, ...] = DEFAULT_TRUSTED_PROXIES
    """Addresses and networks of peers that are trusted to name the client that they act for."""
    redactor: Redactor | None = field(init=False, default=None, compare=False)
    request_fields: FieldReader = field(init=False, compare=False, repr=False)
    response_fields: FieldReader = field(init=False, compare=False, repr=False)
    targets: TargetReader = field(init=False, compare=False, repr=False)
    events: EventOptions = field(init=False, compare=False, repr=False)
    calls: CallReader = field(init=False, compare=False, repr=False)
    trusted_peers: TrustedPeers = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        redactor = Redactor(self.redacted_names) if self.redaction else None
        events = EventOptions(
            self.capture_bodies, self.max_events, self.max_event_attributes, self.max_value_length
        )
        for name, value in (
            ("redactor", redactor),
            ("request_fields", FieldReader("http.request.header.", redactor)),
            ("response_fields", FieldReader("http.response.header.", redactor)),
            ("targets", TargetReader(redactor)),
            ("events", events),
            ("calls", CallReader(redactor)),
            ("trusted_peers", TrustedPeers(self.trusted_proxies)),
        ):
            object.__setattr__(self, name, value)


def known_methods_from_environment(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the methods of OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS, else the default ones."""
    listed = environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
    return frozenset(method for part in listed.split(",") if (method := part.strip())) or KNOWN_METHODS


@dataclass(slots=True)
class SpanCounters:
    """What happened while spans were built, over all of them; the caller owns it."""

    built: int = 0
    redacted_values: int = 0
    malformed_trace_context: int = 0
    dropped_attributes: int = 0


def build_span(
    exchange: HttpExchange,
    resource: Resource,
    clock: ClockOffset,
    ids: IdGenerator,
    options: SpanOptions,
    counters: SpanCounters | None = None,
    *,
    peer: Mapping[str, str] = _NOTHING,
) -> Span:
    """Return the span of an exchange.

    `counters`, when given, take part in what happened on the way. `peer` are attributes below
    `wirespan.peer.`: who the other end is known to be.
    """
    request, response = exchange.request, exchange.response
    kind = SpanKind.SERVER if exchange.role is Role.SERVER else SpanKind.CLIENT
    attributes: dict[str, AttributeValue] = {}
    fields, request_headers, redacted = _NO_FIELDS, _NO_FIELDS, 0
    response_fields, response_headers = _NO_FIELDS, _NO_FIELDS
    target = None
    if request is not None:
        fields, request_headers, redacted = options.request_fields.read(request.headers)
        if request.target is not None:
            target, count = options.targets.read(request.method or b"", request.target)
            redacted += count
    if response is not None:
        response_fields, response_headers, count = options.response_fields.read(response.headers)
        redacted += count

    name = _add_outline(attributes, exchange, options.known_methods)
    prologue = exchange.prologue
    claim = None
    if prologue is not None and prologue.proxy_headers:
        claim = options.trusted_peers.select_claim(prologue.proxy_headers, exchange.socket)
    redacted += _add_addresses(attributes, exchange, kind, fields, target, options.redactor, claim)
    user_agent = request_headers.get("http.request.header.user-agent")
    if user_agent is not None:
        attributes["user_agent.original"] = user_agent[0]
    is_error = _add_outcome(attributes, exchange, kind)
    if kind is SpanKind.SERVER and (route := _route(attributes, response)) is not None:
        attributes["http.route"] = route
        name = f"{name} {route}"
    attributes.update(network_attributes(exchange.socket))
    if peer:
        attributes.update(peer)
    attributes["network.protocol.name"] = "http"
    version = request.version if request is not None else response.version if response is not None else ""
    if version:
        attributes["network.protocol.version"] = version
    redacted += add_application_attributes(attributes, exchange, options.redactor)
    anomalies = exchange.anomalies
    call: CallDescription | None = None
    if isinstance(exchange.application, GrpcCall):
        call = options.calls.read(
            exchange,
            exchange.application,
            kind,
            capture_headers=options.capture_headers,
            capture_bodies=options.capture_bodies,
        )
        name = call.name
        attributes.update(call.attributes)
        if call.error is not None:
            attributes["error.type"] = call.error
            is_error = True
        anomalies += exchange.application.anomalies
        redacted += call.redacted

    session = exchange.application if isinstance(exchange.application, WebSocketSession) else None
    messages: SessionEvents | None = None
    if session is not None:
        redacted += add_websocket_attributes(attributes, session, options.redactor)
        messages = build_websocket_events(session, clock, options.redactor, options.events)
        redacted += messages.redacted
    contents: dict[str, AttributeValue] = {}
    for side, message, its_fields in (("request", request, fields), ("response", response, response_fields)):
        if message is None:
            continue
        body = message.body
        redacted += _add_body_facts(attributes, side, body, message.wire_size, options.redactor)
        if call is not None and side in call.withheld:
            contents[f"http.{side}.body.content"] = REDACTED
            redacted += 1
        elif options.capture_bodies and body.content:
            content_type = its_fields["content-type"][0] if "content-type" in its_fields else ""
            content, count = read_content(
                body, content_type, options.redactor, unfinished=exchange.incomplete is not None
            )
            contents[f"http.{side}.body.content"] = content
            redacted += count
    if exchange.incomplete is not None:
        attributes["wirespan.incomplete"] = exchange.incomplete.value
    if exchange.reset is not None:
        attributes.update(reset_attributes(exchange.reset))
    if exchange.socket.tls is not None:
        attributes["wirespan.tls"] = exchange.socket.tls
    if prologue is not None:
        redacted += add_prologue_attributes(
            attributes, prologue, claim, options.redactor, is_server=kind is SpanKind.SERVER
        )
    if anomalies:
        attributes["wirespan.anomalies"] = anomalies
    if redacted:
        attributes["wirespan.redacted"] = redacted
    attributes.update(contents)
    if call is not None:
        attributes.update(call.contents)
        attributes.update(call.metadata)
    if options.capture_headers:
        attributes.update(request_headers)
        attributes.update(response_headers)

    dropped = _limit(attributes, options)
    dropped += (request.dropped_headers if request else 0) + (response.dropped_headers if response else 0)
    reading = read_trace_context(fields)
    if counters is not None:
        counters.built += 1
        counters.redacted_values += redacted
        counters.malformed_trace_context += reading.malformed
        counters.dropped_attributes += dropped
    context = reading.context
    trace_id, span_id = ids.generate(exchange.connection_id, exchange.ordinal)
    start, end = _times(exchange)
    if session is not None:
        end = max(end, session.end_ktime_ns)
    return Span(
        trace_id=trace_id if context is None else context.trace_id,
        span_id=span_id,
        parent_span_id=None if context is None else context.span_id,
        trace_state="" if context is None else context.state,
        trace_flags=SAMPLED if context is None else context.flags,
        name=name,
        kind=kind,
        start_unix_ns=clock.unix_ns(start),
        end_unix_ns=clock.unix_ns(end),
        is_error=is_error,
        resource=resource,
        attributes=attributes,
        dropped_attributes_count=dropped,
        events=None if messages is None else messages.events or None,
        dropped_events_count=0 if messages is None else messages.dropped,
    )


def _times(exchange: HttpExchange) -> tuple[int, int]:
    """Return first byte of the request and last byte of the response, as far as they were seen."""
    request, response = exchange.request, exchange.response
    if request is None:
        assert response is not None
        return response.start_ktime_ns, max(response.start_ktime_ns, response.end_ktime_ns)
    end = response.end_ktime_ns if response is not None else request.end_ktime_ns
    return request.start_ktime_ns, max(request.start_ktime_ns, end)


def _add_outline(
    attributes: dict[str, AttributeValue], exchange: HttpExchange, known_methods: frozenset[str]
) -> str:
    """Add method and status; return the name of the span without its route."""
    request, response = exchange.request, exchange.response
    name = "HTTP"
    if request is None or request.method is None:
        attributes["http.request.method"] = "_OTHER"
    else:
        method = request.method.decode("latin-1")
        if method in known_methods:
            attributes["http.request.method"] = name = method
        else:
            attributes["http.request.method"] = "_OTHER"
            attributes["http.request.method_original"] = method
    if response is not None and response.status is not None:
        attributes["http.response.status_code"] = response.status
    return name


def _add_addresses(
    attributes: dict[str, AttributeValue],
    exchange: HttpExchange,
    kind: SpanKind,
    fields: Fields,
    target: RequestTarget | None,
    rules: Redactor | None,
    claim: ProxyClaim | None,
) -> int:
    """Add URL, server and client; return how many values were redacted.

    `claim` is what a proxy said in front of HTTP, None when none did. It counts for a server that trusts it.
    """
    socket = exchange.socket
    host = fields.get("host")
    claimed = claim.header if claim is not None and claim.is_trusted and kind is SpanKind.SERVER else None
    scheme = "http" if socket.tls is None and (claimed is None or not claimed.tls) else "https"
    own_name = socket.server_name or (None if claimed is None else claimed.authority)
    if (request := exchange.request) is not None:
        # HTTP/2 says in pseudo-fields what HTTP/1 leaves to Host and to the connection (RFC 9113 §8.3.1).
        if request.authority is not None:
            host = (decode_value(request.authority),)
        if request.scheme is not None:
            scheme = decode_value(request.scheme)
    redacted = 0
    if kind is SpanKind.SERVER:
        end = own_name or socket.local_address, socket.local_port
    else:
        end = own_name or socket.remote_address, socket.remote_port
    if exchange.prologue is not None:
        # Inside a tunnel the socket's other end is the proxy's and not that of the server.
        end = tunnel_end(exchange.prologue) or end
    server = _server(target, host, *end)
    if kind is SpanKind.SERVER:
        # CONNECT asks for a tunnel, not for a resource; its authority is in server.address and server.port.
        if target is not None and target.path:
            attributes["url.scheme"] = forwarded_scheme(fields) or target.scheme or scheme
            attributes["url.path"] = target.path
            if target.query:
                attributes["url.query"] = target.query
    elif target is not None and target.path:
        redacted = _add_url_full(attributes, target, scheme, host, server, rules)
    if server is not None:
        attributes["server.address"] = server.host
        if server.port is not None:
            attributes["server.port"] = server.port
    if kind is SpanKind.SERVER:
        address, port = socket.remote_address, socket.remote_port
        if claimed is not None and (claimed.source_address is not None or not claimed.is_whole):
            address, port = claimed.source_address, claimed.source_port
        address, port = forwarded_client(fields) or (address, port)
        if address:
            attributes["client.address"] = address
            if port is not None:
                attributes["client.port"] = port
    return redacted


def _server(
    target: RequestTarget | None, host: tuple[str, ...] | None, address: str | None, port: int | None
) -> HostPort | None:
    """Return the server by the target or Host (RFC 9110 §7.2), completed from the connection's server end.

    `address` is that of the socket, or what TLS calls it.
    """
    named = None
    if target is not None:
        authority = target.authority
        if not authority and host is not None and len(host) == 1:
            authority = host[0]
        named = parse_authority(authority)
    if named is None:
        return HostPort(address, port) if address else None
    return named if named.port is not None else HostPort(named.host, port)


def _add_url_full(
    attributes: dict[str, AttributeValue],
    target: RequestTarget,
    default_scheme: str,
    host: tuple[str, ...] | None,
    server: HostPort | None,
    rules: Redactor | None,
) -> int:
    """Add the absolute URL where the server is known; return how many values were redacted."""
    scheme, authority, path, mark, query = target
    named = parse_authority(authority or (host[0] if host else "")) or server
    if named is None:
        return 0
    origin, count = f"{scheme or default_scheme}://{format_authority(named)}", 0
    if "@" in authority:
        origin = f"{scheme}://{authority}"
        if rules is not None:
            origin, count = rules.path(origin)
    # The asterisk form (OPTIONS *) addresses the server as such: its URI has no path (RFC 9112 §3.3).
    attributes["url.full"] = f"{origin}{'' if path == '*' else path}{mark}{query}"
    return count


def _add_outcome(attributes: dict[str, AttributeValue], exchange: HttpExchange, kind: SpanKind) -> bool:
    """Add `error.type` where the exchange failed (conventions, HTTP "Status"); return whether it did."""
    failure = find_failure(exchange)
    if failure is not None:
        attributes["error.type"] = failure
        return True
    status = exchange.response.status if exchange.response is not None else None
    if exchange.incomplete is Incomplete.UNSOLICITED:
        # Its status speaks of the connection: no request failed.
        return False
    if status is not None and status >= _ERROR_FROM_STATUS[kind]:
        attributes["error.type"] = str(status)
        return True
    return False


def _route(attributes: dict[str, AttributeValue], response: HttpResponse | None) -> str | None:
    path = attributes.get("url.path")
    status = response.status if response is not None else None
    return infer_route(path, status) if isinstance(path, str) and status is not None else None


def _add_body_facts(
    attributes: dict[str, AttributeValue],
    side: str,
    body: Body,
    wire_size: int | None,
    rules: Redactor | None,
) -> int:
    """Add sizes, cut and codings of a body; return how many values were redacted."""
    if wire_size is not None and wire_size <= _MAX_INT64:
        attributes[f"http.{side}.size"] = wire_size
    if body.size is not None and body.size <= _MAX_INT64:
        attributes[f"http.{side}.body.size"] = body.size
    if body.truncation is not None:
        attributes[f"wirespan.{side}.body.truncated"] = body.truncation.value
        attributes[f"wirespan.{side}.body.captured_size"] = body.captured_size
    if body.coding is None:
        return 0
    names, count = (body.coding.names, 0) if rules is None else rules.header(body.coding.names)
    fact = "coding" if body.coding.is_applied else "coding_mismatch"
    attributes[f"wirespan.{side}.body.{fact}"] = names
    return count


def _limit(attributes: dict[str, AttributeValue], options: SpanOptions) -> int:
    """Cut the attributes to their number and values to their length; return how many were dropped."""
    dropped = len(attributes) - options.max_attributes
    if dropped > 0:
        for name in list(attributes)[options.max_attributes :]:
            del attributes[name]
    longest = options.max_value_length
    if longest is not None:
        for name, value in attributes.items():
            if isinstance(value, str | bytes):
                attributes[name] = value[:longest]
            elif isinstance(value, tuple):
                attributes[name] = tuple([item[:longest] for item in value])
    return max(dropped, 0)
