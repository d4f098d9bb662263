"""Bytes that wait for the answer that shows what they are."""

from __future__ import annotations

from dataclasses import replace

from ebpf.events import Direction, EventKind, Missing, Origin, Role, SocketEvent
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from parsers.unjudged import EVENT_BYTES
from tests.builders import build_socket

SOCKET = build_socket()
REQUEST = b"FROB /a HTTP/1.1\r\nHost: a\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def event(
    kind: EventKind, payload: bytes = b"", position: int = 0, *, connection: int = 1, answer: bool = False
) -> SocketEvent:
    return SocketEvent(
        kind,
        position + 1,
        connection,
        Origin(position + 1, 7),
        Direction.EGRESS if answer else Direction.INGRESS,
        position,
        len(payload),
        payload,
        Missing(0),
        Role.SERVER,
        False,
        SOCKET,
    )


def test_they_are_read_once_the_connection_is_opened() -> None:
    tracker = ConnectionTracker(ParserLimits())
    cut = 9
    assert tracker.feed(event(EventKind.UNJUDGED, REQUEST[:cut])) == []
    assert tracker.feed(event(EventKind.UNJUDGED, REQUEST[cut:], cut)) == []
    assert tracker.connection_count == 0
    assert tracker.buffered_bytes == len(REQUEST) + 2 * EVENT_BYTES
    assert tracker.feed(event(EventKind.OPENED, answer=True)) == []
    (exchange,) = tracker.feed(event(EventKind.DATA, RESPONSE, answer=True))
    assert exchange.incomplete is None
    assert exchange.request is not None
    assert (exchange.request.method, exchange.request.target) == (b"FROB", b"/a")
    assert tracker.buffered_bytes == 0


def test_what_opening_says_holds_for_them() -> None:
    tracker = ConnectionTracker(ParserLimits())
    tracker.feed(replace(event(EventKind.UNJUDGED, REQUEST), role=Role.UNKNOWN))
    opened = replace(SOCKET, server_name="a.example")
    tracker.feed(replace(event(EventKind.OPENED), socket=opened))
    (exchange,) = tracker.feed(event(EventKind.DATA, RESPONSE, answer=True))
    assert (exchange.role, exchange.socket.server_name) == (Role.SERVER, "a.example")


def test_those_of_other_connections_stay_apart() -> None:
    tracker = ConnectionTracker(ParserLimits())
    tracker.feed(event(EventKind.UNJUDGED, b"AUTH secret\r\n", connection=1))
    tracker.feed(event(EventKind.UNJUDGED, REQUEST, connection=2))
    tracker.feed(event(EventKind.OPENED, connection=2))
    (exchange,) = tracker.feed(event(EventKind.DATA, RESPONSE, connection=2, answer=True))
    assert exchange.incomplete is None
    assert tracker.flush() == []
    assert tracker.buffered_bytes == 0


def test_the_oldest_go_when_there_are_too_many_and_are_counted() -> None:
    tracker = ConnectionTracker(ParserLimits(max_unjudged_connections=2))
    for connection in (1, 2, 3):
        tracker.feed(event(EventKind.UNJUDGED, REQUEST, connection=connection))
    assert tracker.counters()["unjudged_evicted"] == 1
    tracker.feed(event(EventKind.OPENED, connection=1))
    tracker.feed(event(EventKind.OPENED, connection=3))
    (exchange,) = tracker.feed(event(EventKind.DATA, RESPONSE, connection=3, answer=True))
    assert exchange.incomplete is None


def test_the_oldest_go_when_they_are_too_large() -> None:
    limits = ParserLimits(max_unjudged_buffer=3 * EVENT_BYTES + 2_000)
    tracker = ConnectionTracker(limits)
    for connection in range(1, 40):
        tracker.feed(event(EventKind.UNJUDGED, bytes(900), connection=connection))
        assert tracker.buffered_bytes <= limits.max_unjudged_buffer
    assert tracker.counters()["unjudged_evicted"] == 37


def test_an_end_of_what_was_never_opened_gives_nothing() -> None:
    tracker = ConnectionTracker(ParserLimits())
    tracker.feed(event(EventKind.UNJUDGED, REQUEST))
    assert tracker.feed(event(EventKind.CLOSED)) == []
    assert tracker.flush() == []
