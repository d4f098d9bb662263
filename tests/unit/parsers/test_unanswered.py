"""Requests without a response when their connection is over: the table in parsers/http1/unanswered.py."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ebpf.events import EventKind, Missing, Role
from parsers.exchange import Incomplete
from parsers.limits import ParserLimits
from tests.builders import Conversation, run_events

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROLES = pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
CLOSED, ONE_SIDE = Incomplete.CLOSED, Incomplete.ONE_SIDE


def causes(talk: Conversation, limits: ParserLimits | None = None) -> list[Incomplete | None]:
    exchanges = talk.run(limits)
    assert all(exchange.response is None for exchange in exchanges)
    return [exchange.incomplete for exchange in exchanges]


@ROLES
@pytest.mark.parametrize("ends", ["requests first", "responses first", "requests only", "reset"])
@pytest.mark.parametrize("number", [1, 2, 3, 50])
def test_a_direction_that_was_not_captured(role: Role, ends: str, number: int) -> None:
    """A real conversation without its responses, the ends of both directions being seen or not."""
    talk = Conversation(role=role)
    for _ in range(number):
        talk.request(GET)
    if ends == "responses first":
        talk.end_responses()
    if ends != "reset":
        talk.end_requests()
    if ends == "requests first":
        talk.end_responses()
    talk.close()
    is_failure = {
        "requests first": role is Role.CLIENT,
        "responses first": True,
        "requests only": False,
        "reset": role is Role.CLIENT,
    }[ends]
    assert causes(talk) == [CLOSED if is_failure and number == 1 else ONE_SIDE] * number


@ROLES
def test_a_direction_of_which_something_was_seen_was_captured(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(GET)
    talk.response(OK)
    talk.request(GET)
    talk.request(GET)
    talk.end_requests()
    talk.close()
    assert [exchange.incomplete for exchange in talk.run()] == [None, CLOSED, CLOSED]


@ROLES
def test_a_part_of_a_head_is_something(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(GET)
    talk.response(OK[:12])
    talk.end_requests()
    talk.close()
    assert causes(talk) == [CLOSED]


@ROLES
@pytest.mark.parametrize("told", [True, False])
def test_bytes_that_passed_without_being_captured_are_lost_and_no_failure(role: Role, told: bool) -> None:  # noqa: FBT001 - a parameter
    talk = Conversation(role=role)
    talk.request(GET)
    if told:
        talk.response(b"", length=len(OK), missing=Missing.RING_FULL)
    else:
        talk.lose_response(len(OK))
    talk.end_responses()
    talk.close()
    assert causes(talk) == [Incomplete.LOST_BYTES]


@ROLES
def test_requests_in_one_call_prove_nothing(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(GET * 3)
    talk.end_responses()
    talk.close()
    assert causes(talk) == [CLOSED] * 3


def test_a_client_that_has_pipelined_proves_nothing_later() -> None:
    talk = Conversation()
    talk.request(GET * 2)
    talk.request(GET)
    talk.end_responses()
    talk.close()
    assert causes(talk) == [CLOSED] * 3


@ROLES
def test_of_a_tls_session_both_directions_are_captured(role: Role) -> None:
    talk = Conversation(role=role)
    talk.socket.tls = "openssl"
    talk.request(GET)
    talk.close()
    assert causes(talk) == [CLOSED]


def test_more_requests_than_may_wait_are_one_sided_too() -> None:
    talk = Conversation()
    for _ in range(20):
        talk.request(GET)
    talk.end_requests()
    talk.end_responses()
    talk.close()
    assert causes(talk, ParserLimits(max_pending_messages=4)) == [ONE_SIDE] * 20


def test_a_response_that_comes_after_all_is_no_sure_pair_behind_an_overflow() -> None:
    talk = Conversation()
    for _ in range(6):
        talk.request(GET)
    talk.response(OK)
    exchanges = talk.run(ParserLimits(max_pending_messages=4))
    assert [exchange.incomplete for exchange in exchanges if exchange.response] == [ONE_SIDE]


@ROLES
def test_a_request_that_is_cut_itself_is_closed(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    talk.end_requests()
    talk.close()
    assert causes(talk) == [CLOSED]


@ROLES
def test_whatever_is_left_out_no_whole_exchange_comes_of_it(role: Role) -> None:
    """Conversations without one direction, as another source of events would number them."""
    talk = Conversation(role=role)
    for _ in range(3):
        talk.request(GET)
        talk.response(OK)
    talk.end_requests()
    talk.end_responses()
    talk.close()
    for left_out in (talk.requests, talk.responses):
        events = [
            replace(event, position=0) if event.kind is EventKind.ENDED else event
            for event in talk.events
            if event.direction is not left_out or event.kind is not EventKind.DATA
        ]
        assert all(first.ktime_ns < second.ktime_ns for first, second in pairwise(events))
        kept = [event for event in events if event.kind is not EventKind.ENDED or event.direction is left_out]
        assert {exchange.incomplete for exchange in run_events(kept)} == {ONE_SIDE}
