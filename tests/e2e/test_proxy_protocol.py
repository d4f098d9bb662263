"""Connections that begin with a header of the PROXY protocol, with servers that read it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, Server, curl, read_spans
from tests.nginx import free_port, running_nginx
from tests.proxy_headers import AUTHORITY, AWS, LOCAL, frame_v2, header_v1, header_v2
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]

SIX = "2001:db8::1", 56_324, "2001:db8::2", 443
FIELDS = ((AUTHORITY, b"shop.example"), (AWS, b"\x01vpce-08d2bf15fac5001c9"))
NAMED = "192.0.2.10", 56_324
HEADERS: dict[str, tuple[bytes, tuple[str, int] | None]] = {
    "v1": (header_v1(), NAMED),
    "v1 six": (header_v1(*SIX), SIX[:2]),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v2": (header_v2(), NAMED),
    "v2 six": (header_v2(*SIX), SIX[:2]),
    "v2 with fields": (header_v2("192.0.2.10", 56_324, "192.0.2.20", 443, *FIELDS), NAMED),
    "v2 local": (frame_v2(LOCAL, 0), None),
}
GET = b"GET /a HTTP/1.1\r\nHost: shop.example\r\n\r\n"
ODD = b"FROB /b HTTP/1.1\r\nHost: shop.example\r\n\r\n"


def only(port: int) -> list[str]:
    """Return the options that capture the server of a port, and no client."""
    return ["--port", str(port), "--direction", "ingress"]


@pytest.fixture
def spans_file(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """An nginx that wants a header on both ports; the second one is for HTTP/2."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    ports = free_port(), free_port()
    listeners = (
        f"listen 127.0.0.1:{ports[0]} proxy_protocol; listen 127.0.0.1:{ports[1]} proxy_protocol http2;"
    )
    with running_nginx(tmp_path, f"{listeners} location / {{ return 200 'client $proxy_protocol_addr'; }}"):
        yield ports


def read_response(client: socket.socket, ending: bytes) -> bytes:
    received = b""
    while ending not in received:
        data = client.recv(65_536)
        assert data, received
        received += data
    return received


def converse(client: socket.socket, parts: list[bytes], ending: bytes) -> None:
    """Send the parts, each in a call of its own, and one more request on the same connection."""
    for part in parts:
        client.sendall(part)
    read_response(client, ending)
    client.sendall(GET)
    read_response(client, ending)


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def expect_client(span: ExportedSpan, header: bytes, named: tuple[str, int] | None) -> None:
    attributes = span.attributes
    assert "wirespan.incomplete" not in attributes
    assert attributes["network.peer.address"] == "127.0.0.1"
    expected = named or ("127.0.0.1", attributes["network.peer.port"])
    assert (attributes["client.address"], attributes["client.port"]) == expected
    assert attributes["wirespan.proxy_protocol.version"] == (1 if header.startswith(b"PROXY") else 2)
    assert attributes["wirespan.proxy_protocol.trusted"] in (True, "true")
    assert attributes.get("wirespan.proxy_protocol.source.address") == (named and named[0])


def split(header: bytes, request: bytes, how: str) -> list[bytes]:
    """Return header and request as the calls of a client."""
    stream = header + request
    if how == "together":
        return [stream]
    place = {"alone": len(header), "cut in the header": 7, "cut in the request": len(header) + 5}[how]
    return [stream[:place], stream[place:]]


def ask_in_every_way(port: int, ways: list[str], ending: bytes) -> dict[str, str]:
    """Open a connection for each header and way; return the header's name by the path that is asked for."""
    paths: dict[str, str] = {}
    for name, (header, _) in HEADERS.items():
        for how in ways:
            path = f"/{len(paths)}"
            paths[path] = name
            request = f"GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode()
            with connect(port) as client:
                converse(client, split(header, request, how), ending)
    return paths


def expect_all(spans: list[ExportedSpan], paths: dict[str, str]) -> None:
    """Expect two spans of each connection, both with what its header says."""
    asked = [path for each in paths for path in (each, "/a")]
    assert [span.attributes["url.path"] for span in spans] == asked
    for path, first, second in zip(paths, spans[::2], spans[1::2], strict=True):
        header, named = HEADERS[paths[path]]
        expect_client(first, header, named)
        expect_client(second, header, named)


def test_nginx_behind_a_proxy(agent: StartAgent, nginx: tuple[int, int], spans_file: Path) -> None:
    running = agent("run", *only(nginx[0]), "--spans-file", str(spans_file))
    # nginx closes a connection whose first read gives a part of the header.
    paths = ask_in_every_way(nginx[0], ["together", "alone", "cut in the request"], b"client")
    running.stop()
    expect_all(read_spans(spans_file), paths)


