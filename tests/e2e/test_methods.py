"""First requests of any method, and what stands in front of them, before real servers: spans at both ends."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, SERVERS, ExportedSpan, read_spans, running
from tests.nginx import free_port, running_nginx
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

TOKEN_BYTES = b"-_ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+.^`|~0123456789abcdefghijklmnopqrstuvwxyz"
NGINX_BYTES = TOKEN_BYTES[:28]
"""What nginx takes in a method. It answers 400 to the rest, and that is a span as well."""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with running_nginx(tmp_path, "location / { return 200 'seen'; }") as port:
        yield port


@pytest.fixture(params=["nginx", "go", "node"])
def any_server(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return the port of a server that answers what its parser takes, and 400 to what it does not."""
    if request.param == "nginx":
        yield request.getfixturevalue("nginx")
        return
    port = free_port()
    node = shutil.which("node")
    assert node is not None
    command = (
        [str(request.getfixturevalue("go_server")), f"127.0.0.1:{port}"]
        if request.param == "go"
        else [node, str(SERVERS / "node_early_server.js"), str(port)]
    )
    with running(command, port):
        yield port


def read_response(connection: socket.socket) -> bytes:
    """Return the head of a response whose body a Content-Length, a chunk or the end delimits."""
    received = b""
    while part := connection.recv(65_536):
        received += part
        head, end, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
        is_chunked = b"transfer-encoding: chunked" in lines
        if end and ((lengths and len(body) >= lengths[0]) or (is_chunked and body.endswith(b"0\r\n\r\n"))):
            break
    return received


def methods() -> list[bytes]:
    chance = random.Random(9110)
    drawn = [
        bytes(chance.choices(NGINX_BYTES if number % 3 else TOKEN_BYTES, k=chance.choice([1, 4, 7, 12, 30])))
        for number in range(20)
    ]
    return [b"PROPFIND", b"FROB", b"REPORT", b"M-SEARCH", b"BASELINE-CONTROL", b"QUERY", *drawn]


def spans_by_path(file: Path, kind: int) -> dict[str, ExportedSpan]:
    found = {}
    for span in read_spans(file):
        if span.kind == kind:
            path = span.attributes["url.path"] if kind == SERVER else span.attributes["url.full"]
            found["/" + path.rpartition("/")[2]] = span
    return found


def test_every_request_of_a_connection_that_begins_with_an_uncommon_one_is_a_span(
    agent: Callable[..., Agent], any_server: int, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    capture = agent("run", "--port", str(any_server), "--spans-file", str(file))
    expected: dict[str, tuple[str, int]] = {}
    for number, method in enumerate(methods()):
        with socket.create_connection(("127.0.0.1", any_server)) as connection:
            for step, name in enumerate((method, b"GET", method, b"POST")):
                path = f"/{number}-{step}"
                extra = b"Content-Length: 0\r\n" if name == b"POST" else b""
                connection.sendall(
                    name + b" " + path.encode() + b" HTTP/1.1\r\nHost: a\r\n" + extra + b"\r\n"
                )
                status = read_response(connection).partition(b" ")[2][:3]
                if not status:
                    break
                expected[path] = (name.decode(), int(status))
                if status == b"400":
                    break
    capture.stop()
    assert len(expected) > 25
    for kind in (SERVER, CLIENT):
        spans = spans_by_path(file, kind)
        told = {
            path: (
                span.attributes.get("http.request.method_original", span.attributes["http.request.method"]),
                span.attributes["http.response.status_code"],
            )
            for path, span in spans.items()
        }
        assert told == expected
        assert not [span for span in spans.values() if "wirespan.incomplete" in span.attributes]


def test_what_follows_a_tunnels_setting_up_is_a_span(
    agent: Callable[..., Agent], nginx: int, tmp_path: Path
) -> None:
    """The test is a client, and the SOCKS 5 proxy before nginx, its child: each end of both is a span."""
    file = tmp_path / "spans.jsonl"
    running = agent("run", "--pid", str(os.getpid()), "--spans-file", str(file))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        door, _ = listener.accept()
        with client, door, socket.create_connection(("127.0.0.1", nginx)) as onward:
            for question, answer in (
                (b"\5\1\0", b"\5\0"),
                (b"\5\1\0\1\x7f\0\0\1" + nginx.to_bytes(2, "big"), b"\5\0\0\1\0\0\0\0\0\0"),
            ):
                client.sendall(question)
                assert door.recv(100) == question
                door.sendall(answer)
                assert client.recv(100) == answer
            client.sendall(b"GET /tunnelled HTTP/1.1\r\nHost: a\r\n\r\n")
            onward.sendall(door.recv(65_536))
            door.sendall(onward.recv(65_536))
            assert b"seen" in client.recv(65_536)
    running.stop()
    spans = read_spans(file)
    assert sorted(span.kind for span in spans) == [SERVER, SERVER, CLIENT, CLIENT]
    assert {span.attributes["http.response.status_code"] for span in spans} == {200}
    assert not [span for span in spans if "wirespan.incomplete" in span.attributes]
    assert {span.attributes["url.path"] for span in spans if span.kind == SERVER} == {"/tunnelled"}
