"""What a span says of an HTTP exchange: name, status, URL, peers, bodies, headers.

Owns the attributes, by the semantic conventions for HTTP spans (v1.44) and, for bodies, their unreleased
head. It must not build the span: ids, times, limits and what every span has are in `builder`. Where a
header points (trace, client) is read here or in `trace_context`; where a message went to is in `addresses`;
what must not leave is in `redaction`.

Contract: pure. Everything in a description is redacted.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_bridge.clock import ClockOffset
from otel_bridge.redaction.redactor import Redactor
from otel_bridge.redaction.secret_shapes import REDACTED
from otel_bridge.span import AttributeValue, SpanKind
from otel_bridge.spans.addresses import (
    HostPort,
    format_authority,
    forwarded_client,
    forwarded_scheme,
    parse_authority,
)
from otel_bridge.spans.application import add_application_attributes
from otel_bridge.spans.connection_failures import find_failure, reset_attributes
from otel_bridge.spans.description import SpanDescription
from otel_bridge.spans.message_text import Fields, decode_value, read_content
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.prologue import add_prologue_attributes, tunnel_end
from otel_bridge.spans.request_target import RequestTarget
from otel_bridge.spans.routes import infer_route
from otel_bridge.spans.rpc import CallDescription
from otel_bridge.spans.span_events import (
    SessionEvents,
    add_websocket_attributes,
    build_websocket_events,
)
from otel_bridge.spans.trace_context import read_trace_context
from otel_bridge.spans.trust import ProxyClaim
from parsers.exchange import Incomplete
from parsers.http_exchange import Body, GrpcCall, HttpExchange, HttpResponse, WebSocketSession

_ERROR_FROM_STATUS = {SpanKind.SERVER: 500, SpanKind.CLIENT: 400}

# A sender may announce any size; an attribute holds 64 bits.
_MAX_INT64 = 2**63 - 1

_NO_FIELDS: Fields = {}


def describe_http(
    exchange: HttpExchange,
    kind: SpanKind,
    clock: ClockOffset,
    options: SpanOptions,
    shared: Mapping[str, AttributeValue],
) -> SpanDescription:
    """Return what is particular to the span of an HTTP exchange; `shared` attributes stand among its own."""
    request, response = exchange.request, exchange.response
    attributes: dict[str, AttributeValue] = {}
    fields, request_headers, redacted = _NO_FIELDS, _NO_FIELDS, 0
    response_fields, response_headers = _NO_FIELDS, _NO_FIELDS
    target = None
    dropped = 0
    if request is not None:
        fields, request_headers, redacted = options.request_fields.read(request.headers)
        dropped = request.dropped_headers
        if request.target is not None:
            target, count = options.targets.read(request.method or b"", request.target)
            redacted += count
    if response is not None:
        response_fields, response_headers, count = options.response_fields.read(response.headers)
        redacted += count
        dropped += response.dropped_headers

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

    attributes.update(shared)
    attributes["network.protocol.name"] = "http"
    version = request.version if request is not None else response.version if response is not None else ""
    if version:
        attributes["network.protocol.version"] = version
    redacted += add_application_attributes(attributes, exchange, options.redactor)
    anomalies: tuple[str, ...] = ()
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
        anomalies = exchange.application.anomalies
        redacted += call.redacted

    messages: SessionEvents | None = None
    if isinstance(exchange.application, WebSocketSession):
        redacted += add_websocket_attributes(attributes, exchange.application, options.redactor)
        messages = build_websocket_events(exchange.application, clock, options.redactor, options.events)
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
    surroundings: dict[str, AttributeValue] | None = None
    if prologue is not None:
        surroundings = {}
        redacted += add_prologue_attributes(
            surroundings, prologue, claim, options.redactor, is_server=kind is SpanKind.SERVER
        )
    headers = (request_headers, response_headers) if options.capture_headers else ()
    return SpanDescription(
        name,
        attributes,
        (contents, *headers) if call is None else (contents, call.contents, call.metadata, *headers),
        is_error,
        None if exchange.reset is None else reset_attributes(exchange.reset),
        surroundings,
        anomalies,
        redacted,
        dropped,
        read_trace_context(fields),
        None if messages is None else messages.events or None,
        0 if messages is None else messages.dropped,
    )


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
