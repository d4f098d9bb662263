from __future__ import annotations

import pytest

from ebpf.events import Role, SocketInfo
from otel_bridge.span import AttributeValue, SpanKind
from otel_bridge.spans.builder import SpanCounters
from otel_bridge.spans.options import KNOWN_METHODS, SpanOptions, known_methods_from_environment
from parsers.exchange import Incomplete
from parsers.http_exchange import DeclaredCoding, HttpExchange, HttpResponse, Truncation
from tests.unit.otel_bridge.exchanges import (
    BOOT_UNIX_NS,
    RESOURCE,
    body,
    exchange,
    request,
    response,
    span_of,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def full_exchange(role: Role) -> HttpExchange:
    return exchange(
        role,
        request(
            b"POST",
            b"/orders/17?page=2&token=abc",
            [
                (b"Host", b"shop.example:8080"),
                (b"User-Agent", b"curl/7.88.1"),
                (b"Content-Type", b"application/json"),
                (b"X-Tag", b"a"),
                (b"x-tag", b"b"),
                (b"Authorization", b"Bearer s3cret"),
            ],
            body(b'{"pin": "1234", "n": 1}'),
        ),
        response(201, [(b"Content-Type", b"image/png")], body(b"\x89PNG", None)),
    )


def test_a_server_span_in_full() -> None:
    span = span_of(full_exchange(Role.SERVER))
    assert (span.trace_id, span.span_id) == ((1).to_bytes(16, "big"), (2).to_bytes(8, "big"))
    assert (span.parent_span_id, span.trace_state, span.trace_flags) == (None, "", 1)
    assert span.name == "POST /orders/{id}"
    assert span.kind is SpanKind.SERVER
    assert span.start_unix_ns == BOOT_UNIX_NS + 1_000
    assert span.end_unix_ns == BOOT_UNIX_NS + 4_000
    assert not span.is_error
    assert span.resource is RESOURCE
    assert span.dropped_attributes_count == 0
    # The order is part of the contract: it decides what a bound cuts.
    assert list(span.attributes.items()) == [
        ("http.request.method", "POST"),
        ("http.response.status_code", 201),
        ("url.scheme", "http"),
        ("url.path", "/orders/17"),
        ("url.query", "page=2&token=REDACTED"),
        ("server.address", "shop.example"),
        ("server.port", 8080),
        ("client.address", "10.0.0.1"),
        ("client.port", 50123),
        ("user_agent.original", "curl/7.88.1"),
        ("http.route", "/orders/{id}"),
        ("network.peer.address", "10.0.0.1"),
        ("network.peer.port", 50123),
        ("network.local.address", "10.0.0.2"),
        ("network.local.port", 8080),
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", "1.1"),
        ("http.request.body.size", 23),
        ("http.response.body.size", 4),
        ("wirespan.redacted", 3),
        ("http.request.body.content", '{"pin": "REDACTED", "n": 1}'),
        ("http.response.body.content", b"\x89PNG"),
        ("http.request.header.host", ("shop.example:8080",)),
        ("http.request.header.user-agent", ("curl/7.88.1",)),
        ("http.request.header.content-type", ("application/json",)),
        ("http.request.header.x-tag", ("a", "b")),
        ("http.request.header.authorization", ("Bearer REDACTED",)),
        ("http.response.header.content-type", ("image/png",)),
    ]


def test_a_client_span_has_the_full_url_and_no_route() -> None:
    span = span_of(full_exchange(Role.CLIENT))
    assert span.kind is SpanKind.CLIENT
    assert span.name == "POST"
    assert span.attributes["url.full"] == "http://shop.example:8080/orders/17?page=2&token=REDACTED"
    assert span.attributes["network.peer.address"] == "10.0.0.2"
    assert span.attributes["server.port"] == 8080
    assert (
        not {"url.path", "url.query", "url.scheme", "client.address", "http.route"} & span.attributes.keys()
    )


@pytest.mark.parametrize("incomplete", [None, *Incomplete])
@pytest.mark.parametrize("status", [None, 200, 304, 399, 400, 404, 499, 500, 599])
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_the_status_follows_the_conventions(
    role: Role, status: int | None, incomplete: Incomplete | None
) -> None:
    given = exchange(role, request(), None if status is None else response(status))
    given.incomplete = incomplete
    span = span_of(given)
    error: str | None = None
    if incomplete is Incomplete.CLOSED:
        error = "connection_closed"
    elif incomplete is Incomplete.RESET:
        error = "_OTHER"
    elif incomplete is Incomplete.UNSOLICITED:
        error = None
    elif status is not None and status >= (500 if role is Role.SERVER else 400):
        error = str(status)
    assert span.is_error is (error is not None)
    assert span.attributes.get("error.type") == error
    assert span.attributes.get("http.response.status_code") == status
    assert span.attributes.get("wirespan.incomplete") == (incomplete.value if incomplete else None)


@pytest.mark.parametrize(
    ("method", "name", "attributes"),
    [
        (b"GET", "GET", {"http.request.method": "GET"}),
        (b"QUERY", "QUERY", {"http.request.method": "QUERY"}),
        (b"get", "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": "get"}),
        (b"PROPFIND", "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": "PROPFIND"}),
    ],
)
def test_unknown_methods_are_other(method: bytes, name: str, attributes: dict[str, str]) -> None:
    span = span_of(exchange(Role.CLIENT, request(method)))
    assert span.name == name
    assert attributes.items() <= span.attributes.items()
    assert ("http.request.method_original" in span.attributes) is (
        "http.request.method_original" in attributes
    )


