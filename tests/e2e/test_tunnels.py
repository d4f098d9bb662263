"""HTTP inside tunnels that CONNECT sets up in plain text, at each socket that it passes."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, curl, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]
GREETING = b"220 mail.example ESMTP\r\n"


@pytest.fixture
def spans_file(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


def ports(*servers: Server) -> list[str]:
    return [word for each in servers for word in ("--port", str(each.port))]


def by_process(spans: list[ExportedSpan], pid: int, kind: int) -> list[ExportedSpan]:
    return [span for span in spans if span.resource["process.pid"] == pid and span.kind == kind]


def paths(spans: list[ExportedSpan]) -> list[str]:
    return [
        f"{span.attributes['http.request.method']} {span.attributes.get('url.path', '')}" for span in spans
    ]


def run_curl(running: Agent, spans_file: Path, *arguments: str) -> list[ExportedSpan]:
    curl(*arguments)
    running.stop()
    return read_spans(spans_file)


def test_a_tunnel_is_read_at_every_socket_that_it_passes(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    api, proxy = server(), server(program="connect_proxy")
    running = agent("run", *ports(api, proxy), "--spans-file", str(spans_file))
    tunnel = ("--proxytunnel", "--noproxy", "", "--proxy", f"http://someone:secret@127.0.0.1:{proxy.port}")
    spans = run_curl(
        running, spans_file, *tunnel, f"{api.url}/first", f"{api.url}/second", "--data", "some words"
    )
    inside = ["POST /first", "POST /second"]
    assert paths(by_process(spans, api.pid, SERVER)) == inside
    assert paths(by_process(spans, proxy.pid, SERVER)) == ["CONNECT ", *inside]
    at_client = [span for span in spans if span.resource["process.executable.name"] == "curl"]
    beyond = by_process(spans, proxy.pid, CLIENT)
    assert [span.attributes.get("url.full") for span in at_client] == [
        None,
        f"{api.url}/first",
        f"{api.url}/second",
    ]
    assert [span.attributes["url.full"] for span in beyond] == [f"{api.url}/first", f"{api.url}/second"]
    assert len(spans) == 3 + 3 + 2 + 2
    assert {span.attributes.get("wirespan.incomplete") for span in spans} == {None}
    assert "secret" not in spans_file.read_text()

    authority = f"127.0.0.1:{api.port}"
    for span in spans:
        near_the_client = span in at_client or (
            span.resource["process.pid"] == proxy.pid and span.kind == SERVER
        )
        is_inside = near_the_client and span.attributes["http.request.method"] != "CONNECT"
        assert span.attributes.get("wirespan.tunnel") == ([authority] if is_inside else None)
        assert (span.attributes["server.address"], span.attributes["server.port"]) == ("127.0.0.1", api.port)
        if span.attributes["http.request.method"] == "POST":
            assert span.attributes["http.request.body.content"] == "some words"
            assert span.attributes["http.response.body.content"] == "some words"


def test_a_refused_tunnel_is_none(agent: StartAgent, server: StartServer, spans_file: Path) -> None:
    proxy = server(program="connect_proxy")
    running = agent("run", "--pid", str(proxy.pid), "--spans-file", str(spans_file))
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
        assert b"502" in client.recv(1000)
    running.stop()
    (span,) = read_spans(spans_file)
    assert span.attributes["http.response.status_code"] == 502
    assert "wirespan.tunnel" not in span.attributes


@pytest.mark.parametrize("gap", [0, 10, len(b"CONNECT ")], ids=["together", "cut", "cut in the method"])
def test_a_client_that_does_not_wait_for_the_tunnel(
    agent: StartAgent, server: StartServer, spans_file: Path, gap: int
) -> None:
    api, proxy = server(), server(program="connect_proxy")
    running = agent("run", *ports(api, proxy), "--spans-file", str(spans_file))
    authority = f"127.0.0.1:{api.port}".encode()
    stream = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\nGET /a HTTP/1.0\r\n\r\n" % (authority, authority)
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (stream[:gap], stream[gap:]):
            if part:
                client.sendall(part)
        received = b""
        while data := client.recv(65_536):
            received += data
    assert b"you asked for /a" in received
    running.stop()
    spans = read_spans(spans_file)
    inside = [span for span in spans if "wirespan.tunnel" in span.attributes]
    assert sorted(span.kind for span in inside) == [SERVER, CLIENT]
    # Without Host, the server is the one that the CONNECT names.
    for span in inside:
        assert span.attributes["server.port"] == api.port
    assert paths(by_process(spans, api.pid, SERVER)) == ["GET /a"]


def test_a_tunnel_in_a_tunnel(agent: StartAgent, server: StartServer, spans_file: Path) -> None:
    api, near, far = server(), server(program="connect_proxy"), server(program="connect_proxy")
    running = agent("run", "--pid", str(near.pid), "--spans-file", str(spans_file))
    with socket.create_connection(("127.0.0.1", near.port)) as client:
        for port in (far.port, api.port):
            client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\n" % port)
            assert client.recv(1000).startswith(b"HTTP/1.0 200")
        client.sendall(b"GET /a HTTP/1.0\r\n\r\n")
        while client.recv(65_536):
            pass
    running.stop()
    served = by_process(read_spans(spans_file), near.pid, SERVER)
    assert [span.attributes.get("wirespan.tunnel") for span in served] == [
        None,
        [f"127.0.0.1:{far.port}"],
        [f"127.0.0.1:{far.port}", f"127.0.0.1:{api.port}"],
    ]


def test_http2_in_a_tunnel(agent: StartAgent, server: StartServer, spans_file: Path) -> None:
    api, proxy = server(program="http2_server"), server(program="connect_proxy")
    running = agent("run", "--pid", str(proxy.pid), "--spans-file", str(spans_file))
    spans = run_curl(
        running,
        spans_file,
        *(
            "--http2-prior-knowledge",
            "--proxytunnel",
            "--noproxy",
            "",
            "--proxy",
            f"http://127.0.0.1:{proxy.port}",
        ),
        f"{api.url}/a",
    )
    served = by_process(spans, proxy.pid, SERVER)
    assert [span.attributes["network.protocol.version"] for span in served] == ["1.1", "2"]
    assert served[1].attributes["wirespan.tunnel"] == [f"127.0.0.1:{api.port}"]
    assert served[1].attributes["http.response.status_code"] == 200
    assert "wirespan.incomplete" not in served[1].attributes


@contextmanager
def greeting_server() -> Iterator[int]:
    """Speak first, as a mail server does, and answer one line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(GREETING)
                connection.recv(1000)
                connection.sendall(b"250 mail.example\r\n")

        thread = Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def test_what_is_not_http_in_a_tunnel_gives_no_span(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    proxy = server(program="connect_proxy")
    running = agent("run", "--pid", str(proxy.pid), "--spans-file", str(spans_file))
    with greeting_server() as port, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\n" % port)
        received = b""
        while GREETING not in received:
            received += client.recv(1000)
        client.sendall(b"EHLO a\r\n")
        while client.recv(1000):
            pass
    running.stop()
    (span,) = read_spans(spans_file)
    assert span.attributes["http.request.method"] == "CONNECT"
    assert "wirespan.incomplete" not in span.attributes
