"""The direct way through a connection against the long one: the same answer after every event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import EventKind, Missing, Role, SocketEvent
from parsers.http1.connection import Http1Connection
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import QUIET_NS, ConnectionTracker
from tests.builders import SECOND_NS, Conversation
from tests.property.dialogues import Exchange, batches, drop, perform

Step = tuple[list[HttpExchange], int, list[tuple[int, int]]]
LIMITS = ParserLimits(max_body=40)


def take_long_way(_: Http1Connection, *__: object) -> None:
    """Expect nothing, so that nothing is read directly."""


def follow(events: list[SocketEvent], *, directly: bool) -> tuple[list[Step], dict[str, int]]:
    """Return what a tracker says after each event, then its counters."""
    tracker = ConnectionTracker(LIMITS)
    steps: list[Step] = []
    with pytest.MonkeyPatch.context() as patch:
        if not directly:
            patch.setattr(Http1Connection, "_expect_next", take_long_way)
        for event in events:
            exchanges = tracker.feed(event)
            steps.append((exchanges, tracker.buffered_bytes, []))
            exchanges = tracker.advance(event.ktime_ns + QUIET_NS + 1)
            steps.append((exchanges, tracker.buffered_bytes, tracker.awaiting()))
        steps.append((tracker.advance(events[-1].ktime_ns + 2 * SECOND_NS), tracker.buffered_bytes, []))
        steps.append((tracker.flush(), tracker.buffered_bytes, []))
    assert tracker.last_bug is None, tracker.last_bug
    return steps, tracker.counters()


@given(
    st.booleans().flatmap(lambda pipelined: batches(pipelined=pipelined)),
    st.lists(st.integers(1, 10_000), max_size=4),
    st.sampled_from([Role.SERVER, Role.CLIENT]),
    st.sets(st.integers(1, 40), max_size=3),
    st.sets(st.integers(1, 40), max_size=2),
    st.lists(st.integers(1, 40), max_size=2),
    st.booleans(),
)
def test_both_ways_say_the_same_after_every_event(
    conversation: list[list[Exchange]],
    cuts: list[int],
    role: Role,
    dropped: set[int],
    shortened: set[int],
    swapped: list[int],
    joined_late: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role, joined_late=joined_late)
    perform(talk, conversation, cuts)
    talk.end_requests()
    talk.close()
    events = [
        replace(event, payload=event.payload[:20], missing=Missing.BUDGET) if index in shortened else event
        for index, event in enumerate(drop(talk.events, dropped))
    ]
    for index in swapped:
        if index + 1 < len(events):
            events[index], events[index + 1] = events[index + 1], events[index]
    assert follow(events, directly=True) == follow(events, directly=False)


@given(
    st.lists(
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: b\r\nConnection: upgrade\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/1.1\nHost: a\n\nabcd",
                b"abcd",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
                b"HTTP/1.1 204 No Content\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
                b"",
            ]
        ),
        max_size=14,
    ),
    st.sampled_from([Role.SERVER, Role.CLIENT]),
    st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_both_ways_say_the_same_of_calls_in_any_order(
    calls: list[bytes], role: Role, sides: list[bool]
) -> None:
    talk = Conversation(role=role)
    for data, side in zip(calls, sides, strict=False):
        is_response = data.startswith(b"HTTP/") or (side and data[:4] in (b"abcd", b""))
        talk.add(EventKind.DATA, talk.responses if is_response else talk.requests, data)
    assert follow(talk.events, directly=True) == follow(talk.events, directly=False)
