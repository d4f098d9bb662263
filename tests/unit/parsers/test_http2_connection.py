from __future__ import annotations

import gzip

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ebpf.events import EventKind, Missing, Role
from parsers.counters import new_counters
from parsers.exchange import (
    Body,
    GrpcCall,
    Headers,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    Incomplete,
    Truncation,
    WebSocketSession,
)
from parsers.http2_connection import Http2Connection
from parsers.limits import ParserLimits
from tests.builders import MILLISECOND_NS, SECOND_NS, Conversation, describe, split_bytes
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
    watch,
)

WHOLE = "GET / 2 (0) -> 200 2 (0)"


def ask_and_answer(count: int = 1) -> Dialogue:
    dialogue = Dialogue()
    for number in range(count):
        stream_id = dialogue.ask(build_request(b"/%d" % number, (b"user", b"u%d" % (number % 3))))
        dialogue.answer(stream_id, [*OK, (b"x-id", b"%d" % number)], b"body %d" % number)
    return dialogue


# What is whole


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("known", [True, False])
def test_an_exchange_with_everything(role: Role, known: bool) -> None:  # noqa: FBT001 - a parameter
    dialogue = Dialogue()
    stream_id = dialogue.ask(
        build_request(b"/a?b=c", (b"x-one", b"1"), (b"cookie", b"a=1"), method=b"POST"),
        b"request",
        [(b"x-checksum", b"r")],
    )
    dialogue.server.send_headers(stream_id, [(b":status", b"103"), (b"link", b"</style.css>")])
    dialogue.answer(stream_id, [*OK, (b"content-type", b"text/plain")], b"response", [(b"grpc-status", b"0")])
    talk = tell(dialogue.calls, role=role, kernel_role=role if known else Role.UNKNOWN)
    (exchange,) = watch(talk.events).exchanges
    assert describe(exchange) == (
        "POST /a?b=c 2 (7 b'request') trailers 1 -> 200 2 (8 b'response') trailers 1 interim 103"
    )
    assert (exchange.role, exchange.connection_id, exchange.tgid) == (role, 1, 100)
    assert (exchange.upgraded, exchange.pushed, exchange.application) == (False, False, None)
    request, response = request_of(exchange), response_of(exchange)
    assert request.headers == [(b"x-one", b"1"), (b"cookie", b"a=1")]
    assert (request.scheme, request.authority, request.protocol) == (b"http", b"a", None)
    assert request.trailers == [(b"x-checksum", b"r")]
    assert (response.headers, response.reason) == ([(b"content-type", b"text/plain")], b"")
    assert response.trailers == [(b"grpc-status", b"0")]
    assert request.start_ktime_ns <= request.end_ktime_ns < response.start_ktime_ns <= response.end_ktime_ns


def test_a_hundred_streams_in_flight_are_paired_by_their_ids() -> None:
    dialogue = Dialogue()
    ids = [dialogue.ask(build_request(b"/%d" % number), flush=False) for number in range(100)]
    dialogue.flush()
    for number, stream_id in reversed(list(enumerate(ids))):
        dialogue.server.send_headers(stream_id, OK)
        dialogue.server.send_data(stream_id, b"first half of %d, " % number)
    for number, stream_id in enumerate(ids):
        dialogue.server.send_data(stream_id, b"second half of %d" % number, end_stream=True)
        dialogue.flush()
    exchanges = watch(tell(dialogue.calls).events).exchanges
    assert len(exchanges) == 100
    for exchange in exchanges:
        number = int(request_of(exchange).target[1:])  # type: ignore[index]
        content = response_of(exchange).body.content
        assert content == b"first half of %d, second half of %d" % (number, number)
        assert exchange.incomplete is None


