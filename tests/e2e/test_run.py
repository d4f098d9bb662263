"""`wirespan run` on real traffic: right spans, of the selected processes only, to every output."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, curl, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]


@pytest.fixture
def spans_file(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


def client_and_server(spans: list[ExportedSpan]) -> tuple[ExportedSpan, ExportedSpan]:
    """Expect exactly one span of each kind."""
    assert sorted(span.kind for span in spans) == [SERVER, CLIENT]
    by_kind = {span.kind: span for span in spans}
    return by_kind[CLIENT], by_kind[SERVER]


SEEN_BY_BOTH = (
    "http.request.method",
    "http.response.status_code",
    "http.request.body.size",
    "http.response.body.size",
    "http.request.body.content",
    "http.response.body.content",
    "http.request.header.user-agent",
    "http.response.header.content-length",
    "network.type",
    "network.transport",
)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_one_curl_gives_one_span_at_each_end_that_agree(
    agent: StartAgent, server: StartServer, spans_file: Path, address: str
) -> None:
    api = server(address)
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
    curl("--data", "some words", f"{api.url}/echo?x=1")
    running.stop()
    client, served = client_and_server(read_spans(spans_file))
    for name in SEEN_BY_BOTH:
        assert client.attributes.get(name) == served.attributes.get(name), name
    assert client.attributes["http.request.body.content"] == "some words"
    assert client.attributes["http.response.status_code"] == 200
    assert client.attributes["url.full"] == f"{api.url}/echo?x=1"
    assert (served.attributes["url.path"], served.attributes["url.query"]) == ("/echo", "x=1")
    assert served.attributes["network.local.address"] == address
    assert served.attributes["network.local.port"] == api.port
    assert client.attributes["network.peer.port"] == api.port
    assert served.attributes["network.peer.port"] == client.attributes["network.local.port"]
    assert client.resource["process.executable.name"] == "curl"
    assert client.resource["service.name"] == "curl"
    assert served.resource["process.pid"] == api.pid
    assert (
        client.start_unix_ns <= served.start_unix_ns <= served.end_unix_ns <= client.end_unix_ns + 1_000_000
    )


def test_one_curl_over_a_unix_socket(
    agent: StartAgent, server: StartServer, spans_file: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")
    api = server(path)
    running = agent("run", "--spans-file", str(spans_file))
    curl("--unix-socket", path, "http://shop.invalid/unix-only")
    running.stop()
    ours = [span for span in read_spans(spans_file) if "/unix-only" in str(span.attributes)]
    client, served = client_and_server(ours)
    for name in SEEN_BY_BOTH:
        assert client.attributes.get(name) == served.attributes.get(name), name
    assert served.attributes["network.transport"] == "unix"
    assert served.resource["process.pid"] == api.pid


def test_the_console_shows_a_line_for_each_exchange(agent: StartAgent, server: StartServer) -> None:
    api = server()
    running = agent("run", "--port", str(api.port))
    curl(f"{api.url}/hello")
    lines = running.stop().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "GET" in line
        assert "/hello" in line
        assert "200" in line
        assert "\x1b" not in line, "colours are for terminals"


def test_verbose_shows_headers_and_bodies_without_credentials(agent: StartAgent, server: StartServer) -> None:
    api = server()
    running = agent("run", "--port", str(api.port), "--verbose")
    curl("--header", "Authorization: Bearer canary-7c1", "--data", "password=canary-7c1", f"{api.url}/login")
    shown = running.stop()
    assert "REDACTED" in shown
    assert "canary" not in shown


def test_standard_output_takes_json_lines(agent: StartAgent, server: StartServer, tmp_path: Path) -> None:
    api = server()
    running = agent("run", "--port", str(api.port), "--spans-file", "-")
    curl(f"{api.url}/hello")
    written = tmp_path / "written"
    written.write_text(running.stop())
    client_and_server(read_spans(written))


def test_bodies_can_be_left_out(agent: StartAgent, server: StartServer, spans_file: Path) -> None:
    api = server()
    running = agent("run", "--port", str(api.port), "--no-bodies", "--spans-file", str(spans_file))
    curl("--data", "some words", f"{api.url}/echo")
    running.stop()
    for span in client_and_server(read_spans(spans_file)):
        assert span.attributes["http.request.body.size"] == 10
        assert "http.request.body.content" not in span.attributes
        assert "http.response.body.content" not in span.attributes


def test_max_body_cuts_and_keeps_the_true_size(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    api = server()
    running = agent("run", "--port", str(api.port), "--max-body", "7", "--spans-file", str(spans_file))
    curl("--data", "0123456789", f"{api.url}/echo")
    running.stop()
    for span in client_and_server(read_spans(spans_file)):
        assert span.attributes["http.response.body.size"] == 10
        assert span.attributes["http.response.body.content"] == "0123456"
        assert span.attributes["wirespan.response.body.truncated"] == "limit"


def test_a_pid_selects_a_process_and_what_it_forks(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    selected, other = server(), server()
    running = agent("run", "--pid", str(selected.pid), "--spans-file", str(spans_file))
    curl(f"{selected.url}/selected")
    curl(f"{other.url}/other")
    running.stop()
    spans = read_spans(spans_file)
    assert [(span.kind, span.attributes["url.path"]) for span in spans] == [(SERVER, "/selected")]


def test_an_executable_is_selected_when_it_starts(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    api = server()
    arguments = ("--exe", "*curl*", "--port", str(api.port), "--spans-file", str(spans_file))
    running = agent("run", *arguments)
    for number in range(7):
        subprocess.run(
            ["sh", "-c", f"exec curl -s {api.url}/{number}"], check=True, stdout=subprocess.DEVNULL
        )
    running.stop()
    spans = read_spans(spans_file)
    assert [span.kind for span in spans] == [CLIENT] * 7
    assert [span.attributes["url.full"] for span in spans] == [f"{api.url}/{number}" for number in range(7)]
    assert {span.resource["service.name"] for span in spans} == {"curl"}


@pytest.mark.parametrize(("direction", "kind"), [("ingress", SERVER), ("egress", CLIENT)])
def test_a_direction_selects_one_end(
    agent: StartAgent, server: StartServer, spans_file: Path, direction: str, kind: int
) -> None:
    api = server()
    arguments = ("--direction", direction, "--port", str(api.port), "--spans-file", str(spans_file))
    running = agent("run", *arguments)
    curl(f"{api.url}/hello")
    running.stop()
    assert [span.kind for span in read_spans(spans_file)] == [kind]


def test_a_process_names_its_service_itself(agent: StartAgent, server: StartServer, spans_file: Path) -> None:
    api = server()
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
    subprocess.run(
        ["curl", "-s", f"{api.url}/hello", f"{api.url}/again"],
        env={**os.environ, "OTEL_RESOURCE_ATTRIBUTES": "service.name=my%20shop"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    running.stop()
    names = [span.resource["service.name"] for span in read_spans(spans_file) if span.kind == CLIENT]
    assert len(names) == 2
    assert set(names) <= {"my shop", "curl"}, "curl may have ended before its environment was read"


def test_a_run_to_the_console_loads_neither_llvm_nor_grpc_nor_kubernetes(agent: StartAgent) -> None:
    running = agent("run", "--port", "1")
    maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    for library in ("libbcc.so", "libLLVM", "cygrpc"):
        assert library not in maps
    running.stop()
