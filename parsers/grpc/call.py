"""What makes an exchange a gRPC call: its method, its messages, and how it ended.

Owns the reading of gRPC's fields (gRPC over HTTP/2; gRPC-Web over HTTP/1 and HTTP/2). It must not find
messages (`reader`) or render them.

Contract: a status is what trailers, or a response of headers only, said; nothing is made of an HTTP status or
of a connection's end. A field that contradicts itself or the specification is unknown, and an anomaly.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from ebpf.events import Missing
from parsers.exchange import Incomplete
from parsers.grpc.reader import GrpcReader
from parsers.http_exchange import (
    GrpcCall,
    GrpcMessage,
    Headers,
    HttpRequest,
    HttpResponse,
    MessageFlow,
    Truncation,
    missing_of,
)
from parsers.limits import ParserLimits

MAX_STATUS = 16
"""UNAUTHENTICATED, the highest code (gRPC, "Status codes and their use in gRPC")."""

# The media type, then what is special: -web, -text and the message codec.
_MEDIA_TYPE = re.compile(rb"application/grpc(-web(-text)?)?(?:\+[^;\s]+)?[ \t]*(?:;|\Z)", re.IGNORECASE)
_STATUS = re.compile(rb"[0-9]{1,2}")
_NO_HEADERS: Headers = []


def is_grpc(headers: Headers) -> bool:
    """Whether the content type of a message with these headers is one of gRPC or gRPC-Web."""
    return _media_type(headers) is not None


def is_grpc_web(headers: Headers) -> bool:
    """Whether that content type is one of gRPC-Web, which is not bound to HTTP/2."""
    media_type = _media_type(headers)
    return media_type is not None and media_type[1] is not None


def open_reader(headers: Headers, limits: ParserLimits, counts: dict[str, int]) -> GrpcReader | None:
    """Return a reader for the content of the message with these headers.

    None when it is no gRPC, and when a content coding hides the messages: those are read from the body, once
    that is decoded.
    """
    coding = _find_values(headers, b"content-encoding")
    if any(value.strip().lower() != b"identity" for value in coding):
        return None
    return _build_reader(headers, limits, counts)


class GrpcDialogue:
    """Both directions of a call while they pass. `counts` are the tracker's counters, added to here."""

    __slots__ = ("_counts", "_limits", "request", "response")

    def __init__(self, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self.request: GrpcReader | None = None
        """Takes the content of the request; None when its head is not known or says no gRPC."""
        self.response: GrpcReader | None = None
        """Reads the messages of the response."""

    def open_readers(self, request: HttpRequest | None, response: HttpResponse | None) -> None:
        """Open the readers of those heads that are known by now."""
        if self.request is None and request is not None:
            self.request = open_reader(request.headers, self._limits, self._counts)
        if self.response is None and response is not None:
            self.response = open_reader(response.headers, self._limits, self._counts)

    def decide_incomplete(self, cause: Incomplete | None) -> Incomplete | None:
        """Return `cause`: what is missing of a call shows in its flows, and in the bodies."""
        return cause

    def build(self, request: HttpRequest | None, response: HttpResponse | None) -> GrpcCall | None:
        """Return the call, once both messages are over or given up."""
        return build_grpc_call(request, response, self.request, self.response, self._limits, self._counts)


def build_grpc_call(
    request: HttpRequest | None,
    response: HttpResponse | None,
    request_reader: GrpcReader | None,
    response_reader: GrpcReader | None,
    limits: ParserLimits,
    counts: dict[str, int],
) -> GrpcCall | None:
    """Return the call that these messages are, None when neither says that it is one.

    The readers have taken the content as it passed. Without one, messages are read from what was kept of the
    body.
    """
    request_headers = request.headers if request is not None else _NO_HEADERS
    response_headers = response.headers if response is not None else _NO_HEADERS
    media_type = _media_type(request_headers) or _media_type(response_headers)
    if media_type is None:
        return None
    counts["grpc_calls"] += 1
    request_messages, request_flow, _ = _read_messages(request, request_reader, limits, counts)
    response_messages, response_flow, web_trailers = _read_messages(response, response_reader, limits, counts)
    fields = _closing_fields(response, response_flow, web_trailers)
    status, message, anomalies = _read_outcome(fields)
    counts["grpc_invalid_statuses"] += len(anomalies)
    return GrpcCall(
        None if request is None or request.target is None else _method(request.target),
        status,
        message,
        request_messages,
        response_messages,
        request_flow,
        response_flow,
        web=media_type[1] is not None,
        trailers=web_trailers or [],
        anomalies=anomalies,
    )


def _find_values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of a field, its name given in lower case."""
    size = len(name)
    return [value for key, value in headers if len(key) == size and key.lower() == name]


def _media_type(headers: Headers) -> re.Match[bytes] | None:
    values = _find_values(headers, b"content-type")
    return _MEDIA_TYPE.match(values[0]) if values else None


def _build_reader(headers: Headers, limits: ParserLimits, counts: dict[str, int]) -> GrpcReader | None:
    media_type = _media_type(headers)
    if media_type is None:
        return None
    encodings = _find_values(headers, b"grpc-encoding")
    encoding = encodings[0].strip().lower() if len(encodings) == 1 else b""
    web, text = media_type.groups()
    return GrpcReader(encoding, limits, counts, web=web is not None, text=text is not None)


def _read_messages(
    message: HttpRequest | HttpResponse | None,
    reader: GrpcReader | None,
    limits: ParserLimits,
    counts: dict[str, int],
) -> tuple[list[GrpcMessage], MessageFlow, Headers | None]:
    if message is None:
        return [], MessageFlow(uncounted=True), None
    if reader is None:
        reader = _build_reader(message.headers, limits, counts)
        if reader is None:
            # A plain answer, such as a proxy's; or its head, or its content type, is unknown.
            start = message.status if isinstance(message, HttpResponse) else message.method
            return [], MessageFlow(uncounted=start is None or message.unknown_headers > 0), None
        body = message.body
        is_coded = body.coding is not None and body.coding.is_applied
        if is_coded or body.truncation is Truncation.DECODE_ERROR:
            reader.miss(None, Missing(0), message.end_ktime_ns)
        else:
            reader.receive(body.content, message.end_ktime_ns)
            if body.truncation is not None or body.captured_size != body.size:
                reader.miss(None, missing_of(body.truncation), message.end_ktime_ns)
    reader.end(message.end_ktime_ns)
    return reader.messages, reader.flow, reader.trailers


def _closing_fields(
    response: HttpResponse | None, flow: MessageFlow, web_trailers: Headers | None
) -> Headers:
    """Return the fields that may say how the call ended."""
    if response is None:
        return _NO_HEADERS
    for fields in (response.trailers, web_trailers or _NO_HEADERS):
        if _find_values(fields, b"grpc-status"):
            return fields
    # Trailers-Only: one block of headers, and nothing behind it.
    return response.headers if not flow.count and not flow.uncounted else _NO_HEADERS


def _read_outcome(fields: Headers) -> tuple[int | None, str | None, tuple[str, ...]]:
    """Return status, message and anomalies."""
    messages = _find_values(fields, b"grpc-message")
    # Percent-encoded UTF-8; what is encoded wrongly stays as it is ("Status-Message").
    message = unquote_to_bytes(messages[0]).decode("utf-8", "replace") if messages else None
    statuses = set(_find_values(fields, b"grpc-status"))
    if not statuses:
        return None, message, ()
    value = statuses.pop()
    if statuses or _STATUS.fullmatch(value) is None or int(value) > MAX_STATUS:
        return None, message, ("grpc_status_invalid",)
    return int(value), message, ()


def _method(target: bytes) -> str:
    """Return the path of a request target without its first slash (`package.Service/Method`)."""
    if not target.startswith(b"/"):
        # Absolute form, as sent to a proxy; gRPC-Web also goes over HTTP/1.
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path = target[1:].partition(b"?")[0]
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path.decode("latin-1")
