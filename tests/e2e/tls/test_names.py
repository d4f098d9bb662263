"""What a server is called where the request does not say so."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER
from tests.e2e.tls.conftest import Capture
from tests.e2e.tls.servers import Materials, running_server

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("server", ["nginx", "uvicorn", "go"])
def test_a_request_without_host_goes_by_the_name_of_the_handshake(
    capture: Callable[..., Capture], materials: Materials, tmp_path: Path, server: str
) -> None:
    trusted = ssl.create_default_context(cafile=str(materials.certificates.authority))
    with running_server(server, materials, tmp_path) as started:
        capturing = capture(started.port)
        with (
            socket.create_connection(("127.0.0.1", started.port)) as connection,
            trusted.wrap_socket(connection, server_hostname="localhost") as talking,
        ):
            talking.sendall(b"GET /named HTTP/1.0\r\n\r\n")
            while talking.recv(65_536):
                pass
        spans = capturing.end()
    assert sorted(span.kind for span in spans) == [SERVER, CLIENT]
    for span in spans:
        assert span.attributes["server.address"] == "localhost"
        assert span.attributes["server.port"] == started.port
        assert "wirespan.incomplete" not in span.attributes