def test_known_methods_can_be_replaced() -> None:
    options = SpanOptions(
        known_methods=known_methods_from_environment(
            {"OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": "PROPFIND, GET"}
        )
    )
    assert span_of(exchange(Role.CLIENT, request(b"PROPFIND")), options).name == "PROPFIND"
    assert span_of(exchange(Role.CLIENT, request(b"POST")), options).name == "HTTP"
    assert known_methods_from_environment({}) == KNOWN_METHODS
    assert known_methods_from_environment({"OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": " "}) == KNOWN_METHODS


IPV6 = SocketInfo("ipv6", "2001:db8::2", 443, "2001:db8::1", 5000, 1, 2, 3)
UNKNOWN = SocketInfo("unknown", None, None, None, None, 4026531840, 0, 9)
UNIX = SocketInfo("unix", "/run/app.sock", None, None, None, 1, 2, 3)


@pytest.mark.parametrize(
    ("role", "target", "host", "socket", "expected"),
    [
        (
            Role.CLIENT,
            b"/a?b=c",
            b"h:1",
            None,
            {"url.full": "http://h:1/a?b=c", "server.address": "h", "server.port": 1},
        ),
        (
            Role.CLIENT,
            b"/a",
            b"h",
            None,
            {"url.full": "http://h/a", "server.address": "h", "server.port": 8080},
        ),
        (
            Role.CLIENT,
            b"/a",
            None,
            None,
            {"url.full": "http://10.0.0.2:8080/a", "server.address": "10.0.0.2"},
        ),
        (
            Role.CLIENT,
            b"/a",
            None,
            IPV6,
            {"url.full": "http://[2001:db8::1]:5000/a", "server.address": "2001:db8::1"},
        ),
        (
            Role.CLIENT,
            b"http://u:p@t:9/a?q=1",
            b"h",
            None,
            {"url.full": "http://REDACTED:REDACTED@t:9/a?q=1", "server.address": "t", "server.port": 9},
        ),
        (Role.CLIENT, b"HTTPS://t", b"h", None, {"url.full": "https://t/", "server.address": "t"}),
        (Role.CLIENT, b"*", b"h:1", None, {"url.full": "http://h:1", "server.address": "h"}),
        (
            Role.CLIENT,
            b"t:443",
            b"t:443",
            None,
            {"server.address": "t", "server.port": 443, "url.full": None},
        ),
        (
            Role.CLIENT,
            b"/a",
            b"bad host",
            None,
            {"server.address": "10.0.0.2", "url.full": "http://10.0.0.2:8080/a"},
        ),
        (
            Role.CLIENT,
            b"/a",
            b"localhost",
            UNIX,
            {"url.full": "http://localhost/a", "server.address": "localhost", "server.port": None},
        ),
        (Role.SERVER, b"*", b"h", None, {"url.path": "*", "url.query": None}),
        (
            Role.SERVER,
            b"http://t/a?b",
            b"h",
            None,
            {"url.path": "/a", "url.query": "b", "server.address": "t"},
        ),
        (Role.SERVER, b"/a?", b"h", None, {"url.path": "/a", "url.query": None}),
        (Role.SERVER, b"/caf\xc3\xa9/\xff", b"h", None, {"url.path": "/cafÃ©/ÿ"}),
        (Role.SERVER, b"/caf\xc3\xa9", b"h", None, {"url.path": "/café"}),
        (
            Role.SERVER,
            b"/a",
            b"h",
            UNIX,
            {"server.address": "h", "server.port": None, "client.address": None},
        ),
        (Role.SERVER, b"/a", None, UNIX, {"server.address": "/run/app.sock", "network.transport": "unix"}),
        # Neither the request nor the socket says where: a TLS session whose socket is not known yet.
        (Role.CLIENT, b"/a", None, UNKNOWN, {"server.address": None, "url.full": None}),
        (
            Role.SERVER,
            b"/a",
            None,
            UNKNOWN,
            {"server.address": None, "client.address": None, "url.path": "/a"},
        ),
    ],
)
def test_where_a_request_went(
    role: Role,
    target: bytes,
    host: bytes | None,
    socket: SocketInfo | None,
    expected: dict[str, AttributeValue | None],
) -> None:
    method = b"CONNECT" if target == b"t:443" else b"GET"
    given = exchange(role, request(method, target, [] if host is None else [(b"Host", host)]), socket=socket)
    attributes = span_of(given).attributes
    assert {name: attributes.get(name) for name in expected} == expected


