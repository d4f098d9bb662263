from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame

from ebpf.events import Missing, Protocol, Role, SocketEvent
from parsers.exchange import Incomplete
from parsers.http_exchange import GrpcCall, Headers, HttpExchange, MessageFlow, Truncation
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS, split_bytes
from tests.unit.otel_bridge.exchanges import span_of
from tests.unit.parsers.http2_peers import (
    OK,
    Dialogue,
    Frames,
    build_request,
    ended,
    head,
    request_of,
    response_of,
    tell,
)

GRPC = (b"content-type", b"application/grpc+proto")


class Seen:
    """What a tracker makes of one connection, and what it holds on the way; nothing may be left behind."""

    def __init__(self, events: Sequence[SocketEvent], limits: ParserLimits | None = None) -> None:
        tracker = ConnectionTracker(limits or ParserLimits())
        self.exchanges: list[HttpExchange] = []
        self.most_held = 0
        for event in events:
            self.exchanges += tracker.feed(event)
            self.most_held = max(self.most_held, tracker.buffered_bytes)
        self.exchanges += tracker.advance(events[-1].ktime_ns + 2 * SECOND_NS) + tracker.flush()
        assert tracker.last_bug is None, tracker.last_bug
        assert tracker.buffered_bytes == 0
        self.counts = tracker.counters()
        assert self.counts["exchanges"] == len(self.exchanges)
        flagged = sum(exchange.incomplete is not None for exchange in self.exchanges)
        assert sum(self.counts[f"incomplete_{cause}"] for cause in Incomplete) == flagged


def only(events: Sequence[SocketEvent], limits: ParserLimits | None = None) -> HttpExchange:
    (exchange,) = Seen(events, limits).exchanges
    return exchange


def call_of(exchange: HttpExchange) -> GrpcCall:
    assert isinstance(exchange.application, GrpcCall)
    return exchange.application


def message(content: bytes, flag: int = 0) -> bytes:
    """Return a message of gRPC with its prefix."""
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


def ask_method(*fields: tuple[bytes, bytes]) -> Headers:
    return build_request(b"/a.B/C", GRPC, (b"te", b"trailers"), *fields, method=b"POST")


class Calling:
    """Calls between h2 endpoints, message by message; each is a chunk of its own unless `flush` is False."""

    def __init__(self) -> None:
        self.dialogue = Dialogue()
        self.stream = 0

    def ask(self, *messages: bytes, fields: Headers | None = None) -> None:
        """Send the head of a request, and all of its messages."""
        self.stream = self.dialogue.client.get_next_available_stream_id()
        self.dialogue.client.send_headers(self.stream, fields or ask_method())
        for content in messages:
            self.say(content, by_client=True)

    def answer(self, *messages: bytes) -> None:
        """Send the head of a response, and messages."""
        self.dialogue.server.send_headers(self.stream, [*OK, GRPC])
        for content in messages:
            self.say(content, by_client=False)

    def say(self, data: bytes, *, by_client: bool) -> None:
        """Send a message, or whatever bytes these are, in frames as the peer accepts them."""
        sender, receiver = self.dialogue.client, self.dialogue.server
        if not by_client:
            sender, receiver = receiver, sender
        for start in range(0, len(data), sender.max_outbound_frame_size):
            part = data[start : start + sender.max_outbound_frame_size]
            sender.send_data(self.stream, part)
            self.dialogue.flush()
            receiver.acknowledge_received_data(len(part), self.stream)
        self.dialogue.flush()

    def end(self, status: bytes = b"0", *fields: tuple[bytes, bytes]) -> None:
        """End the request, then the call."""
        self.dialogue.client.end_stream(self.stream)
        trailers = [(b"grpc-status", status), *fields]
        self.dialogue.server.send_headers(self.stream, trailers, end_stream=True)
        self.dialogue.flush()


def contents(call: GrpcCall) -> tuple[list[bytes], list[bytes]]:
    return [each.content for each in call.request_messages], [each.content for each in call.response_messages]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize(
    ("requests", "responses"),
    [([b"one"], [b"two"]), ([b"one"], [b"a", b"", b"c"]), ([b"a", b"", b"c"], [b"two"]), ([b"a"] * 9, [])],
)
def test_calls_of_all_kinds(role: Role, requests: list[bytes], responses: list[bytes]) -> None:
    calling = Calling()
    calling.ask(*map(message, requests))
    calling.answer(*map(message, responses))
    calling.end(b"5", (b"grpc-message", b"no%20such"), (b"x-last", b"1"))
    talk = tell(calling.dialogue.calls, role=role)
    for events in (talk.events, [part for event in talk.events for part in split_bytes(event)]):
        exchange = only(events)
        assert (exchange.incomplete, exchange.role, exchange.upgraded) == (None, role, False)
        call = call_of(exchange)
        assert (call.method, call.status, call.status_message) == ("a.B/C", 5, "no such")
        assert contents(call) == (requests, responses)
        assert call.request_flow == MessageFlow(len(requests), sum(map(len, requests)))
        assert call.response_flow == MessageFlow(len(responses), sum(map(len, responses)))
        assert (call.web, call.anomalies) == (False, ())
        body = b"".join(map(message, requests))
        assert (request_of(exchange).body.size, request_of(exchange).body.content) == (len(body), body)
        assert response_of(exchange).trailers[-1] == (b"x-last", b"1")


