"""An API server that answers as a test writes: what a real one does only in bad moments."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.collection_watch import RetryPace

PACE = RetryPace(first=0.001, most=0.01, denied=0.01)


@dataclass
class Answer:
    """What the server says to one request."""

    documents: tuple[Any, ...] = ()
    """Each a line; bytes stay as they are."""
    status: int = 200
    stays_open: bool = False
    """Whether the connection is kept open after the last line."""
    breaks_off: bool = False
    """Whether the connection ends without the end of the answer."""


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    token: str | None
    body: Any


@dataclass
class ScriptedApi:
    """Answers requests in their order; when nothing is left to say it says nothing."""

    folder: Path
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def say(self, *documents: Any, **properties: Any) -> None:
        with self.changed:
            self.answers.append(Answer(documents=documents, **properties))
            self.changed.notify_all()

    def take(self, request: Request) -> Answer | None:
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.answers or self.ended.is_set())
            return None if self.ended.is_set() else self.answers.pop(0)

    def until_requests(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, 10), self.requests

    def kubeconfig(self, token: str = "first") -> str:
        file = self.folder / "kubeconfig"
        token_file = self.folder / "token"
        token_file.write_text(token)
        document = {
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "test", "user": {"tokenFile": str(token_file)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file.write_text(yaml.safe_dump(document))
        return str(file)


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[ScriptedApi]:
    script = ScriptedApi(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("Authorization")
            query = dict(parse_qsl(target.query))
            answer = script.take(Request(self.command, target.path, query, token, body))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for document in answer.documents:
                content = document if isinstance(document, bytes) else json.dumps(document).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            if answer.stays_open:
                script.ended.wait()
            if answer.breaks_off or answer.stays_open:
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")

        do_POST = do_GET  # noqa: N815 (the name is the library's)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that went away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    script.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.ended.set()
        with script.changed:
            script.changed.notify_all()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def api(scripted: ScriptedApi) -> Iterator[KubernetesApi]:
    opened = KubernetesApi(scripted.kubeconfig())
    with contextlib.closing(opened):
        yield opened


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], None]:
    """Wait for a condition that another thread brings about."""
    import time

    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return wait
