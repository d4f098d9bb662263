"""Any chunking gives the same session; losses never give a message that was not sent."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import Direction, Missing, Role, SocketEvent
from parsers.http_exchange import HttpExchange, WebSocketMessage, WebSocketSession
from tests.builders import Conversation, run_events
from tests.websocket_peers import UPGRADE, Peers, accept

CLOSE = b"\x03\xe8bye"
WORDS = ["user", "alice", "bob", "token", "=", "€", " ", "GET / HTTP/1.1\r\n\r\n", "\x81\x02", "\x82\x00"]


@dataclass
class Chat:
    """A session: the bytes of each frame with its direction, and the messages and control frames in it."""

    agreed: bytes
    calls: list[tuple[bool, bytes]]
    """Whether the client sent it, and the bytes."""
    said: list[tuple[bool, int, bytes]]
    """Whether the client sent it, opcode and payload, in the order in which each side sent them."""


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    peers = Peers(
        client_keeps_window=draw(st.booleans()),
        server_keeps_window=draw(st.booleans()),
        client_bits=draw(st.sampled_from([9, 15])),
        server_bits=draw(st.sampled_from([9, 15])),
        compressed=draw(st.booleans()),
    )
    chat = Chat(peers.agreed, [], [])

    def send(opcode: int, payload: bytes, *, from_client: bool, fin: bool = True) -> None:
        key = draw(keys) if from_client else b""
        data = peers.send(from_client=from_client, opcode=opcode, payload=payload, fin=fin, key=key)
        chat.calls.append((from_client, data))

    def ping(*, from_client: bool) -> None:
        send(9, b"?", from_client=from_client)
        send(10, b"?", from_client=not from_client)
        chat.said.extend([(from_client, 9, b"?"), (not from_client, 10, b"?")])

    keys = st.binary(min_size=4, max_size=4)
    texts = st.lists(st.sampled_from(WORDS), max_size=40).map(lambda words: "".join(words).encode())
    for _ in range(draw(st.integers(0, 8))):
        from_client = draw(st.booleans())
        opcode = draw(st.sampled_from([1, 2]))
        payload = draw(texts) if opcode == 1 else draw(st.binary(max_size=200))
        if opcode == 1 or draw(st.booleans()):
            send(opcode, payload, from_client=from_client)
        else:
            middle = len(payload) // 2
            send(opcode, payload[:middle], from_client=from_client, fin=False)
            if draw(st.booleans()):
                ping(from_client=from_client)
            send(0, payload[middle:], from_client=from_client)
        chat.said.append((from_client, opcode, payload))
        if draw(st.booleans()):
            ping(from_client=draw(st.booleans()))
    send(8, CLOSE, from_client=True)
    send(8, CLOSE, from_client=False)
    chat.said.extend([(True, 8, CLOSE), (False, 8, CLOSE)])
    return chat


def play(chat: Chat, role: Role) -> tuple[Conversation, list[SocketEvent]]:
    """Return the conversation, and the events of the session behind its handshake."""
    talk = Conversation(role=role)
    talk.request(UPGRADE)
    talk.response(accept(chat.agreed))
    first = len(talk.events)
    for from_client, data in chat.calls:
        if from_client:
            talk.request(data)
        else:
            talk.response(data)
    events = talk.events[first:]
    del talk.events[first:]
    return talk, events


def split(draw: st.DrawFn, events: list[SocketEvent]) -> list[SocketEvent]:
    """Cut calls into smaller ones."""
    pieces = []
    for event in events:
        at = 0
        while at < event.length:
            size = draw(st.sampled_from([1, 2, 5, 50, 10_000]))
            payload = event.payload[at : at + size]
            piece = SocketEvent(
                event.kind,
                event.ktime_ns,
                event.connection_id,
                event.origin,
                event.direction,
                event.position + at,
                len(payload),
                payload,
                event.missing,
                event.role,
                event.joined_late,
                event.socket,
            )
            pieces.append(piece)
            at += size
    return pieces


def session_of(exchanges: list[HttpExchange]) -> tuple[HttpExchange, WebSocketSession]:
    (exchange,) = exchanges
    assert isinstance(exchange.application, WebSocketSession)
    return exchange, exchange.application


def of_direction(session: WebSocketSession, direction: Direction) -> list[WebSocketMessage]:
    return [message for message in session.messages if message.direction is direction]


roles = st.sampled_from([Role.SERVER, Role.CLIENT])


@given(chats(), roles, st.data())
def test_any_chunking_gives_what_was_said(chat: Chat, role: Role, data: st.DataObject) -> None:
    talk, events = play(chat, role)
    exchange, session = session_of(run_events(talk.events + split(data.draw, events), finish=False))
    assert exchange.incomplete is None
    for from_client, direction in ((True, talk.requests), (False, talk.responses)):
        messages = of_direction(session, direction)
        assert [(message.opcode, message.content) for message in messages] == [
            (opcode, payload) for sender, opcode, payload in chat.said if sender is from_client
        ]
        assert all(message.truncation is None for message in messages)
    assert (session.close_code, session.close_reason) == (1000, "bye")
    for flow in (session.ingress, session.egress):
        assert not flow.uncounted


@given(chats(), roles, st.data())
def test_losses_never_give_a_message_that_nobody_sent(chat: Chat, role: Role, data: st.DataObject) -> None:
    talk, events = play(chat, role)
    pieces = split(data.draw, events)
    kept = []
    for piece in pieces:
        fate = data.draw(st.sampled_from(["kept", "kept", "kept", "cut", "lost", "over budget"]))
        if fate == "kept":
            kept.append(piece)
        elif fate != "lost":
            known = piece.payload[: data.draw(st.integers(0, piece.length))]
            cause = Missing.BUDGET if fate == "over budget" else Missing.RING_FULL
            piece.payload, piece.missing = known, cause
            kept.append(piece)
    exchange, session = session_of(run_events(talk.events + kept))
    for from_client, direction in ((True, talk.requests), (False, talk.responses)):
        said = [(opcode, payload) for sender, opcode, payload in chat.said if sender is from_client]
        at = 0
        for message in of_direction(session, direction):
            # Each is one of those that were sent behind the one before, whole or flagged.
            while not is_seen_of(message, said[at]):
                at += 1
            at += 1
        flow = session.ingress if direction is Direction.INGRESS else session.egress
        sent = sum(opcode < 8 for opcode, _ in said)
        assert flow.count == sent or (flow.count < sent and (flow.uncounted or exchange.incomplete))


def is_seen_of(message: WebSocketMessage, said: tuple[int, bytes]) -> bool:
    opcode, payload = said
    if message.opcode != opcode:
        return False
    return payload.startswith(message.content) if message.truncation else message.content == payload