def test_content_beyond_the_body_limit_is_counted_and_not_kept() -> None:
    calling = Calling()
    calling.ask(message(b"x" * 40_000), message(b"y" * 50_000), message(b""))
    calling.answer(*[message(b"z" * 10_000)] * 12)
    calling.end()
    seen = Seen(tell(calling.dialogue.calls).events, ParserLimits(max_body=60_000))
    (exchange,) = seen.exchanges
    call = call_of(exchange)
    assert exchange.incomplete is None
    assert call.request_flow == MessageFlow(3, 90_000)
    assert call.response_flow == MessageFlow(12, 120_000)
    assert [(each.size, len(each.content), each.truncation) for each in call.request_messages] == [
        (40_000, 40_000, None),
        (50_000, 20_000, Truncation.LIMIT),
        (0, 0, None),
    ]
    assert contents(call)[1] == [b"z" * 10_000] * 6
    body = request_of(exchange).body
    assert (body.size, len(body.content), body.truncation) == (90_015, 60_000, Truncation.LIMIT)
    # Bodies, and the messages in them once more, and the heads.
    assert seen.most_held < 4 * 60_000 + 1_000


def test_without_bodies_messages_are_only_counted() -> None:
    calling = Calling()
    calling.ask(message(b"secret"))
    calling.answer(message(b"secret"))
    calling.end()
    call = call_of(only(tell(calling.dialogue.calls).events, ParserLimits(capture_bodies=False)))
    assert contents(call) == ([], [])
    assert call.request_flow == call.response_flow == MessageFlow(1, 6)


def test_compressed_messages_are_read() -> None:
    calling = Calling()
    coded = gzip.compress(b"hello " * 50)
    calling.ask(message(coded, 1), fields=ask_method((b"grpc-encoding", b"gzip")))
    calling.answer()
    calling.end()
    call = call_of(only(tell(calling.dialogue.calls).events))
    assert contents(call)[0] == [b"hello " * 50]
    assert call.request_flow == MessageFlow(1, len(coded))


def test_a_response_may_be_one_block_of_headers() -> None:
    dialogue = Dialogue()
    stream = dialogue.ask(ask_method(), message(b"hi"))
    dialogue.answer(stream, [*OK, GRPC, (b"grpc-status", b"12"), (b"grpc-message", b"never%0Aheard")])
    exchange = only(tell(dialogue.calls).events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.status, call.status_message) == (None, 12, "never\nheard")
    assert call.response_flow == MessageFlow()


@pytest.mark.parametrize("by_client", [True, False])
def test_a_call_that_is_reset_in_the_middle_has_no_status(by_client: bool) -> None:  # noqa: FBT001 - a parameter
    calling = Calling()
    calling.ask(message(b"one"), message(b"two")[:-1])
    calling.answer(message(b"first"))
    peer = calling.dialogue.client if by_client else calling.dialogue.server
    peer.reset_stream(calling.stream, ErrorCodes.CANCEL)
    calling.dialogue.flush()
    exchange = only(tell(calling.dialogue.calls).events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.method, call.status) == (Incomplete.RESET, "a.B/C", None)
    assert contents(call) == ([b"one", b"tw"], [b"first"])
    assert call.request_messages[1].truncation is Truncation.GAP
    assert call.request_flow == MessageFlow(1, 3, uncounted=True)
    assert call.response_flow == MessageFlow(1, 5)


def test_a_call_cut_off_with_its_connection_has_no_status() -> None:
    calling = Calling()
    calling.ask(message(b"one"))
    calling.answer(message(b"first")[:7])
    talk = tell(calling.dialogue.calls)
    talk.close()
    exchange = only(talk.events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.status) == (Incomplete.CLOSED, None)
    assert call.response_flow == MessageFlow(uncounted=True)


