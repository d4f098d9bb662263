"""Pairs of a connection that was joined late, held until nothing speaks against them."""

from __future__ import annotations

import pytest

from parsers.http1.probation import QUIET_NS, TURNS
from parsers.limits import ParserLimits
from parsers.tracker import QUIET_NS as FIRST_LOOK_NS
from parsers.tracker import ConnectionTracker
from tests.builders import Conversation
from tests.unit.parsers.test_pairing import answer, ask, tell, turn


def fed(talk: Conversation, tracker: ConnectionTracker) -> list[str]:
    """Feed what has been said since the last time, and tell what comes of it."""
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    talk.events.clear()
    return tell(exchanges)


def test_a_client_that_sends_one_request_at_a_time_is_believed_in_the_end() -> None:
    talk, tracker = Conversation(joined_late=True), ConnectionTracker(ParserLimits())
    for number in range(1, TURNS):
        turn(talk, number)
        assert fed(talk, tracker) == []
    turn(talk, TURNS)
    assert fed(talk, tracker) == [f"{number}-{number}" for number in range(1, TURNS + 1)]
    turn(talk, 99)
    assert fed(talk, tracker) == ["99-99"], "from then on each goes at once"
    assert tracker.counters()["exchanges"] == TURNS + 1


def test_a_quiet_spell_ends_the_wait() -> None:
    talk, tracker = Conversation(joined_late=True), ConnectionTracker(ParserLimits())
    turn(talk, 1)
    assert fed(talk, tracker) == []
    assert tell(tracker.advance(talk.ktime_ns + FIRST_LOOK_NS + 1)) == []
    assert tell(tracker.advance(talk.ktime_ns + QUIET_NS)) == ["1-1"]
    turn(talk, 2)
    assert fed(talk, tracker) == ["2-2"]


def test_requests_in_flight_at_the_join_are_noticed_when_two_arrive_together() -> None:
    """The answers are those of requests before; nothing but the pair that arrives together tells."""
    talk, tracker = Conversation(joined_late=True), ConnectionTracker(ParserLimits())
    for number in (3, 4):
        talk.request(ask(number))
        talk.response(answer(number - 2))
    talk.request(ask(5) + ask(6))
    talk.response(answer(3))
    assert fed(talk, tracker) == ["3-1 joined_late", "4-2 joined_late", "5-3 joined_late"]
    assert tracker.counters()["incomplete_joined_late"] == 3


def test_requests_in_flight_at_the_join_are_noticed_by_an_answer_too_many() -> None:
    talk, tracker = Conversation(joined_late=True), ConnectionTracker(ParserLimits())
    talk.request(ask(2))
    talk.response(answer(1))
    talk.response(answer(2))
    assert fed(talk, tracker) == ["2-1 joined_late", "?-2 joined_late"]


def test_what_is_held_counts_as_memory_and_is_given_up_with_its_connection() -> None:
    body = b"x" * 1_000
    talk = Conversation(joined_late=True)
    tracker = ConnectionTracker(ParserLimits())
    talk.request(ask(1))
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 1000\r\n\r\n" + body)
    assert fed(talk, tracker) == []
    assert tracker.buffered_bytes >= len(body)
    assert tell(tracker.flush()) == ["1-1"]
    assert tracker.buffered_bytes == 0


@pytest.mark.parametrize("finished", [True, False])
def test_a_bug_costs_nothing_of_what_is_held(monkeypatch: pytest.MonkeyPatch, *, finished: bool) -> None:
    talk, tracker = Conversation(joined_late=True), ConnectionTracker(ParserLimits())
    turn(talk, 1)
    fed(talk, tracker)
    with monkeypatch.context() as broken:
        broken.setattr("parsers.http1.pairing.Pairing.open_turn", None)
        talk.request(ask(2))
        assert fed(talk, tracker) == []
    assert tracker.counters()["connections_quarantined"] == 1
    if finished:
        assert tell(tracker.flush()) == ["1-1"]
    else:
        talk.response(answer(2))
        assert fed(talk, tracker) == ["1-1"]


def test_a_connection_that_leaves_http_lets_what_is_held_go_first() -> None:
    talk, tracker = Conversation(joined_late=True), ConnectionTracker(ParserLimits())
    turn(talk, 1)
    talk.request(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 2\r\n\r\n")
    told = fed(talk, tracker) + tell(tracker.flush())
    assert told[0] == "1-1"
    assert len(told) == 2
