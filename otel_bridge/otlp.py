"""Spans as OTLP protobuf.

Owns the encoding. It must not queue, send or know of transports.

Contract: every span is serialised once, by itself, so that its size is known before it joins a batch and a
batch can be split without encoding anything again. A request is put together from such pieces by
concatenation.

The official message classes are filled where it is done once; the attributes of a span, forty or more of
them, are written directly in the wire format, which takes half the time. Golden tests hold the whole equal to
the official encoder's result.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, SpanFlags, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from otel_bridge.protobuf_wire import encode_field, encode_varint, length_delimited_tag
from otel_bridge.scope import SCOPE_NAME, scope_version
from otel_bridge.span import AttributeValue, Resource, Span, SpanKind

EncodedSpan: TypeAlias = tuple[Resource, bytes]
"""A resource and one serialised `opentelemetry.proto.trace.v1.Span` of it."""

OVERHEAD_PER_SPAN = 8
"""Bytes of tag and length that a span costs in a request, at most."""

MAX_NAMES_REMEMBERED = 4096
"""Attribute names kept encoded; rare ones push each other out."""

_KINDS = {SpanKind.SERVER: SpanMessage.SPAN_KIND_SERVER, SpanKind.CLIENT: SpanMessage.SPAN_KIND_CLIENT}
_UNSET = Status()
_ERROR = Status(code=Status.STATUS_CODE_ERROR)
_FLAGS_ROOT = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_FLAGS_CHILD = _FLAGS_ROOT | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

_RESOURCE_SPANS = length_delimited_tag(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER)
_RESOURCE = length_delimited_tag(ResourceSpans.RESOURCE_FIELD_NUMBER)
_SCOPE_SPANS = length_delimited_tag(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER)
_SCOPE = length_delimited_tag(ScopeSpans.SCOPE_FIELD_NUMBER)
_SPANS = length_delimited_tag(ScopeSpans.SPANS_FIELD_NUMBER)
_SPAN_ATTRIBUTES = length_delimited_tag(SpanMessage.ATTRIBUTES_FIELD_NUMBER)
_RESOURCE_ATTRIBUTES = length_delimited_tag(ResourceMessage.ATTRIBUTES_FIELD_NUMBER)
_KEY = length_delimited_tag(KeyValue.KEY_FIELD_NUMBER)
_VALUE = length_delimited_tag(KeyValue.VALUE_FIELD_NUMBER)
_STRING = length_delimited_tag(AnyValue.STRING_VALUE_FIELD_NUMBER)
_BYTES = length_delimited_tag(AnyValue.BYTES_VALUE_FIELD_NUMBER)
_ARRAY = length_delimited_tag(AnyValue.ARRAY_VALUE_FIELD_NUMBER)
_ITEM = length_delimited_tag(ArrayValue.VALUES_FIELD_NUMBER)
# Wire type 0 is a varint, 1 is eight bytes.
_BOOL = encode_varint(AnyValue.BOOL_VALUE_FIELD_NUMBER << 3)
_INT = encode_varint(AnyValue.INT_VALUE_FIELD_NUMBER << 3)
_DOUBLE = encode_varint(AnyValue.DOUBLE_VALUE_FIELD_NUMBER << 3 | 1)
_pack_double = struct.Struct("<d").pack


def encode_span(span: Span) -> bytes:
    """Return a serialised `opentelemetry.proto.trace.v1.Span`."""
    message = SpanMessage(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id or b"",
        trace_state=span.trace_state,
        # Whether a parent is remote is known either way: only a header can name one.
        flags=span.trace_flags | (_FLAGS_ROOT if span.parent_span_id is None else _FLAGS_CHILD),
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_unix_ns,
        end_time_unix_nano=span.end_unix_ns,
        dropped_attributes_count=span.dropped_attributes_count,
        status=_ERROR if span.is_error else _UNSET,
    )
    return message.SerializeToString() + _encode_attributes(_SPAN_ATTRIBUTES, span.attributes)


def encode_resource(resource: Resource) -> bytes:
    """Return a serialised `opentelemetry.proto.resource.v1.Resource`."""
    return _encode_attributes(_RESOURCE_ATTRIBUTES, resource.attributes)


def _encode_attributes(tag: bytes, attributes: Mapping[str, AttributeValue]) -> bytes:
    """Return a repeated field of `KeyValue` messages."""
    pieces: list[bytes] = []
    for name, value in attributes.items():
        if value.__class__ is str:
            content = value.encode()
            any_value = _STRING + encode_varint(len(content)) + content
        else:
            any_value = _encode_value(value)
        key_value = _encode_name(name) + _VALUE + encode_varint(len(any_value)) + any_value
        pieces += (tag, encode_varint(len(key_value)), key_value)
    return b"".join(pieces)


@lru_cache(maxsize=MAX_NAMES_REMEMBERED)
def _encode_name(name: str) -> bytes:
    return encode_field(_KEY, name.encode())


def _encode_value(value: AttributeValue) -> bytes:
    """Return the content of an `AnyValue`."""
    if isinstance(value, list):
        items = b"".join([encode_field(_ITEM, encode_field(_STRING, item.encode())) for item in value])
        return encode_field(_ARRAY, items)
    if isinstance(value, str):
        return encode_field(_STRING, value.encode())
    # bool before int: in Python it is one.
    if isinstance(value, bool):
        return _BOOL + encode_varint(value)
    if isinstance(value, int):
        # int64: negative numbers are their two's complement.
        return _INT + encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, bytes):
        return encode_field(_BYTES, value)
    return _DOUBLE + _pack_double(value)


class RequestEncoder:
    """Puts encoded spans together to serialised `ExportTraceServiceRequest`s.

    One sender owns it: the bytes of the resources last used are remembered.
    """

    MAX_RESOURCES_REMEMBERED = 1024
    """Workloads of one node; more at once start the memory afresh."""

    __slots__ = ("_resources", "_scope")

    def __init__(self) -> None:
        scope = InstrumentationScope(name=SCOPE_NAME, version=scope_version())
        self._scope = encode_field(_SCOPE, scope.SerializeToString())
        self._resources: dict[Resource, bytes] = {}

    def encode(self, spans: Iterable[EncodedSpan]) -> bytes:
        """Return the request with these spans, grouped by resource in order of first appearance."""
        groups: dict[Resource, list[bytes]] = {}
        for resource, span in spans:
            group = groups.get(resource)
            if group is None:
                group = groups[resource] = [self._scope]
            group += (_SPANS, encode_varint(len(span)), span)
        return b"".join(
            encode_field(
                _RESOURCE_SPANS, self._resource(resource) + encode_field(_SCOPE_SPANS, b"".join(group))
            )
            for resource, group in groups.items()
        )

    def _resource(self, resource: Resource) -> bytes:
        encoded = self._resources.get(resource)
        if encoded is None:
            if len(self._resources) >= self.MAX_RESOURCES_REMEMBERED:
                self._resources.clear()
            encoded = self._resources[resource] = encode_field(_RESOURCE, encode_resource(resource))
        return encoded