def start_call(frames: Frames, stream_id: int = 1, *fields: tuple[bytes, bytes]) -> None:
    frames.client(frames.request(stream_id, ask_method(*fields), ends=False))
    frames.client(ended(stream_id, message(b"one")))


def test_a_response_of_which_the_head_was_never_seen_has_a_status_and_no_messages() -> None:
    frames = Frames()
    start_call(frames)
    data = head(1, frames.responses.encode([*OK, GRPC]), ends=False).serialize()
    frames.talk.response(data[:9], length=len(data), missing=Missing.RING_FULL)
    frames.server(DataFrame(1, message(b"two")))
    frames.answer(1, [(b"grpc-status", b"3")])
    exchange = only(frames.talk.events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.status) == (Incomplete.LOST_BYTES, 3)
    assert contents(call) == ([b"one"], [])
    # That there were none is not known.
    assert call.response_flow == MessageFlow(uncounted=True)
    assert "wirespan.rpc.response.message_count" not in span_of(exchange).attributes


def test_a_request_of_which_the_head_was_never_seen_has_no_method() -> None:
    frames = Frames()
    data = head(1, frames.requests.encode(ask_method()), ends=False).serialize()
    frames.talk.request(data[:9], length=len(data), missing=Missing.RING_FULL)
    frames.client(ended(1, message(b"one")))
    frames.answer(1, [*OK, GRPC], ends=False)
    frames.server(DataFrame(1, message(b"two")))
    frames.answer(1, [(b"grpc-status", b"0")])
    exchange = only(frames.talk.events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.method, call.status) == (Incomplete.LOST_BYTES, None, 0)
    assert contents(call) == ([], [b"two"])
    assert call.request_flow == MessageFlow(uncounted=True)


@pytest.mark.parametrize(
    ("missing", "cut"), [(Missing.RING_FULL, Truncation.GAP), (Missing.BUDGET, Truncation.LIMIT)]
)
def test_a_gap_in_a_message_is_stepped_over_and_one_beyond_it_ends_the_count(
    missing: Missing, cut: Truncation
) -> None:
    frames = Frames()
    start_call(frames)
    frames.answer(1, [*OK, GRPC], ends=False)
    data = DataFrame(1, message(b"x" * 100) + message(b"y" * 100) + message(b"z")).serialize()
    # One hole in each of two messages, then one that takes the prefix of the third.
    frames.talk.response(data[:30], length=90, missing=missing)
    frames.talk.response(data[90:150], length=80, missing=missing)
    frames.talk.response(data[170:214], length=len(data) - 170, missing=missing)
    frames.answer(1, [(b"grpc-status", b"0")])
    exchange = only(frames.talk.events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.status) == (None, 0)
    assert call.response_flow == MessageFlow(2, 200, uncounted=True)
    assert [(each.size, each.content, each.truncation) for each in call.response_messages] == [
        (100, b"x" * 16, cut),
        (100, b"y" * 31, cut),
    ]


def test_when_the_place_is_lost_nothing_more_is_counted() -> None:
    frames = Frames()
    start_call(frames)
    frames.answer(1, [*OK, GRPC], ends=False)
    frames.server(DataFrame(1, message(b"two")))
    frames.lose(50, client=False)
    frames.prove(client=False)
    frames.server(DataFrame(1, message(b"three")))
    frames.talk.response(head(1, frames.responses.encode([(b"grpc-status", b"0")])).serialize())
    exchange = only(frames.talk.events)
    call = call_of(exchange)
    assert (exchange.incomplete, call.status) == (Incomplete.LOST_BYTES, 0)
    assert contents(call)[1] == [b"two"]
    assert call.response_flow == MessageFlow(1, 3, uncounted=True)


def join_late() -> Frames:
    """Return a connection that the kernel side knows to speak HTTP/2, but not who opened it."""
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    frames.talk.socket = replace(frames.talk.socket, protocol=Protocol.HTTP2)
    frames.talk.events.clear()
    return frames


@pytest.mark.parametrize("proves", [True, False])
def test_a_call_is_understood_although_it_was_not_known_who_is_who(
    proves: bool,  # noqa: FBT001 - a parameter
) -> None:
    frames = join_late()
    frames.client(frames.request(1, ask_method(), ends=False), DataFrame(1, message(b"one")))
    frames.answer(1, [*OK, GRPC], ends=False)
    if proves:
        frames.prove()
        frames.prove(client=False)
        frames.ask(3)
    frames.client(ended(1, message(b"more")))
    frames.server(DataFrame(1, message(b"two")))
    frames.answer(1, [(b"grpc-status", b"0")])
    exchange = Seen(frames.talk.events).exchanges[0]
    call = call_of(exchange)
    assert exchange.incomplete is Incomplete.JOINED_LATE
    assert (call.method, call.status) == ("a.B/C", 0)
    assert contents(call) == ([b"one", b"more"], [b"two"])
    assert call.request_flow == MessageFlow(2, 7)


