"""Streams that one end gave up: which end, with which code, and whether the answer was there before."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame

from ebpf.events import Direction, EventKind, Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import HttpExchange, StreamReset
from parsers.limits import ParserLimits
from tests.builders import Conversation
from tests.unit.parsers.http2_peers import Frames

ROLES = pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
CODES = pytest.mark.parametrize("code", [*ErrorCodes, 0x4711])


def direction_of(role: Role, *, client: bool) -> Direction:
    return Direction.EGRESS if (role is Role.CLIENT) == client else Direction.INGRESS


@ROLES
@CODES
@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_a_reset_says_by_whom_and_why(role: Role, code: int, client: bool, begun: bool) -> None:  # noqa: FBT001 - parameters
    frames = Frames(role=role)
    frames.ask(1)
    if begun:
        frames.answer(1, ends=False)
        frames.server(DataFrame(1, b"part"))
    (frames.client if client else frames.server)(RstStreamFrame(1, code))
    frames.ask(3)
    frames.answer(3)
    reset, whole = frames.watch().exchanges
    assert reset.incomplete is Incomplete.RESET
    assert reset.reset == StreamReset(direction_of(role, client=client), code)
    assert not reset.answered
    assert (whole.incomplete, whole.reset, whole.answered) == (None, None, True)


@ROLES
@pytest.mark.parametrize("client", [True, False])
def test_a_reset_behind_an_interim_response_is_no_loss(role: Role, client: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames(role=role)
    frames.ask(1)
    frames.answer(1, [(b":status", b"103")], ends=False)
    (frames.client if client else frames.server)(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.RESET
    assert exchange.reset == StreamReset(direction_of(role, client=client), ErrorCodes.INTERNAL_ERROR)


def test_of_two_resets_the_first_counts() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.answer(1, ends=False)
    frames.server(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
    frames.client(RstStreamFrame(1, ErrorCodes.CANCEL))
    frames.ask(1)
    (exchange,) = frames.watch().exchanges
    assert exchange.reset == StreamReset(Direction.INGRESS, ErrorCodes.INTERNAL_ERROR)


@ROLES
def test_a_stream_that_the_server_had_not_begun_with(role: Role) -> None:
    frames = Frames(role=role)
    frames.ask(1)
    frames.ask(3)
    frames.server(GoAwayFrame(0, last_stream_id=1, error_code=ErrorCodes.NO_ERROR))
    frames.answer(1)
    untaken, whole = frames.watch().exchanges
    assert untaken.reset == StreamReset(direction_of(role, client=False), None, untaken=True)
    assert whole.reset is None


@ROLES
@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.CANCEL])
def test_the_rest_of_an_answered_request_may_be_given_up_by_either_end(
    role: Role,
    client: bool,  # noqa: FBT001 - a parameter
    code: ErrorCodes,
) -> None:
    frames = Frames(role=role)
    frames.ask(1, ends=False)
    frames.client(DataFrame(1, b"some of it"))
    frames.answer(1)
    (frames.client if client else frames.server)(RstStreamFrame(1, code))
    (exchange,) = frames.watch().exchanges
    check_answered(exchange)


@ROLES
@pytest.mark.parametrize("cause", [Incomplete.CLOSED, Incomplete.TIMED_OUT])
def test_an_answered_request_that_the_connection_takes_with_it(role: Role, cause: Incomplete) -> None:
    frames = Frames(role=role)
    frames.ask(1, ends=False)
    frames.client(DataFrame(1, b"some of it"))
    frames.answer(1)
    (exchange,) = frames.watch(cause=cause).exchanges
    if cause is Incomplete.CLOSED:
        check_answered(exchange)
    else:
        assert exchange.incomplete is cause
        assert exchange.answered


def check_answered(exchange: HttpExchange) -> None:
    assert exchange.incomplete is None
    assert exchange.answered
    assert exchange.reset is None
    assert exchange.anomalies == ("request_cut_short",)
    assert exchange.request is not None
    assert exchange.request.body.size == 10


@pytest.mark.parametrize("ended", [True, False])
def test_responses_of_which_nothing_was_seen_are_one_sided(ended: bool) -> None:  # noqa: FBT001 - a parameter
    """A server begins with SETTINGS: where not even they were seen, its direction was not captured."""
    frames = Frames()
    frames.ask(1)
    talk: Conversation = frames.talk
    if ended:
        talk.end_responses()
    events = [
        event for event in talk.events if event.kind is not EventKind.DATA or event.direction is talk.requests
    ]
    for event in events:
        if event.kind is EventKind.ENDED:
            event.position = 0
    connection = Http2Connection(events[0], ParserLimits(), new_counters(), joined_late=False)
    exchanges = [exchange for event in events for exchange in connection.feed(event)]
    exchanges += connection.finish(Incomplete.CLOSED)
    assert [exchange.incomplete for exchange in exchanges] == [Incomplete.ONE_SIDE]
