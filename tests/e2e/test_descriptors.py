"""Connections that a tracer of (pid, fd) gets wrong: older than the agent, duplicated, inherited, reused."""

import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, Server, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]

SHORT_CONNECTIONS = 10_000


def ask(connection: socket.socket, path: str, *, close: bool = False) -> bytes:
    """Send a GET and return its body, which holds the path."""
    last = "Connection: close\r\n" if close else ""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n{last}\r\n".encode())
    return answer(connection)


def answer(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4096)
    head, _, body = received.partition(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(4096)
    return body


def assert_each_asked_and_answered(spans_file: Path, paths: list[str]) -> None:
    """Expect, for each path, one span of each kind that is whole and holds the answer to that very path."""
    spans = read_spans(spans_file)
    assert Counter(
        (span.kind, span.attributes.get("url.path")) for span in spans if span.kind == SERVER
    ) == Counter((SERVER, path) for path in paths)
    assert Counter(
        span.attributes["url.full"].partition("//test")[2] for span in spans if span.kind == CLIENT
    ) == Counter(paths)
    for span in spans:
        path = span.attributes.get("url.path") or span.attributes["url.full"].partition("//test")[2]
        assert span.attributes["http.response.body.content"] == f"you asked for {path}\n"
        assert "wirespan.incomplete" not in span.attributes


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_older_than_the_agent_is_captured_from_its_next_message_on(
    agent: StartAgent, server: StartServer, tmp_path: Path, address: str
) -> None:
    api = server(address)
    spans_file = tmp_path / "spans.jsonl"
    with socket.create_connection((api.address, api.port)) as connection:
        ask(connection, "/before")
        running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
        for number in range(3):
            ask(connection, f"/after/{number}")
        running.stop()
    assert_each_asked_and_answered(spans_file, [f"/after/{number}" for number in range(3)])
    for span in read_spans(spans_file):
        assert span.attributes["network.peer.address"] == address


def test_duplicated_and_inherited_descriptors_belong_to_their_connection(
    agent: StartAgent, server: StartServer, tmp_path: Path
) -> None:
    api = server()
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
    with socket.create_connection((api.address, api.port)) as connection:
        ask(connection, "/original")
        with connection.dup() as duplicate:
            ask(duplicate, "/duplicate")
            duplicate.sendall(b"GET /sent-by-one HTTP/1.1\r\nHost: test\r\n\r\n")
            answer(connection)
        child = os.fork()
        if child == 0:
            ask(connection, "/inherited")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ask(connection, "/after-the-child")
    running.stop()
    paths = ["/original", "/duplicate", "/sent-by-one", "/inherited", "/after-the-child"]
    assert_each_asked_and_answered(spans_file, paths)
    inherited = [
        span
        for span in read_spans(spans_file)
        if span.kind == CLIENT and span.attributes["url.full"].endswith("/inherited")
    ]
    assert [span.resource["process.pid"] for span in inherited] == [child]


def test_a_descriptor_that_is_reused_at_once_never_mixes_connections_up(
    agent: StartAgent, server: StartServer, tmp_path: Path
) -> None:
    api = server()
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
    paths = [f"/short/{number}" for number in range(SHORT_CONNECTIONS)]
    descriptors = Counter[int]()
    for path in paths:
        with socket.create_connection((api.address, api.port)) as connection:
            descriptors[connection.fileno()] += 1
            ask(connection, path, close=True)
    running.stop()
    assert descriptors.most_common(1)[0][1] > SHORT_CONNECTIONS // 2, "descriptors were not reused"
    assert_each_asked_and_answered(spans_file, paths)
