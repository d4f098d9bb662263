"""`replay` of what tcpdump captured of every protocol: the spans of the run beside it, messages included."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from websockets.sync.client import connect

from tests.e2e.captures import assert_equal, capturing, comparable, replay
from tests.e2e.conftest import SERVER, ExportedSpan, Server, curl, read_spans
from tests.e2e.servers.grpc_server import SERVICE
from tests.nginx import free_port, wait_for_port
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

FILES = 20
JSON = "Content-Type: application/json"

Compared = Callable[..., tuple[list[ExportedSpan], list[ExportedSpan]]]


@pytest.fixture
def compared(agent: Callable[..., Agent], tmp_path: Path) -> Compared:
    """Run what speaks to a port; return the spans of the run beside it and of the capture's replay."""

    def compare(port: int, speak: Callable[[], object]) -> tuple[list[ExportedSpan], list[ExportedSpan]]:
        live, capture = tmp_path / "live", tmp_path / "traffic.pcap"
        running = agent("run", "--port", str(port), "--direction", "ingress", "--spans-file", str(live))
        with capturing(capture, port):
            speak()
        running.stop()
        return read_spans(live), replay(capture, tmp_path / "replayed")

    return compare


@pytest.fixture
def nghttpd(tmp_path: Path) -> Iterator[int]:
    served = tmp_path / "served"
    served.mkdir()
    for number in range(FILES):
        (served / f"{number}.txt").write_text(f"this is {number}: " + "x" * number * 20)
    port = free_port()
    with subprocess.Popen(
        ["nghttpd", "--no-tls", "-d", str(served), str(port)], stdout=subprocess.DEVNULL
    ) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.terminate()


def test_http2(compared: Compared, nghttpd: int) -> None:
    urls = [f"http://127.0.0.1:{nghttpd}/{number}.txt" for number in range(FILES)]

    def speak() -> None:
        curl("--http2-prior-knowledge", urls[3])
        curl("--http2-prior-knowledge", urls[4], "--data", "x=1")
        subprocess.run(["nghttp", "--no-dep", *urls], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            ["h2load", "-n", "200", "-c", "2", "-m", "50", *urls], check=True, stdout=subprocess.DEVNULL
        )

    live, replayed = compared(nghttpd, speak)
    assert len(replayed) == 2 + FILES + 200
    assert {span.attributes["network.protocol.version"] for span in replayed} >= {"2"}
    assert not any("wirespan.incomplete" in span.attributes for span in replayed)
    assert comparable(live) == comparable(replayed)


@contextmanager
def serving(program: str, *arguments: str) -> Iterator[int]:
    """Run a server of these tests; yield its port once it listens."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.e2e.servers.{program}", *arguments], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_grpc(compared: Compared) -> None:
    with serving("grpc_server") as port:

        def speak() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                channel.unary_unary(f"/{SERVICE}/Echo")(b"\x0a\x03bob", metadata=(("x-tenant", "a"),))
                list(channel.unary_stream(f"/{SERVICE}/Split")(b"abcde"))
                channel.stream_unary(f"/{SERVICE}/Join")(iter([b"one", b"", b"three"]))
                with pytest.raises(grpc.RpcError):
                    channel.unary_unary(f"/{SERVICE}/Abort")(b"NOT_FOUND")

        live, replayed = compared(port, speak)
    assert [span.attributes["rpc.response.status_code"] for span in replayed] == ["OK"] * 3 + ["NOT_FOUND"]
    assert_equal(live, replayed)


def test_websocket(compared: Compared) -> None:
    with serving("websocket_server", "websockets") as port:

        def speak() -> None:
            with connect(f"ws://127.0.0.1:{port}/chat") as connection:
                for message in ("hello " * 50, b"\0\1\xff", "bye for now"):
                    connection.send(message)
                    assert connection.recv(timeout=10) == message

        live, replayed = compared(port, speak)
    (span,) = replayed
    assert span.kind == SERVER
    assert len(span.events) >= 6
    assert_equal(live, replayed)


@pytest.mark.parametrize(
    ("program", "path", "value"),
    [
        ("graphql_server", "/graphql", {"query": "query Hero { hero { name } }"}),
        ("json_rpc_server", "", [{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}]),
    ],
)
def test_graphql_and_json_rpc(
    compared: Compared, server: Callable[..., Server], program: str, path: str, value: object
) -> None:
    api = server(program=program)
    data = ("--header", JSON, "--data-raw", json.dumps(value))
    live, replayed = compared(api.port, lambda: curl(*data, f"{api.url}{path}"))
    (span,) = replayed
    assert any(name.startswith(("graphql.", "jsonrpc.")) for name in span.attributes)
    assert_equal(live, replayed)
