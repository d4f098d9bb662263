"""First requests of any method, and what stands in front of them, before nginx: spans at both ends."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, Agent, ExportedSpan, read_spans
from tests.nginx import running_nginx

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


def read_response(connection: socket.socket) -> bytes:
    """Return a response that has a Content-Length, or all that comes until the end."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65_536)
        if not part:
            return received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return head


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
    agent: Callable[..., Agent], nginx: int, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(nginx), "--spans-file", str(file))
    expected: dict[str, tuple[str, int]] = {}
    for number, method in enumerate(methods()):
        with socket.create_connection(("127.0.0.1", nginx)) as connection:
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
    running.stop()
    assert len(expected) > 60
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
