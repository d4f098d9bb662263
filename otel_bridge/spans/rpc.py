"""What a gRPC call adds to the span of the HTTP exchange that carries it.

Owns the attributes, the name and the error of such a span, by the semantic conventions for RPC and gRPC
(v1.44). It must not parse messages: `parsers.grpc.protobuf_text` reads those without a known schema.

Contract: pure, and everything is redacted: metadata as headers are, rendered messages and the status message
as bodies are. Without a schema a field of protobuf has no name that could announce a credential, so only its
shape gives one away. Compression and base64 would hide it in the raw body: such a body stays back unless all
of it was looked through (`CallDescription.withheld`).

| attribute | type | when |
|---|---|---|
| `rpc.system.name` = `grpc` | string | always |
| `rpc.method` | string | known; `_OTHER` when it is not surely one of the server's |
| `rpc.method_original` | string | `rpc.method` is `_OTHER` |
| `rpc.response.status_code` | string | a status was seen; `OK`, `NOT_FOUND`, … |
| `rpc.request.metadata.<key>`, `rpc.response.metadata.<key>` | string[] | headers captured; trailers too |
| `wirespan.rpc.status_message` | string | headers captured; `grpc-message`, decoded |
| `wirespan.rpc.web` = true | bool | gRPC-Web |
| `wirespan.rpc.request.message_count`, `….response.message_count` | int | messages that ended |
| `wirespan.rpc.request.message_size`, … | int | their bytes on the wire, all together |
| `wirespan.rpc.request.uncounted` = true, … | bool | there was more than counted |
| `wirespan.rpc.request.messages`, … | string[] | bodies captured; the first messages, rendered |
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final, NamedTuple

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.redaction.secret_shapes import REDACTED
from otel_bridge.span import AttributeValue, SpanKind
from otel_bridge.spans.message_text import FieldReader, Fields, decode_text
from parsers.grpc.protobuf_text import ProtobufText
from parsers.http_exchange import (
    GrpcCall,
    GrpcMessage,
    HeaderList,
    Headers,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    MessageFlow,
    Truncation,
)

STATUS_NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""By code (gRPC, "Status codes and their use in gRPC")."""

MAX_METHOD_LENGTH: Final = 256
"""Characters; a longer name is made up, and names of spans are to be few."""

_SYSTEM: Final = "grpc"
_OTHER: Final = "_OTHER"
_OK: Final = 0
_UNIMPLEMENTED: Final = 12
_SERVER_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""What the conventions call an error of a server; the others are the caller's doing."""

_METHOD = re.compile(r"[A-Za-z_][\w.$-]*(?:/[\w.$-]+)+", re.ASCII)
"""A service and a method as interface definitions name them, perhaps behind the prefix of a gateway."""

_CODEC = re.compile(rb"[^;+]*\+([a-z0-9]+)", re.IGNORECASE)
_TEXT = re.compile(rb"application/grpc-web-text", re.IGNORECASE)
_PROTOBUF: Final = frozenset({b"", b"proto", b"protobuf"})
_JSON: Final = b"json"

# What gRPC over HTTP/2 calls the definition of the call, and what HTTP/1 needs for itself.
_NOT_METADATA: Final = frozenset(
    b"""
        connection content-encoding content-length content-type host te trailer transfer-encoding user-agent
    """.split()
)
_RESERVED: Final = b"grpc-"
_NO_HEADERS: Headers = []


class CallDescription(NamedTuple):
    """What goes into the span, in parts that have their own place in the order of its attributes."""

    name: str
    """Of the span."""
    error: str | None
    """Value of `error.type`, None when the status is no error."""
    attributes: dict[str, AttributeValue]
    contents: dict[str, AttributeValue]
    metadata: Fields
    withheld: frozenset[str]
    """`request`, `response`: those whose raw body may hold a credential in coded form."""
    redacted: int
    """Values replaced in all of it."""


