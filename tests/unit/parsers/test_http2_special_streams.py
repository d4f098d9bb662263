from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
)

from ebpf.events import EventKind, Missing, Origin, Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import (
    Body,
    GrpcCall,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    Truncation,
    WebSocketSession,
)
from parsers.limits import ParserLimits
from tests.builders import Conversation, describe
from tests.unit.parsers.http2_peers import (
    OK,
    Frames,
    ask_and_answer,
    build_request,
    ended,
    request_of,
    tell,
    watch,
)

WHOLE = "GET / 2 (0) -> 200 2 (0)"


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
    assert (message.size, message.truncation) == (256, Truncation.LIMIT)


def build_handshake(talk: Conversation, incomplete: Incomplete | None = None) -> HttpExchange:
    nothing = Body(0, b"", None)
    request = HttpRequest(b"GET", b"/", "1.1", [(b"upgrade", b"h2c")], nothing, 1, 2)
    response = HttpResponse(101, b"Switching Protocols", "1.1", [], nothing, 3, 4)
    return HttpExchange(
        1, 0, talk.socket, Role.SERVER, Origin(1, 77), request, response, upgraded=True, incomplete=incomplete
    )


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
    # The HTTP/1 side that made the handshake has counted it.
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
    # A tunnel: the end that accepted the connection sends the requests.
    dialogue = ask_and_answer()
    (exchange,) = watch(tell(dialogue.calls, role=Role.SERVER, kernel_role=Role.CLIENT).events).exchanges
    assert (exchange.role, exchange.incomplete) == (Role.SERVER, None)
