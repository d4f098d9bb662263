from __future__ import annotations

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, RstStreamFrame

from ebpf.events import Direction, Missing, Role
from parsers.exchange import Incomplete
from parsers.http_exchange import Headers, HttpExchange, MessageFlow, Truncation, WebSocketSession
from parsers.limits import ParserLimits
from tests.builders import SECOND_NS, describe, split_bytes
from tests.unit.otel_bridge.exchanges import CLOCK, span_of
from tests.unit.parsers.http2_peers import OK, Dialogue, Frames, build_request, ended, request_of, tell
from tests.unit.parsers.test_http2_dialogues import Seen, only
from tests.websocket_peers import Peers, frame, masked

CONNECT: Headers = [
    *build_request(b"/chat", method=b"CONNECT"),
    (b":protocol", b"websocket"),
    (b"sec-websocket-version", b"13"),
]
CLOSE = b"\x03\xe8"
WHOLE = "CONNECT /chat 2 (0) -> 200 2 (0) upgraded"
DEFLATE = (b"sec-websocket-extensions", b"permessage-deflate")


def session_of(exchange: HttpExchange) -> WebSocketSession:
    assert isinstance(exchange.application, WebSocketSession)
    return exchange.application


def said(exchange: HttpExchange, *opcodes: int) -> list[bytes]:
    """Return the content of messages, by opcode when given."""
    messages = session_of(exchange).messages
    return [message.content for message in messages if not opcodes or message.opcode in opcodes]


def flows(exchange: HttpExchange) -> tuple[MessageFlow, MessageFlow]:
    """Return what client and server said."""
    session = session_of(exchange)
    if exchange.role is Role.CLIENT:
        return session.egress, session.ingress
    return session.ingress, session.egress


def opened(*fields: tuple[bytes, bytes], role: Role = Role.SERVER) -> Frames:
    """Return a connection on which a WebSocket was accepted, on stream 1."""
    frames = Frames(role=role)
    frames.client(frames.request(1, CONNECT, ends=False))
    frames.answer(1, [*OK, *fields], ends=False)
    return frames


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_chat_is_one_whole_exchange_in_both_roles(
    role: Role,
    compressed: bool,  # noqa: FBT001 - a parameter
) -> None:
    peers = Peers(compressed=compressed)
    dialogue = Dialogue()
    dialogue.server.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    dialogue.flush()
    stream = dialogue.client.get_next_available_stream_id()
    dialogue.client.send_headers(stream, [*CONNECT, DEFLATE])
    dialogue.flush()
    dialogue.server.send_headers(stream, [*OK, DEFLATE] if compressed else OK)
    dialogue.flush()

    def say(opcode: int, payload: bytes, *, by_client: bool, fin: bool = True) -> None:
        data = peers.send(from_client=by_client, opcode=opcode, payload=payload, fin=fin)
        peer = dialogue.client if by_client else dialogue.server
        # Frames of either protocol may end within those of the other.
        peer.send_data(stream, data[:5])
        peer.send_data(stream, data[5:], pad_length=3)
        dialogue.flush()

    for number in range(10):
        text = b"message %d of many" % number
        say(1, text, by_client=True)
        say(1, text[:9], by_client=False, fin=False)
        say(9, b"!", by_client=False)
        say(10, b"!", by_client=True)
        say(0, text[9:], by_client=False)
    say(8, CLOSE + b"done", by_client=True)
    say(8, CLOSE, by_client=False)
    dialogue.server.end_stream(stream)
    dialogue.flush()
    dialogue.client.end_stream(stream)
    dialogue.flush()
    talk = tell(dialogue.calls, role=role)
    for events in (talk.events, [part for event in talk.events for part in split_bytes(event)]):
        exchange = only(events)
        assert describe(exchange) == WHOLE
        session = session_of(exchange)
        assert said(exchange, 1) == [b"message %d of many" % number for number in range(10) for _ in range(2)]
        assert [flow.count for flow in flows(exchange)] == [10, 10]
        assert (session.close_code, session.close_reason) == (1000, "done")
        assert session.closed_by is talk.requests
        assert session.end_ktime_ns == talk.events[-1].ktime_ns
        assert session.compression == ("permessage-deflate" if compressed else None)
        assert (session.dropped_messages, len(session.messages)) == (0, 42)
        assert request_of(exchange).protocol == b"websocket"


