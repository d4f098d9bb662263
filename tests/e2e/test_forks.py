"""Programs that talk in children of their own: every span is there, and it is that of the program."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, curl, read_spans, wirespan
from tests.nginx import free_port, wait_for_port
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]

REQUESTS = 12
AT_ONCE = 500
PYTHON = Path(sys.executable).resolve().name
SELF = ("mixin", "zombies", "reaped", "double_fork", "nested", "in_thread", "pre_fork", "answer_then_exec")
"""Kinds that answer as the program that was started."""
ORPHANS = "orphans"
"""The same, by a process whose parent, which was started, has ended."""
PERLS = ("fork_exec", "spawn")
"""Kinds that answer as Perl."""


def send(api: Server, path: str) -> socket.socket:
    connection = socket.create_connection((api.address, api.port), timeout=20)
    connection.sendall(b"GET %s HTTP/1.1\r\nHost: forks.invalid\r\n\r\n" % path.encode())
    return connection


def receive(connection: socket.socket) -> int:
    """Read an answer to its end, and return the process id that it names."""
    received = b""
    with connection:
        while part := connection.recv(65_536):
            received += part
    head = received.partition(b"\r\n\r\n")[0]
    return int(next(line for line in head.split(b"\r\n") if line.startswith(b"X-Pid")).split(b":")[1])


class Servers:
    """A server of each kind, and what each was asked for and answered by which process."""

    def __init__(self, start: StartServer, kinds: tuple[str, ...]) -> None:
        self.by_kind = {kind: start(program="forking_server", address=kind) for kind in kinds}
        for api in self.by_kind.values():
            api.address = "127.0.0.1"
        self.answered: Counter[tuple[int, str, int]] = Counter()

    def ports(self) -> list[str]:
        return [word for api in self.by_kind.values() for word in ("--port", str(api.port))]

    def ask(self, *kinds: str) -> None:
        """Ask servers of these kinds, one connection after the other."""
        for number in range(REQUESTS):
            for kind in kinds:
                api, path = self.by_kind[kind], f"/{kind}/{number}"
                pid = receive(send(api, path))
                self.answered[api.port, path, pid] += 1


def described(spans: list[ExportedSpan]) -> Counter[tuple[int, str, int]]:
    return Counter(
        (
            span.attributes["network.local.port"],
            span.attributes["url.path"],
            span.resource["process.pid"],
        )
        for span in spans
    )


def expect(spans: list[ExportedSpan], answered: Counter[tuple[int, str, int]], names: set[str]) -> None:
    """Expect a span of each answer, of the process that gave it and of one of these programs."""
    assert {span.kind for span in spans} == {SERVER}
    assert described(spans) == answered
    assert {span.resource["process.executable.name"] for span in spans} <= names
    assert {span.resource["service.name"] for span in spans} <= names
    assert {span.attributes.get("http.response.status_code") for span in spans} == {200}


@pytest.mark.parametrize("selection", ["exe", "pid", "exe and pid", "none"])
def test_what_children_answer_is_of_their_program(
    agent: StartAgent, server: StartServer, tmp_path: Path, selection: str
) -> None:
    spans_file = tmp_path / "spans"
    kinds = SELF if "pid" in selection else (*SELF, ORPHANS)
    servers = Servers(server, kinds)
    arguments = ["--exe", "python*"] if "exe" in selection else []
    if "pid" in selection:
        arguments += [word for api in servers.by_kind.values() for word in ("--pid", str(api.pid))]
    running = agent(
        "run", *arguments, *servers.ports(), "--direction", "ingress", "--spans-file", str(spans_file)
    )
    servers.ask(*kinds)
    running.stop()
    expect(read_spans(spans_file), servers.answered, {PYTHON})


def test_a_recording_knows_the_children(agent: StartAgent, server: StartServer, tmp_path: Path) -> None:
    recording, spans_file = tmp_path / "traffic.wsr", tmp_path / "spans"
    kinds = (*SELF, ORPHANS)
    servers = Servers(server, kinds)
    arguments = ("--exe", "python*", "--direction", "ingress")
    recorder = agent("record", str(recording), *servers.ports(), *arguments)
    servers.ask(*kinds)
    recorder.stop()
    assert wirespan("replay", str(recording), "--spans-file", str(spans_file)).returncode == 0
    expect(read_spans(spans_file), servers.answered, {PYTHON})


@pytest.mark.parametrize("selected", [True, False], ids=["Perl", "everything"])
def test_a_child_that_has_executed_a_program_is_that(
    agent: StartAgent, server: StartServer, tmp_path: Path, *, selected: bool
) -> None:
    spans_file = tmp_path / "spans"
    servers = Servers(server, PERLS)
    arguments = ["--exe", "perl"] if selected else []
    running = agent(
        "run", *arguments, *servers.ports(), "--direction", "ingress", "--spans-file", str(spans_file)
    )
    servers.ask(*PERLS)
    running.stop()
    expect(read_spans(spans_file), servers.answered, {"perl"})


@pytest.mark.parametrize("selected", ["python*", "true"])
def test_no_other_program_comes_out(
    agent: StartAgent, server: StartServer, tmp_path: Path, selected: str
) -> None:
    """What a selected program has executed is not it, and what it was forked from, neither."""
    spans_file = tmp_path / "spans"
    kinds = ("fork_exec", "spawn", "answer_then_exec")
    servers = Servers(server, kinds)
    running = agent(
        *("run", "--exe", selected, *servers.ports()),
        *("--direction", "ingress", "--spans-file", str(spans_file)),
    )
    servers.ask(*kinds)
    running.stop()
    answered_by_python = Counter(
        {answer: count for answer, count in servers.answered.items() if "answer_then_exec" in answer[1]}
    )
    spans = read_spans(spans_file)
    assert described(spans) == (answered_by_python if selected == "python*" else Counter())


@pytest.mark.parametrize("kind", ["zombies", "reaped", "mixin"])
def test_hundreds_of_children_at_once(
    agent: StartAgent, server: StartServer, tmp_path: Path, kind: str
) -> None:
    spans_file = tmp_path / "spans"
    api = server(program="forking_server", address=kind)
    api.address = "127.0.0.1"
    running = agent(
        *("run", "--exe", "python*", "--port", str(api.port)),
        *("--direction", "ingress", "--spans-file", str(spans_file)),
    )
    with contextlib.ExitStack() as closing:
        connections = [closing.enter_context(send(api, f"/{number}")) for number in range(AT_ONCE)]
        answered = Counter(
            (api.port, f"/{number}", receive(connection)) for number, connection in enumerate(connections)
        )
    running.stop()
    assert len(answered) == AT_ONCE
    expect(read_spans(spans_file), answered, {PYTHON})


@pytest.mark.parametrize("selection", ["exe", "pid", "none"])
def test_children_that_live_for_one_request_of_their_own(
    agent: StartAgent, server: StartServer, tmp_path: Path, selection: str
) -> None:
    spans_file = tmp_path / "spans"
    api = server()
    command = [sys.executable, "-m", "tests.e2e.servers.forking_client", str(api.port), str(AT_ONCE // 10)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        arguments = {"exe": ("--exe", "python*"), "pid": ("--pid", str(clients.pid)), "none": ()}[selection]
        running = agent(
            *("run", *arguments, "--port", str(api.port)),
            *("--direction", "egress", "--spans-file", str(spans_file)),
        )
        out, _ = clients.communicate("go\n")
    running.stop()
    asked = Counter((f"/{number}", int(pid)) for number, pid in map(str.split, out.splitlines()))
    assert len(asked) == AT_ONCE // 10
    spans = read_spans(spans_file)
    assert {span.kind for span in spans} == {CLIENT}
    assert (
        Counter(
            (
                "/" + span.attributes["url.full"].rpartition("/")[2],
                span.resource["process.pid"],
            )
            for span in spans
        )
        == asked
    )
    assert {span.resource["service.name"] for span in spans} == {PYTHON}


def test_workers_that_end_after_a_request(agent: StartAgent, tmp_path: Path) -> None:
    """gunicorn's master forks another worker for each."""
    spans_file = tmp_path / "spans"
    port = free_port()
    gunicorn = Path(sys.executable).with_name("gunicorn")
    command = [
        *(str(gunicorn), "--bind", f"127.0.0.1:{port}", "--log-level", "error", "--workers", "2"),
        *("--max-requests", "1", "tests.e2e.servers.wsgi_application:application"),
    ]
    with subprocess.Popen(command) as master:
        try:
            wait_for_port(port)
            running = agent(
                *("run", "--exe", "*python*", "--port", str(port)),
                *("--direction", "ingress", "--spans-file", str(spans_file)),
            )
            for number in range(REQUESTS):
                assert curl(f"http://127.0.0.1:{port}/get/{number}")
            running.stop()
        finally:
            master.send_signal(signal.SIGTERM)
    spans = read_spans(spans_file)
    assert Counter(span.attributes["url.path"] for span in spans) == Counter(
        f"/get/{number}" for number in range(REQUESTS)
    )
    assert {span.resource["service.name"] for span in spans} == {PYTHON}
    assert master.pid not in {span.resource["process.pid"] for span in spans}
    assert len({span.resource["process.pid"] for span in spans}) > 1
