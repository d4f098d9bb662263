from __future__ import annotations

import re
from typing import Any

import pytest

from ebpf.events import Direction, Role
from otel_bridge.span import Span
from otel_bridge.spans.builder import SpanCounters
from otel_bridge.spans.options import SpanOptions
from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange, MessageFlow, Truncation, WebSocketMessage, WebSocketSession
from tests.unit.otel_bridge.exchanges import BOOT_UNIX_NS, exchange, request, response, span_of
from tests.unit.otel_bridge.sinks.test_console import printed

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def message(
    opcode: int = 1,
    content: bytes = b"hello",
    direction: Direction = INGRESS,
    *,
    ktime_ns: int = 5_000,
    size: int | None = None,
    truncation: Truncation | None = None,
) -> WebSocketMessage:
    size = len(content) if size is None else size
    return WebSocketMessage(direction, opcode, size, content, ktime_ns, truncation)


def session(*messages: WebSocketMessage, **facts: Any) -> WebSocketSession:
    flows = {"ingress": MessageFlow(30, 4000), "egress": MessageFlow(12, 700)}
    return WebSocketSession(list(messages), **{**flows, "end_ktime_ns": 9_000_000, **facts})


def upgraded(application: WebSocketSession, role: Role = Role.SERVER) -> HttpExchange:
    given = exchange(role, request(), response(101))
    given.upgraded = True
    given.application = application
    return given


def own(span: Span) -> dict[str, Any]:
    """The attributes that the session added."""
    prefix = "wirespan.websocket."
    return {
        name.removeprefix(prefix): value for name, value in span.attributes.items() if name.startswith(prefix)
    }


def events(span: Span) -> list[dict[str, Any]]:
    assert span.events is not None
    return [
        {name.removeprefix("wirespan.websocket."): value for name, value in event.attributes.items()}
        for event in span.events
    ]


def test_the_handshake_says_what_the_session_was() -> None:
    span = span_of(
        upgraded(
            session(
                subprotocol="graphql-ws",
                compression="permessage-deflate",
                close_code=1001,
                close_reason="going away",
                closed_by=EGRESS,
            )
        )
    )
    assert own(span) == {
        "sent.count": 12,
        "sent.size": 700,
        "received.count": 30,
        "received.size": 4000,
        "subprotocol": "graphql-ws",
        "compression": "permessage-deflate",
        "close.code": 1001,
        "close.reason": "going away",
        "close.direction": "sent",
    }
    assert (span.name, span.is_error, span.events, span.dropped_events_count) == (
        "GET /orders/{id}",
        False,
        None,
        0,
    )
    assert span.attributes["http.response.status_code"] == 101
    assert span.attributes["network.protocol.name"] == "http"
    assert (span.start_unix_ns, span.end_unix_ns) == (BOOT_UNIX_NS + 1_000, BOOT_UNIX_NS + 9_000_000)


def test_what_was_not_counted_is_said() -> None:
    span = span_of(upgraded(session(ingress=MessageFlow(0, 0, uncounted=True), close_code=None)))
    assert own(span) == {
        "sent.count": 12,
        "sent.size": 700,
        "received.count": 0,
        "received.size": 0,
        "received.uncounted": True,
    }


def test_an_interrupted_session_is_an_error() -> None:
    given = upgraded(session())
    given.incomplete = Incomplete.CLOSED
    span = span_of(given)
    assert span.is_error
    assert span.attributes["error.type"] == "connection_closed"


def test_each_message_is_an_event() -> None:
    span = span_of(
        upgraded(
            session(
                message(1, "grüß".encode(), EGRESS, ktime_ns=5_000),
                message(2, b"\x00\xff", ktime_ns=6_000, size=9, truncation=Truncation.GAP),
                message(9, b"", ktime_ns=7_000),
                message(10, b"!", EGRESS, ktime_ns=7_000),
                message(8, b"\x03\xe8", ktime_ns=8_000),
                dropped_messages=4,
            )
        )
    )
    assert span.events is not None
    assert {event.name for event in span.events} == {"websocket.message"}
    assert [event.unix_ns - BOOT_UNIX_NS for event in span.events] == [5_000, 6_000, 7_000, 7_000, 8_000]
    assert events(span) == [
        {"direction": "sent", "opcode": "text", "size": 6, "content": "grüß"},
        {"direction": "received", "opcode": "binary", "size": 9, "content": b"\x00\xff", "truncated": "gap"},
        {"direction": "received", "opcode": "ping", "size": 0},
        {"direction": "sent", "opcode": "pong", "size": 1, "content": b"!"},
        {"direction": "received", "opcode": "close", "size": 2, "content": b"\x03\xe8"},
    ]
    assert span.dropped_events_count == 4


