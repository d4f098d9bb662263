"""Answers that no well-behaved backend gives, over real connections: none raises, none holds an attempt."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from otel_bridge.delivery.attempt_deadline import AttemptDeadline
from otel_bridge.delivery.options import ExportOptions
from otel_bridge.delivery.otlp_sink import open_transport
from otel_bridge.delivery.transport import (
    MAX_RESPONSE_BYTES,
    Delivered,
    Outcome,
    Refused,
    TooLarge,
    Transport,
    TryAgain,
)
from otel_bridge.otlp.encoding import RequestEncoder, encode_span
from tests.otlp_receiver import OtlpReceiver, make_certificates
from tests.unit.otel_bridge.exchanges import RESOURCE, span

REQUEST = RequestEncoder().encode([(RESOURCE, encode_span(span(1)))])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
DRIP_SECONDS = 0.05
TIMEOUT_SECONDS = 0.5


class HostileBackend:
    """Answers each request over plain TCP with bytes of its own, all at once or one by one."""

    def __init__(self, answer: bytes, *, dripped_from: int | None = None, keeps_open: bool = True) -> None:
        self._answer = answer
        self._dripped_from = dripped_from
        self._keeps_open = keeps_open
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> HostileBackend:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _spawn(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(5)
            while True:
                received = b""
                while self._dripped_from != 0 and not received.endswith(REQUEST):
                    data = client.recv(65536)
                    if not data:
                        return
                    received += data
                at_once = len(self._answer) if self._dripped_from is None else self._dripped_from
                client.sendall(self._answer[:at_once])
                for byte in self._answer[at_once:]:
                    if self._is_over.wait(DRIP_SECONDS):
                        return
                    client.sendall(bytes([byte]))
                if not self._keeps_open:
                    return


def transport_to(port: int, protocol: str = "http/protobuf", **options: str) -> Transport:
    environ = {f"OTEL_EXPORTER_OTLP_{name.upper()}": value for name, value in options.items()}
    scheme = "https" if "certificate" in options else "http"
    return open_transport(
        ExportOptions.from_environment(environ, endpoint=f"{scheme}://localhost:{port}", protocol=protocol)
    )


def answer_to(backend: HostileBackend, timeout_seconds: float = 10) -> Outcome:
    transport = transport_to(backend.port)
    try:
        return transport.send(REQUEST, timeout_seconds)
    finally:
        transport.close()


def framed(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (framed(b""), Delivered),
        (framed(b"\xff" * 20), Delivered),
        (framed(bytes(200_000)), Delivered),
        (framed(gzip.compress(bytes(200_000)), HEAD + b"Content-Encoding: gzip\r\n"), Delivered),
        (framed(b"no gzip", HEAD + b"Content-Encoding: gzip\r\n"), TryAgain),
        (framed(b"x", HEAD + b"Content-Encoding: unheard-of\r\n"), Delivered),
        (framed(b"<html>log in", b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"), TryAgain),
        (framed(b"thanks", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"), Delivered),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Delivered),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Delivered),
        (framed(b"", b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/v1/traces\r\n"), TryAgain),
        (framed(b"", b"HTTP/1.1 304 Not Modified\r\n"), TryAgain),
        (framed(b"", b"HTTP/1.1 413 Too Large\r\n"), TooLarge),
        (framed(b"\x12\x02no", b"HTTP/1.1 400 Bad Request\r\n"), Refused),
        (framed(b"\xff\xfe", b"HTTP/1.1 400 Bad Request\r\n"), Refused),
        (framed(b"", b"HTTP/1.1 999 \x1b[31mred\r\n"), TryAgain),
        (framed(b"", b"HTTP/1.1 503 Away\r\nRetry-After: %s\r\n" % (b"9" * 20)), TryAgain),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5 + framed(b""), Delivered),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", TryAgain),
        (HEAD + b"Content-Length: -5\r\n\r\n", Delivered),
        (HEAD + b"X: y\r\n" * 1_000 + b"\r\n", TryAgain),
        (HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n", TryAgain),
        (b"\x15\x03\x03\x00\x02\x02\x46", TryAgain),
        (b"220 mail.example ESMTP\r\n", TryAgain),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), TryAgain),
        (b"", TryAgain),
    ],
)
def test_an_odd_answer_over_http_has_an_outcome(answer: bytes, expected: type[Outcome]) -> None:
    with HostileBackend(answer, keeps_open=False) as backend:
        assert isinstance(answer_to(backend), expected)


@pytest.mark.parametrize("size", [0, 10, 200_000])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_connection_goes_on_behind_an_answer_that_was_read_whole(size: int, compressed: bool) -> None:  # noqa: FBT001 - parameter of the test
    body = bytes(size)
    head = HEAD + b"Content-Encoding: gzip\r\n" if compressed else HEAD
    with HostileBackend(framed(gzip.compress(body) if compressed else body, head)) as backend:
        transport = transport_to(backend.port)
        for _ in range(3):
            assert isinstance(transport.send(REQUEST, 10), Delivered)
        transport.close()
        # What is left of a large answer would have to be read before the next one.
        assert backend.connections == (3 if len(body) > MAX_RESPONSE_BYTES and not compressed else 1)


@pytest.mark.parametrize(
    ("answer", "dripped_from"),
    [
        (framed(b""), 1),
        (HEAD + b"X: y\r\n" * 100 + b"\r\n", 12),
        (framed(bytes(500)), 80),
        (HEAD + b"Connection: close\r\n\r\n" + bytes(500), 80),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100, 90),
    ],
)
def test_an_answer_that_drips_costs_the_time_out(answer: bytes, dripped_from: int) -> None:
    with HostileBackend(answer, dripped_from=dripped_from) as backend:
        outcome = answer_to(backend, TIMEOUT_SECONDS)
    assert outcome == TryAgain(f"no whole answer within {TIMEOUT_SECONDS:g} s")


def test_a_tls_handshake_that_drips_costs_the_time_out(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    hello = b"\x16\x03\x03\x40\x00" + bytes(10_000)
    with HostileBackend(hello, dripped_from=0) as backend:
        transport = transport_to(backend.port, certificate=str(certificates.authority))
        assert transport.send(REQUEST, TIMEOUT_SECONDS) == TryAgain(
            f"no whole answer within {TIMEOUT_SECONDS:g} s"
        )
        transport.close()


def test_behind_an_attempt_that_ran_out_of_time_the_next_one_has_all_of_it() -> None:
    with HostileBackend(framed(bytes(500)), dripped_from=80) as dripping:
        transport = transport_to(dripping.port)
        assert isinstance(transport.send(REQUEST, TIMEOUT_SECONDS), TryAgain)
        assert isinstance(transport.send(REQUEST, TIMEOUT_SECONDS), TryAgain)
        transport.close()
        assert dripping.connections == 2


def test_a_deadline_watches_no_connection_that_ended() -> None:
    """A descriptor that stays open would keep the connection from ending at the other side."""
    with HostileBackend(framed(b"", HEAD + b"Connection: close\r\n"), keeps_open=False) as backend:
        transport = transport_to(backend.port)
        assert isinstance(transport.send(REQUEST, 10), Delivered)
        deadline = transport._deadline  # type: ignore[attr-defined]
        assert isinstance(deadline, AttemptDeadline)
        assert deadline._descriptor is None
        transport.close()


def test_the_wrong_protocol_is_said_with_the_setting_that_mends_it() -> None:
    for spoken, expected in (("grpc", "http/protobuf"), ("http/protobuf", "grpc")):
        with OtlpReceiver(protocol=expected) as receiver:
            transport = transport_to(receiver.port, spoken)
            outcome = transport.send(REQUEST, 10)
            transport.close()
        assert isinstance(outcome, TryAgain)
        assert f"set the OTLP protocol to {expected}" in outcome.reason


def test_a_redirect_names_its_target() -> None:
    answer = framed(b"", b"HTTP/1.1 301 Moved\r\nLocation: https://new.example/v1/traces\r\n")
    with HostileBackend(answer) as backend:
        outcome = answer_to(backend)
    assert isinstance(outcome, TryAgain)
    assert "https://new.example/v1/traces" in outcome.reason


class _Handler(grpc.GenericRpcHandler):
    """Answers each call with bytes and trailers as they stand."""

    def __init__(self, answer: bytes, code: grpc.StatusCode, details: str, trailers: list[tuple[str, bytes]]):
        self._answer = answer
        self._code = code
        self._details = details
        self._trailers = trailers

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            context.set_trailing_metadata(tuple(self._trailers))
            context.set_code(self._code)
            context.set_details(self._details)
            return self._answer

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def grpc_backend(handler: _Handler) -> Iterator[int]:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield port
    server.stop(0).wait()


RETRY_INFO = "google.rpc.retryinfo-bin"
OK = grpc.StatusCode.OK
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("answer", "code", "details", "trailers", "expected"),
    [
        (b"\xff\xff\xff", OK, "", [], Delivered),
        (bytes(100_000), OK, "", [], Delivered),
        (b"", UNAVAILABLE, "away", [(RETRY_INFO, b"\xff\xff")], TryAgain),
        (b"", UNAVAILABLE, "away", [(RETRY_INFO, b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01")], TryAgain),
        (b"", EXHAUSTED, "data refused due to high memory usage", [], TryAgain),
        (b"", EXHAUSTED, "RATE_LIMITED: ingestion rate limit (local: 15000000 bytes) exceeded", [], TryAgain),
        (b"", EXHAUSTED, "TRACE_TOO_LARGE: max size of trace (5000000) exceeded", [], TryAgain),
        (b"", EXHAUSTED, "grpc: received message larger than max (5000 vs. 4194304)", [], TooLarge),
        (b"", EXHAUSTED, "gRPC message exceeds maximum size 4194304: 5000000", [], TooLarge),
        (b"", EXHAUSTED, "SERVER: Received message larger than max (5 vs. 4)", [], TooLarge),
        (
            b"",
            grpc.StatusCode.OUT_OF_RANGE,
            "Error, message length too large: found 5 bytes, the limit is: 4 bytes",
            [],
            TooLarge,
        ),
        (b"", grpc.StatusCode.UNAUTHENTICATED, "no key", [], TryAgain),
        (b"", grpc.StatusCode.INVALID_ARGUMENT, "odd", [], Refused),
        (b"", grpc.StatusCode.INTERNAL, "\x1b[31mred\nforged", [], TryAgain),
    ],
)
def test_an_odd_answer_over_grpc_has_an_outcome(
    answer: bytes,
    code: grpc.StatusCode,
    details: str,
    trailers: list[tuple[str, bytes]],
    expected: type[Outcome],
) -> None:
    with grpc_backend(_Handler(answer, code, details, trailers)) as port:
        transport = transport_to(port, "grpc")
        outcome = transport.send(REQUEST, 10)
        transport.close()
    assert isinstance(outcome, expected), outcome
