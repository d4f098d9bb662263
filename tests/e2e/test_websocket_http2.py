"""WebSockets on streams of an HTTP/2 connection (RFC 8441): one span per session and side."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

OWN = "wirespan.websocket."
END_SECONDS = 20

StartAgent = Callable[..., Agent]


class Session:
    """A WebSocket on a stream of its own, from the client's side."""

    def __init__(self, client: Client, stream: int, *, compresses: bool) -> None:
        self._client = client
        self.stream = stream
        self.status = 0
        self.events: list[Event] = []
        self.is_over = False
        """The server has ended the stream."""
        self._extension = PerMessageDeflate() if compresses else None
        self._frames = Connection(ConnectionType.CLIENT)

    @property
    def offer(self) -> list[tuple[str, str]]:
        """The field that offers compression."""
        if self._extension is None:
            return []
        return [("sec-websocket-extensions", f"permessage-deflate; {self._extension.offer()}".rstrip("; "))]

    def learn(self, fields: dict[str, str]) -> None:
        """Take the head of the response."""
        self.status = int(fields[":status"])
        if self._extension is not None and self.status == 200:
            self._extension.finalize(fields["sec-websocket-extensions"])
            self._frames = Connection(ConnectionType.CLIENT, [self._extension])

    def hear(self, data: bytes) -> None:
        """Take content of the response."""
        if self.status == 200 and data:
            self._frames.receive_data(data)
            self.events += self._frames.events()

    def say(self, event: Event) -> None:
        """Send a frame."""
        self._client.send(self.stream, self._frames.send(event))

    def await_event(self) -> Event:
        """Return the next thing that the server says."""
        self._client.wait(lambda: bool(self.events))
        return self.events.pop(0)

    def repeat(self, event: TextMessage | BytesMessage) -> None:
        """Say something and hear it again."""
        self.say(event)
        heard = self.await_event()
        assert type(heard) is type(event)
        assert heard.data == event.data

    def close(self) -> None:
        """Answer the server's close frame, and end the stream with it."""
        farewell = self.await_event()
        assert isinstance(farewell, CloseConnection)
        self.say(farewell.response())
        self._client.end(self.stream)
        self._client.wait(lambda: self.is_over)


