from __future__ import annotations

import pytest

from ebpf.events import Direction, Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http_exchange import Body, Headers, HttpRequest, HttpResponse, MessageFlow, Truncation
from parsers.limits import ParserLimits
from parsers.websocket.dialogue import WebSocketDialogue, opens_websocket
from tests.unit.parsers.test_websocket_deflate import Deflater
from tests.websocket_peers import frame, masked

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def request(protocol: bytes | None = None) -> HttpRequest:
    return HttpRequest(b"CONNECT", b"/chat", "2", [], Body(0, b"", None), 1, 2, protocol=protocol)


def response(status: int | None = 101, headers: Headers | None = None) -> HttpResponse:
    return HttpResponse(status, b"", "1.1", headers or [], Body(0, b"", None), 3, 4)


def dialogue(role: Role = Role.SERVER, headers: Headers | None = None) -> WebSocketDialogue:
    return WebSocketDialogue(response(headers=headers), role, ParserLimits(), new_counters())


@pytest.mark.parametrize(
    ("asked", "answered", "opens"),
    [
        (None, response(101, [(b"UPGRADE", b" WebSocket ")]), True),
        (None, response(101, [(b"Upgrade", b"example/1")]), False),
        (None, response(101), False),
        (None, response(200), False),
        (request(), response(200), False),
        (request(b"websocket"), response(200), True),
        (request(b"websocket"), response(404), False),
        (request(b"websocket"), response(None), False),
        (request(b"connect-udp"), response(200), False),
    ],
)
def test_which_handshake_opens_a_websocket(
    asked: HttpRequest | None,
    answered: HttpResponse,
    opens: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert opens_websocket(asked, answered) is opens


@pytest.mark.parametrize(("role", "clients"), [(Role.SERVER, INGRESS), (Role.CLIENT, EGRESS)])
def test_a_session_holds_both_directions_in_order_of_time(role: Role, clients: Direction) -> None:
    talk = dialogue(role, [(b"Sec-WebSocket-Protocol", b"graphql-ws")])
    servers = Direction(1 - clients)
    talk.readers[servers].receive(frame(1, b"second"), 20)
    talk.readers[clients].receive(masked(2, b"first"), 10)
    talk.readers[servers].receive(frame(8, b"\x03\xe9going away"), 40)
    talk.readers[clients].receive(masked(8, b"\x03\xe8bye"), 30)
    assert talk.is_over
    session = talk.build_session()
    assert [(message.direction, message.content) for message in session.messages] == [
        (clients, b"first"),
        (servers, b"second"),
        (clients, b"\x03\xe8bye"),
        (servers, b"\x03\xe9going away"),
    ]
    assert session.subprotocol == "graphql-ws"
    assert session.compression is None
    assert (session.close_code, session.close_reason, session.closed_by) == (1000, "bye", clients)
    assert session.end_ktime_ns == 40
    flows = (session.ingress, session.egress)
    assert (flows[clients], flows[servers]) == (MessageFlow(1, 5), MessageFlow(1, 6))
    assert talk.failure is None


def test_a_session_in_which_nothing_passed() -> None:
    talk = dialogue()
    session = talk.build_session()
    assert session.messages == []
    assert session.end_ktime_ns == 4
    assert not talk.is_over
    assert not talk.was_ended
    assert session.subprotocol is None


def test_the_later_close_frame_does_not_count() -> None:
    talk = dialogue()
    talk.readers[INGRESS].receive(masked(8, b"\x03\xe8"), 10)
    talk.readers[EGRESS].receive(frame(8, b"\x03\xe9"), 10)
    assert talk.build_session().close_code == 1000


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_each_side_compresses_as_agreed(role: Role) -> None:
    extensions = b"permessage-deflate; client_no_context_takeover"
    talk = dialogue(role, [(b"Sec-WebSocket-Extensions", extensions)])
    clients = INGRESS if role is Role.SERVER else EGRESS
    server = Deflater()
    for ktime_ns in (10, 20):
        talk.readers[clients].receive(masked(1, Deflater().message(b"hi hi hi"), rsv=0x40), ktime_ns)
        talk.readers[1 - clients].receive(frame(1, server.message(b"ho ho ho"), rsv=0x40), ktime_ns)
    session = talk.build_session()
    assert [message.content for message in session.messages] == [b"hi hi hi", b"ho ho ho"] * 2
    assert session.compression == "permessage-deflate"
    assert talk.held_bytes > 1 << 15


@pytest.mark.parametrize("cause", ["unknown_headers", "dropped_headers"])
def test_fields_that_nobody_saw_may_hold_an_extension(cause: str) -> None:
    answered = response(headers=[(b"Sec-WebSocket-Extensions", b"permessage-deflate")])
    setattr(answered, cause, 1)
    talk = WebSocketDialogue(answered, Role.SERVER, ParserLimits(), new_counters())
    talk.readers[EGRESS].receive(frame(1, b"coded", rsv=0x40) + frame(1, b"plain"), 10)
    session = talk.build_session()
    assert [(message.content, message.truncation) for message in session.messages] == [
        (b"", Truncation.DECODE_ERROR),
        (b"plain", None),
    ]
    assert session.compression is None


def test_both_directions_tell_what_failed() -> None:
    talk = dialogue()
    talk.readers[EGRESS].receive(masked(1, b"x"), 10)
    assert talk.failure is Incomplete.INVALID
    assert not talk.is_over
    talk.readers[INGRESS].receive(masked(1, b"x", fin=False), 11)
    assert talk.is_in_message
    talk.readers[INGRESS].end(12)
    assert talk.failure is Incomplete.CLOSED
    assert talk.is_over
    assert talk.was_ended


def test_both_directions_share_the_bound_of_messages() -> None:
    limits = ParserLimits(max_websocket_messages=3)
    counts = new_counters()
    talk = WebSocketDialogue(response(), Role.SERVER, limits, counts)
    for ktime_ns in range(10, 20, 2):
        talk.readers[INGRESS].receive(masked(1, b"x"), ktime_ns)
        talk.readers[EGRESS].receive(frame(1, b"y"), ktime_ns + 1)
    session = talk.build_session()
    assert [message.content for message in session.messages] == [b"x", b"y", b"x"]
    assert (session.dropped_messages, session.ingress.count, session.egress.count) == (7, 5, 5)
    assert counts["websocket_messages_dropped"] == 7
    assert counts["websockets"] == 1