def test_what_passed_before_anybody_listened_is_told_as_far_as_it_is_known() -> None:
    frames = join_late()
    data = DataFrame(1, message(b"x" * 100) + message(b"y")).serialize()
    frames.client(frames.request(1, ask_method(), ends=False))
    frames.talk.request(data[:40], length=60, missing=Missing.SENDFILE)
    frames.talk.request(data[60:])
    frames.client(ended(1))
    frames.answer(1, [*OK, GRPC, (b"grpc-status", b"0")])
    call = call_of(only(frames.talk.events))
    assert call.request_messages[0].truncation is Truncation.SENDFILE
    # What came behind the hole was not kept for a listener.
    assert call.request_flow == MessageFlow(1, 100, uncounted=True)


@pytest.mark.parametrize("content_type", [b"Application/GRPC", b"application/grpc-web+proto"])
def test_other_content_types_of_grpc(content_type: bytes) -> None:
    dialogue = Dialogue()
    fields = build_request(b"/a.B/C", (b"content-type", content_type), method=b"POST")
    stream = dialogue.ask(fields, message(b"hi"))
    web = content_type != b"Application/GRPC"
    trailers = message(b"grpc-status:7\r\n", 0x80) if web else b""
    dialogue.answer(
        stream,
        [*OK, (b"content-type", content_type)],
        message(b"you") + trailers,
        None if web else [(b"grpc-status", b"7")],
    )
    call = call_of(only(tell(dialogue.calls).events))
    assert (call.web, call.status, contents(call)) == (web, 7, ([b"hi"], [b"you"]))


@pytest.mark.parametrize("content_type", [b"text/html", b"application/grpcish", b"application/json"])
def test_anything_else_is_no_call(content_type: bytes) -> None:
    dialogue = Dialogue()
    fields = build_request(b"/a.B/C", (b"content-type", content_type), method=b"POST")
    stream = dialogue.ask(fields, message(b"hi"))
    dialogue.answer(stream, [*OK, (b"content-type", content_type)], b"")
    seen = Seen(tell(dialogue.calls).events)
    assert seen.exchanges[0].application is None
    assert seen.counts["grpc_calls"] == 0


def test_a_plain_answer_to_a_call_carries_no_messages() -> None:
    dialogue = Dialogue()
    stream = dialogue.ask(ask_method(), message(b"hi"))
    dialogue.answer(stream, [(b":status", b"502"), (b"content-type", b"text/html")], b"<h1>no</h1>")
    call = call_of(only(tell(dialogue.calls).events))
    assert (call.method, call.status, call.response_flow) == ("a.B/C", None, MessageFlow())


def test_calls_in_flight_share_the_room_of_their_connection() -> None:
    dialogue = Dialogue()
    content = message(b"x" * 900) + message(b"y" * 100)
    streams = [dialogue.ask(ask_method(), content) for _ in range(40)]
    for stream in streams:
        dialogue.answer(stream, [*OK, GRPC, (b"grpc-status", b"0")])
    seen = Seen(tell(dialogue.calls).events, ParserLimits(max_http2_content=20_000))
    assert seen.counts["http2_refused_content"] > 0
    # Fields, frames and tables are held besides.
    assert seen.most_held < 30_000
    kept = [contents(call_of(exchange))[0] for exchange in seen.exchanges]
    assert kept[0] == [b"x" * 900, b"y" * 100]
    assert kept[-1] == []
    for exchange in seen.exchanges:
        assert exchange.incomplete is None
        assert call_of(exchange).request_flow == MessageFlow(2, 1_000)


def test_a_message_that_runs_out_of_room_says_so() -> None:
    frames = Frames()
    frames.client(frames.request(1, ask_method(), ends=False))
    whole = message(b"x" * 5_000) + message(b"y")
    frames.client(DataFrame(1, whole[:1_000]))
    frames.client(ended(1, whole[1_000:]))
    frames.answer(1, [*OK, GRPC, (b"grpc-status", b"0")])
    seen = Seen(frames.talk.events, ParserLimits(max_http2_content=4_000))
    call = call_of(seen.exchanges[0])
    (kept,) = call.request_messages
    assert (kept.size, kept.content, kept.truncation) == (5_000, b"x" * 995, Truncation.LIMIT)
    assert call.request_flow == MessageFlow(2, 5_001)
    assert seen.counts["grpc_messages_dropped"] == seen.counts["grpc_messages_cut"] == 1