class Client:
    """One connection with prior knowledge; a context manager that closes it."""

    def __init__(self, port: int) -> None:
        self._endpoint = socket.create_connection(("127.0.0.1", port), timeout=END_SECONDS)
        self._endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._authority = f"127.0.0.1:{port}"
        self._sessions: dict[int, Session] = {}
        self._allows_websockets = False
        self._connection.initiate_connection()
        self._flush()
        # RFC 8441 section 3: not before the server has said that it knows what is meant.
        self.wait(lambda: self._allows_websockets)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._endpoint.close()

    def open(self, path: str, *, compresses: bool = False) -> Session:
        """Ask for a WebSocket, and wait for the answer."""
        stream = self._connection.get_next_available_stream_id()
        session = self._sessions[stream] = Session(self, stream, compresses=compresses)
        head = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
            *session.offer,
        ]
        self._connection.send_headers(stream, head)
        self._flush()
        self.wait(lambda: session.status != 0)
        return session

    def send(self, stream: int, data: bytes) -> None:
        size = self._connection.max_outbound_frame_size
        for start in range(0, len(data), size):
            self._connection.send_data(stream, data[start : start + size])
        self._flush()

    def end(self, stream: int) -> None:
        self._connection.end_stream(stream)
        self._flush()

    def reset(self, stream: int) -> None:
        self._connection.reset_stream(stream, ErrorCodes.CANCEL)
        self._flush()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Take what the server sends until the condition holds."""
        while not condition():
            received = self._endpoint.recv(65_536)
            assert received
            for event in self._connection.receive_data(received):
                if isinstance(event, RemoteSettingsChanged):
                    setting = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
                    self._allows_websockets = setting is not None and setting.new_value == 1
                elif isinstance(event, ResponseReceived):
                    self._sessions[event.stream_id].learn(
                        {str(name): str(value) for name, value in event.headers}
                    )
                elif isinstance(event, DataReceived):
                    self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self._sessions[event.stream_id].hear(event.data)
                elif isinstance(event, StreamEnded):
                    self._sessions[event.stream_id].is_over = True
            self._flush()

    def _flush(self) -> None:
        # A server that is done may close at once: acknowledging its last words is of no use to it then.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._endpoint.sendall(self._connection.data_to_send())


@pytest.fixture
def port(server: Callable[..., Server]) -> int:
    return server(program="http2_websocket_server").port


@pytest.fixture
def spans_file(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


def by_side(spans_file: Path) -> tuple[list[ExportedSpan], list[ExportedSpan]]:
    """Return the spans of the client and of the server, by start."""
    spans = read_spans(spans_file)
    client, served = ([span for span in spans if span.kind == kind] for kind in (CLIENT, SERVER))
    assert len(client) + len(served) == len(spans)
    return client, served


def said(span: ExportedSpan) -> list[tuple[str, str, Any]]:
    """Whether the client or the server sent it, opcode, and content, of the messages in a span."""
    sender = ("client", "server") if span.kind == CLIENT else ("server", "client")
    return [
        (
            sender[event[OWN + "direction"] == "received"],
            event[OWN + "opcode"],
            event.get(OWN + "content", ""),
        )
        for event in span.events
    ]


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("compresses", [True, False])
def test_a_chat_is_one_span_at_each_end(
    agent: StartAgent, port: int, spans_file: Path, *, compresses: bool
) -> None:
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    text = "the same words again and again, grüß dich " * 3
    binary = bytes(range(256)) * 200
    with Client(port) as client:
        session = client.open("/chat", compresses=compresses)
        assert session.status == 200
        for _ in range(3):
            session.repeat(TextMessage(text))
        for part, ends in (("in ", False), ("several ", False), ("frames", True)):
            session.say(TextMessage(part, message_finished=ends))
        heard = session.await_event()
        assert isinstance(heard, TextMessage)
        assert heard.data == "in several frames"
        session.say(Ping(b"there?"))
        assert session.await_event() == Pong(b"there?")
        session.say(BytesMessage(binary))
        got = b""
        while len(got) < len(binary):
            heard = session.await_event()
            assert isinstance(heard, BytesMessage)
            got += heard.data
        assert got == binary
        session.say(TextMessage("bye"))
        session.close()
    running.stop()
    (sent,), (served,) = by_side(spans_file)
    expected = [(side, "text", text) for _ in range(3) for side in ("client", "server")]
    expected += [(side, "text", "in several frames") for side in ("client", "server")]
    expected += [("client", "ping", encoded(b"there?")), ("server", "pong", encoded(b"there?"))]
    expected += [(side, "binary", encoded(binary)) for side in ("client", "server")]
    expected += [("client", "text", "bye")]
    farewell = encoded(b"\x0f\xa1as you wish")
    expected += [(side, "close", farewell) for side in ("server", "client")]
    for span in (sent, served):
        attributes = span.attributes
        assert said(span) == expected
        assert span.name == ("CONNECT /chat" if span.kind == SERVER else "CONNECT")
        assert attributes["http.request.method"] == "CONNECT"
        assert attributes["http.response.status_code"] == 200
        assert attributes["network.protocol.version"] == "2"
        assert attributes[OWN + "close.code"] == 4001
        assert attributes[OWN + "close.reason"] == "as you wish"
        assert attributes[OWN + "subprotocol"] == "chat"
        assert attributes.get(OWN + "compression") == ("permessage-deflate" if compresses else None)
        assert not {"wirespan.incomplete", "wirespan.anomalies", "error.type"} & attributes.keys()
        assert not any(OWN + "truncated" in event for event in span.events)
    assert [sent.attributes[OWN + f"{way}.count"] for way in ("sent", "received")] == [6, 5]
    assert [served.attributes[OWN + f"{way}.count"] for way in ("sent", "received")] == [5, 6]
    assert sent.attributes[OWN + "sent.size"] == served.attributes[OWN + "received.size"]
    assert sent.attributes[OWN + "received.size"] == served.attributes[OWN + "sent.size"]
    assert sent.attributes[OWN + "close.direction"] == "received"
    assert served.attributes[OWN + "close.direction"] == "sent"
    assert served.attributes["url.path"] == "/chat"
    assert sent.attributes["url.full"] == f"http://127.0.0.1:{port}/chat"


def test_sessions_share_a_connection(agent: StartAgent, port: int, spans_file: Path) -> None:
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    number = 20
    with Client(port) as client:
        sessions = [client.open(f"/chat/{index}", compresses=index % 2 == 0) for index in range(number)]
        for turn in range(5):
            for index, session in enumerate(sessions):
                session.repeat(TextMessage(f"turn {turn} of {index}"))
        for session in sessions:
            session.say(TextMessage("bye"))
        for session in reversed(sessions):
            session.close()
    running.stop()
    for spans in by_side(spans_file):
        assert len(spans) == number
        for index, span in enumerate(spans):
            assert span.attributes.get("url.path", span.attributes.get("url.full", "")).endswith(
                f"/chat/{index}"
            )
            assert [content for _, opcode, content in said(span) if opcode == "text"] == [
                *(f"turn {turn} of {index}" for turn in range(5) for _ in range(2)),
                "bye",
            ]
            assert span.attributes[OWN + "close.code"] == 4001
            assert "wirespan.incomplete" not in span.attributes


def test_a_refusal_and_a_reset(agent: StartAgent, port: int, spans_file: Path) -> None:
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    with Client(port) as client:
        refused = client.open("/refused")
        assert refused.status == 403
        session = client.open("/chat")
        session.repeat(TextMessage("hello"))
        client.reset(session.stream)
        client.open("/chat").repeat(TextMessage("still there"))
    running.stop()
    for spans in by_side(spans_file):
        refusal, reset, cut = spans
        assert refusal.attributes["http.response.status_code"] == 403
        assert OWN + "sent.count" not in refusal.attributes
        assert reset.attributes["wirespan.incomplete"] == "reset"
        assert [content for _, _, content in said(reset)] == ["hello", "hello"]
        # The connection ended, and neither end had sent a close frame.
        assert cut.attributes["wirespan.incomplete"] == "closed"
        assert [content for _, opcode, content in said(cut) if opcode == "text"] == ["still there"] * 2
