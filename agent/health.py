"""The HTTP server of a run's health: `/healthz`, `/readyz` and `/metrics`.

Owns the server and the meaning of its answers. Liveness is the pipeline's loop coming round; readiness is
attached probes. Contract: answers come from a thread of their own and never block the pipeline; only GET
and HEAD.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

LIVE_SECONDS = 10.0
"""Age of the loop's last round beyond which the agent counts as stuck; it comes round ten times a second."""
REQUEST_SECONDS = 5.0
"""How long a client may take to send its request: an idle one must not hold a thread."""
STOP_SECONDS = 0.1
"""How late the server notices that it is closed."""
TEXT = "text/plain; charset=utf-8"


class HealthUnavailableError(OSError):
    """The server can't listen on the configured address. The message says where and why."""


class HealthServer:
    """Serves the health of one run until closed."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        ticked_at: Callable[[], float],
        is_ready: Callable[[], bool],
    ) -> None:
        """Listen on `host` (empty: every interface) and `port` (0: any free one).

        `ticked_at` says when the loop last came round, by time.monotonic(). Raises HealthUnavailableError.
        """

        class Handler(_Handler):
            answers: ClassVar[dict[str, Callable[[], tuple[int, str, bytes]]]] = {
                "/healthz": lambda: self._health(ticked_at()),
                "/readyz": lambda: (200, TEXT, b"ready\n") if is_ready() else (503, TEXT, b"not ready\n"),
                "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
            }

        try:
            family, _, _, _, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]

            class Server(_Server):
                address_family = family

            self._server = Server((str(address[0]), port), Handler)
        except OSError as error:
            raise HealthUnavailableError(
                f"can't listen on {host or '*'} port {port}: {error.strerror}"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_SECONDS,), name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @staticmethod
    def _health(ticked_at: float) -> tuple[int, str, bytes]:
        age = time.monotonic() - ticked_at
        if age < LIVE_SECONDS:
            return 200, TEXT, b"ok\n"
        return 503, TEXT, f"stuck: the loop last came round {age:.0f} s ago\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_SECONDS
    server_version = "wirespan"
    sys_version = ""
    answers: ClassVar[dict[str, Callable[[], tuple[int, str, bytes]]]]

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        answer = self.answers.get(self.path.partition("?")[0])
        status, content_type, body = (
            answer() if answer else (404, TEXT, f"known paths: {', '.join(self.answers)}\n".encode())
        )
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Answer as GET does, without the body."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature is the library's)
        """Say nothing: a scrape every few seconds is no news."""
