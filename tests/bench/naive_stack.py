"""The yardstick for the agent's processor time: the same exchange through the libraries, by their manuals.

h11 parses request and response, the OpenTelemetry SDK makes the span, the official encoder makes the bytes.
No capture, no pairing, no redaction, no delivery. Machines differ and drift; the ratio to this, from one
run, does so far less.
"""

from __future__ import annotations

import time
from typing import Any

import h11
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind

EXCHANGES = 2000
REQUEST_BODY = b'{"order":"' + b"y" * 1012 + b'"}'
RESPONSE_BODY = b'{"items":"' + b"x" * 1012 + b'"}'
REQUEST_HEAD = (
    b"POST /json HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: h2load nghttp2/1.52.0\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n"
)
RESPONSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 16:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n"
)


class _Encode(SpanProcessor):
    """Encodes each span as it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        encode_spans([span]).SerializeToString()


def _events(connection: h11.Connection, data: bytes) -> tuple[Any, bytes]:
    """Return the head and the body of one message."""
    connection.receive_data(data)
    head, body = connection.next_event(), b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    return head, body


def microseconds_per_exchange() -> float:
    """Return the processor time of one exchange."""
    provider = TracerProvider()
    provider.add_span_processor(_Encode())
    tracer = provider.get_tracer("naive")
    started = time.process_time()
    for _ in range(EXCHANGES):
        server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
        request, request_body = _events(server, REQUEST_HEAD + REQUEST_BODY)
        client.send(
            h11.Request(method="POST", target="/json", headers=[("Host", "a"), ("Content-Length", "0")])
        )
        client.send(h11.EndOfMessage())
        response, response_body = _events(client, RESPONSE_HEAD + RESPONSE_BODY)
        attributes: dict[str, Any] = {
            "http.request.method": request.method.decode(),
            "url.path": request.target.decode(),
            "http.response.status_code": response.status_code,
            "network.protocol.version": request.http_version.decode(),
            "http.request.body.content": request_body.decode(),
            "http.response.body.content": response_body.decode(),
            "http.request.body.size": len(request_body),
            "http.response.body.size": len(response_body),
            "server.address": "127.0.0.1",
            "server.port": 8080,
            "client.address": "127.0.0.1",
            "client.port": 50000,
            "network.peer.address": "127.0.0.1",
            "network.peer.port": 50000,
            "network.transport": "tcp",
            "network.type": "ipv4",
        }
        for side, message in (("request", request), ("response", response)):
            for name, value in message.headers:
                attributes[f"http.{side}.header.{name.decode()}"] = [value.decode()]
        tracer.start_span("POST", kind=SpanKind.SERVER, attributes=attributes).end()
    return (time.process_time() - started) / EXCHANGES * 1e6