def test_the_span_is_that_of_the_session() -> None:
    frames = opened((b"sec-websocket-protocol", b"chat"))
    asked = frames.talk.events[-2].ktime_ns
    frames.client(DataFrame(1, masked(1, b"hello")))
    frames.talk.wait(600 * SECOND_NS)
    frames.server(ended(1, frame(8, b"\x0f\xa1bye")))
    frames.client(RstStreamFrame(1, error_code=ErrorCodes.CANCEL))
    exchange = only(frames.talk.events)
    assert exchange.incomplete is None
    span = span_of(exchange)
    assert (span.name, span.is_error) == ("CONNECT /chat", False)
    assert span.start_unix_ns == CLOCK.unix_ns(asked)
    assert span.end_unix_ns == CLOCK.unix_ns(frames.talk.events[-1].ktime_ns)
    attributes = span.attributes
    assert attributes["http.response.status_code"] == 200
    assert (attributes["url.path"], attributes["url.scheme"]) == ("/chat", "http")
    assert attributes["wirespan.websocket.received.count"] == 1
    assert attributes["wirespan.websocket.subprotocol"] == "chat"
    assert attributes["wirespan.websocket.close.code"] == 4001
    assert attributes["wirespan.websocket.close.direction"] == "sent"
    assert attributes["http.request.body.size"] == attributes["http.response.body.size"] == 0
    assert not {"wirespan.incomplete", "wirespan.anomalies", "http.request.body.content"} & attributes.keys()
    assert span.events is not None
    assert [event.attributes["wirespan.websocket.opcode"] for event in span.events] == ["text", "close"]
    assert [event.attributes.get("wirespan.websocket.content") for event in span.events] == [
        "hello",
        b"\x0f\xa1bye",
    ]


@pytest.mark.parametrize("early", [True, False])
def test_a_handshake_that_is_refused_opens_nothing(early: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames()
    frames.client(frames.request(1, CONNECT, ends=False))
    if early:
        frames.client(DataFrame(1, masked(1, b"hello")))
    frames.answer(1, [(b":status", b"403"), (b"content-type", b"text/plain")], ends=False)
    frames.server(ended(1, b"not you"))
    frames.client(RstStreamFrame(1, error_code=ErrorCodes.NO_ERROR))
    seen = Seen(frames.talk.events)
    (exchange,) = seen.exchanges
    assert (exchange.application, exchange.upgraded, exchange.incomplete) == (None, False, None)
    assert exchange.response is not None
    assert (exchange.response.status, exchange.response.body.content) == (403, b"not you")
    assert seen.counts["websockets"] == 0


@pytest.mark.parametrize(
    ("protocol", "method"), [(b"connect-udp", b"CONNECT"), (b"websocket", b"GET"), (None, b"CONNECT")]
)
def test_what_asks_for_no_websocket_opens_none(protocol: bytes | None, method: bytes) -> None:
    frames = Frames()
    headers = build_request(b"/chat", (b"content-type", b"application/grpc"), method=method)
    if protocol is not None:
        headers.insert(0, (b":protocol", protocol))
    frames.client(frames.request(1, headers, ends=False))
    frames.answer(1, ends=False)
    frames.client(ended(1, masked(1, b"hello")))
    frames.server(ended(1, frame(1, b"hello")))
    seen = Seen(frames.talk.events)
    assert not isinstance(seen.exchanges[0].application, WebSocketSession)
    assert seen.exchanges[0].upgraded is (method == b"CONNECT")
    assert seen.counts["websockets"] == 0


def test_the_name_of_the_protocol_is_read_without_case() -> None:
    frames = Frames()
    frames.client(frames.request(1, [*CONNECT[:4], (b":protocol", b"WebSocket")], ends=False))
    frames.answer(1, ends=False)
    frames.client(ended(1, masked(1, b"hello")))
    frames.server(ended(1, frame(8, CLOSE)))
    assert said(only(frames.talk.events)) == [b"hello", CLOSE]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (ParserLimits(), [(10, b"0123456789", None), (20, b"a" * 20, None)]),
        (ParserLimits(max_body=25), [(10, b"0123456789", None), (20, b"aaa", Truncation.LIMIT)]),
    ],
)
def test_what_the_client_said_before_it_was_answered_belongs_to_the_session(
    limits: ParserLimits, kept: list[tuple[int, bytes, Truncation | None]]
) -> None:
    frames = Frames()
    frames.client(frames.request(1, CONNECT, ends=False))
    frames.client(DataFrame(1, masked(2, b"0123456789")), DataFrame(1, masked(2, b"a" * 20)))
    frames.answer(1, ends=False)
    frames.server(ended(1, frame(8, CLOSE)))
    frames.client(ended(1))
    exchange = only(frames.talk.events, limits)
    assert describe(exchange) == WHOLE
    binary = [message for message in session_of(exchange).messages if message.opcode == 2]
    assert [(message.size, message.content, message.truncation) for message in binary] == kept


