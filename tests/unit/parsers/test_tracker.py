from __future__ import annotations

import dataclasses

import pytest

from ebpf.events import Missing, Role, SocketEvent
from parsers.counters import COUNTERS, INCOMPLETE_COUNTER
from parsers.exchange import Incomplete
from parsers.http1.connection import Http1Connection
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.protocols import PROTOCOLS
from parsers.tracker import ASK_AGAIN_NS, QUIET_NS, ConnectionTracker
from tests.builders import SECOND_NS, Conversation, describe

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def feed(tracker: ConnectionTracker, talk: Conversation) -> list[HttpExchange]:
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    talk.events.clear()
    return exchanges


def test_connections_do_not_mix() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talks = [Conversation(number) for number in range(1, 4)]
    for talk in talks:
        talk.request(GET)
        feed(tracker, talk)
    exchanges = []
    for talk in reversed(talks):
        talk.response(OK)
        exchanges += feed(tracker, talk)
    assert [exchange.connection_id for exchange in exchanges] == [3, 2, 1]
    assert tracker.connection_count == 3


def test_a_closed_connection_is_finished_after_the_grace() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation(role=Role.CLIENT)
    talk.request(GET)
    talk.close()
    feed(tracker, talk)
    assert tracker.advance(talk.ktime_ns + SECOND_NS - 1) == []
    (exchange,) = tracker.advance(talk.ktime_ns + SECOND_NS)
    assert exchange.incomplete is Incomplete.CLOSED
    assert tracker.connection_count == 0
    assert tracker.buffered_bytes == 0


def test_an_end_or_close_of_an_unknown_connection_is_nothing() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation(opened=False)
    talk.end_requests()
    talk.close()
    assert feed(tracker, talk) == []
    assert tracker.connection_count == 0


def test_events_of_a_protocol_without_a_reader_are_counted_and_left_alone() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation()
    talk.socket.protocol = max(row.number for row in PROTOCOLS) + 1
    talk.request(GET)
    talk.response(OK)
    assert feed(tracker, talk) == []
    assert (tracker.connection_count, tracker.buffered_bytes) == (0, 0)
    assert tracker.counters()["unread_protocol_events"] == 3
    assert tracker.counters()["connections"] == 0


def test_an_idle_connection_is_finished() -> None:
    tracker = ConnectionTracker(ParserLimits())
    quiet, busy = Conversation(1), Conversation(2)
    quiet.request(GET)
    feed(tracker, quiet)
    busy.wait(200 * SECOND_NS)
    busy.request(GET)
    feed(tracker, busy)
    (exchange,) = tracker.advance(quiet.ktime_ns + 300 * SECOND_NS)
    assert (exchange.connection_id, exchange.incomplete) == (1, Incomplete.TIMED_OUT)
    assert tracker.connection_count == 1


def test_flush_ends_everything_as_stopped() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation()
    talk.request(GET)
    talk.response(OK[:-1])
    feed(tracker, talk)
    (exchange,) = tracker.flush()
    assert exchange.incomplete is Incomplete.STOPPED
    assert exchange.response is not None
    assert (exchange.response.body.size, exchange.response.body.content) == (2, b"o")
    assert tracker.flush() == []


