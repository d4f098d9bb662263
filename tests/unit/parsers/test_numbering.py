from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, PushPromiseFrame

from ebpf.events import Direction, EventKind, Origin, Role, SocketEvent
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.numbering import ExchangeNumbers, RequestBegan
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS, Conversation
from tests.unit.parsers.http2_peers import Frames, build_request, ended
from tests.websocket_peers import UPGRADE, accept, frame, masked

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TUNNEL = b"CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"


class Told:
    """What a tracker gives of events: notes and exchanges, in the order in which they come."""

    def __init__(self, events: Iterable[SocketEvent], limits: ParserLimits | None = None) -> None:
        self.notes: list[RequestBegan] = []
        self.exchanges: list[HttpExchange] = []
        tracker = ConnectionTracker(limits or ParserLimits(), request_observer=self.notes.append)
        for event in events:
            self._take(tracker.advance(event.ktime_ns))
            self._take(tracker.feed(event))
        self._take(tracker.flush())
        assert tracker.last_bug is None, tracker.last_bug

    @property
    def ordinals(self) -> list[int]:
        return [exchange.ordinal for exchange in self.exchanges]

    def _take(self, exchanges: list[HttpExchange]) -> None:
        self.exchanges += exchanges
        for exchange in exchanges:
            if exchange.request is not None:
                note = RequestBegan(exchange.connection_id, exchange.ordinal, exchange.origin)
                assert self.notes.count(note) == 1, "the note comes before the exchange, once"


def test_exchanges_are_numbered_in_the_order_of_their_requests() -> None:
    talk = Conversation()
    talk.request(GET % 0 + GET % 1)
    talk.response(OK)
    talk.response(OK)
    talk.request(GET % 2)
    talk.response(OK)
    told = Told(talk.events)
    assert told.ordinals == [0, 1, 2]
    assert [note.ordinal for note in told.notes] == [0, 1, 2]


def test_a_request_is_noted_when_its_head_is_complete_and_not_before() -> None:
    talk = Conversation(tid=5)
    notes: list[RequestBegan] = []
    feed = ConnectionTracker(ParserLimits(), request_observer=notes.append).feed
    first = talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Le")
    talk.tid = 6
    talk.request(b"ngth: 3\r\n\r\n")
    for event, count in zip(talk.events, (0, 0, 1), strict=True):
        assert feed(event) == []
        assert len(notes) == count
    assert notes == [RequestBegan(1, 0, Origin(first.ktime_ns, 100, 5))]


