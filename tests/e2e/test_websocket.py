"""WebSockets between real endpoints: one span at each end, each message an event, until the end."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, read_spans
from tests.e2e.servers.websocket_server import FRAGMENTS
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

OWN = "wirespan.websocket."
END_SECONDS = 20
SESSIONS = 10

StartAgent = Callable[..., Agent]
StartServer = Callable[[str], int]


@pytest.fixture
def server() -> Iterator[StartServer]:
    """Start a server of this implementation, and return its port once it listens."""
    with ExitStack() as closing:

        def start(implementation: str) -> int:
            process = closing.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.e2e.servers.websocket_server", implementation],
                    stdout=subprocess.PIPE,
                )
            )
            closing.callback(process.kill)
            assert process.stdout is not None
            return int(process.stdout.readline())

        yield start


@pytest.fixture
def spans_file(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


async def talk_by_aiohttp(url: str) -> int | None:
    """Say a few things, wait for each to come back, say `bye`; return the code with which it was closed."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=["chat"], compress=15) as socket,
    ):
        for text in ("hello", "grüß dich"):
            await socket.send_str(text)
            assert await socket.receive_str(timeout=END_SECONDS) == text
        await socket.send_bytes(b"\x00\x01\xff")
        assert await socket.receive_bytes(timeout=END_SECONDS) == b"\x00\x01\xff"
        await socket.send_str("bye")
        await socket.receive(timeout=END_SECONDS)
        return socket.close_code


def both_ends(spans_file: Path) -> tuple[ExportedSpan, ExportedSpan]:
    """Expect one span of each kind, both of a handshake that was accepted."""
    spans = {span.kind: span for span in read_spans(spans_file)}
    assert sorted(spans) == [SERVER, CLIENT]
    assert len(read_spans(spans_file)) == 2
    for span in spans.values():
        assert span.attributes["http.response.status_code"] == 101
        assert span.attributes["network.protocol.name"] == "http"
    return spans[CLIENT], spans[SERVER]


def said(span: ExportedSpan, *opcodes: str) -> list[tuple[str, str, Any]]:
    """Whether the client or the server sent it, opcode, and content, of the messages in a span."""
    sender = ("client", "server") if span.kind == CLIENT else ("server", "client")
    return [
        (
            sender[event[OWN + "direction"] == "received"],
            event[OWN + "opcode"],
            event.get(OWN + "content", ""),
        )
        for event in span.events
        if not opcodes or event[OWN + "opcode"] in opcodes
    ]


def own(span: ExportedSpan, name: str) -> Any:
    return span.attributes.get(OWN + name)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def repeat(connection: Connection, message: str | bytes) -> None:
    """Say something, and hear it again."""
    connection.send(message)
    assert connection.recv(timeout=END_SECONDS) == message


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_chat_with_fragments_and_control_frames(
    agent: StartAgent, server: StartServer, spans_file: Path, compression: str | None
) -> None:
    port = server("websockets")
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    text = "the same words again and again, grüß dich " * 3
    with connect(f"ws://127.0.0.1:{port}/chat", compression=compression, subprotocols=["chat"]) as connection:
        for _ in range(3):
            repeat(connection, text)
        repeat(connection, bytes(range(256)) * 20)
        connection.send(iter(FRAGMENTS))
        assert connection.recv(timeout=END_SECONDS) == "".join(FRAGMENTS)
        connection.send("fragments")
        assert connection.recv(timeout=END_SECONDS) == "".join(FRAGMENTS)
        assert connection.ping(b"there?").wait(END_SECONDS)
        connection.send("bye")
        with pytest.raises(ConnectionClosedError):
            connection.recv(timeout=END_SECONDS)
        assert (connection.close_code, connection.close_reason) == (4001, "as you wish")
    running.stop()
    client, served = both_ends(spans_file)
    expected = [(side, "text", text) for _ in range(3) for side in ("client", "server")]
    expected += [(side, "binary", encoded(bytes(range(256)) * 20)) for side in ("client", "server")]
    expected += [(side, "text", "".join(FRAGMENTS)) for side in ("client", "server")]
    expected += [("client", "text", "fragments"), ("server", "text", "".join(FRAGMENTS))]
    expected += [("client", "text", "bye")]
    farewell = encoded(b"\x0f\xa1as you wish")
    for span in (client, served):
        assert said(span, "text", "binary") == expected
        assert {("server", "close", farewell), ("client", "close", farewell)} <= set(said(span, "close"))
        assert ("client", "ping", encoded(b"there?")) in said(span, "ping")
        assert ("server", "pong", encoded(b"there?")) in said(span, "pong")
        pings = [each for each in said(span, "ping", "pong") if each[2] == encoded(b"in between")]
        assert sorted(pings) == sorted(
            [("server", "ping", encoded(b"in between")), ("client", "pong", encoded(b"in between"))] * 3
        )
        assert not any(OWN + "truncated" in event for event in span.events)
        assert span.dropped_events == 0
        assert own(span, "close.code") == 4001
        assert own(span, "close.reason") == "as you wish"
        assert own(span, "subprotocol") == "chat"
        assert own(span, "compression") == ("permessage-deflate" if compression else None)
        assert "wirespan.incomplete" not in span.attributes
    assert own(client, "close.direction") == "received"
    assert own(served, "close.direction") == "sent"
    assert [own(client, f"{way}.count") for way in ("sent", "received")] == [7, 6]
    assert [own(served, f"{way}.count") for way in ("sent", "received")] == [6, 7]
    assert own(client, "sent.size") == own(served, "received.size")
    assert own(client, "received.size") == own(served, "sent.size")


