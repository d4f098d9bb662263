"""The yardstick for the agent's processor time: the same exchanges through the libraries, by their manuals.

h11 or h2 parses request and response, the OpenTelemetry SDK makes the span, the official encoder makes the
bytes. No capture, no pairing, no redaction, no delivery. Machines differ and drift; the ratio to this, from
one run, does so far less.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import h11
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, ResponseReceived, StreamEnded
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

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

Http1Exchange = tuple[bytes, bytes]
"""All bytes of a request, and of its response."""
Http2Connection = Sequence[tuple[bool, bytes]]
"""The calls of one connection: whether the client sent it, and the bytes."""
_Headers = Iterable[tuple[bytes, bytes]]


class _Encode(SpanProcessor):
    """Encodes each span as it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        encode_spans([span]).SerializeToString()


@dataclass(slots=True)
class _Stream:
    """One exchange over HTTP/2 while it passes: fields and body of both sides."""

    request: list[tuple[bytes, bytes]]
    response: list[tuple[bytes, bytes]] = field(default_factory=list)
    request_body: bytes = b""
    response_body: bytes = b""


class NaiveStack:
    """The libraries, put together."""

    def __init__(self) -> None:
        provider = TracerProvider()
        provider.add_span_processor(_Encode())
        self._tracer = provider.get_tracer("naive")
        self.spans = 0
        """How many were made."""

    def run_http1(self, exchanges: Iterable[Http1Exchange]) -> int:
        """Return the processor time of these exchanges, in nanoseconds."""
        began = time.process_time_ns()
        for sent, answered in exchanges:
            server, client = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
            request, request_body = _read_message(server, sent)
            # h11 reads no answer unless it has sent a request
            client.send(
                h11.Request(
                    method=request.method, target="/json", headers=[("Host", "a"), ("Content-Length", "0")]
                )
            )
            client.send(h11.EndOfMessage())
            response, response_body = _read_message(client, answered)
            self._make_span(
                request.method.decode(),
                request.target.decode(),
                response.status_code,
                request.http_version.decode(),
                request.headers,
                response.headers,
                request_body,
                response_body,
            )
        return time.process_time_ns() - began

    def run_http2(self, connections: Iterable[Http2Connection]) -> int:
        """Return the processor time of these connections, in nanoseconds."""
        began = time.process_time_ns()
        for calls in connections:
            self._follow(calls)
        return time.process_time_ns() - began

    def _follow(self, calls: Http2Connection) -> None:
        server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        server.initiate_connection()
        client.initiate_connection()
        streams: dict[int, _Stream] = {}
        for from_client, data in calls:
            for event in (server if from_client else client).receive_data(data):
                if from_client:
                    _note_request(streams, event, server, client)
                else:
                    self._note_response(streams, event, client)
            server.data_to_send()
            client.data_to_send()

    def _note_response(self, streams: dict[int, _Stream], event: Event, client: H2Connection) -> None:
        if isinstance(event, ResponseReceived):
            streams[event.stream_id].response = list(event.headers)
        elif isinstance(event, DataReceived):
            streams[event.stream_id].response_body += event.data
            client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            stream = streams.pop(event.stream_id)
            request = dict(stream.request)
            self._make_span(
                request[b":method"].decode(),
                request[b":path"].decode(),
                int(dict(stream.response)[b":status"]),
                "2",
                stream.request,
                stream.response,
                stream.request_body,
                stream.response_body,
            )

    def _make_span(
        self,
        method: str,
        target: str,
        status: int,
        version: str,
        request_headers: _Headers,
        response_headers: _Headers,
        request_body: bytes,
        response_body: bytes,
    ) -> None:
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "url.path": target,
            "http.response.status_code": status,
            "network.protocol.version": version,
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
        for side, headers in (("request", request_headers), ("response", response_headers)):
            for name, value in headers:
                attributes[f"http.{side}.header.{name.decode()}"] = [value.decode()]
        self._tracer.start_span(method, kind=SpanKind.SERVER, attributes=attributes).end()
        self.spans += 1


def _read_message(connection: h11.Connection, data: bytes) -> tuple[Any, bytes]:
    """Return the head (an h11.Request or h11.Response) and the body of one message."""
    connection.receive_data(data)
    head, body = connection.next_event(), b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    return head, body


def _note_request(
    streams: dict[int, _Stream], event: Event, server: H2Connection, client: H2Connection
) -> None:
    if isinstance(event, RequestReceived):
        streams[event.stream_id] = _Stream(list(event.headers))
        # h2 reads no answer unless it has sent a request
        asked = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
        client.send_headers(event.stream_id, asked, end_stream=True)
    elif isinstance(event, DataReceived):
        streams[event.stream_id].request_body += event.data
        server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, StreamEnded):
        server.reset_stream(event.stream_id)  # it will not answer, and counts the streams that are open


def microseconds_per_exchange() -> float:
    """Return the processor time of one exchange, the same again and again."""
    exchange = (REQUEST_HEAD + REQUEST_BODY, RESPONSE_HEAD + RESPONSE_BODY)
    return NaiveStack().run_http1([exchange] * EXCHANGES) / EXCHANGES / 1000
