"""What failed and what did not, as both ends of real connections saw it: early answers, ends, refusals."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, SERVERS, ExportedSpan, Server, read_spans, running
from tests.nginx import free_port, running_nginx
from tests.running_agent import END_SECONDS, Agent

pytestmark = pytest.mark.e2e

UPLOAD_BYTES = 4_000_000
LISTEN, TIME_WAIT = "0A", "06"


@pytest.fixture(params=["nginx", "go", "node"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of a server that takes uploads of at most 1000 bytes."""
    port = free_port()
    with contextlib.ExitStack() as closing:
        if request.param == "nginx":
            for folder in (tmp_path, *tmp_path.parents[:2]):
                folder.chmod(0o755)
            port = closing.enter_context(
                running_nginx(tmp_path, "client_max_body_size 1000; root /var/empty;")
            )
        elif request.param == "go":
            program = request.getfixturevalue("go_server")
            closing.enter_context(running([str(program), f"127.0.0.1:{port}"], port))
        else:
            node = shutil.which("node")
            assert node is not None
            closing.enter_context(running([node, str(SERVERS / "node_early_server.js"), str(port)], port))
        yield port


def wait_until_closed(port: int) -> None:
    """Wait until no connection of a port is open at either end."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ends = [(row[1], row[2]) for row in rows if row[3] not in (LISTEN, TIME_WAIT)]
        if not any(address.endswith(f":{port:04X}") for pair in ends for address in pair):
            return
        time.sleep(0.02)
    raise AssertionError("a connection stays open")


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the end of the connection, in whatever way it ends."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65_536):
            received += data
    return received


def upload(port: int, *, goes_on: bool) -> tuple[bytes, int]:
    """Upload too much; stop at the answer, or go on as long as that is possible.

    Return the answer, and how many bytes of the body went.
    """
    head = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % UPLOAD_BYTES
    answer = b""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), END_SECONDS) as connection:
        connection.sendall(head)
        try:
            while sent < UPLOAD_BYTES:
                readable, writable, _ = select.select([connection], [connection], [], END_SECONDS)
                if readable:
                    data = connection.recv(65_536)
                    answer += data
                    if not data or not goes_on:
                        break
                if writable:
                    sent += connection.send(b"x" * min(8_192, UPLOAD_BYTES - sent))
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer += read_to_end(connection)
    wait_until_closed(port)
    return answer, sent


def by_kind(file: Path) -> dict[int, list[ExportedSpan]]:
    spans = read_spans(file)
    return {kind: [span for span in spans if span.kind == kind] for kind in (SERVER, CLIENT)}


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_upload_that_is_refused_while_it_comes_is_answered(
    agent: Callable[..., Agent],
    limited: int,
    tmp_path: Path,
    goes_on: bool,  # noqa: FBT001 - a parameter
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(limited), "--spans-file", str(spans_file))
    answer, sent = upload(limited, goes_on=goes_on)
    watching.stop()
    assert answer.startswith(b"HTTP/1.1 413 ")
    sides = by_kind(spans_file)
    for kind, spans in sides.items():
        (span,) = spans
        attributes = span.attributes
        assert attributes["http.response.status_code"] == 413
        assert attributes["http.response.body.content"] in answer.decode()
        assert "wirespan.incomplete" not in attributes
        assert attributes.get("error.type") == ("413" if kind == CLIENT else None)
        if sent < UPLOAD_BYTES:
            assert attributes["wirespan.anomalies"] == ["request_cut_short"]
        if kind == CLIENT:
            assert attributes["http.request.body.size"] == sent
        else:
            assert attributes["http.request.body.size"] <= sent


def ask(port: int, *paths: str) -> list[bytes]:
    """Send requests on one connection, each when the one before is answered; return what came."""
    received = []
    with socket.create_connection(("127.0.0.1", port), END_SECONDS) as connection:
        for path in paths:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            if path in ("/kept", "/half-reset"):
                received.append(connection.recv(65_536))
            if path == "/half-reset":
                connection.sendall(b"\n")
            if path != "/kept":
                received.append(read_to_end(connection))
    wait_until_closed(port)
    return received


ENDS = [
    # Requests answered before, the last request, and what its span says: of the server, of the client.
    (0, "/half-close", None, None),
    (2, "/half-close", None, None),
    (0, "/half-reset", "closed", "closed"),
    (2, "/half-reset", "closed", "closed"),
    (0, "/none-close", "closed", "closed"),
    (2, "/none-close", "closed", "closed"),
    # With a reset alone, answers of the server may have passed unseen; the client was there, waiting.
    (0, "/none-reset", "one_side", "closed"),
    (2, "/none-reset", "closed", "closed"),
]


def test_how_a_connection_ends_is_told_by_both_ends(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    port = server(program="abrupt_server").port
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    for before, path, _, _ in ENDS:
        ask(port, *["/kept"] * before, path)
    watching.stop()
    for kind, spans in by_kind(spans_file).items():
        told = iter(spans)
        for before, path, of_server, of_client in ENDS:
            for _ in range(before):
                assert not {"wirespan.incomplete", "error.type"} & next(told).attributes.keys()
            attributes = next(told).attributes
            incomplete = of_server if kind == SERVER else of_client
            assert attributes.get("wirespan.incomplete") == incomplete
            is_error = incomplete == "closed"
            assert attributes.get("error.type") == ("connection_closed" if is_error else None)
            if path.startswith("/half"):
                assert attributes["http.response.body.content"] == "half"
            else:
                assert "http.response.status_code" not in attributes
        assert next(told, None) is None


def test_answers_that_pass_no_captured_call_are_no_failures(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    port = server(program="io_uring_server").port
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    for number in (1, 3):
        assert len(ask(port, *["/kept"] * number)) == number
    watching.stop()
    for kind, spans in by_kind(spans_file).items():
        assert len(spans) == 4
        for span in spans:
            attributes = span.attributes
            assert "error.type" not in attributes
            assert attributes.get("wirespan.incomplete") == ("one_side" if kind == SERVER else None)


def test_a_server_that_says_why_it_closes_an_idle_connection(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    port = server(program="abrupt_server").port
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    ask(port, "/kept", "/idle")
    watching.stop()
    for spans in by_kind(spans_file).values():
        first, second, unasked = spans
        assert first.attributes["url.path" if first.kind == SERVER else "url.full"].endswith("/kept")
        assert second.attributes["http.response.status_code"] == 200
        for span in (first, second):
            assert not {"wirespan.incomplete", "error.type"} & span.attributes.keys()
        assert unasked.attributes["http.response.status_code"] == 408
        assert unasked.attributes["wirespan.incomplete"] == "unsolicited"
        assert "error.type" not in unasked.attributes


REFUSED_LINES = [
    b"GET /refused HTTP/2.0",
    b"GET /refused HTTP/x",
    b"GET /ref\x00used HTTP/1.1",
    b"GET /refused HTTP/1.1 HTTP/1.1 HTTP/9",
    b"GET /refused",
]


def test_a_head_that_the_server_refuses_is_shown_with_the_refusal(
    agent: Callable[..., Agent], limited: int, tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(limited), "--spans-file", str(spans_file))
    statuses = []
    for line in REFUSED_LINES:
        with socket.create_connection(("127.0.0.1", limited), END_SECONDS) as connection:
            connection.sendall(line + b"\r\nHost: a\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            answer = read_to_end(connection)
        wait_until_closed(limited)
        if answer.startswith(b"HTTP/1."):
            # What answers without a status line speaks HTTP/0.9, or nothing: there is no span of it.
            statuses.append(int(answer[9:12]))
    watching.stop()
    assert len(statuses) >= 3
    for spans in by_kind(spans_file).values():
        assert [span.attributes["http.response.status_code"] for span in spans] == statuses
        for span in spans:
            assert span.attributes["wirespan.incomplete"] == "invalid"
            assert span.attributes["http.request.method"] == "GET"
