"""What failed and what did not, as both ends of real connections saw it: early answers, ends, refusals."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, END_SECONDS, SERVER, Agent, ExportedSpan, Server, read_spans
from tests.nginx import free_port, running_nginx, wait_for_port

pytestmark = pytest.mark.e2e

SERVERS = Path(__file__).parent / "servers"
UPLOAD_BYTES = 4_000_000
LISTEN, TIME_WAIT = "0A", "06"
WITHOUT_ERROR = {"error.type"}


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    with subprocess.Popen(command) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.kill()


@pytest.fixture(scope="module")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the server in Go."""
    program = tmp_path_factory.mktemp("go") / "early"
    command = ["go", "build", "-buildvcs=false", "-o", str(program), "."]
    subprocess.run(command, cwd=SERVERS / "go_early", check=True)
    return program


@pytest.fixture(params=["nginx", "go", "node"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of a server that takes uploads of at most 1000 bytes."""
    port = free_port()
    with contextlib.ExitStack() as closing:
        if request.param == "nginx":
            for folder in (tmp_path, *tmp_path.parents[:2]):
                folder.chmod(0o755)
            # Only what reads the body looks at its size.
            taken = f"location /taken {{ return 200 'taken'; }} location / {{ proxy_pass http://127.0.0.1:$server_port/taken; }}"
            port = closing.enter_context(running_nginx(tmp_path, f"client_max_body_size 1000; {taken}"))
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
        if not any(f"{address[-4:]}" == f"{port:04X}" for pair in ends for address in pair):
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


def ask(port: int, *paths: str, ends_in_order: bool = True) -> list[bytes]:
    """Send requests on one connection, each when the one before is answered; return what came."""
    received = []
    with socket.create_connection(("127.0.0.1", port), END_SECONDS) as connection:
        for path in paths:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            if path.startswith("/kept"):
                received.append(connection.recv(65_536))
                continue
            if path == "/half-reset":
                received.append(connection.recv(65_536))
            if path.endswith("reset"):
                connection.sendall(b"\n")
            received.append(read_to_end(connection))
    if ends_in_order:
        wait_until_closed(port)
    return received


@pytest.mark.parametrize(
    ("path", "incomplete", "failed"),
    [
        ("/half-close", {SERVER: None, CLIENT: None}, {SERVER: False, CLIENT: False}),
        ("/half-reset", {SERVER: "closed", CLIENT: "closed"}, {SERVER: True, CLIENT: True}),
        ("/none-close", {SERVER: "closed", CLIENT: "closed"}, {SERVER: True, CLIENT: True}),
        ("/none-reset", {SERVER: "one_side", CLIENT: "closed"}, {SERVER: False, CLIENT: True}),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_how_a_connection_ends_is_told_by_both_ends(
    agent: Callable[..., Agent],
    server: Callable[..., Server],
    tmp_path: Path,
    path: str,
    incomplete: dict[int, str | None],
    failed: dict[int, bool],
    before: int,
) -> None:
    port = server(program="abrupt_server").port
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    ask(port, *["/kept"] * before, path)
    watching.stop()
    for kind, spans in by_kind(spans_file).items():
        *kept, last = spans
        assert [span.attributes.get("wirespan.incomplete") for span in kept] == [None] * before
        attributes = last.attributes
        was_captured = before > 0 and path == "/none-reset"
        assert attributes.get("wirespan.incomplete") == ("closed" if was_captured else incomplete[kind])
        is_error = failed[kind] or was_captured
        assert attributes.get("error.type") == ("connection_closed" if is_error else None)
        if path.startswith("/half"):
            assert attributes["http.response.status_code"] == 200
            assert attributes["http.response.body.content"] == "half"
        else:
            assert "http.response.status_code" not in attributes


@pytest.mark.parametrize("number", [1, 3])
def test_answers_that_pass_no_captured_call_are_no_failures(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path, number: int
) -> None:
    port = server(program="io_uring_server").port
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(port), "--spans-file", str(spans_file))
    assert len(ask(port, *["/kept"] * number)) == number
    watching.stop()
    sides = by_kind(spans_file)
    for kind, spans in sides.items():
        assert len(spans) == number
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


@pytest.mark.parametrize(
    "line", [b"GET /refused HTTP/2.0", b"GET /refused HTTP/x", b"GET /ref\x00used HTTP/1.1", b"GET /refused"]
)
def test_a_head_that_the_server_refuses_is_shown_with_the_refusal(
    agent: Callable[..., Agent], limited: int, tmp_path: Path, line: bytes
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    watching = agent("run", "--port", str(limited), "--spans-file", str(spans_file))
    with socket.create_connection(("127.0.0.1", limited), END_SECONDS) as connection:
        connection.sendall(line + b"\r\nHost: a\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    wait_until_closed(limited)
    watching.stop()
    for spans in by_kind(spans_file).values():
        if not answer.startswith(b"HTTP/1."):
            # What answers without a status line speaks HTTP/0.9, or nothing.
            assert spans == []
            continue
        (span,) = spans
        attributes = span.attributes
        assert attributes["http.response.status_code"] == int(answer[9:12])
        assert attributes["wirespan.incomplete"] == "invalid"
        assert attributes["http.request.method"] == "GET"
