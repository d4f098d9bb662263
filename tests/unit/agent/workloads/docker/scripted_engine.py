"""A server at a Unix socket that answers like a Docker Engine, or fails in the way that a test wants."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

END = b""
"""Put among the events: the stream ends."""


class ScriptedEngine(socketserver.ThreadingUnixStreamServer):
    """Runs from construction until `close`."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.api_version: str | None = "1.41"
        self.containers: dict[str, dict[str, Any]] = {}
        self.running: list[str] = []
        self.failures: dict[str, tuple[int, bytes]] = {}
        """Status and body by the last part of a path, instead of the answer."""
        self.stalled: set[str] = set()
        """Paths of this last part are answered only after `release`."""
        self.asked: list[str] = []
        self.events: queue.Queue[bytes] = queue.Queue()
        self.is_closed = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def run(self, container_id: str, name: str, address: str = "") -> None:
        """Have a container that runs."""
        self.running.append(container_id)
        self.containers[container_id] = {
            "Id": container_id,
            "Name": f"/{name}",
            "State": {"Status": "running"},
            "Config": {"Image": "image:1"},
            "NetworkSettings": {"Networks": {"n": {"IPAddress": address}}},
        }

    def tell(self, action: str, container_id: str, kind: str = "container", **attributes: str) -> None:
        """Send an event."""
        actor = {"ID": container_id, "Attributes": attributes}
        event = {"Type": kind, "Action": action, "Actor": actor, "timeNano": 7_000_000_008}
        self.events.put(json.dumps(event).encode() + b"\n")

    def wait_for_release(self) -> None:
        """Wait until stalled requests are to be answered."""
        self._released.wait()

    def release(self) -> None:
        """Answer what was stalled, and stall nothing any more."""
        self.stalled.clear()
        self._released.set()

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that has hung up."""

    def close(self) -> None:
        """Stop, and end what is going on. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        self.release()
        self.events.put(END)
        self.shutdown()
        self.server_close()
        self._thread.join()
        self.path.unlink()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedEngine

    def do_GET(self) -> None:
        engine = self.server
        engine.asked.append(self.path)
        parts = urlsplit(self.path).path.strip("/").split("/")
        what = parts[-2] if parts[-1] == "json" and parts[-2] != "containers" else parts[-1]
        container = engine.containers.get(what)
        if what in engine.stalled:
            # What comes then is an answer about the moment of the question.
            engine.wait_for_release()
        if what in engine.failures:
            self._answer(*engine.failures[what])
        elif what == "_ping":
            self._answer(200, b"OK")
        elif what == "events":
            self._send_events()
        elif what == "json":
            self._answer(200, json.dumps([{"Id": each} for each in engine.running]).encode())
        elif container is not None:
            self._answer(200, json.dumps(container).encode())
        else:
            self._answer(404, b'{"message": "No such container"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if self.server.api_version:
            self.send_header("Api-Version", self.server.api_version)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_events(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while part := self.server.events.get():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature is the library's)
        """Say nothing."""