def test_a_jump_is_decided_by_advancing_time() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation()
    talk.request(GET)
    talk.response(OK[:-1])
    talk.lose_response(1)
    talk.end_responses()
    assert feed(tracker, talk) == []
    assert tracker.advance(talk.ktime_ns + SECOND_NS // 2) == []
    (exchange,) = tracker.advance(talk.ktime_ns + SECOND_NS)
    assert exchange.incomplete is None
    assert exchange.response is not None
    assert exchange.response.body.truncation == "gap"


def test_connections_in_the_middle_of_a_message_are_asked_for() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation(5)
    talk.request(GET)
    feed(tracker, talk)
    talk.wait(10 * QUIET_NS)
    tracker.advance(talk.ktime_ns)
    assert tracker.awaiting() == [], "between messages there is nothing to ask for"
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    feed(tracker, talk)
    quiet_from = talk.ktime_ns
    tracker.advance(quiet_from + QUIET_NS)
    assert tracker.awaiting() == []
    tracker.advance(quiet_from + QUIET_NS + 1)
    assert tracker.awaiting() == [(11, 5)]
    assert tracker.awaiting() == []
    tracker.advance(quiet_from + QUIET_NS + ASK_AGAIN_NS)
    assert tracker.awaiting() == []
    tracker.advance(quiet_from + QUIET_NS + ASK_AGAIN_NS + 1)
    assert tracker.awaiting() == [(11, 5)]
    talk.response(b"", length=100, missing=Missing.BUDGET)
    assert len(feed(tracker, talk)) == 1
    tracker.advance(talk.ktime_ns + SECOND_NS)
    assert tracker.awaiting() == []


def test_the_tail_told_by_the_source_may_overlap_what_comes_later() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    told = talk.response(b"", length=60, missing=Missing.BUDGET)
    talk.positions[talk.responses] = told.position
    talk.response(b"", length=100, missing=Missing.BUDGET)
    (exchange,) = feed(tracker, talk)
    assert exchange.response is not None
    assert exchange.response.body.size == 100
    assert exchange.incomplete is None


def test_too_many_connections_evict_the_least_recently_fed() -> None:
    tracker = ConnectionTracker(ParserLimits(max_connections=2))
    talks = [Conversation(number) for number in (1, 2, 3)]
    for talk in talks[:2]:
        talk.request(GET)
        feed(tracker, talk)
    talks[0].request(GET)
    feed(tracker, talks[0])
    (exchange,) = feed(tracker, talks[2])
    assert (exchange.connection_id, exchange.incomplete) == (2, Incomplete.EVICTED)
    assert tracker.connection_count == 2
    assert tracker.counters()["connections_evicted"] == 1


def test_too_many_bytes_evict_the_least_recently_fed() -> None:
    tracker = ConnectionTracker(ParserLimits(max_total_buffer=2_000))
    evicted = []
    for number in range(1, 6):
        talk = Conversation(number)
        talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        evicted += feed(tracker, talk)
        assert tracker.buffered_bytes <= 2_000
    assert [exchange.connection_id for exchange in evicted] == [1, 2]
    assert [exchange.incomplete for exchange in evicted] == [Incomplete.EVICTED] * 2


def test_a_connection_alone_beyond_the_bound_is_evicted_itself() -> None:
    tracker = ConnectionTracker(ParserLimits(max_total_buffer=100))
    talk = Conversation()
    talk.request(GET + b"GET /" + b"x" * 200)
    (exchange,) = feed(tracker, talk)
    assert exchange.incomplete is Incomplete.EVICTED
    assert tracker.buffered_bytes == 0


def test_time_costs_nothing_for_connections_that_nothing_is_due_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    original = Http1Connection.expire

    def expire(self: Http1Connection, ktime_ns: int) -> list[HttpExchange]:
        looked_at.append(self.cookie)
        return original(self, ktime_ns)

    monkeypatch.setattr(Http1Connection, "expire", expire)
    tracker = ConnectionTracker(ParserLimits())
    talks = [Conversation(number) for number in range(50)]
    for talk in talks:
        talk.request(GET)
        talk.close()
        feed(tracker, talk)
    closed = talks[0].ktime_ns
    for step in range(1, 1_000):
        tracker.advance(closed + step * SECOND_NS // 1_000)
    assert looked_at == []
    assert len(tracker._alarms) == 50
    tracker.advance(closed + SECOND_NS)
    assert looked_at == [talk.socket.cookie for talk in talks]
    assert tracker._alarms == []


def test_a_connection_has_one_alarm_however_often_it_is_fed() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation()
    for _ in range(100):
        talk.request(GET)
        talk.response(OK[:-1])
        talk.response(OK[-1:])
        feed(tracker, talk)
    assert len(tracker._alarms) == 1
    tracker.advance(talk.ktime_ns + SECOND_NS)
    assert tracker._alarms == []


def test_the_first_thing_due_sounds_the_alarm() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation(2)
    talk.request(GET)
    talk.lose_response(1)
    talk.response(b"x")
    feed(tracker, talk)
    waiting_since = talk.ktime_ns
    tracker.advance(waiting_since + QUIET_NS + 1)
    assert tracker.awaiting() == [], "a jump is a matter of order, not of an uncaptured tail"
    talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    feed(tracker, talk)
    tracker.advance(talk.ktime_ns + QUIET_NS + 1)
    assert tracker.awaiting() == [(talk.socket.cookie, 2)]
    assert tracker.counters()["gaps"] == 0
    tracker.advance(waiting_since + SECOND_NS)
    assert tracker.counters()["gaps"] == 1


@pytest.mark.parametrize("method", ["feed", "expire", "finish"])
def test_a_bug_in_one_connection_leaves_the_others_alone(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(Http1Connection, method)

    def fail(self: Http1Connection, argument: object) -> list[HttpExchange]:
        if (
            self.cookie == 7
            and not self.is_ignored
            and (method != "feed" or (isinstance(argument, SocketEvent) and argument.payload))
        ):
            raise ZeroDivisionError("a bug for the test")
        result: list[HttpExchange] = original(self, argument)
        return result

    monkeypatch.setattr(Http1Connection, method, fail)
    tracker = ConnectionTracker(ParserLimits())
    broken, sound = Conversation(1), Conversation(2)
    exchanges = []
    for talk in (broken, sound):
        talk.request(GET)
        if method == "expire":
            talk.close()
        exchanges += feed(tracker, talk)
    exchanges += tracker.advance(sound.ktime_ns + 2 * SECOND_NS)
    exchanges += tracker.flush()
    assert [exchange.connection_id for exchange in exchanges] == [2]
    assert tracker.counters()["connections_quarantined"] == 1
    assert tracker.last_bug is not None
    assert "ZeroDivisionError: a bug for the test" in tracker.last_bug
    assert tracker.buffered_bytes == 0
    assert tracker.connection_count == 0


def test_a_bug_in_what_recognises_content_costs_what_it_would_have_told() -> None:
    def fail(exchange: HttpExchange, *_: object) -> None:
        raise ZeroDivisionError("a bug for the test")

    protocols = [dataclasses.replace(row, recognise=fail) for row in PROTOCOLS]
    tracker = ConnectionTracker(ParserLimits(), protocols)
    talk = Conversation()
    for _ in range(2):
        talk.request(GET)
        talk.response(OK)
    assert [describe(exchange) for exchange in feed(tracker, talk)] == [
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok')"
    ] * 2
    assert tracker.counters()["unrecognised"] == 2
    assert tracker.counters()["connections_quarantined"] == 0
    assert "a bug for the test" in str(tracker.last_bug)


def test_all_counters_are_there_from_the_start_and_explained() -> None:
    counters = ConnectionTracker(ParserLimits()).counters()
    assert set(counters) == set(COUNTERS)
    assert not any(counters.values())
    assert set(INCOMPLETE_COUNTER.values()) <= set(COUNTERS)


def test_counters_tell_what_happened() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = Conversation(joined_late=True)
    talk.response(OK)
    talk.request(GET)
    talk.response(OK)
    talk.request(GET)
    talk.close()
    feed(tracker, talk)
    tracker.advance(talk.ktime_ns + SECOND_NS)
    told = {name: count for name, count in tracker.counters().items() if count}
    assert told == {
        "connections": 1,
        "requests": 2,
        "responses": 2,
        "exchanges": 3,
        "requests_unpaired": 1,
        "responses_unpaired": 1,
        "incomplete_joined_late": 1,
        "incomplete_closed": 1,
        "resynchronised": 2,
    }