def test_nothing_leaves_with_a_credential() -> None:
    counters = SpanCounters()
    given = upgraded(
        session(
            message(1, b'{"password": "hunter2", "user": "bob"}'),
            message(1, b'{"token": "abc', size=99, truncation=Truncation.LIMIT),
            message(2, b"\x01?access_token=s3cret&x=1"),
            close_reason='{"api_key": "k3y"}',
            close_code=1008,
            subprotocol="Bearer, eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dGVzdHNpZ25hdHVyZQ",
        )
    )
    span = span_of(given, counters=counters)
    shown = repr([span.attributes, span.events])
    assert not re.search("hunter2|abc|s3cret|k3y|dGVzdHNpZ25hdHVyZQ", shown)
    assert "bob" in shown
    assert span.attributes["wirespan.redacted"] == counters.redacted_values == 5
    plain = span_of(given, SpanOptions(redaction=False))
    for secret in ("hunter2", "abc", "s3cret", "k3y", "dGVzdHNpZ25hdHVyZQ"):
        assert secret in repr([plain.attributes, plain.events])


def test_without_bodies_events_have_no_content() -> None:
    given = upgraded(session(message(1, b"secret", truncation=Truncation.LIMIT)))
    assert events(span_of(given, SpanOptions(capture_bodies=False))) == [
        {"direction": "received", "opcode": "text", "size": 6}
    ]


def test_text_that_is_none_and_names_from_the_wire_still_encode() -> None:
    span = span_of(upgraded(session(message(1, b"\xff\xed\xa0\x80"), subprotocol="\xc3\xa4\xff")))
    assert events(span)[0]["content"] == "\ufffd" * 4
    assert own(span)["subprotocol"] == "\xc3\xa4\xff"


@pytest.mark.parametrize(("max_events", "kept"), [(0, None), (2, 2), (3, 3), (128, 3)])
def test_events_beyond_the_limit_are_counted(max_events: int, kept: int | None) -> None:
    given = upgraded(session(message(), message(), message(), dropped_messages=7))
    span = span_of(given, SpanOptions(max_events=max_events))
    assert (None if span.events is None else len(span.events)) == kept
    assert span.dropped_events_count == 10 - (kept or 0)


def test_attributes_of_events_are_limited_in_number_and_length() -> None:
    given = upgraded(session(message(1, b"0123456789"), message(2, b"0123456789")))
    span = span_of(given, SpanOptions(max_value_length=8))
    assert [event["content"] for event in events(span)] == ["01234567", b"01234567"]
    span = span_of(given, SpanOptions(max_event_attributes=3))
    assert span.events is not None
    assert [list(event) for event in events(span)] == [["direction", "opcode", "size"]] * 2
    assert [event.dropped_attributes_count for event in span.events] == [1, 1]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_the_console_shows_a_session(role: Role) -> None:
    servers = INGRESS if role is Role.CLIENT else EGRESS
    given = upgraded(
        session(
            message(1, b"hi\x1b[2J", Direction(1 - servers)),
            message(2, b"\x00", servers, size=70_000, truncation=Truncation.LIMIT),
            message(1, b"x" * 2500, servers),
            close_code=1000,
        ),
        role,
    )
    line, *details = printed(span_of(given), verbose=True)
    assert line.endswith("ws 12↑ 30↓ close 1000")
    assert [detail.strip() for detail in details[-3:]] == [
        "> (text, 6 B) hi\\x1b[2J",
        "< (binary, 70.0 kB, cut: limit)",
        f"< (text, 2.5 kB, 500 more characters) {'x' * 2000}",
    ]


def test_the_console_says_what_was_not_counted_and_what_is_unknown() -> None:
    given = upgraded(session(message(), egress=MessageFlow(1, 1, uncounted=True)))
    given.incomplete = Incomplete.LOST_BYTES
    (line,) = printed(span_of(given))
    assert line.endswith("ws 1+↑ 30↓  incomplete=lost_bytes")
    *_, detail = printed(span_of(given, SpanOptions(max_event_attributes=0)), verbose=True)
    assert detail.strip() == "> (?, -)"