@pytest.mark.parametrize("implementation", ["websockets", "aiohttp"])
def test_many_sessions_at_once(
    agent: StartAgent, server: StartServer, spans_file: Path, implementation: str
) -> None:
    port = server(implementation)
    running = agent("run", "--port", str(port), "--direction", "ingress", "--spans-file", str(spans_file))
    with ExitStack() as closing:
        urls = [f"ws://127.0.0.1:{port}/chat/{number}" for number in range(SESSIONS)]
        connections = [closing.enter_context(connect(url)) for url in urls]
        for turn in range(5):
            for number, connection in enumerate(connections):
                repeat(connection, f"turn {turn} of {number}")
    running.stop()
    spans = read_spans(spans_file)
    assert len(spans) == SESSIONS
    for span in spans:
        number = span.attributes["url.path"].rpartition("/")[2]
        assert [content for _, _, content in said(span, "text")] == [
            f"turn {turn} of {number}" for turn in range(5) for _ in range(2)
        ]
        assert own(span, "close.code") == 1000
        assert own(span, "compression") == "permessage-deflate"
        assert "wirespan.incomplete" not in span.attributes


def test_a_client_and_a_server_of_other_makes(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    port = server("aiohttp")
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    assert asyncio.run(talk_by_aiohttp(f"http://127.0.0.1:{port}/chat")) == 4001
    running.stop()
    binary = encoded(b"\x00\x01\xff")
    for span in both_ends(spans_file):
        assert said(span, "text", "binary") == [
            ("client", "text", "hello"),
            ("server", "text", "hello"),
            ("client", "text", "grüß dich"),
            ("server", "text", "grüß dich"),
            ("client", "binary", binary),
            ("server", "binary", binary),
            ("client", "text", "bye"),
        ]
        assert own(span, "close.code") == 4001
        assert "wirespan.incomplete" not in span.attributes


def test_a_push_beyond_the_budget_is_flagged_and_goes_on_after_a_word(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    port = server("websockets")
    running = agent("run", "--port", str(port), "--direction", "ingress", "--spans-file", str(spans_file))
    url = f"ws://127.0.0.1:{port}/feed"
    with connect(url, compression=None, max_size=None, ping_interval=None) as connection:
        for _ in range(3):
            connection.send("push 50 20000")
            assert [len(connection.recv(timeout=END_SECONDS)) for _ in range(50)] == [20_000] * 50
        repeat(connection, "still there")
    running.stop()
    (span,) = read_spans(spans_file)
    assert "wirespan.incomplete" not in span.attributes
    assert own(span, "received.count") == 4
    assert own(span, "received.uncounted") is None
    assert own(span, "sent.uncounted") is True
    assert 20 <= own(span, "sent.count") < 150
    kept = [event for event in span.events if event[OWN + "opcode"] == "binary"]
    assert kept[0][OWN + "content"] == encoded(bytes(20_000))
    assert {event[OWN + "truncated"] for event in kept[6:]} == {"limit"}
    assert own(span, "close.code") == 1000


def test_a_reset_is_an_error_and_keeps_what_was_said(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    port = server("websockets")
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    script = f"""
import os, socket, struct
from websockets.sync.client import connect
with connect("ws://127.0.0.1:{port}/") as connection:
    connection.send("hello")
    connection.recv()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=END_SECONDS)
    running.stop()
    for span in both_ends(spans_file):
        assert said(span) == [("client", "text", "hello"), ("server", "text", "hello")]
        assert span.attributes["wirespan.incomplete"] == "closed"
        assert span.attributes["error.type"] == "connection_closed"


def test_a_session_that_outlives_the_capture_is_flagged(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    port = server("websockets")
    running = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    with connect(f"ws://127.0.0.1:{port}/") as connection:
        repeat(connection, "hello")
        running.stop()
    for span in both_ends(spans_file):
        assert [content for _, _, content in said(span)] == ["hello", "hello"]
        assert span.attributes["wirespan.incomplete"] == "stopped"


def test_without_bodies_there_is_no_content(agent: StartAgent, server: StartServer, spans_file: Path) -> None:
    port = server("websockets")
    running = agent("run", "--no-bodies", "--port", str(port), "--spans-file", str(spans_file))
    with connect(f"ws://127.0.0.1:{port}/") as connection:
        repeat(connection, "a secret word")
    running.stop()
    assert "secret" not in spans_file.read_text()
    for span in both_ends(spans_file):
        assert own(span, "sent.count") == own(span, "received.count") == 1
        assert [event[OWN + "opcode"] for event in span.events][:2] == ["text", "text"]


def test_the_console_shows_the_session(agent: StartAgent, server: StartServer) -> None:
    port = server("websockets")
    running = agent("run", "--port", str(port), "--direction", "egress")
    with connect(f"ws://127.0.0.1:{port}/chat") as connection:
        repeat(connection, "hello")
    (line,) = running.stop().splitlines()
    assert " 101 " in line
    assert line.endswith("ws 1↑ 1↓ close 1000")
