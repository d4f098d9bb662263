from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from otel_bridge.delivery.options import ExportOptions
from otel_bridge.delivery.otlp_sink import open_transport
from otel_bridge.delivery.transport import Delivered, Outcome, Refused, TooLarge, Transport, TryAgain
from otel_bridge.otlp.encoding import RequestEncoder, encode_span
from tests.otlp_receiver import Answer, Certificates, OtlpReceiver, free_port, make_certificates
from tests.unit.otel_bridge.exchanges import RESOURCE, span

PROTOCOLS = ("grpc", "http/protobuf")
REQUEST = RequestEncoder().encode([(RESOURCE, encode_span(span(1))), (RESOURCE, encode_span(span(2)))])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=PROTOCOLS)
def receiver(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(protocol=request.param) as running:
        yield running


def transport_to(receiver: OtlpReceiver, environ: dict[str, str] | None = None) -> Transport:
    options = ExportOptions.from_environment(
        environ or {}, endpoint=receiver.endpoint, protocol=receiver.protocol
    )
    return open_transport(options)


def send(transport: Transport, request: bytes = REQUEST) -> Outcome:
    try:
        return transport.send(request, 10)
    finally:
        transport.close()


def test_a_request_arrives_with_its_headers(receiver: OtlpReceiver) -> None:
    transport = transport_to(receiver, {"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b"})
    assert send(transport) == Delivered()
    assert [one.span_id[-1] for one in receiver.spans] == [1, 2]
    assert receiver.headers[0]["x-tenant"] == "a b"
    assert "OTel-OTLP-Exporter-Python" in receiver.headers[0]["user-agent"]


class CountingRelay:
    """Passes one connection on to a port and counts what the client sent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        client, _ = self._listener.accept()
        # Either end may reset the connection when it is done.
        with (
            suppress(ConnectionError),
            client,
            self._listener,
            socket.create_connection(("localhost", self._port)) as server,
        ):
            while ready := select.select([client, server], [], [])[0]:
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client:
                        self.sent += len(data)
                    (server if end is client else client).sendall(data)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_requests_can_be_compressed(receiver: OtlpReceiver, compression: str) -> None:
    relay = CountingRelay(receiver.port)
    options = ExportOptions.from_environment(
        {}, endpoint=f"http://localhost:{relay.port}", protocol=receiver.protocol, compression=compression
    )
    request = RequestEncoder().encode([(RESOURCE, encode_span(span(filler="x" * 500_000)))])
    assert send(open_transport(options), request) == Delivered()
    assert len(receiver.spans) == 1
    assert (relay.sent < 50_000) is (compression == "gzip")


def test_one_connection_serves_many_requests() -> None:
    with OtlpReceiver(protocol="http/protobuf") as receiver:
        transport = transport_to(receiver)
        for _ in range(5):
            assert transport.send(REQUEST, 10) == Delivered()
        transport.close()
        assert len({headers["x-peer"] for headers in receiver.headers}) == 1


def test_a_partial_success_is_read(receiver: OtlpReceiver) -> None:
    receiver.answers.append(Answer(rejected=1, message="one is odd"))
    assert send(transport_to(receiver)) == Delivered(1, "one is odd")


@pytest.mark.parametrize(
    "code",
    [
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "DATA_LOSS",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
        "UNKNOWN",
        "INTERNAL",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        401,
        403,
        404,
        405,
        408,
        429,
        500,
        502,
        503,
        504,
    ],
)
def test_transient_failures_are_tried_again(code: str | int) -> None:
    with OtlpReceiver(protocol="grpc" if isinstance(code, str) else "http/protobuf") as receiver:
        receiver.answers.append(Answer(code=code, message="later"))
        outcome = send(transport_to(receiver))
        assert isinstance(outcome, TryAgain)
        assert outcome.after_seconds is None
        assert str(code) in outcome.reason
        assert "later" in outcome.reason


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", 400, 422])
def test_what_the_backend_finds_wrong_is_refused_for_good(code: str | int) -> None:
    with OtlpReceiver(protocol="grpc" if isinstance(code, str) else "http/protobuf") as receiver:
        receiver.answers.append(Answer(code=code, message="no"))
        outcome = send(transport_to(receiver))
        assert isinstance(outcome, Refused)
        assert str(code) in outcome.reason


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", 429, 503])
def test_the_backend_may_say_when_to_try_again(code: str | int) -> None:
    with OtlpReceiver(protocol="grpc" if isinstance(code, str) else "http/protobuf") as receiver:
        receiver.answers.append(Answer(code=code, retry_after_seconds=7))
        outcome = send(transport_to(receiver))
        assert isinstance(outcome, TryAgain)
        assert outcome.after_seconds == 7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("9" * 20, float("inf")),
        ("9" * 5_000, float("inf")),
        ("\u0663", None),
        ("-5", None),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_retry_after_may_be_a_date(value: str, expected: float | None) -> None:
    with OtlpReceiver(protocol="http/protobuf") as receiver:
        receiver.answers.append(Answer(code=503, retry_after=value))
        outcome = send(transport_to(receiver))
        assert isinstance(outcome, TryAgain)
        assert outcome.after_seconds == expected


def test_a_request_over_the_backends_limit_is_too_large() -> None:
    for protocol in PROTOCOLS:
        with OtlpReceiver(protocol=protocol, max_message_bytes=100) as receiver:
            assert isinstance(send(transport_to(receiver)), TooLarge)
            assert not receiver.spans


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    with OtlpReceiver(protocol="http/protobuf") as receiver:
        receiver.answers.append(Answer(code=400, message="x" * 10_000_000))
        outcome = send(transport_to(receiver))
        assert isinstance(outcome, Refused)
        assert len(outcome.reason) < 300


def test_text_beside_a_success_is_no_failure() -> None:
    with OtlpReceiver(protocol="http/protobuf") as receiver:
        receiver.answers.append(Answer(raw_body=b"accepted, thank you"))
        outcome = send(transport_to(receiver))
        assert isinstance(outcome, Delivered)
        assert outcome.rejected == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_listening_is_transient(protocol: str) -> None:
    transport = transport_to(OtlpReceiver(protocol=protocol, port=free_port()))
    outcome = send(transport)
    assert isinstance(outcome, TryAgain)
    assert "Connection refused" in outcome.reason


def test_a_silent_backend_costs_the_time_out_and_is_transient() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for protocol in PROTOCOLS:
            transport = transport_to(OtlpReceiver(protocol=protocol, port=silent.getsockname()[1]))
            assert isinstance(transport.send(REQUEST, 0.01), TryAgain)
            transport.close()


@pytest.mark.parametrize(("status", "expected"), [("200 OK", TryAgain), ("400 Bad Request", Refused)])
def test_an_answer_that_breaks_off_counts_by_its_status(status: str, expected: type) -> None:
    """Whether a request was taken is unknown when a 2xx breaks off; a refusal stands without its text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_part() -> None:
            client, _ = listener.accept()
            with client:
                received = b""
                while not received.endswith(REQUEST):
                    received += client.recv(65536)
                client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\npart".encode())

        backend = threading.Thread(target=answer_in_part)
        backend.start()
        outcome = send(transport_to(OtlpReceiver(protocol="http/protobuf", port=listener.getsockname()[1])))
        backend.join()
    assert isinstance(outcome, expected)
    assert status[:3] in outcome.reason


def test_a_closed_transport_does_not_raise(receiver: OtlpReceiver) -> None:
    if receiver.protocol == "grpc":
        transport = transport_to(receiver)
        transport.close()
        assert isinstance(transport.send(REQUEST, 1), TryAgain)
        transport.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_is_verified(protocol: str, certificates: Certificates) -> None:
    authority = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificates.authority)}
    with OtlpReceiver(protocol=protocol, certificates=certificates) as receiver:
        assert send(transport_to(receiver, authority)) == Delivered()
        assert isinstance(send(transport_to(receiver)), TryAgain)
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mutual_tls(protocol: str, certificates: Certificates) -> None:
    authority = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificates.authority)}
    files = authority | {
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(certificates.client_key),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(certificates.client_certificate),
    }
    with OtlpReceiver(
        protocol=protocol, certificates=certificates, client_certificates_required=True
    ) as receiver:
        assert send(transport_to(receiver, files)) == Delivered()
        assert isinstance(send(transport_to(receiver, authority)), TryAgain)
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("sinks.console", "grpc requests opentelemetry google"),
        ("sinks.spans_file", "grpc requests opentelemetry google"),
        ("spans.builder", "grpc requests opentelemetry google"),
        ("delivery.otlp_sink", "grpc requests"),
        ("sdk.components, otel_bridge.sdk.environment, otel_bridge.sdk.id_generator", "opentelemetry"),
        ("delivery.http_transport", "grpc"),
    ],
)
def test_a_run_loads_only_what_its_outputs_need(modules: str, absent: str) -> None:
    code = f"import sys, otel_bridge.{modules}; print([m for m in {absent.split()} if m in sys.modules])"
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
