"""A real OTLP backend for tests: gRPC or HTTP, optionally with TLS or mutual TLS, on a loopback port.

It takes spans like a Collector does, and can be told to misbehave the way backends do: refuse, delay, reject
a part, limit sizes.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What gRPC servers take by default."""


@dataclass(frozen=True)
class Certificates:
    """A certificate authority with one server and one client certificate, as PEM files."""

    authority: Path
    server_key: Path
    server_certificate: Path
    client_key: Path
    client_certificate: Path


def make_certificates(directory: Path) -> Certificates:
    """Make them with the openssl command, valid for a day, for localhost and 127.0.0.1."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *(
            "req",
            "-x509",
            *new_key,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "1",
            "-subj",
            "/CN=test CA",
        ),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "1", "-extfile", "names", "-out", f"{name}.pem"),
        )
    return Certificates(
        *(directory / name for name in ("ca.pem", "server.key", "server.pem", "client.key", "client.pem"))
    )


@dataclass(frozen=True)
class Answer:
    """How to treat one request instead of taking it."""

    code: str | int = 0
    """gRPC status name (`UNAVAILABLE`) or HTTP status; 0 takes the request."""
    retry_after_seconds: int | None = None
    """RetryInfo or Retry-After."""
    retry_after: str | None = None
    """Retry-After as it stands, over HTTP."""
    raw_body: bytes | None = None
    """The body of the answer as it stands, over HTTP."""
    rejected: int = 0
    """Partial success: so many spans of the request are refused."""
    message: str = ""
    wait_for: threading.Event | None = None
    """The answer comes when it is set."""


@dataclass
class OtlpReceiver:
    """The backend; a context manager. `port` 0 takes a free one."""

    protocol: str = "grpc"
    port: int = 0
    certificates: Certificates | None = None
    client_certificates_required: bool = False
    max_message_bytes: int = MAX_MESSAGE_BYTES
    answers: deque[Answer] = field(default_factory=deque)
    """Taken one per request, from the left; when there is none the request is accepted."""
    always: Answer | None = None
    """The answer to every request for which `answers` has none."""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    """The accepted ones."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of every request, also of refused ones; names in lower case."""
    received_at: list[float] = field(default_factory=list)
    """Monotonic seconds of every request, also of refused ones."""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._stop: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The URL to give to an exporter."""
        return f"{'https' if self.certificates else 'http'}://localhost:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """All spans taken, in order."""
        with self._changed:
            return [
                span
                for resource_spans in self.resource_spans
                for scope_spans in resource_spans.scope_spans
                for span in scope_spans.spans
            ]

    @property
    def resource_spans(self) -> list[ResourceSpans]:
        """All groups taken, in order."""
        return [group for request in self.requests for group in request.resource_spans]

    def wait_for_spans(self, count: int, timeout_seconds: float = 30.0) -> list[Span]:
        """Return the spans once there are at least so many; fail when there are not in time."""
        self.wait_until(lambda: len(self.spans) >= count, timeout_seconds)
        return self.spans

    def wait_until(self, condition: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
        """Wait until the condition holds, which is looked at after every request."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            while not condition():
                remaining = deadline - monotonic()
                assert remaining > 0, f"only {len(self.spans)} spans after {timeout_seconds} s"
                self._changed.wait(remaining)

    def start(self) -> None:
        """Listen."""
        self._stop = self._start_grpc() if self.protocol == "grpc" else self._start_http()

    def stop(self) -> None:
        """Stop listening; what was received stays."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def enter(self, headers: dict[str, str]) -> None:
        """Enter that a request came."""
        with self._changed:
            self.headers.append(headers)
            self.received_at.append(monotonic())
            self._changed.notify_all()

    def take(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Enter a request and return how to answer it."""
        self.enter(headers)
        with self._changed:
            answer = self.answers.popleft() if self.answers else self.always or Answer()
        if answer.wait_for is not None:
            answer.wait_for.wait(30)
        if not answer.code:
            request = ExportTraceServiceRequest.FromString(body)
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
        return answer

    def _start_grpc(self) -> Callable[[], None]:
        server = grpc.server(
            ThreadPoolExecutor(4),
            options=(
                ("grpc.max_receive_message_length", self.max_message_bytes),
                ("grpc.so_reuseport", 0),
            ),
        )
        add_service: Any = add_TraceServiceServicer_to_server
        add_service(_TraceService(self), server)
        address = f"localhost:{self.port}"
        if self.certificates is None:
            self.port = server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials(
                [
                    (
                        self.certificates.server_key.read_bytes(),
                        self.certificates.server_certificate.read_bytes(),
                    )
                ],
                root_certificates=self.certificates.authority.read_bytes(),
                require_client_auth=self.client_certificates_required,
            )
            self.port = server.add_secure_port(address, credentials)
        server.start()
        return lambda: server.stop(None).wait()

    def _start_http(self) -> Callable[[], None]:
        server = _HttpServer(("127.0.0.1", self.port), _HttpHandler)
        server.receiver = self
        self.port = server.server_address[1]
        if self.certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificates.server_certificate, self.certificates.server_key)
            if self.client_certificates_required:
                context.load_verify_locations(self.certificates.authority)
                context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            server.close_connections()
            thread.join()

        return stop


def free_port() -> int:
    """Return a port that was free just now, for a receiver that starts later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _TraceService(TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802 - the service's name
        metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        answer = self._receiver.take(request.SerializeToString(), metadata)
        if answer.code:
            if answer.retry_after_seconds is not None:
                info = RetryInfo()
                info.retry_delay.seconds = answer.retry_after_seconds
                context.set_trailing_metadata((("google.rpc.retryinfo-bin", info.SerializeToString()),))
            context.abort(getattr(grpc.StatusCode, str(answer.code)), answer.message)
        return _response(answer)


def _response(answer: Answer) -> ExportTraceServiceResponse:
    response = ExportTraceServiceResponse()
    if answer.rejected or answer.message:
        response.partial_success.rejected_spans = answer.rejected
        response.partial_success.error_message = answer.message
    return response


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    receiver: OtlpReceiver

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def close_connections(self) -> None:
        """End what keep-alive holds open, as a process does that ends."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Failed handshakes and vanished clients are what some tests are about."""


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_POST(self) -> None:
        receiver = self.server.receiver
        headers = {name.lower(): value for name, value in self.headers.items()}
        # Tells connections apart.
        headers["x-peer"] = str(self.client_address)
        body = self.rfile.read(int(headers["content-length"]))
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf":
            self._answer(404, b"", {})
        elif len(body) > receiver.max_message_bytes:
            receiver.enter(headers)
            self._answer(413, b"", {})
        else:
            answer = receiver.take(body, headers)
            seconds = answer.retry_after_seconds
            after = answer.retry_after if seconds is None else str(seconds)
            retry = {} if after is None else {"Retry-After": after}
            if answer.code:
                self._answer(int(answer.code), answer.message.encode(), retry)
            else:
                body = _response(answer).SerializeToString() if answer.raw_body is None else answer.raw_body
                self._answer(200, body, {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Tests look at what was received, not at a log."""
