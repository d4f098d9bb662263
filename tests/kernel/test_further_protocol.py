"""A protocol beside HTTP, from the socket to the span: what it takes to add one.

One folder of four files (tests/ask): the C function, the reader, the description of a span with the row for
each of the three stages, and the package's docstring. It touches no other file.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tests.ask
from agent.pipeline import Pipeline
from agent.processes import ProcessTable
from agent.stop import StopRequest
from ebpf.capture import LiveCapture
from ebpf.clocks import read_clocks
from ebpf.events import CaptureEvent, Direction, EventKind, Role, SocketEvent
from otel_bridge.span import Resource, Span, SpanKind
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import CaptureIdGenerator
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.ask.rows import DESCRIBED, JUDGED, NUMBER, READ
from tests.kernel.conftest import Tap, connect_pair, inode_of, receive_exactly, start_capture
from tests.stand_ins import CollectingSink

pytestmark = pytest.mark.kernel

OpenTap = Callable[..., Tap]
GET = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
ASKING = b"ASKING /a HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def ask_capture() -> Iterator[LiveCapture]:
    capture = start_capture(protocols=JUDGED)
    yield capture
    capture.close()


@pytest.fixture
def ask_tap(ask_capture: LiveCapture) -> Tap:
    return Tap(ask_capture)


def converse(*turns: tuple[bytes, bytes], piece: int | None = None) -> tuple[int, int, int]:
    """Have a client and a server say these; return their inodes and the client's port."""
    client, server = connect_pair()
    with client, server:
        for question, answer in turns:
            for sender, receiver, data in ((client, server, question), (server, client, answer)):
                size = piece or len(data)
                for start in range(0, len(data), size):
                    sender.sendall(data[start : start + size])
                    receive_exactly(receiver, len(data[start : start + size]))
        return inode_of(client), inode_of(server), client.getsockname()[1]


class Delivered:
    """What a tap has taken from its capture, behind a reading of both clocks."""

    capture_id = bytes(range(16))

    def __init__(self, tap: Tap) -> None:
        self._events: list[CaptureEvent] = [read_clocks(), *tap.drain()]

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:  # noqa: ARG002 (EventSource)
        events, self._events = self._events, []
        return events

    @property
    def exhausted(self) -> bool:
        return not self._events

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:  # noqa: ARG002 (EventSource)
        return []

    def losses(self) -> dict[str, int]:
        return {}

    def observations(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def spans_of(tap: Tap) -> list[Span]:
    """Carry what was captured through all stages of the agent."""
    sink = CollectingSink()
    pipeline = Pipeline(
        Delivered(tap),
        ProcessTable(lambda facts: Resource({"service.name": str(facts.tgid)})),
        ConnectionTracker(ParserLimits(), READ),
        CaptureIdGenerator(lambda: Delivered.capture_id),
        SpanOptions(),
        [sink],
        kinds=DESCRIBED,
    )
    pipeline.run(StopRequest())
    assert pipeline.tracker.last_bug is None
    assert pipeline.counters()["span_failures"] == 0
    return sink.spans


def test_its_exchanges_become_spans_beside_those_of_http(ask_tap: Tap) -> None:
    _, _, port = converse((b"ASK time\n", b"GOT noon\n"), (b"ASK place\n", b"GOT here\n"))
    converse((GET, OK))
    spans = spans_of(ask_tap)
    asked = [span for span in spans if span.name == "ASK"]
    assert [
        (span.kind, span.attributes["ask.question"], span.attributes["ask.answer"]) for span in asked
    ] == [
        (kind, question, answer)
        for question, answer in (("time", "noon"), ("place", "here"))
        for kind in (SpanKind.SERVER, SpanKind.CLIENT)
    ]
    for span in asked:
        assert span.attributes["network.protocol.name"] == "ask"
        assert span.attributes["network.peer.address"] == "127.0.0.1"
        assert "wirespan.incomplete" not in span.attributes
        assert span.start_unix_ns < span.end_unix_ns
        assert span.resource.service_name == str(os.getpid())
    assert asked[0].attributes["network.peer.port"] == port
    assert [span.name for span in spans if span not in asked] == ["GET /a", "GET"]
    counts = {name: ask_tap.lost(f"connections_{name}") for name in ("ask", "http", "not_http")}
    assert counts == {"ask": 2, "http": 2, "not_http": 0}


@pytest.mark.parametrize("piece", [1, 2, 3, 5])
def test_a_line_in_pieces_is_held_until_it_is_known(ask_tap: Tap, piece: int) -> None:
    client, server, _ = converse((b"ASK time\n", b"GOT noon\n"), piece=piece)
    for inode, sent, role in (
        (client, Direction.EGRESS, Role.CLIENT),
        (server, Direction.INGRESS, Role.SERVER),
    ):
        assert ask_tap.stream(inode, sent) == b"ASK time\n"
        (opened,) = ask_tap.of(inode, EventKind.OPENED)
        assert (opened.role, opened.socket.protocol, opened.joined_late) == (role, NUMBER, False)


def test_a_method_that_begins_alike_is_still_http(ask_tap: Tap) -> None:
    converse((ASKING, OK))
    assert {span.attributes["http.request.method_original"] for span in spans_of(ask_tap)} == {"ASKING"}
    assert ask_tap.lost("connections_ask") == 0


def test_a_connection_that_is_met_in_its_middle_is_flagged(open_tap: OpenTap) -> None:
    client, server = connect_pair()
    with client, server:
        tap = open_tap(protocols=JUDGED)
        exchange_words(client, server)
        spans = spans_of(tap)
    assert {span.attributes["wirespan.incomplete"] for span in spans} == {"joined_late"}


def exchange_words(client: socket.socket, server: socket.socket) -> None:
    client.sendall(b"ASK time\n")
    receive_exactly(server, 9)
    server.sendall(b"GOT noon\n")
    receive_exactly(client, 9)


def test_no_other_file_names_it() -> None:
    folder = Path(tests.ask.__file__).parent
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "__init__.py",
        "connection.py",
        "infer_ask.h",
        "rows.py",
    }
    named = re.compile(r"infer_ask|AskExchange|AskConnection|describe_ask|tests\.ask")
    sources = [
        path
        for package in ("ebpf", "parsers", "otel_bridge", "agent")
        for path in (folder.parents[1] / package).rglob("*")
        if path.suffix in (".py", ".h", ".c")
    ]
    assert [path for path in sources if named.search(path.read_text())] == []