@pytest.mark.parametrize("is_known", [True, False])
def test_an_encrypted_connection_is_https_and_its_addresses_may_be_unknown(
    is_known: bool,  # noqa: FBT001 - a parameter
) -> None:
    socket = SocketInfo("ipv4", "10.0.0.2", 443, "10.0.0.1", 5000, 1, 2, 3, tls="gnutls")
    if not is_known:
        socket = SocketInfo("unknown", None, None, None, None, 0, 0, 3, tls="gnutls")
    asked = request(b"GET", b"/a", [(b"Host", b"h")])
    served = span_of(exchange(Role.SERVER, asked, socket=socket)).attributes
    assert (served["url.scheme"], served["wirespan.tls"], served["server.address"]) == (
        "https",
        "gnutls",
        "h",
    )
    assert (served.get("server.port"), served.get("client.address")) == (
        (443, "10.0.0.1") if is_known else (None, None)
    )
    sent = span_of(exchange(Role.CLIENT, asked, socket=socket)).attributes
    assert sent["url.full"] == "https://h/a"
    network = [name for name in served if name.startswith("network.") and "protocol" not in name]
    assert len(network) == (6 if is_known else 0)


def test_proxies_name_client_and_scheme() -> None:
    headers = [
        (b"Host", b"h"),
        (b"X-Forwarded-For", b"203.0.113.7, 10.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
    ]
    attributes = span_of(exchange(request_=request(headers=headers))).attributes
    assert attributes["client.address"] == "203.0.113.7"
    assert "client.port" not in attributes
    assert attributes["url.scheme"] == "https"
    assert attributes["network.peer.address"] == "10.0.0.1"


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_a_span_joins_the_trace_of_its_request(role: Role) -> None:
    headers = [
        (b"TraceParent", f"00-{TRACE}-{SPAN}-00".encode()),
        (b"tracestate", b"a=1"),
        (b"TraceState", b"b=2"),
    ]
    span = span_of(exchange(role, request(headers=headers)))
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id == bytes.fromhex(SPAN)
    assert span.span_id == (2).to_bytes(8, "big")
    assert span.trace_flags == 0
    assert span.trace_state == "a=1,b=2"


def test_a_malformed_context_starts_a_new_trace_and_is_counted() -> None:
    counters = SpanCounters()
    span = span_of(exchange(request_=request(headers=[(b"traceparent", b"00-1-2-3")])), counters=counters)
    assert span.parent_span_id is None
    assert counters == SpanCounters(built=1, malformed_trace_context=1)


def test_one_sided_exchanges_keep_what_was_seen() -> None:
    lonely_request = exchange(Role.CLIENT, request(), None)
    lonely_request.incomplete = Incomplete.ONE_SIDE
    span = span_of(lonely_request)
    assert (span.start_unix_ns - BOOT_UNIX_NS, span.end_unix_ns - BOOT_UNIX_NS) == (1_000, 2_000)
    assert "http.response.status_code" not in span.attributes
    assert "http.response.body.size" not in span.attributes

    lonely_response = exchange(Role.CLIENT, None, response(503))
    lonely_response.incomplete = Incomplete.JOINED_LATE
    span = span_of(lonely_response)
    assert span.name == "HTTP"
    assert (span.start_unix_ns - BOOT_UNIX_NS, span.end_unix_ns - BOOT_UNIX_NS) == (3_000, 4_000)
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["server.address"] == "10.0.0.2"
    assert span.attributes["network.protocol.version"] == "1.1"
    assert not {"url.full", "http.request.method_original"} & span.attributes.keys()


def test_an_early_answer_ends_the_span_and_never_before_its_start() -> None:
    early = exchange()
    assert isinstance(early.response, HttpResponse)
    early.response.end_ktime_ns = 500
    span = span_of(early)
    assert span.end_unix_ns == span.start_unix_ns == BOOT_UNIX_NS + 1_000


def test_cut_bodies_say_so_and_keep_their_true_size() -> None:
    cut = body(b"abc", size=1_048_576, truncation=Truncation.LIMIT)
    attributes = span_of(exchange(response_=response(content=cut))).attributes
    assert attributes["http.response.body.size"] == 1_048_576
    assert attributes["http.response.body.content"] == "abc"
    assert attributes["wirespan.response.body.truncated"] == "limit"
    assert attributes["wirespan.response.body.captured_size"] == 3
    assert "wirespan.request.body.truncated" not in attributes


def test_codings_that_are_not_undone_are_named() -> None:
    coded, false = body(b"\x01\xff", None), body(b"abc")
    coded.coding = DeclaredCoding("gzip, dcb", is_applied=True)
    false.coding = DeclaredCoding("br", is_applied=False)
    attributes = span_of(
        exchange(request_=request(content=coded), response_=response(content=false))
    ).attributes
    assert attributes["wirespan.request.body.coding"] == "gzip, dcb"
    assert attributes["http.request.body.content"] == b"\x01\xff"
    assert attributes["wirespan.response.body.coding_mismatch"] == "br"
    assert attributes["http.response.body.content"] == "abc"
    assert not {name for name in attributes if "truncated" in name}
    assert not {"wirespan.request.body.coding_mismatch", "wirespan.response.body.coding"} & attributes.keys()


def test_a_name_of_a_coding_that_is_a_credential_is_redacted() -> None:
    coded = body(b"abc", None)
    coded.coding = DeclaredCoding("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln", is_applied=True)
    attributes = span_of(exchange(request_=request(content=coded))).attributes
    assert attributes["wirespan.request.body.coding"] == "REDACTED"
    assert attributes["wirespan.redacted"] == 1


def test_an_unknown_size_is_absent() -> None:
    unknown = body(b"abc")
    unknown.size = None
    assert "http.response.body.size" not in span_of(exchange(response_=response(content=unknown))).attributes


@pytest.mark.parametrize("size", [300_047, 10**30, None])
def test_a_message_whose_body_has_no_known_size_has_one_on_the_wire(size: int | None) -> None:
    cut = response(content=body(b"abc", truncation=Truncation.LIMIT))
    cut.wire_size = size
    attributes = span_of(exchange(response_=cut)).attributes
    assert attributes.get("http.response.size") == (300_047 if size == 300_047 else None)
    assert "http.request.size" not in attributes


def test_an_absurd_size_is_absent() -> None:
    absurd = body(b"abc", size=10**30, truncation=Truncation.GAP)
    assert "http.response.body.size" not in span_of(exchange(response_=response(content=absurd))).attributes


def test_a_secret_cut_by_the_end_of_a_body_is_redacted() -> None:
    cut = body(b'{"user": "a", "password": "hunt', size=90, truncation=Truncation.GAP)
    attributes = span_of(exchange(request_=request(content=cut))).attributes
    assert attributes["http.request.body.content"] == '{"user": "a", "password": "REDACTED'
    assert attributes["wirespan.redacted"] == 1


def test_anomalies_are_exported() -> None:
    odd = exchange()
    odd.anomalies = ("bare_lf", "obs_fold")
    assert span_of(odd).attributes["wirespan.anomalies"] == ("bare_lf", "obs_fold")


@pytest.mark.parametrize(
    ("content", "charset", "expected"),
    [
        ("é".encode("latin-1"), "latin-1", "é"),
        ("日本".encode("shift_jis"), "shift_jis", "日本"),
        (b"a\xff", "utf-8", "a\ufffd"),
        (b"a\xff", "no-such-codec", "a\ufffd"),
        (b"a", "rot13", "a"),
        (b"xn--bad-\xff", "idna", "xn--bad-\ufffd"),
        (b"+2AA-", "utf-7", "?"),
        (b"\xff\x00", None, b"\xff\x00"),
    ],
)
def test_bodies_become_text_that_every_encoder_takes(
    content: bytes, charset: str | None, expected: str | bytes
) -> None:
    span = span_of(exchange(response_=response(content=body(content, charset))))
    value = span.attributes["http.response.body.content"]
    assert value == expected
    if isinstance(value, str):
        value.encode()


def test_urls_in_headers_lose_their_credentials() -> None:
    headers = [(b"Referer", b"https://u:p@a.example/?token=abc"), (b"Accept", b"*/*")]
    attributes = span_of(exchange(request_=request(headers=headers))).attributes
    assert attributes["http.request.header.referer"] == (
        "https://REDACTED:REDACTED@a.example/?token=REDACTED",
    )
    assert attributes["http.request.header.accept"] == ("*/*",)
    assert attributes["wirespan.redacted"] == 2


def test_headers_are_utf8_or_else_latin1() -> None:
    headers = [(b"X-A", "é".encode()), (b"X-B", "é".encode("latin-1")), (b"X-\xe9", b"1")]
    attributes = span_of(exchange(request_=request(headers=headers))).attributes
    assert attributes["http.request.header.x-a"] == ("é",)
    assert attributes["http.request.header.x-b"] == ("é",)
    assert attributes["http.request.header.x-é"] == ("1",)


def test_headers_and_bodies_can_be_left_out() -> None:
    given = full_exchange(Role.SERVER)
    attributes = span_of(given, SpanOptions(capture_headers=False, capture_bodies=False)).attributes
    assert not [name for name in attributes if ".header." in name or name.endswith(".body.content")]
    assert attributes["http.request.body.size"] == 23
    assert attributes["user_agent.original"] == "curl/7.88.1"


def test_redaction_can_be_switched_off() -> None:
    attributes = span_of(full_exchange(Role.SERVER), SpanOptions(redaction=False)).attributes
    assert attributes["http.request.header.authorization"] == ("Bearer s3cret",)
    assert attributes["url.query"] == "page=2&token=abc"
    assert attributes["http.request.body.content"] == '{"pin": "1234", "n": 1}'
    assert "wirespan.redacted" not in attributes
