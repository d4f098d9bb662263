"""OTLP over gRPC: one channel, one unary call per request.

Channel, credentials, compression and metadata are the official exporter's. Its own export loop is not used:
it takes SDK spans, and drops what it cannot deliver within its time-out.
"""

from __future__ import annotations

import os
from typing import Any

# The core of gRPC writes lines of its own to standard error, also into JSON logs. Its errors come with the
# answers, so nothing is lost. What the environment says wins.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from otel_bridge.delivery.answers import read_grpc_answer, read_grpc_status
from otel_bridge.delivery.options import ExportOptions, OtlpCompression
from otel_bridge.delivery.transport import MAX_RESPONSE_BYTES, Outcome, TryAgain

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_RETRY_INFO = "google.rpc.retryinfo-bin"

_CHANNEL_OPTIONS: Any = (
    # gRPC's own back-off between connection attempts grows to two minutes; a backend that is up again is
    # found within 5 s.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A connection that a firewall forgot is noticed in a minute. Servers allow pings every five minutes
    # unless calls are under way, so no pings between calls.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.enable_retries", 0),
)


class GrpcTransport(OTLPSpanExporter):
    """The official exporter's connection under the contract of `Transport`."""

    def __init__(self, options: ExportOptions) -> None:
        super().__init__(
            endpoint=options.endpoint,
            insecure=not options.secure,
            credentials=_credentials(options) if options.secure else None,
            headers=options.headers,
            timeout=options.timeout_seconds,
            compression=(
                grpc.Compression.Gzip
                if options.compression is OtlpCompression.GZIP
                else grpc.Compression.NoCompression
            ),
            channel_options=_CHANNEL_OPTIONS,
        )
        channel: Any = self._channel
        # Without serializers bytes pass as they are: the request is serialised once, when it is put together.
        self._export_bytes = channel.unary_unary(_METHOD)

    def send(self, request: bytes, timeout_seconds: float) -> Outcome:
        """Send a serialised ExportTraceServiceRequest."""
        try:
            answer = self._export_bytes(request, timeout=timeout_seconds, metadata=self._headers)
        except grpc.RpcError as error:
            return _read_status(error)
        except ValueError:
            return TryAgain("the channel is closed")
        return read_grpc_answer(answer)

    def close(self) -> None:
        """Close the channel; a call under way is cancelled."""
        self.shutdown()


def _credentials(options: ExportOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=options.certificate.read_bytes() if options.certificate else None,
        private_key=options.client_key.read_bytes() if options.client_key else None,
        certificate_chain=options.client_certificate.read_bytes() if options.client_certificate else None,
    )


def _read_status(error: Any) -> Outcome:
    trailers = error.trailing_metadata() or ()
    retry_info = next((value for name, value in trailers if name == _RETRY_INFO), None)
    return read_grpc_status(error.code().name, error.details() or "", retry_info)
