from __future__ import annotations

import pytest
from hyperframe.frame import (
    DataFrame,
    PushPromiseFrame,
)

from ebpf.events import Role
from parsers.exchange import Incomplete
from tests.builders import describe
from tests.unit.parsers.http2_peers import (
    OK,
    PING,
    Dialogue,
    Frames,
    build_request,
    ended,
    head,
    lose,
    request_of,
    response_of,
    tell,
    watch,
)


def test_joined_late_the_fields_are_learned_from_what_is_seen() -> None:
    dialogue = Dialogue()
    for number in range(16):
        fields = [(b"user", b"bob"), (b"x-%d" % (number // 4), b"1")]
        dialogue.answer(dialogue.ask(build_request(b"/%d" % number, *fields)), [*OK, *fields])
    exchanges = watch(tell(dialogue.calls[6:], late=True).events).exchanges
    flags = [exchange.incomplete for exchange in exchanges]
    assert set(flags) == {Incomplete.JOINED_LATE, Incomplete.UNKNOWN_HEADERS}
    last = request_of(exchanges[-1])
    # `user` and `:authority` were sent once, before the capture began.
    assert (last.target, last.authority, last.headers) == (b"/15", None, [(b"x-3", b"1")])
    assert last.unknown_headers == 2


def test_joined_late_what_refers_to_nothing_older_is_whole() -> None:
    frames = Frames(late=True)
    frames.prove()
    frames.prove(client=False)
    frames.ask(101, (b"user", b"bob"), path=b"/one")
    frames.answer(101, [*OK, (b"color", b"red")])
    frames.ask(103, (b"user", b"bob"), path=b"/one")
    frames.answer(103, [*OK, (b"color", b"red")])
    first, second = frames.watch().exchanges
    for exchange in (first, second):
        assert describe(exchange) == "GET /one 2 (0) -> 200 2 (0)"
        assert request_of(exchange).headers == [(b"user", b"bob")]
        assert response_of(exchange).headers == [(b"color", b"red")]


def test_joined_late_a_response_without_its_request_says_so() -> None:
    frames = Frames(late=True)
    frames.prove(client=False)
    frames.answer(1, ends=False)
    frames.server(ended(1, b"rest"))
    (exchange,) = frames.watch().exchanges
    assert describe(exchange) == "? -> 200 2 (4 b'rest') incomplete joined_late"


def test_joined_late_a_promise_may_be_unknown() -> None:
    frames = Frames(late=True)
    frames.ask(1)
    promise = frames.responses.encode(build_request(b"/pushed"))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.answer(2)
    frames.answer(1)
    pushed, asked = frames.watch().exchanges
    assert pushed.incomplete is asked.incomplete is Incomplete.JOINED_LATE
    assert request_of(pushed).target == b"/pushed"


def test_a_head_of_which_the_status_is_hidden_may_have_been_interim() -> None:
    frames = Frames(late=True)
    frames.prove()
    frames.prove(client=False)
    frames.responses.encode([(b":status", b"103"), (b":status", b"204"), (b":status", b"418")])
    for stream_id, rest in ((1, [[(b":status", b"102")], OK]), (3, [OK]), (5, [[(b":status", b"418")]])):
        frames.ask(stream_id)
        frames.answer(stream_id, [(b":status", b"103")], ends=False)
        for block in rest:
            frames.answer(stream_id, block, ends=block is rest[-1])
    first, second, third = frames.watch().exchanges
    assert {exchange.incomplete for exchange in (first, second, third)} == {Incomplete.UNKNOWN_HEADERS}
    assert (response_of(first).status, response_of(first).interim) == (200, (102,))
    assert response_of(first).unknown_headers == 1
    assert (response_of(second).status, response_of(second).unknown_headers) == (200, 1)
    # Head and trailers, or an interim response and the final one: which is unknown.
    assert (response_of(third).status, response_of(third).unknown_headers) == (None, 2)


def test_joined_at_the_very_beginning_the_preface_is_passed_over() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    watched = watch(frames.talk.events, late=True)
    assert [describe(exchange) for exchange in watched.exchanges] == [
        "GET / 2 (0) -> 200 2 (0) incomplete joined_late"
    ]
    assert watched.counts["discarded_bytes"] == 0


def test_who_is_the_client_may_be_told_by_frames_in_doubt_alone() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    for stream_id in (1, 3):
        frames.client(PING, frames.request(stream_id, build_request(b"/%d" % stream_id)))
        frames.server(PING, head(stream_id, frames.responses.encode(OK)))
    exchanges = frames.watch().exchanges
    assert [describe(exchange) for exchange in exchanges] == [
        "GET /1 2 (0) -> 200 2 (0) incomplete joined_late",
        "GET /3 2 (0) -> 200 2 (0) incomplete joined_late",
    ]
    assert {exchange.role for exchange in exchanges} == {Role.SERVER}


def test_nobody_says_who_is_the_client() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    # Fields that refer to what was sent before.
    frames.client(PING, head(1, b"\xbe\xbf"))
    frames.server(PING, head(1, b"\xbe\xbf"))
    watched = frames.watch()
    assert watched.exchanges == []
    assert watched.counts["http2_unattributed_streams"] == 1


@pytest.mark.parametrize("requests", [True, False])
def test_one_direction_alone_says_so(requests: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    lost = frames.talk.responses if requests else frames.talk.requests
    events = [event for event in frames.talk.events if event.direction is not lost or not event.length]
    (exchange,) = watch(events).exchanges
    assert describe(exchange) == (
        "GET / 2 (0) -> ? incomplete one_side" if requests else "? -> 200 2 (0) incomplete one_side"
    )


def test_events_out_of_order_are_read_in_order() -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.client(DataFrame(1, b"one "))
    frames.client(ended(1, b"two"))
    frames.answer(1)
    events = frames.talk.events
    events[4], events[5] = events[5], events[4]
    assert [describe(exchange) for exchange in watch(events).exchanges] == [
        "GET / 2 (7 b'one two') -> 200 2 (0)"
    ]


def test_every_single_loss_in_a_long_dialogue_is_flagged_or_harmless() -> None:
    dialogue = Dialogue()
    for number in range(15):
        fields = [(b"user", b"u%d" % (number % 4)), (b"x-id", b"%d" % number)]
        stream_id = dialogue.ask(build_request(b"/%d" % number, *fields), b"request %d" % number)
        dialogue.answer(stream_id, [*OK, *fields], b"response %d" % number)
    events = tell(dialogue.calls).events
    for dropped in range(1, len(events)):
        for exchange in watch(lose(events, {dropped})).exchanges:
            request, response = exchange.request, exchange.response
            number = int(request.target[1:]) if request is not None and request.target else None
            for message in (request, response):
                if message is None or number is None:
                    continue
                fields = [(b"user", b"u%d" % (number % 4)), (b"x-id", b"%d" % number)]
                assert set(message.headers) <= set(fields)
                assert exchange.incomplete is not None or message.headers == fields
            if exchange.incomplete is None:
                assert request_of(exchange).body.content == b"request %d" % number  # type: ignore[str-bytes-safe]
                assert response_of(exchange).body.content == b"response %d" % number