def test_every_byte_may_come_alone() -> None:
    dialogue = Dialogue(push=True)
    stream_id = dialogue.ask(build_request(b"/", (b"x-long", b"v" * 40)), b"request", [(b"t", b"1")])
    dialogue.server.push_stream(stream_id, 2, build_request(b"/style.css"))
    dialogue.answer(2, OK, b"style")
    dialogue.server.send_headers(stream_id, OK)
    dialogue.server.send_data(stream_id, b"response", pad_length=9)
    dialogue.server.send_headers(stream_id, [(b"t", b"2")], end_stream=True)
    dialogue.client.ping(b"12345678")
    dialogue.flush()
    dialogue.server.close_connection()
    dialogue.flush()
    talk = tell(dialogue.calls)
    whole = watch(talk.events)
    alone = watch([part for event in talk.events for part in split_bytes(event)])
    assert [describe(exchange) for exchange in alone.exchanges] == [
        describe(exchange) for exchange in whole.exchanges
    ]
    assert [describe(exchange) for exchange in whole.exchanges] == [
        "GET /style.css 2 (0) -> 200 2 (5 b'style')",
        "GET / 2 (7 b'request') trailers 1 -> 200 2 (8 b'response') trailers 1",
    ]
    assert [exchange.pushed for exchange in whole.exchanges] == [True, False]


