"""Headers of the PROXY protocol by themselves, and in front of conversations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ebpf.events import Missing, Protocol, Role, SocketEvent
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.prologue import Prologue
from parsers.proxy_protocol import (
    MAX_HEADERS,
    MAX_V1_BYTES,
    SIGNATURE,
    V1_BEGINNING,
    ProxyHeader,
    Reading,
    read_proxy_header,
)
from parsers.tracker import ConnectionTracker
from tests.builders import Conversation, describe, run_events, split_bytes
from tests.proxy_headers import AUTHORITY, AWS, LOCAL, PROXY, SSL, frame_v2, header_v1, header_v2
from tests.unit.parsers.http2_peers import Dialogue, build_request

LIMIT = ParserLimits().max_proxy_header
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
WHOLE = "GET /a 1.1 (0) -> 204 1.1 (0)"
SIX = "2001:db8::1", 1, "2001:db8::2", 2
UNIX_PATHS = b"/run/client.sock".ljust(108, b"\0") + b"\0listener".ljust(108, b"\0")
ALL_FIELDS = (
    (0x01, b"h2"),
    (AUTHORITY, b"shop.example"),
    (0x03, b"\x12\x34\x56\x78"),
    (0x04, b"\0" * 40),
    (0x05, b"unique"),
    (SSL, b"\x01\0\0\0\0" + b"\x21\0\x07TLSv1.3"),
    (0x30, b"netns"),
    (AWS, b"\x01vpce-08d2bf15fac5001c9"),
    (0xEE, b"\x01\x01\x02\x03\x04"),
    (0xE0, b"\0\0\0\0\0\0\0\x2a"),
)

HEADERS: dict[str, tuple[bytes, ProxyHeader]] = {
    "tcp4": (header_v1(), ProxyHeader(1, "192.0.2.10", 56_324, "192.0.2.20", 443)),
    "tcp6": (header_v1(*SIX), ProxyHeader(1, *SIX)),
    "tcp6 mapped": (
        header_v1("::ffff:192.0.2.1", 1, "::ffff:192.0.2.2", 65_535),
        ProxyHeader(1, "192.0.2.1", 1, "192.0.2.2", 65_535),
    ),
    "longest tcp6": (
        b"PROXY TCP6 " + b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " * 2 + b"65535 65535\r\n",
        ProxyHeader(1, *(("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65_535) * 2)),
    ),
    "port 0": (header_v1(port=0), ProxyHeader(1, "192.0.2.10", 0, "192.0.2.20", 443)),
    "unknown": (b"PROXY UNKNOWN\r\n", ProxyHeader(1)),
    "unknown with more": (b"PROXY UNKNOWN 1 \xff 3".ljust(MAX_V1_BYTES - 2, b".") + b"\r\n", ProxyHeader(1)),
    "v2": (header_v2(), ProxyHeader(2, "192.0.2.10", 56_324, "192.0.2.20", 443)),
    "v2 six": (header_v2(*SIX), ProxyHeader(2, *SIX)),
    "v2 udp": (
        frame_v2(PROXY, 0x12, bytes(range(12))),
        ProxyHeader(2, "0.1.2.3", 0x0809, "4.5.6.7", 0x0A0B),
    ),
    "v2 unix": (
        frame_v2(PROXY, 0x31, UNIX_PATHS),
        ProxyHeader(2, "/run/client.sock", None, "@listener", None),
    ),
    "v2 unnamed unix": (frame_v2(PROXY, 0x31, b"\0" * 216), ProxyHeader(2)),
    "v2 local": (frame_v2(LOCAL, 0x00), ProxyHeader(2)),
    "v2 local with addresses": (frame_v2(LOCAL, 0x11, b"\xff" * 12), ProxyHeader(2)),
    "v2 local too short": (frame_v2(LOCAL, 0x11, b"\xff" * 5), ProxyHeader(2)),
    "v2 unspecified": (frame_v2(PROXY, 0x00, b"whatever"), ProxyHeader(2)),
    "v2 family to come": (frame_v2(PROXY, 0x41, b"whatever"), ProxyHeader(2)),
    "v2 all fields": (
        header_v2("192.0.2.1", 1, "192.0.2.2", 2, *ALL_FIELDS),
        ProxyHeader(2, "192.0.2.1", 1, "192.0.2.2", 2, "shop.example", tls=True),
    ),
    "v2 plain client": (
        header_v2(*SIX, (SSL, b"\0\0\0\0\0"), (AUTHORITY, b"")),
        ProxyHeader(2, *SIX, None, tls=False),
    ),
    "v2 authority that is none": (header_v2(*SIX, (AUTHORITY, b"a b\r\n")), ProxyHeader(2, *SIX)),
    "v2 field beyond the header": (
        frame_v2(PROXY, 0x11, bytes(12) + b"\x02\0\x09shop"),
        ProxyHeader(2, "0.0.0.0", 0, "0.0.0.0", 0),
    ),
    "v2 half a field": (
        frame_v2(PROXY, 0x11, bytes(12) + b"\x02\0"),
        ProxyHeader(2, "0.0.0.0", 0, "0.0.0.0", 0),
    ),
    "v2 as long as it may be": (
        header_v2(*SIX, (0x04, b"\0" * (LIMIT - 16 - 36 - 3))),
        ProxyHeader(2, *SIX),
    ),
}
NO_HEADERS: dict[str, bytes] = {
    "a request": GET,
    "another method with P": b"PROPFIND /a HTTP/1.1\r\n",
    "PROXY as a method": b"PROXY /a HTTP/1.1\r\n",
    "tab": b"PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "lower case": b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "family": b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "family of the address": b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    "two families": b"PROXY TCP6 1.2.3.4 2001:db8::2 1 2\r\n",
    "address": b"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
    "leading zeros": b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
    "port": b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
    "no number": b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
    "two blanks": b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
    "trailing blank": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
    "a port missing": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    "unknowns": b"PROXY UNKNOWNS\r\n",
    "bare LF": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    "too long": b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 1, b".") + b"\r\n",
    "empty lines": b"\r\n\r\nGET / HTTP/1.1\r\n",
    "signature with an error": SIGNATURE[:-1] + b"\r" + b"\x21\x11\0\x0c" + bytes(12),
    "version 1 in version 2": frame_v2(0x11, 0x11, bytes(12)),
    "version 3": frame_v2(0x31, 0x11, bytes(12)),
    "command to come": frame_v2(0x22, 0x11, bytes(12)),
    "too short for its addresses": frame_v2(PROXY, 0x11, bytes(11)),
    "too short for six": frame_v2(PROXY, 0x21, bytes(35)),
    "too short for paths": frame_v2(PROXY, 0x31, bytes(215)),
    "longer than it may be": header_v2(*SIX, (0x04, b"\0" * (LIMIT - 16 - 36 - 2))),
}
by_header = pytest.mark.parametrize("name", HEADERS)
by_none = pytest.mark.parametrize("name", NO_HEADERS)


@by_header
def test_a_header_is_read(name: str) -> None:
    data, header = HEADERS[name]
    assert read_proxy_header(data, LIMIT) == (header, len(data))
    assert read_proxy_header(data + GET, LIMIT) == (header, len(data))


@by_header
def test_a_header_that_is_cut_off_needs_more(name: str) -> None:
    data, _ = HEADERS[name]
    assert {read_proxy_header(data[:cut], LIMIT) for cut in range(len(data))} == {Reading.NEED_MORE}


@by_none
def test_what_is_no_header_is_none(name: str) -> None:
    data = NO_HEADERS[name]
    assert read_proxy_header(data, LIMIT) is Reading.NO_HEADER
    readings = [read_proxy_header(data[:cut], LIMIT) for cut in range(len(data) + 1)]
    assert readings == sorted(readings, key=lambda reading: reading is Reading.NO_HEADER)


def converse(*calls: bytes, role: Role = Role.SERVER, kernel_role: Role | None = None) -> Conversation:
    """Return a conversation whose client makes these calls, and gets an answer."""
    talk = Conversation(role=role, kernel_role=kernel_role)
    for call in calls:
        talk.request(call)
    talk.response(NO_CONTENT)
    return talk


def seen(exchanges: list[HttpExchange]) -> list[tuple[str, tuple[ProxyHeader, ...]]]:
    return [
        (describe(exchange), () if exchange.prologue is None else exchange.prologue.proxy_headers)
        for exchange in exchanges
    ]


@pytest.mark.parametrize("kernel_knows", [True, False])
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@by_header
def test_every_exchange_of_the_connection_has_the_header(name: str, role: Role, kernel_knows: bool) -> None:  # noqa: FBT001 - a parameter of the table
    data, header = HEADERS[name]
    kernel_role = None if kernel_knows else Role.UNKNOWN
    for calls in ([data, GET], [data + GET], [data[:3], data[3:] + GET[:5], GET[5:]]):
        talk = converse(*calls, role=role, kernel_role=kernel_role)
        talk.request(GET)
        talk.response(NO_CONTENT)
        exchanges = talk.run()
        assert seen(exchanges) == [(WHOLE, (header,))] * 2
        assert {exchange.role for exchange in exchanges} == {role}


@pytest.mark.parametrize("kernel_role", [Role.SERVER, Role.UNKNOWN])
@pytest.mark.parametrize("data", [header_v1(), header_v2(), header_v1() + header_v2(*SIX)])
def test_a_header_may_be_cut_anywhere(data: bytes, kernel_role: Role) -> None:
    stream = data + GET
    whole = seen(converse(stream).run())
    for cut in range(1, len(stream)):
        talk = converse(stream[:cut], stream[cut:], kernel_role=kernel_role)
        assert seen(talk.run()) == whole
    assert seen(run_events([part for event in talk.events for part in split_bytes(event)])) == whole


def test_the_request_begins_behind_the_header() -> None:
    talk = converse(header_v1(), GET)
    (exchange,) = talk.run()
    assert exchange.request is not None
    assert exchange.request.start_ktime_ns == talk.events[2].ktime_ns


@pytest.mark.parametrize(
    "name", ["tab", "lower case", "address", "bare LF", "version 3", "too short for six"]
)
def test_behind_what_is_no_header_the_connection_is_read_as_without_one(name: str) -> None:
    talk = converse(NO_HEADERS[name] + GET)
    talk.request(GET)
    talk.response(NO_CONTENT)
    exchanges = talk.run()
    assert all(exchange.prologue is None for exchange in exchanges)
    assert all(exchange.incomplete is not None for exchange in exchanges[:1])


def test_several_headers_are_kept_in_their_order_up_to_a_bound() -> None:
    data = [header_v1(port=port) for port in range(1, MAX_HEADERS + 2)]
    (exchange,) = converse(b"".join(data[:-1]) + GET).run()
    assert exchange.prologue is not None
    assert [header.source_port for header in exchange.prologue.proxy_headers] == [1, 2, 3, 4]
    tracker = ConnectionTracker(ParserLimits())
    for event in converse(b"".join(data) + GET).events:
        tracker.feed(event)
    assert tracker.counters()["proxy_headers"] == MAX_HEADERS
    assert tracker.counters()["invalid_heads"] == 1


def test_a_header_is_at_the_beginning_only() -> None:
    talk = converse(GET, header_v1() + GET)
    exchanges = talk.run()
    assert describe(exchanges[0]) == WHOLE
    assert all(exchange.prologue is None for exchange in exchanges)


def test_a_connection_joined_late_has_none() -> None:
    talk = Conversation(joined_late=True)
    talk.request(header_v1() + GET)
    talk.request(GET)
    talk.response(NO_CONTENT)
    assert all(exchange.prologue is None for exchange in talk.run())


@pytest.mark.parametrize("data", [header_v1(), header_v2("192.0.2.1", 1, "192.0.2.2", 2, (0x04, b"\0" * 9))])
@pytest.mark.parametrize("told", [True, False])
def test_a_hole_in_a_header_never_gives_an_address(data: bytes, told: bool) -> None:  # noqa: FBT001 - likewise
    for begin in range(len(data)):
        for end in range(begin + 1, len(data) + 1):
            talk = Conversation()
            if begin:
                talk.request(data[:begin])
            talk.lose_request(end - begin)
            missing = Missing.RING_FULL if told else Missing(0)
            talk.request(data[end:] + GET, missing=missing)
            talk.response(NO_CONTENT)
            begins_so = data[:begin].startswith((V1_BEGINNING, SIGNATURE))
            lost = (ProxyHeader(read_header(data).version, is_whole=False),)
            for _, headers in seen(talk.run()):
                assert headers == (lost if begins_so else ())


def test_a_payload_that_ends_in_the_header_gives_no_address() -> None:
    data = header_v2()
    for kept in range(len(data)):
        talk = Conversation()
        talk.request(data[:kept], length=len(data), missing=Missing.BUDGET)
        talk.request(GET)
        talk.response(NO_CONTENT)
        for _, headers in seen(talk.run()):
            assert all(header.source_address is None for header in headers)


@pytest.mark.parametrize("data", [header_v1(), header_v2(), b"", b"P", SIGNATURE[:3]])
def test_a_connection_that_ends_in_front_of_its_request_gives_nothing(data: bytes) -> None:
    for kept in range(len(data) + 1):
        talk = Conversation()
        if kept:
            talk.request(data[:kept])
        talk.end_requests()
        talk.close()
        assert talk.run() == []


def test_bytes_that_may_become_a_header_count_as_held() -> None:
    tracker = ConnectionTracker(ParserLimits())
    data = header_v2(*SIX, (0x04, b"\0" * 100))
    for event in converse(data[:-1]).events[:2]:
        tracker.feed(event)
    assert tracker.buffered_bytes == len(data) - 1
    tracker.flush()
    assert tracker.buffered_bytes == 0


def count_of(*calls: bytes) -> tuple[int, int]:
    """Return how many headers were counted as read, and as invalid."""
    tracker = ConnectionTracker(ParserLimits())
    for event in converse(*calls).events:
        tracker.feed(event)
    counters = tracker.counters()
    return counters["proxy_headers"], counters["proxy_headers_invalid"]


def test_headers_are_counted() -> None:
    assert count_of(GET) == (0, 0)
    assert count_of(header_v1(), GET) == (1, 0)
    assert count_of(header_v1() + header_v2(), GET) == (2, 0)
    assert count_of(NO_HEADERS["longer than it may be"]) == (0, 1)
    assert count_of(NO_HEADERS["address"] + GET) == (0, 1)
    assert count_of(b"P", b"OST / HTTP/1.1\r\nHost: a\r\n\r\n") == (0, 0)


def play_http2(
    dialogue: Dialogue, data: bytes, *, role: Role, kernel_role: Role, known: bool
) -> Conversation:
    """Return what a socket shows of an HTTP/2 connection that begins with a header."""
    talk = Conversation(role=role, kernel_role=kernel_role)
    talk.socket.protocol = Protocol.HTTP2 if known else Protocol.HTTP1
    talk.request(data)
    for is_client, call in dialogue.calls:
        (talk.request if is_client else talk.response)(call)
    return talk


@pytest.mark.parametrize("known", [True, False], ids=["judged by the source", "told by the preface"])
@pytest.mark.parametrize("kernel_role", [Role.SERVER, Role.UNKNOWN])
@pytest.mark.parametrize("data", [header_v1(), header_v2()], ids=["v1", "v2"])
def test_every_exchange_over_http2_has_the_header(data: bytes, kernel_role: Role, known: bool) -> None:  # noqa: FBT001 - likewise
    dialogue = Dialogue()
    for stream in (1, 3):
        dialogue.client.send_headers(stream, build_request(b"/%d" % stream), end_stream=True)
        dialogue.flush()
        dialogue.server.send_headers(stream, [(b":status", b"204")], end_stream=True)
        dialogue.flush()
    talk = play_http2(dialogue, data, role=Role.SERVER, kernel_role=kernel_role, known=known)
    expected = [(f"GET /{stream} 2 (0) -> 204 2 (0)", (read_header(data),)) for stream in (1, 3)]
    assert seen(talk.run()) == expected
    cut = [part for event in talk.events for part in split_bytes(event)]
    assert seen(run_events(cut)) == expected
    together: list[SocketEvent] = [
        talk.events[0],
        replace(
            talk.events[2],
            payload=data + talk.events[2].payload,
            length=len(data) + talk.events[2].length,
            position=0,
        ),
        *talk.events[3:],
    ]
    assert seen(run_events(together)) == expected


def read_header(data: bytes) -> ProxyHeader:
    reading = read_proxy_header(data, LIMIT)
    assert not isinstance(reading, Reading)
    return reading[0]


def test_a_websocket_has_the_header_of_its_connection() -> None:
    talk = Conversation()
    talk.request(
        header_v1() + b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    talk.response(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    talk.close()
    (exchange,) = talk.run()
    assert exchange.application is not None
    assert exchange.prologue == Prologue((read_header(header_v1()),))