def test_without_bodies_what_was_said_too_early_is_not_counted() -> None:
    frames = Frames()
    frames.client(frames.request(1, CONNECT, ends=False), DataFrame(1, masked(1, b"hello")))
    frames.answer(1, ends=False)
    frames.server(ended(1, frame(1, b"you")))
    frames.client(ended(1))
    exchange = only(frames.talk.events, ParserLimits(capture_bodies=False))
    assert describe(exchange) == WHOLE
    assert flows(exchange) == (MessageFlow(uncounted=True), MessageFlow(1, 3))


def test_a_client_that_has_ended_in_a_message_before_it_was_answered_is_cut_off() -> None:
    frames = Frames()
    frames.client(frames.request(1, CONNECT, ends=False), ended(1, masked(1, b"hello")[:-1]))
    frames.answer(1, ends=False)
    frames.server(ended(1, frame(8, CLOSE)))
    exchange = only(frames.talk.events)
    assert describe(exchange) == WHOLE + " incomplete closed"
    assert flows(exchange)[0] == MessageFlow(uncounted=True)


@pytest.mark.parametrize(
    ("steps", "incomplete"),
    [
        ("close > close < end > end <", None),
        ("end > end <", None),
        ("end < end >", None),
        ("close > close < reset", None),
        ("close > close < closed", None),
        ("close > close <", None),
        ("close > reset", None),
        ("close < closed", None),
        ("end > closed", None),
        ("end < no error", None),
        ("end < reset", None),
        ("reset", Incomplete.RESET),
        ("half reset", Incomplete.RESET),
        ("half close < reset", Incomplete.RESET),
        ("half end < no error", Incomplete.CLOSED),
        ("half end > end <", Incomplete.CLOSED),
        ("half close < closed", Incomplete.CLOSED),
        ("closed", Incomplete.CLOSED),
        ("fin", Incomplete.CLOSED),
        ("close < fin", None),
        ("goaway", Incomplete.STOPPED),
        ("close >", Incomplete.STOPPED),
        ("end >", Incomplete.STOPPED),
        ("", Incomplete.STOPPED),
        ("wrong end > end <", Incomplete.INVALID),
        ("wrong reset", Incomplete.INVALID),
        ("lost close > close < end > end <", Incomplete.LOST_BYTES),
        ("over budget close > close < end > end <", None),
    ],
)
def test_how_a_session_ends(steps: str, incomplete: Incomplete | None) -> None:
    frames = opened()
    frames.server(DataFrame(1, frame(1, b"hi")))
    hole = DataFrame(1, masked(1, b"abc") + masked(1, b"def")).serialize()

    def lose(missing: Missing) -> None:
        frames.talk.request(hole[:12], length=len(hole), missing=missing)

    actions: dict[str, Callable[[], object]] = {
        "close >": lambda: frames.client(DataFrame(1, masked(8, CLOSE))),
        "close <": lambda: frames.server(DataFrame(1, frame(8, CLOSE))),
        "end >": lambda: frames.client(ended(1)),
        "end <": lambda: frames.server(ended(1)),
        "half": lambda: frames.client(DataFrame(1, masked(1, b"hello")[:-1])),
        "wrong": lambda: frames.client(DataFrame(1, frame(1, b"hello"))),
        "lost": lambda: lose(Missing.RING_FULL),
        "over budget": lambda: lose(Missing.BUDGET),
        "reset": lambda: frames.client(RstStreamFrame(1, error_code=ErrorCodes.CANCEL)),
        "no error": lambda: frames.server(RstStreamFrame(1, error_code=ErrorCodes.NO_ERROR)),
        "goaway": lambda: frames.server(GoAwayFrame(0, last_stream_id=1)),
        "fin": frames.talk.end_responses,
        "closed": frames.talk.close,
    }
    while steps:
        action = next(name for name in sorted(actions, reverse=True) if steps.startswith(name))
        actions[action]()
        steps = steps[len(action) :].lstrip()
    exchange = only(frames.talk.events)
    assert exchange.incomplete is incomplete
    assert exchange.upgraded
    assert exchange.anomalies == ()
    assert said(exchange)[0] == b"hi"


def test_the_end_of_the_connection_ends_the_session() -> None:
    frames = opened()
    frames.server(DataFrame(1, frame(8, CLOSE)))
    frames.talk.wait(60 * SECOND_NS)
    frames.talk.close()
    assert session_of(only(frames.talk.events)).end_ktime_ns == frames.talk.events[-1].ktime_ns


