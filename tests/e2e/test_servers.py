"""Servers that people run, each with its own way of calling read and write: one whole span per request."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.e2e.conftest import SERVER, read_spans
from tests.nginx import free_port, wait_for_port
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

SERVERS = Path(__file__).parent / "servers"
CLIENTS = 8
REQUESTS_PER_CLIENT = 23
KINDS = ("GET", "POST", "HEAD", "chunked")


def command(name: str, port: int) -> list[str]:
    """Return the command that starts the server on the port."""
    python = Path(sys.executable)
    if name.startswith("gunicorn"):
        worker = name.partition("-")[2]
        application = "tests.e2e.servers.wsgi_application:application"
        return [
            *(str(python.with_name("gunicorn")), "--bind", f"127.0.0.1:{port}", "--log-level", "error"),
            *("--workers", "2", "--worker-class", worker, "--threads", "1" if worker == "sync" else "4"),
            application,
        ]
    if name == "uvicorn":
        application = "tests.e2e.servers.asgi_application:application"
        return [str(python.with_name("uvicorn")), application, "--port", str(port), "--log-level", "error"]
    node = shutil.which("node")
    assert node is not None, "Node.js is not installed; `make setup-develop` installs it"
    return [node, str(SERVERS / "node_server.js"), str(port)]


def converse(port: int, client: int) -> list[tuple[str, str]]:
    """Send requests of all kinds on one connection; return the method and path of each."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    asked = []
    for number in range(REQUESTS_PER_CLIENT):
        kind = KINDS[number % len(KINDS)]
        method = "GET" if kind == "chunked" else kind
        path = f"/{kind.lower()}/{client}/{number}"
        body = b"x" * (number * 1000) if method == "POST" else None
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200
        assert text == ("" if method == "HEAD" else f"{path} {len(body or b'')}\n")
        asked.append((method, path))
    connection.close()
    return asked


@pytest.mark.parametrize("name", ["gunicorn-sync", "gunicorn-gthread", "uvicorn", "node"])
def test_each_request_becomes_one_whole_span(agent: Callable[..., Agent], tmp_path: Path, name: str) -> None:
    port = free_port()
    spans_file = tmp_path / "spans.jsonl"
    with subprocess.Popen(command(name, port)) as process:
        try:
            wait_for_port(port)
            running = agent(
                "run", "--port", str(port), "--direction", "ingress", "--spans-file", str(spans_file)
            )
            with ThreadPoolExecutor(CLIENTS) as pool:
                conversations = list(pool.map(lambda client: converse(port, client), range(CLIENTS)))
            running.stop()
        finally:
            process.terminate()
    spans = read_spans(spans_file)
    asked = Counter(each for conversation in conversations for each in conversation)
    assert (
        Counter((span.attributes["http.request.method"], span.attributes["url.path"]) for span in spans)
        == asked
    )
    for span in spans:
        attributes = span.attributes
        assert span.kind == SERVER
        assert attributes["http.response.status_code"] == 200
        assert "wirespan.incomplete" not in attributes
        assert "wirespan.anomalies" not in attributes
        if attributes["http.request.method"] == "HEAD":
            assert "http.response.body.content" not in attributes
        else:
            sent = attributes.get("http.request.body.size", 0)
            assert attributes["http.response.body.content"] == f"{attributes['url.path']} {sent}\n"