def test_a_server_that_reads_header_and_request_in_one_call(
    agent: StartAgent, server: StartServer, spans_file: Path
) -> None:
    api = server(program="proxy_protocol_server")
    running = agent("run", *only(api.port), "--spans-file", str(spans_file))
    ways = ["together", "alone", "cut in the header", "cut in the request"]
    paths = ask_in_every_way(api.port, ways, b"you asked for")
    running.stop()
    expect_all(read_spans(spans_file), paths)


def test_an_uncommon_method_behind_a_header(
    agent: StartAgent, nginx: tuple[int, int], spans_file: Path
) -> None:
    running = agent("run", *only(nginx[0]), "--spans-file", str(spans_file))
    with connect(nginx[0]) as client:
        converse(client, [header_v1() + ODD], b"\r\n\r\n")
    running.stop()
    first, second = read_spans(spans_file)
    assert first.attributes["http.request.method_original"] == "FROB"
    for span in (first, second):
        expect_client(span, header_v1(), NAMED)


@pytest.mark.parametrize("name", ["v1", "v2 with fields"])
def test_http2_behind_a_header(
    agent: StartAgent, nginx: tuple[int, int], spans_file: Path, name: str
) -> None:
    header, named = HEADERS[name]
    running = agent("run", *only(nginx[1]), "--spans-file", str(spans_file))
    connection = H2Connection(H2Configuration())
    connection.initiate_connection()
    with connect(nginx[1]) as client:
        client.sendall(header + connection.data_to_send())
        for stream in (1, 3):
            fields = [
                (":method", "GET"),
                (":path", "/a"),
                (":scheme", "http"),
                (":authority", "shop.example"),
            ]
            connection.send_headers(stream, fields, end_stream=True)
            client.sendall(connection.data_to_send())
            while not any(
                isinstance(event, StreamEnded) for event in connection.receive_data(client.recv(65_536))
            ):
                client.sendall(connection.data_to_send())
    running.stop()
    spans = read_spans(spans_file)
    assert [span.attributes["network.protocol.version"] for span in spans] == ["2", "2"]
    for span in spans:
        expect_client(span, header, named)


def test_curl_writes_a_header_in_front_of_its_requests(
    agent: StartAgent, nginx: tuple[int, int], spans_file: Path
) -> None:
    running = agent("run", "--port", str(nginx[0]), "--spans-file", str(spans_file))
    url = f"http://127.0.0.1:{nginx[0]}"
    assert "client 127.0.0.1" in curl("--haproxy-protocol", f"{url}/a", f"{url}/b")
    running.stop()
    spans = read_spans(spans_file)
    assert sorted(span.kind for span in spans) == [SERVER, SERVER, CLIENT, CLIENT]
    for span in spans:
        assert span.attributes["wirespan.proxy_protocol.version"] == 1
        assert span.attributes["wirespan.proxy_protocol.source.address"] == "127.0.0.1"
        assert ("client.address" in span.attributes) == (span.kind == SERVER)
        assert ("wirespan.proxy_protocol.trusted" in span.attributes) == (span.kind == SERVER)


def test_a_peer_that_is_not_trusted_names_no_client(
    agent: StartAgent, nginx: tuple[int, int], spans_file: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "wirespan.yaml"
    settings.write_text("trust: {proxies: [10.0.0.0/8]}\n")
    running = agent("run", *only(nginx[0]), "--config", str(settings), "--spans-file", str(spans_file))
    with connect(nginx[0]) as client:
        converse(client, [header_v1() + GET], b"client")
    running.stop()
    for span in read_spans(spans_file):
        assert span.attributes["client.address"] == "127.0.0.1"
        assert span.attributes["wirespan.proxy_protocol.source.address"] == "192.0.2.10"


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_a_server_on_a_unix_socket(
    agent: StartAgent, server: StartServer, spans_file: Path, tmp_path: Path, name: str
) -> None:
    header, named = HEADERS[name]
    path = str(tmp_path / "socket")
    api = server(path, "proxy_protocol_server")
    running = agent("run", "--pid", str(api.pid), "--spans-file", str(spans_file))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        converse(client, [header + GET], b"you asked for")
    running.stop()
    spans = read_spans(spans_file)
    assert len(spans) == 2
    for span in spans:
        assert (span.attributes["client.address"], span.attributes["client.port"]) == named
        assert span.attributes["network.transport"] == "unix"