@pytest.mark.parametrize("size", [0, 100, 65_536])
def test_the_table_size_follows_the_encoder(size: int) -> None:
    dialogue = Dialogue(table_size=size)
    for number in range(30):
        fields = [(b"x-%d" % index, b"%d" % (number // 3)) for index in range(5)]
        dialogue.answer(dialogue.ask(build_request(b"/%d" % (number % 7), *fields)), [*OK, *fields])
    exchanges = watch(tell(dialogue.calls).events).exchanges
    for number, exchange in enumerate(exchanges):
        fields = [(b"x-%d" % index, b"%d" % (number // 3)) for index in range(5)]
        assert exchange.incomplete is None
        assert request_of(exchange).target == b"/%d" % (number % 7)
        assert request_of(exchange).headers == response_of(exchange).headers == fields


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")])
def test_a_response_may_have_no_content_whatever_its_fields_say(method: bytes, status: bytes) -> None:
    dialogue = Dialogue()
    stream_id = dialogue.ask(build_request(b"/", method=method))
    dialogue.answer(stream_id, [(b":status", status), (b"content-length", b"10")])
    (exchange,) = watch(tell(dialogue.calls).events).exchanges
    assert exchange.incomplete is None
    assert response_of(exchange).body.size == 0


def test_all_types_of_frames_pass_and_unknown_ones_too() -> None:
    frames = Frames()
    frames.client(WindowUpdateFrame(0, 1_000), PriorityFrame(3, depends_on=0), PingFrame(0, b"12345678"))
    block = frames.requests.encode(build_request(b"/", (b"a", b"b")))
    frames.client(
        HeadersFrame(1, block[:3], pad_length=4, depends_on=0, flags=["PADDED", "PRIORITY", "END_STREAM"]),
        ContinuationFrame(1, block[3:5]),
        ContinuationFrame(1, b""),
        ContinuationFrame(1, block[5:], flags=["END_HEADERS"]),
    )
    frames.server(SettingsFrame(0, flags=["ACK"]), PingFrame(0, b"12345678", flags=["ACK"]))
    frames.talk.response(b"\x00\x00\x03\xfa\xff\x00\x00\x00\x01???")
    frames.server(head(1, frames.responses.encode(OK), ends=False), DataFrame(1), WindowUpdateFrame(1, 5))
    frames.server(DataFrame(1, b"ok", pad_length=255, flags=["PADDED"]))
    frames.server(DataFrame(1, b"", pad_length=3, flags=["PADDED", "END_STREAM"]))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (2 b'ok')"]


def test_priority_alone_does_not_change_what_is_read() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    frames.client(HeadersFrame(1, block, depends_on=0, flags=["PRIORITY", "END_STREAM", "END_HEADERS"]))
    frames.answer(1)
    assert frames.describe() == [WHOLE]


def test_bodies_are_decoded_and_cut_at_the_bound() -> None:
    dialogue = Dialogue()
    coded = [*OK, (b"content-type", b"text/plain"), (b"content-encoding", b"identity, gzip")]
    dialogue.answer(dialogue.ask(build_request(b"/gzip")), coded, gzip.compress(b"text" * 20))
    dialogue.answer(dialogue.ask(build_request(b"/long")), OK, b"x" * 300)
    first, second = watch(tell(dialogue.calls).events, ParserLimits(max_body=100)).exchanges
    body = response_of(first).body
    assert (body.content, body.charset, body.truncation) == (b"text" * 20, "utf-8", None)
    body = response_of(second).body
    assert (body.size, body.content, body.truncation) == (300, b"x" * 100, Truncation.LIMIT)
    assert first.incomplete is second.incomplete is None
    (_, second) = watch(tell(dialogue.calls).events, ParserLimits(capture_bodies=False)).exchanges
    body = response_of(second).body
    assert (body.size, body.content, body.truncation) == (300, b"", None)


def test_a_response_reported_before_its_request_waits_for_it() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.answer(1, ends=False)
    frames.server(ended(1, b"body"))
    frames.talk.wait(900 * MILLISECOND_NS)
    frames.ask(1)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (4 b'body')"]


def test_a_request_that_does_not_come_is_waited_for_no_longer() -> None:
    frames = Frames()
    frames.answer(1)
    talk = frames.talk
    limits = ParserLimits()
    connection = Http2Connection(talk.events[0], limits, counts := new_counters(), joined_late=False)
    for event in talk.events:
        assert connection.feed(event) == []
    assert connection.needs_attention
    due = talk.ktime_ns + limits.reorder_ns
    assert connection.due_ktime_ns == due
    assert connection.expire(due - 1) == []
    (exchange,) = connection.expire(due)
    assert (exchange.request, exchange.incomplete) == (None, Incomplete.LOST_BYTES)
    assert not connection.needs_attention
    assert connection.held_bytes == 0
    assert counts["responses_unpaired"] == 1


# Ends


@pytest.mark.parametrize(
    ("cause", "flag"), [(Incomplete.CLOSED, "closed"), (Incomplete.TIMED_OUT, "timed_out")]
)
def test_the_end_of_the_connection_ends_what_is_pending(cause: Incomplete, flag: str) -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.server(DataFrame(1, b"part"))
    frames.ask(3, path=b"/3", ends=False)
    frames.client(DataFrame(3, b"half"))
    size = 4 if cause is Incomplete.CLOSED else None
    content = " b'half'"
    assert [describe(exchange) for exchange in frames.watch(cause=cause).exchanges] == [
        f"GET / 2 (0) -> 200 2 ({size} b'part') incomplete {flag}",
        f"GET /3 2 ({size}{content}) -> ? incomplete {flag}",
    ]


def test_the_end_of_the_responses_ends_what_waits_for_them() -> None:
    frames = Frames()
    frames.ask(1)
    frames.ask(3, path=b"/3")
    frames.answer(3, ends=False)
    frames.talk.end_requests()
    frames.talk.end_responses()
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    out = [exchange for event in frames.talk.events for exchange in connection.feed(event)]
    assert [describe(exchange) for exchange in out] == [
        "GET / 2 (0) -> ? incomplete closed",
        "GET /3 2 (0) -> 200 2 (0) incomplete closed",
    ]


def test_a_coded_body_that_was_cut_is_no_decoding_error() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, [*OK, (b"content-encoding", b"gzip")], ends=False)
    frames.server(DataFrame(1, gzip.compress(b"text" * 100)[:25]))
    (exchange,) = frames.watch(cause=Incomplete.CLOSED).exchanges
    assert response_of(exchange).body.truncation is Truncation.GAP


@pytest.mark.parametrize("client", [True, False])
def test_a_reset_stream_is_flagged(client: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.server(DataFrame(1, b"part"))
    (frames.client if client else frames.server)(RstStreamFrame(1, ErrorCodes.CANCEL))
    frames.server(ended(1, b"late"))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (4 b'part') incomplete reset"]
    assert frames.watch().counts["http2_stray_frames"] == 1


def test_an_early_answer_is_whole_although_the_request_is_not() -> None:
    dialogue = Dialogue()
    stream_id = dialogue.client.get_next_available_stream_id()
    dialogue.client.send_headers(stream_id, build_request(b"/", method=b"POST"))
    dialogue.client.send_data(stream_id, b"some of it")
    dialogue.flush()
    dialogue.answer(stream_id, [(b":status", b"413")], b"too large")
    dialogue.server.reset_stream(stream_id, ErrorCodes.NO_ERROR)
    dialogue.flush()
    assert [describe(exchange) for exchange in watch(tell(dialogue.calls).events).exchanges] == [
        "POST / 2 (10 b'some of it') -> 413 2 (9 b'too large') anomalies request_cut_short"
    ]


def test_a_reset_with_an_error_after_the_answer_says_that_the_request_is_not_whole() -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.answer(1)
    frames.server(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
    frames.client(RstStreamFrame(99, ErrorCodes.CANCEL))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0) incomplete reset"]


def test_a_reset_reported_before_the_request_waits_for_it() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.answer(1, ends=False)
    frames.server(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
    frames.ask(1)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0) incomplete reset"]


def test_streams_that_the_server_has_not_taken_are_reset() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    frames.server(GoAwayFrame(0, last_stream_id=2**31 - 1))
    frames.server(GoAwayFrame(0, last_stream_id=3))
    frames.answer(3)
    frames.ask(7, path=b"/7")
    frames.answer(1)
    assert frames.describe() == [
        "GET /5 2 (0) -> ? incomplete reset",
        "GET /3 2 (0) -> 200 2 (0)",
        "GET /1 2 (0) -> 200 2 (0)",
        "GET /7 2 (0) -> ? incomplete reset",
    ]


def test_a_client_that_goes_away_takes_no_pushes() -> None:
    frames = Frames()
    frames.ask(1)
    promise = frames.responses.encode(build_request(b"/pushed"))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.client(GoAwayFrame(0, last_stream_id=0))
    frames.answer(1)
    (pushed, asked) = frames.watch().exchanges
    assert describe(pushed) == "GET /pushed 2 (0) -> ? incomplete reset"
    assert describe(asked) == WHOLE


# Push, CONNECT, upgrade


def test_a_promised_request_is_paired_with_its_stream() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.ask(1)
    promise = frames.responses.encode(build_request(b"/pushed"))
    frames.server(PushPromiseFrame(1, 2, data=promise, pad_length=3, flags=["END_HEADERS", "PADDED"]))
    again = frames.responses.encode(build_request(b"/again"))
    frames.server(PushPromiseFrame(1, 2, data=again, flags=["END_HEADERS"]))
    frames.answer(2, ends=False)
    frames.answer(1)
    frames.server(ended(2, b"pushed"))
    asked, pushed = frames.watch().exchanges
    assert (describe(asked), asked.pushed) == (WHOLE, False)
    assert describe(pushed) == "GET /pushed 2 (0) -> 200 2 (6 b'pushed')"
    assert (pushed.pushed, pushed.role) == (True, Role.CLIENT)


def test_a_promise_tells_who_the_server_is() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    for _ in range(5):
        frames.server(PingFrame(0, b"12345678"))
    promise = frames.responses.encode(build_request(b"/pushed"))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.answer(2)
    (exchange,) = frames.watch().exchanges
    assert (describe(exchange), exchange.role) == ("GET /pushed 2 (0) -> 200 2 (0)", Role.SERVER)


def test_a_pushed_stream_whose_promise_was_lost_has_no_request() -> None:
    frames = Frames()
    frames.ask(1)
    promise = frames.responses.encode(build_request(b"/pushed", (b"a", b"b")))
    data = PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]).serialize()
    frames.talk.response(data[:15], length=len(data), missing=Missing.RING_FULL)
    frames.answer(2)
    frames.answer(1)
    pushed, asked = frames.watch().exchanges
    assert describe(asked) == WHOLE
    assert (request_of(pushed).target, pushed.pushed, pushed.incomplete) == (None, True, "lost_bytes")


def test_connect_leaves_http_with_its_answer() -> None:
    frames = Frames()
    frames.client(frames.request(1, [(b":method", b"CONNECT"), (b":authority", b"a:22")], ends=False))
    frames.client(DataFrame(1, b"too early"))
    frames.answer(1, ends=False)
    frames.server(DataFrame(1, b"SSH-2.0"))
    (exchange,) = frames.watch().exchanges
    assert describe(exchange) == "CONNECT a:22 2 (0) -> 200 2 (0) upgraded"


def test_a_refused_connect_is_an_exchange_like_any_other() -> None:
    frames = Frames()
    frames.client(frames.request(1, [(b":method", b"CONNECT"), (b":authority", b"a:22")]))
    frames.answer(1, [(b":status", b"403")], ends=False)
    frames.server(ended(1, b"no"))
    assert frames.describe() == ["CONNECT a:22 2 (0) -> 403 2 (2 b'no')"]


def test_an_extended_connect_names_its_protocol() -> None:
    frames = Frames()
    fields = [*build_request(b"/chat", method=b"CONNECT"), (b":protocol", b"connect-udp")]
    frames.client(frames.request(1, fields, ends=False))
    frames.answer(1, ends=False)
    (exchange,) = frames.watch().exchanges
    assert describe(exchange) == "CONNECT /chat 2 (0) -> 200 2 (0) upgraded"
    assert request_of(exchange).protocol == b"connect-udp"


def test_a_grpc_call_is_understood_with_all_of_its_content() -> None:
    frames = Frames()
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    message = b"\x00\x00\x00\x00\x05hello"
    frames.client(frames.request(1, build_request(b"/a.B/C", *fields, method=b"POST"), ends=False))
    frames.client(DataFrame(1, message[:3]), ended(1, message[3:] + message))
    frames.answer(1, [*OK, fields[0]], ends=False)
    frames.server(DataFrame(1, message))
    data = DataFrame(1, message).serialize()
    frames.talk.response(data[:16], length=len(data), missing=Missing.RING_FULL)
    frames.answer(1, [(b"grpc-status", b"5"), (b"grpc-message", b"gone")])
    (exchange,) = frames.watch().exchanges
    call = exchange.application
    assert isinstance(call, GrpcCall)
    assert (call.method, call.status, call.status_message) == ("a.B/C", 5, "gone")
    assert (call.request_flow.count, call.response_flow.count) == (2, 2)
    assert [message.content for message in call.request_messages] == [b"hello", b"hello"]


@pytest.mark.parametrize("early", [True, False])
def test_a_websocket_reads_what_was_reported_before_the_handshake_was_answered(
    early: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    frames = Frames()
    fields = [*build_request(b"/chat", method=b"CONNECT"), (b":protocol", b"websocket")]
    text = b"\x81\x82\x00\x00\x00\x00hi"
    frames.client(frames.request(1, fields, ends=False))
    if early:
        frames.client(DataFrame(1, text))
    frames.answer(1, ends=False)
    if not early:
        frames.client(DataFrame(1, text))
    frames.server(DataFrame(1, b"\x81\x03you"))
    frames.client(RstStreamFrame(1, ErrorCodes.CANCEL))
    watched = frames.watch()
    (exchange,) = watched.exchanges
    assert describe(exchange) == "CONNECT /chat 2 (0) -> 200 2 (0) upgraded incomplete reset"
    assert isinstance(exchange.application, WebSocketSession)
    assert [message.content for message in exchange.application.messages] == [b"hi", b"you"]


def test_what_was_beyond_the_body_limit_before_somebody_listened_is_missing_to_him() -> None:
    frames = Frames()
    fields = [*build_request(b"/chat", method=b"CONNECT"), (b":protocol", b"websocket")]
    frames.client(
        frames.request(1, fields, ends=False), DataFrame(1, b"\x82\xfe\x01\x00\x00\x00\x00\x00" + bytes(256))
    )
    frames.answer(1, ends=False)
    (exchange,) = frames.watch(ParserLimits(max_body=100)).exchanges
    assert isinstance(exchange.application, WebSocketSession)
    (message,) = exchange.application.messages
    assert (message.size, message.truncation) == (256, Truncation.GAP)


def build_handshake(talk: Conversation, incomplete: Incomplete | None = None) -> HttpExchange:
    nothing = Body(0, b"", None)
    request = HttpRequest(b"GET", b"/", "1.1", [(b"upgrade", b"h2c")], nothing, 1, 2)
    response = HttpResponse(101, b"Switching Protocols", "1.1", [], nothing, 3, 4)
    return HttpExchange(1, talk.socket, Role.SERVER, 77, request, response, incomplete, upgraded=True)


@pytest.mark.parametrize("incomplete", [None, Incomplete.JOINED_LATE])
def test_the_request_of_an_upgrade_is_answered_on_stream_1(incomplete: Incomplete | None) -> None:
    frames = Frames()
    frames.answer(1, ends=False)
    frames.server(ended(1, b"body"))
    frames.ask(3, path=b"/3")
    frames.answer(3)
    talk = frames.talk
    handshake = build_handshake(talk, incomplete)
    counts = new_counters()
    connection = Http2Connection(
        talk.events[0], ParserLimits(), counts, joined_late=False, handshake=handshake
    )
    first, second = [exchange for event in talk.events for exchange in connection.feed(event)]
    assert first is handshake
    flag = " incomplete joined_late" if incomplete else ""
    assert describe(first) == "GET / 1.1 (0) -> 200 2 (4 b'body') interim 101" + flag
    assert describe(second) == "GET /3 2 (0) -> 200 2 (0)"
    # Whoever made the handshake has counted it.
    assert counts["exchanges"] == 1
    assert counts["incomplete_joined_late"] == 0


def test_an_upgrade_that_is_never_answered_stays_a_handshake() -> None:
    frames = Frames()
    talk = frames.talk
    handshake = build_handshake(talk)
    counts = new_counters()
    connection = Http2Connection(
        talk.events[0], ParserLimits(), counts, joined_late=False, handshake=handshake
    )
    for event in talk.events:
        assert connection.feed(event) == []
    (exchange,) = connection.finish(Incomplete.CLOSED)
    assert describe(exchange) == "GET / 1.1 (0) -> 101 1.1 (0) upgraded incomplete closed"
    assert counts["incomplete_closed"] == 1


def test_what_a_predecessor_left_unread_is_read_first() -> None:
    dialogue = ask_and_answer()
    talk = tell(dialogue.calls)
    source = Http2Connection(talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    pieces = ([], [])
    for event in talk.events:
        if event.kind is EventKind.DATA:
            pieces[event.direction].extend(source.streams[event.direction].receive(event))
    successor = Http2Connection(source, ParserLimits(), new_counters(), joined_late=False, unread=pieces)
    assert len(successor.begin()) == 1
    assert successor.role is Role.SERVER
    assert successor.begin() == []


def test_a_reversed_connection_is_known_by_its_preface() -> None:
    # A tunnel: whoever accepted the connection sends the requests.
    dialogue = ask_and_answer()
    (exchange,) = watch(tell(dialogue.calls, role=Role.SERVER, kernel_role=Role.CLIENT).events).exchanges
    assert (exchange.role, exchange.incomplete) == (Role.SERVER, None)


# What no peer accepts


def test_a_connection_without_the_clients_preface_is_still_read() -> None:
    frames = Frames(late=False)
    talk = Conversation()
    talk.request(SettingsFrame(0).serialize() + frames.request(1, build_request(b"/")).serialize())
    talk.response(SettingsFrame(0).serialize() + head(1, frames.responses.encode(OK)).serialize())
    assert [describe(exchange) for exchange in watch(talk.events).exchanges] == [WHOLE]


@pytest.mark.parametrize("bad", [b"PRI * HTTP/1.0\r\n\r\n", b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello"])
def test_bytes_that_are_no_frames_are_passed_over(bad: bytes) -> None:
    talk = Conversation()
    talk.request(bad[:4])
    talk.request(bad[4:])
    talk.response(b"\x00" * 50)
    watched = watch(talk.events)
    assert watched.exchanges == []
    assert watched.counts["lost_places"] == 2


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x", id="content of no stream"),
        pytest.param(b"\x00\x00\x00\x00\x08\x00\x00\x00\x01", id="padded without a pad length"),
        pytest.param(b"\x00\x00\x02\x00\x08\x00\x00\x00\x01\x05x", id="more padding than payload"),
        pytest.param(b"\x00\x00\x02\x01\x0c\x00\x00\x00\x05\x05x", id="more padding than block"),
        pytest.param(b"\x00\x00\x03\x01\x24\x00\x00\x00\x05\x00\x00\x00", id="priority cut off"),
        pytest.param(b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x82", id="continuation of nothing"),
        pytest.param(b"\x00\x00\x07\x06\x00\x00\x00\x00\x001234567", id="short ping"),
    ],
)
def test_a_frame_that_no_receiver_accepts_ends_what_was_open(frame: bytes) -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.talk.request(frame)
    frames.answer(1)
    watched = frames.watch()
    assert [exchange.incomplete for exchange in watched.exchanges] == [Incomplete.INVALID]
    assert watched.counts["http2_invalid_frames"] == 1


def test_a_block_that_is_interrupted_is_lost() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    frames.client(HeadersFrame(1, block), DataFrame(1, b"x"))
    frames.answer(1)
    assert [exchange.incomplete for exchange in frames.watch().exchanges] == [Incomplete.INVALID]


def test_a_block_that_is_no_hpack_is_flagged_and_the_table_forgotten() -> None:
    frames = Frames()
    frames.ask(1, (b"user", b"alice"))
    frames.answer(1)
    frames.client(head(3, b"\x82\x84\xff"))
    frames.answer(3)
    frames.ask(5, (b"user", b"alice"))
    frames.answer(5)
    first, second, third = frames.watch().exchanges
    assert first.incomplete is None
    assert (request_of(second).method, second.incomplete) == (b"GET", Incomplete.INVALID)
    assert (request_of(third).headers, third.incomplete) == ([], Incomplete.UNKNOWN_HEADERS)


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param([[(b"a", b"b")]], id="no pseudo-field"),
        pytest.param([OK], id="a response from the client"),
        pytest.param([build_request(b"/"), build_request(b"/2")], id="two heads"),
        pytest.param([[*build_request(b"/"), (b":path", b"/2")]], id="two paths"),
        pytest.param([build_request(b"/"), [(b"a", b"b")], [(b"c", b"d")]], id="two trailers"),
    ],
)
def test_a_message_that_no_peer_accepts_is_invalid(blocks: list[Headers]) -> None:
    frames = Frames()
    for block in blocks:
        frames.client(frames.request(1, block, ends=block is blocks[-1]))
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID


def test_the_server_sends_no_requests_and_the_client_no_even_streams() -> None:
    frames = Frames()
    frames.client(frames.request(2, build_request(b"/")))
    frames.server(head(2, frames.responses.encode(build_request(b"/"))))
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID


def test_what_is_odd_is_named_once_for_both_messages() -> None:
    frames = Frames()
    frames.ask(1, (b"X-Upper", b"1"))
    frames.answer(1, [*OK, (b"connection", b"close")], ends=False)
    frames.answer(1, [(b"X-Upper", b"1")])
    (exchange,) = frames.watch().exchanges
    assert exchange.anomalies == ("uppercase_field_name", "connection_field")
    assert exchange.incomplete is None


def test_fields_beyond_the_bound_are_counted() -> None:
    frames = Frames()
    frames.ask(1, *[(b"a", b"%d" % number) for number in range(9)])
    frames.answer(1)
    watched = frames.watch(ParserLimits(max_headers=4))
    (exchange,) = watched.exchanges
    assert (len(request_of(exchange).headers), request_of(exchange).dropped_headers) == (4, 5)
    assert watched.counts["http2_dropped_fields"] == 5


def test_trailers_have_to_end_their_stream() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.answer(1, [(b"t", b"1")], ends=False)
    frames.server(ended(1))
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID
    assert response_of(exchange).trailers == [(b"t", b"1")]


def test_content_before_the_head_is_invalid() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, [(b":status", b"100")], ends=False)
    frames.server(DataFrame(1, b"?"))
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID
    assert (response_of(exchange).status, response_of(exchange).body.size) == (200, None)


def test_frames_of_streams_that_never_began_or_have_ended_begin_none() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    frames.client(DataFrame(1, b"late"), DataFrame(7, b"never"))
    frames.server(ended(7))
    frames.ask(1, path=b"/again")
    frames.ask(3)
    frames.client(DataFrame(3, b"after the end"), frames.request(3, [(b"t", b"1")]))
    frames.answer(3)
    watched = frames.watch()
    assert [describe(exchange) for exchange in watched.exchanges] == [WHOLE, WHOLE]
    assert watched.counts["http2_stray_frames"] == 6


def test_only_so_many_interim_responses_are_noted() -> None:
    frames = Frames()
    frames.ask(1)
    for _ in range(5):
        frames.answer(1, [(b":status", b"102")], ends=False)
    frames.answer(1)
    (exchange,) = frames.watch(ParserLimits(max_interim=2)).exchanges
    assert response_of(exchange).interim == (102, 102)
    assert exchange.incomplete is None


# Bounds


def test_a_flood_of_continuations_is_refused() -> None:
    frames = Frames()
    frames.client(HeadersFrame(1, b"\x82\x86\x84", flags=["END_STREAM"]))
    for _ in range(100):
        frames.client(ContinuationFrame(1, b"\x00\x01a\x60" + b"v" * 96))
    frames.client(ContinuationFrame(1, b"", flags=["END_HEADERS"]))
    frames.answer(1)
    limits = ParserLimits(max_header_block=1_000)
    watched = frames.watch(limits)
    (exchange,) = watched.exchanges
    assert (request_of(exchange).method, exchange.incomplete) == (None, Incomplete.INVALID)
    assert watched.counts["oversized_heads"] == 1
    assert watched.most_held < 1_500


def test_a_block_of_one_frame_beyond_the_bound_is_refused() -> None:
    frames = Frames()
    frames.client(frames.request(1, build_request(b"/", (b"a", b"v" * 5_000))))
    frames.answer(1)
    promise = frames.responses.encode(build_request(b"/pushed", (b"a", b"v" * 5_000)))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.answer(2)
    watched = frames.watch(ParserLimits(max_header_block=1_000))
    assert [exchange.incomplete for exchange in watched.exchanges] == [Incomplete.INVALID] * 2
    assert [exchange.pushed for exchange in watched.exchanges] == [False, True]
    assert watched.counts["oversized_heads"] == 2


def test_streams_beyond_the_bound_push_out_the_oldest() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    frames.answer(1)
    frames.answer(5)
    watched = frames.watch(ParserLimits(max_http2_streams=2))
    assert [describe(exchange) for exchange in watched.exchanges] == [
        "GET /1 2 (0) -> ? incomplete evicted",
        "GET /5 2 (0) -> 200 2 (0)",
        "GET /3 2 (0) -> ? incomplete stopped",
    ]
    assert watched.counts["http2_streams_evicted"] == 1
    assert watched.counts["http2_stray_frames"] == 1


def test_ended_streams_are_remembered_by_number_beyond_the_bound() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5, 7):
        frames.ask(stream_id, path=b"/%d" % stream_id)
        frames.answer(stream_id)
    for stream_id in (1, 3, 5, 7):
        frames.answer(stream_id)
    watched = frames.watch(ParserLimits(max_ended_streams=2))
    assert len(watched.exchanges) == 4
    assert watched.counts["http2_stray_frames"] == 4
    assert watched.counts["http2_forgotten_streams"] == 2


def test_content_of_all_streams_together_is_bounded() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, ends=False)
        frames.client(ended(stream_id, b"x" * 60))
    for stream_id in (1, 3, 5):
        frames.answer(stream_id)
    watched = frames.watch(ParserLimits(max_http2_content=150))
    assert [request_of(exchange).body.truncation for exchange in watched.exchanges] == [
        None,
        None,
        Truncation.LIMIT,
    ]
    assert [request_of(exchange).body.size for exchange in watched.exchanges] == [60, 60, 60]
    assert watched.counts["http2_refused_content"] == 1


def test_an_endless_stream_does_not_grow() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    for _ in range(500):
        frames.server(DataFrame(1, b"data: event\n\n" * 20))
    limits = ParserLimits(max_body=1_000)
    watched = frames.watch(limits, cause=Incomplete.CLOSED)
    (exchange,) = watched.exchanges
    assert response_of(exchange).body.size == 500 * 260
    assert len(response_of(exchange).body.content) == 1_000
    assert watched.most_held < 1_500


def test_held_bytes_are_those_of_streams_frames_and_tables() -> None:
    frames = Frames()
    frames.ask(1, (b"user", b"alice"), ends=False)
    frames.client(DataFrame(1, b"x" * 100))
    block = frames.requests.encode([(b"t", b"1")])
    frames.talk.request(head(1, block).serialize()[:12])
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    for event in frames.talk.events:
        connection.feed(event)
    table = sum(32 + len(name) + len(value) for name, value in [(b":authority", b"a"), (b"user", b"alice")])
    assert connection.held_bytes == len(b"useralice") + 100 + table + 3
    assert connection.is_in_message
    connection.ignore()
    assert connection.held_bytes == 0
    assert connection.finish(Incomplete.STOPPED) == []


def test_the_kernel_may_tell_the_role_later() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    frames.client(WindowUpdateFrame(0, 5))
    frames.talk.kernel_role = Role.SERVER
    for stream_id in (1, 3):
        frames.ask(stream_id)
        frames.answer(stream_id)
    assert {exchange.role for exchange in frames.watch().exchanges} == {Role.SERVER}


def test_time_passes_without_harm() -> None:
    talk = tell(ask_and_answer(2).calls)
    connection = Http2Connection(talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    exchanges = [exchange for event in talk.events for exchange in connection.feed(event)]
    assert connection.expire(talk.ktime_ns + SECOND_NS) == []
    assert len(exchanges) == 2
    assert not connection.is_in_message
