"""Clients and servers that people run, over TLS, a thousand requests on 50 connections: their spans."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER
from tests.e2e.tls.clients import converse
from tests.e2e.tls.conftest import Capture
from tests.e2e.tls.plan import CONNECTIONS, REQUESTS_PER_CONNECTION
from tests.e2e.tls.servers import Materials, running_server
from tests.e2e.tls.spans import assert_exact, of_kind

pytestmark = pytest.mark.e2e

LIBRARIES = {"go": "go", "wget": "gnutls"}
"""Of programs that use another one than OpenSSL, whether shared or their own."""

PAIRS = [
    ("nginx", "curl"),
    ("nginx", "curl-h2"),
    ("nginx", "httpx-h2"),
    ("nginx", "wget"),
    ("gunicorn", "requests"),
    ("uvicorn", "aiohttp"),
    ("uvicorn", "httpx"),
    ("node", "node"),
    ("node", "curl"),
    ("installed-node", "installed-node"),
    ("go", "go"),
    ("go", "go-h2"),
    ("go", "requests"),
]


def library_of(name: str) -> str:
    return LIBRARIES.get(name.removesuffix("-h2"), "openssl")


@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_each_request_becomes_exactly_one_span_at_each_end(
    capture: Callable[..., Capture], materials: Materials, tmp_path: Path, server: str, client: str
) -> None:
    with running_server(server, materials, tmp_path) as running:
        capturing = capture(running.port)
        asked = converse(client, running.url, materials, tmp_path)
        spans = capturing.end()
    assert len(asked) == CONNECTIONS * REQUESTS_PER_CONNECTION == 1000
    libraries = {CLIENT: library_of(client), SERVER: library_of(server)}
    version = "2" if client.endswith("-h2") else "1.1"
    given_up = frozenset({"reset", "closed"} if client == "curl-h2" else ())
    assert_exact(spans, asked, running.port, libraries=libraries, version=version, given_up=given_up)
    ports = {span.attributes["network.peer.port"] for span in of_kind(spans, SERVER)}
    if server == "gunicorn":
        assert len(ports) > CONNECTIONS, "its synchronous workers close after each answer"
    elif client != "curl-h2":
        assert len(ports) >= CONNECTIONS