def test_a_response_without_a_request_has_a_number_and_no_note() -> None:
    talk = Conversation()
    talk.request(GET % 0)
    talk.response(OK)
    talk.response(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    talk.close()
    talk.wait(2 * SECOND_NS)
    told = Told(talk.events)
    assert told.ordinals == [0, 1]
    assert told.exchanges[1].request is None
    assert len(told.notes) == 1


def test_a_head_that_is_none_is_noted_with_the_response_that_refuses_it() -> None:
    talk = Conversation()
    talk.request(b"GET / HTTP/1.1\r\nHost : a b\r\n\0\r\n\r\n")
    talk.response(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    talk.close()
    told = Told(talk.events)
    assert [exchange.request is not None for exchange in told.exchanges] == [True]
    assert len(told.notes) == 1


def test_what_a_tunnel_carries_is_numbered_behind_what_set_it_up() -> None:
    talk = Conversation()
    talk.request(GET % 0)
    talk.response(OK)
    talk.request(TUNNEL)
    talk.response(ESTABLISHED)
    talk.request(TUNNEL)
    talk.response(ESTABLISHED)
    talk.request(GET % 3)
    talk.response(OK)
    told = Told(talk.events)
    assert told.ordinals == [0, 1, 2, 3]
    assert len(told.notes) == 4


def test_a_websocket_keeps_the_number_of_its_handshake() -> None:
    talk = Conversation()
    talk.request(GET % 0)
    talk.response(OK)
    talk.request(UPGRADE)
    talk.response(accept(b"X-None: 1"))
    talk.request(masked(8, b"\x03\xe8"))
    talk.response(frame(8, b"\x03\xe8"))
    assert Told(talk.events).ordinals == [0, 1]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_over_http2_the_stream_id_is_the_number(role: Role) -> None:
    frames = Frames(role=role)
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    for stream_id in (5, 1, 3):
        frames.answer(stream_id)
    told = Told(frames.talk.events)
    assert told.ordinals == [5, 1, 3]
    assert [note.ordinal for note in told.notes] == [1, 3, 5]


def test_a_promised_request_is_noted_when_it_is_promised() -> None:
    frames = Frames()
    frames.ask(1)
    promised = build_request(b"/style.css")
    frames.server(PushPromiseFrame(1, 2, frames.responses.encode(promised), flags=["END_HEADERS"]))
    frames.answer(1)
    frames.answer(2)
    told = Told(frames.talk.events)
    assert told.ordinals == [1, 2]
    assert told.exchanges[1].pushed
    assert [note.ordinal for note in told.notes] == [1, 2]


def test_over_http2_a_head_is_complete_with_its_last_frame() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    frames.client(HeadersFrame(1, block[:5], flags=["END_STREAM"]))
    frames.talk.tid = 9
    frames.client(ContinuationFrame(1, block[5:], flags=["END_HEADERS"]))
    notes: list[RequestBegan] = []
    feed = ConnectionTracker(ParserLimits(), request_observer=notes.append).feed
    counts = []
    for event in frames.talk.events:
        assert feed(event) == []
        counts.append(len(notes))
    assert counts[-3:] == [0, 0, 1]
    assert notes == [RequestBegan(1, 1, frames.talk.events[-2].origin)]


def test_behind_an_upgrade_stream_ids_do_not_meet_the_numbers_of_http1() -> None:
    talk = Conversation()
    for number in range(3):
        talk.request(GET % number)
        talk.response(OK)
    talk.request(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    )
    talk.response(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    frames = Frames()
    frames.answer(1, ends=False)
    frames.server(ended(1, b"body"))
    frames.ask(3, path=b"/3")
    frames.answer(3)
    for event in frames.talk.events:
        if event.kind is EventKind.DATA:
            (talk.request if event.direction is Direction.INGRESS else talk.response)(event.payload)
    told = Told(talk.events)
    assert told.ordinals == [0, 1, 2, 3, 4 + 3]
    assert len(told.notes) == 5


@pytest.mark.parametrize("restart", ["idle", "evicted"])
def test_a_connection_that_was_given_up_goes_on_with_other_numbers(restart: str) -> None:
    limits = ParserLimits(max_connections=1) if restart == "evicted" else ParserLimits()
    talk, other = Conversation(1), Conversation(2)
    other.request(GET % 9)
    other.response(OK)
    events: list[SocketEvent] = []
    for number in range(4):
        talk.request(GET % number)
        talk.response(OK)
        if restart == "idle":
            talk.wait(limits.idle_ns + 1)
        else:
            events += [*talk.events, *other.events]
            talk.events.clear()
            other.events = [
                dataclasses.replace(event, connection_id=event.connection_id + 1) for event in other.events
            ]
    told = Told(events + talk.events, limits)
    ours = [exchange for exchange in told.exchanges if exchange.connection_id == 1]
    assert len(ours) == 4
    assert len({exchange.ordinal for exchange in ours}) == 4
    assert all(exchange.ordinal < 1 << 64 for exchange in ours)


def test_without_an_observer_numbers_are_the_same() -> None:
    talk = Conversation()
    numbers = ExchangeNumbers(talk.events[0])
    assert [numbers.begin_request(Origin(1)), numbers.take(), numbers.begin_request(Origin(2))] == [0, 1, 2]