class CallReader:
    """Describes calls; what it remembers of metadata is without credentials, as `FieldReader` promises."""

    __slots__ = ("_request_metadata", "_response_metadata", "_rules")

    def __init__(self, rules: Redactor | None) -> None:
        self._rules = rules
        self._request_metadata = FieldReader("rpc.request.metadata.", rules)
        self._response_metadata = FieldReader("rpc.response.metadata.", rules)

    def read(
        self,
        exchange: HttpExchange,
        call: GrpcCall,
        kind: SpanKind,
        *,
        capture_headers: bool,
        capture_bodies: bool,
    ) -> CallDescription:
        """Return what the call adds to the span of its exchange."""
        attributes: dict[str, AttributeValue] = {"rpc.system.name": _SYSTEM}
        contents: dict[str, AttributeValue] = {}
        metadata: dict[str, tuple[str, ...]] = {}
        withheld: set[str] = set()
        name, redacted = self._add_method(attributes, call, kind)
        error = _add_status(attributes, call, kind)
        if call.web:
            attributes["wirespan.rpc.web"] = True
        request, response = exchange.request, exchange.response
        for side, message, messages, flow in (
            ("request", request, call.request_messages, call.request_flow),
            ("response", response, call.response_messages, call.response_flow),
        ):
            if message is None:
                continue
            _add_flow(attributes, side, flow)
            if capture_bodies:
                codec, is_coded = _find_form(message.headers)
                texts, count = self._render(messages, codec)
                redacted += count
                if texts:
                    contents[f"wirespan.rpc.{side}.messages"] = tuple(texts)
                if self._is_hiding(messages, flow, is_coded=is_coded):
                    withheld.add(side)
        if capture_headers:
            if call.status_message:
                attributes["wirespan.rpc.status_message"], count = self._redact(call.status_message)
                redacted += count
            for reader, fields in (
                (self._request_metadata, _metadata(request)),
                (self._response_metadata, _metadata(response, call.trailers)),
            ):
                fields, count = self._encode_binary(fields)
                redacted += count
                _, its_metadata, count = reader.read(fields)
                metadata.update(its_metadata)
                redacted += count
        return CallDescription(name, error, attributes, contents, metadata, frozenset(withheld), redacted)

    def _add_method(
        self, attributes: dict[str, AttributeValue], call: GrpcCall, kind: SpanKind
    ) -> tuple[str, int]:
        """Add the method; return the name of the span, and the number of values redacted."""
        method = call.method
        if method is None:
            return _SYSTEM, 0
        redacted, count = (method, 0) if self._rules is None else self._rules.path(method)
        # A client has a stub for what it calls. What a server implements, only its answers show: it says so
        # of every name that a scanner makes up.
        is_known = kind is SpanKind.CLIENT or call.status != _UNIMPLEMENTED
        if is_known and not count and len(method) <= MAX_METHOD_LENGTH and _METHOD.fullmatch(method):
            attributes["rpc.method"] = method
            return method, 0
        attributes["rpc.method"] = _OTHER
        attributes["rpc.method_original"] = redacted
        return _SYSTEM, count

    def _render(self, messages: list[GrpcMessage], codec: bytes) -> tuple[list[str], int]:
        """Return the messages as text, as far as their codec is known, and the number of values redacted."""
        if codec not in _PROTOBUF and codec != _JSON:
            return [], 0
        protobuf = ProtobufText()
        texts: list[str] = []
        redacted = 0
        for message in messages:
            if protobuf.is_spent:
                break
            content, truncation = message.content, message.truncation
            if truncation is Truncation.DECODE_ERROR:
                text, count = f"<{len(content)} bytes, not decoded>", 0
            elif codec == _JSON:
                text, count = self._redact(
                    decode_text(content, "utf-8"), "application/json", truncated=truncation is not None
                )
            else:
                size = len(content) if truncation is None else None if message.compressed else message.size
                rendered = protobuf.render(content, size)
                text, count = (f"<{len(content)} bytes>", 0) if rendered is None else self._redact(rendered)
            texts.append(text)
            redacted += count
        return texts, redacted

    def _encode_binary(self, fields: Headers) -> tuple[Headers, int]:
        """Return metadata with all binary values in base64, and the number of values redacted.

        Peers that have agreed on it send them as they are, behind a zero byte (gRPC proposal G1).
        """
        encoded: HeaderList = []
        redacted = 0
        for name, value in fields:
            if value.startswith(b"\0") and name.lower().endswith(b"-bin"):
                if self._rules is not None and self._rules.binary(value, "", truncated=False)[1]:
                    value, redacted = REDACTED.encode(), redacted + 1
                else:
                    value = b64encode(value[1:]).rstrip(b"=")
            encoded.append((name, value))
        return encoded, redacted

    def _is_hiding(self, messages: list[GrpcMessage], flow: MessageFlow, *, is_coded: bool) -> bool:
        """Whether the body as it was on the wire may hold a credential that no rule finds in it."""
        rules = self._rules
        if rules is None or not (is_coded or any(message.compressed for message in messages)):
            return False
        if flow.uncounted or flow.count != len(messages):
            return True
        return any(
            message.truncation is not None or rules.binary(message.content, "", truncated=False)[1]
            for message in messages
        )

    def _redact(self, text: str, content_type: str = "", *, truncated: bool = False) -> tuple[str, int]:
        return (text, 0) if self._rules is None else self._rules.text(text, content_type, truncated=truncated)


def _add_status(attributes: dict[str, AttributeValue], call: GrpcCall, kind: SpanKind) -> str | None:
    """Add the status; return the error that it is, if it is one to this side of the call."""
    if call.status is None:
        return None
    name = STATUS_NAMES[call.status]
    attributes["rpc.response.status_code"] = name
    is_error = name in _SERVER_ERRORS if kind is SpanKind.SERVER else call.status != _OK
    return name if is_error else None


def _add_flow(attributes: dict[str, AttributeValue], side: str, flow: MessageFlow) -> None:
    if flow.count or not flow.uncounted:
        attributes[f"wirespan.rpc.{side}.message_count"] = flow.count
        attributes[f"wirespan.rpc.{side}.message_size"] = flow.size
    if flow.uncounted:
        attributes[f"wirespan.rpc.{side}.uncounted"] = True


def _metadata(message: HttpRequest | HttpResponse | None, web_trailers: Headers = _NO_HEADERS) -> Headers:
    """Return the fields of a message that are the application's (gRPC over HTTP/2, "Custom-Metadata")."""
    if message is None:
        return []
    return [
        field
        for field in (*message.headers, *message.trailers, *web_trailers)
        if (name := field[0].lower()) not in _NOT_METADATA and not name.startswith(_RESERVED)
    ]


def _find_form(headers: Headers) -> tuple[bytes, bool]:
    """Return the codec of messages, nothing meaning protobuf, and whether they are compressed or base64."""
    content_type = encoding = b""
    for name, value in headers:
        # Most names have another length, which is cheaper to see.
        if len(name) == 12 and name.lower() == b"content-type":
            content_type = value
        elif len(name) == 13 and name.lower() == b"grpc-encoding":
            encoding = value.lower()
    codec = _CODEC.match(content_type)
    is_coded = encoding not in (b"", b"identity") or _TEXT.match(content_type) is not None
    return (b"" if codec is None else codec[1].lower()), is_coded