def test_streams_keep_apart() -> None:
    frames = Frames()
    ids = range(1, 41, 2)
    for stream in ids:
        frames.client(frames.request(stream, CONNECT, ends=False))
        frames.answer(stream, ends=False)
    frames.ask(41)
    for turn in range(3):
        for stream in ids:
            frames.client(DataFrame(stream, masked(1, b"%d of %d" % (turn, stream))))
            frames.server(DataFrame(stream, frame(1, b"%d of %d" % (turn, stream))))
    frames.answer(41)
    for stream in ids:
        frames.server(ended(stream, frame(8, CLOSE)))
        frames.client(ended(stream, masked(8, CLOSE)))
    plain, *sessions = Seen(frames.talk.events).exchanges
    assert describe(plain) == "GET / 2 (0) -> 200 2 (0)"
    assert len(sessions) == len(ids)
    for stream, exchange in zip(ids, sessions, strict=True):
        assert describe(exchange) == WHOLE
        assert said(exchange, 1) == [b"%d of %d" % (turn, stream) for turn in range(3) for _ in range(2)]


def test_sessions_share_the_room_of_their_connection() -> None:
    peers = Peers()
    frames = Frames()
    ids = range(1, 21, 2)
    for stream in ids:
        frames.client(frames.request(stream, CONNECT, ends=False))
        frames.answer(stream, [*OK, DEFLATE], ends=False)
    said_by_all: list[Frame] = [DataFrame(stream, frame(2, bytes(4_000))) for stream in ids]
    frames.server(*said_by_all)
    coded = peers.send(from_client=True, opcode=1, payload=b"compressed")
    frames.client(*[DataFrame(stream, coded) for stream in ids])
    open_message = frame(2, bytes(9_000))
    frames.server(*[DataFrame(stream, open_message[:5_000]) for stream in ids])
    frames.server(*[DataFrame(stream, open_message[5_000:]) for stream in ids])
    for stream in ids:
        frames.server(ended(stream, frame(8, CLOSE)))
        frames.client(ended(stream, masked(8, CLOSE)))
    seen = Seen(frames.talk.events, ParserLimits(max_http2_content=100_000))
    assert seen.counts["http2_refused_content"] > 0
    # The last one to get room may open a window of 39 KiB with it.
    assert seen.most_held < 100_000 + 45_000 + 10 * 300
    for exchange in seen.exchanges:
        assert describe(exchange) == WHOLE
        assert flows(exchange) == (MessageFlow(1, len(coded) - 6), MessageFlow(2, 13_000))
        session = session_of(exchange)
        assert len(session.messages) + session.dropped_messages == 5
        assert session.close_code == 1000
    assert sum(session_of(exchange).dropped_messages for exchange in seen.exchanges) > 20


def test_a_session_that_runs_out_of_room_is_counted_on() -> None:
    frames = opened()
    frames.client(DataFrame(1, masked(1, b"kept")))
    open_message = masked(2, bytes(5_000))
    frames.client(DataFrame(1, open_message[:1_000]))
    frames.client(DataFrame(1, open_message[1_000:]))
    frames.client(ended(1, masked(1, b"later") + masked(8, CLOSE)))
    frames.server(ended(1, frame(8, CLOSE)))
    seen = Seen(frames.talk.events, ParserLimits(max_http2_content=4_000))
    (exchange,) = seen.exchanges
    assert describe(exchange) == WHOLE
    assert said(exchange) == [b"kept"]
    assert session_of(exchange).dropped_messages == seen.counts["websocket_messages_dropped"] == 4
    assert flows(exchange) == (MessageFlow(3, 5_009), MessageFlow())
    assert session_of(exchange).close_code == 1000


def test_a_tunnel_whose_client_has_ended_is_over_with_its_answer() -> None:
    frames = Frames()
    frames.client(frames.request(1, [*CONNECT[:4], (b":protocol", b"connect-udp")]))
    frames.answer(1, ends=False)
    assert describe(only(frames.talk.events)) == WHOLE


def test_a_direction_is_that_of_the_socket() -> None:
    for role, direction in ((Role.SERVER, Direction.INGRESS), (Role.CLIENT, Direction.EGRESS)):
        frames = opened(role=role)
        frames.client(ended(1, masked(1, b"hello")))
        frames.server(ended(1))
        (message,) = session_of(only(frames.talk.events)).messages
        assert message.direction is direction
