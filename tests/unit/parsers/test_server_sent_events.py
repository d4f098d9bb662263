"""A stream of server-sent events is a response that may last for days: bounded, and over with its end."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from parsers.limits import ParserLimits
from parsers.tracker import QUIET_NS, ConnectionTracker
from tests.builders import SECOND_NS, Conversation

EVENT = b'event: tick\ndata: {"price": 17}\n\n'
COUNT = 5000
LIMITS = ParserLimits(max_body=10_000)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def opened(*, chunked: bool, role: Role = Role.SERVER) -> Conversation:
    talk = Conversation(role=role)
    talk.request(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Connection: close\r\n"
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
    return talk


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_long_stream_is_held_within_the_body_limit(role: Role, chunked: bool) -> None:  # noqa: FBT001 - a parameter of the test
    talk = opened(chunked=chunked, role=role)
    tracker = ConnectionTracker(LIMITS)
    for event in talk.events:
        assert tracker.feed(event) == []
    for _ in range(COUNT):
        talk.wait(SECOND_NS)
        event = talk.response(chunk(EVENT) if chunked else EVENT)
        assert tracker.feed(event) == []
        assert tracker.advance(event.ktime_ns) == []
        assert tracker.buffered_bytes < LIMITS.max_body + 1000
    if chunked:
        talk.response(b"0\r\n\r\n")
    else:
        talk.end_responses()
    (exchange,) = tracker.feed(talk.events[-1])
    assert exchange.incomplete is None
    assert exchange.response is not None
    body = exchange.response.body
    assert body.size == COUNT * len(EVENT)
    assert body.content == (EVENT * COUNT)[: LIMITS.max_body]
    assert body.truncation is Truncation.LIMIT
    assert exchange.response.end_ktime_ns - exchange.response.start_ktime_ns >= COUNT * SECOND_NS
    assert tracker.buffered_bytes == 0


def test_until_close_what_the_budget_left_out_still_counts() -> None:
    talk = opened(chunked=False)
    tracker = ConnectionTracker(ParserLimits())
    talk.response(EVENT * 10, length=1000, missing=Missing.BUDGET)
    for event in talk.events:
        assert tracker.feed(event) == []
    assert tracker.advance(talk.ktime_ns + QUIET_NS + 1) == []
    assert len(tracker.awaiting()) == 1
    tracker.feed(talk.response(b"", length=100_000, missing=Missing.BUDGET))
    talk.end_responses()
    (exchange,) = tracker.feed(talk.events[-1])
    assert exchange.incomplete is None
    assert exchange.response is not None
    body = exchange.response.body
    assert (body.size, body.content, body.truncation) == (101_000, EVENT * 10, Truncation.LIMIT)


def test_chunked_what_the_budget_left_out_passes_unseen_until_the_end() -> None:
    talk = opened(chunked=True)
    tracker = ConnectionTracker(ParserLimits())
    talk.response(chunk(EVENT) * 10, length=100_000, missing=Missing.BUDGET)
    for event in talk.events:
        assert tracker.feed(event) == []
    held = tracker.buffered_bytes
    for _ in range(20):
        talk.wait(60 * SECOND_NS)
        last = talk.response(b"", length=50_000, missing=Missing.BUDGET)
        assert tracker.feed(last) == []
        assert tracker.advance(talk.ktime_ns + 59 * SECOND_NS) == []
        assert len(tracker.awaiting()) == 1
        assert tracker.buffered_bytes == held
    talk.end_responses()
    (exchange,) = tracker.feed(talk.events[-1])
    assert exchange.incomplete is None
    assert exchange.response is not None
    body = exchange.response.body
    assert (body.size, body.content, body.truncation) == (None, EVENT * 10, Truncation.LIMIT)
    assert exchange.response.end_ktime_ns == last.ktime_ns
    assert tracker.counters()["unseen_tails_timed_out"] == 0


@pytest.mark.parametrize("limit", [0, 1])
def test_a_long_stream_that_the_capture_outlives_is_flagged(limit: int) -> None:
    talk = opened(chunked=True)
    talk.response(chunk(EVENT), length=100_000, missing=Missing.BUDGET)
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        tracker.feed(event)
    ended = tracker.advance(talk.ktime_ns + 300 * SECOND_NS) if limit else tracker.flush()
    assert [exchange.incomplete for exchange in ended] == [
        Incomplete.TIMED_OUT if limit else Incomplete.STOPPED
    ]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_quiet_stream_ends_at_the_idle_bound_flagged(chunked: bool) -> None:  # noqa: FBT001 - as above
    talk = opened(chunked=chunked)
    talk.response(chunk(EVENT) if chunked else EVENT)
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        tracker.feed(event)
    assert tracker.advance(talk.ktime_ns + 299 * SECOND_NS) == []
    (exchange,) = tracker.advance(talk.ktime_ns + 300 * SECOND_NS)
    assert exchange.incomplete is Incomplete.TIMED_OUT
    assert exchange.response is not None
    assert exchange.response.body.content == EVENT
