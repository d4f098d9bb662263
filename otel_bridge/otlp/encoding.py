"""Spans as OTLP protobuf.

Owns the encoding. It must not queue, send or know of transports.

Contract: every span is serialised once, by itself, so that its size is known before it joins a batch and a
batch can be split without encoding anything again. A request is put together from such pieces by
concatenation.

Spans are written directly in the wire format, with the field numbers of the official message classes: those
take one call per attribute, and a span has thirty or more. Traffic repeats itself, so most attributes were
encoded before and are remembered. Golden tests hold the whole equal to the official encoder's result.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, SpanFlags, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from otel_bridge.otlp.attribute_memory import AttributeMemory
from otel_bridge.otlp.protobuf_wire import (
    encode_field,
    encode_varint,
    fixed32_tag,
    fixed64_tag,
    length_delimited_tag,
    varint_tag,
)
from otel_bridge.scope import SCOPE_NAME, scope_version
from otel_bridge.span import AttributeValue, Resource, Span, SpanEvent, SpanKind

EncodedSpan: TypeAlias = tuple[Resource, bytes]
"""A resource and one serialised `opentelemetry.proto.trace.v1.Span` of it."""

OVERHEAD_PER_SPAN = 8
"""Bytes of tag and length that a span costs in a request, at most."""

MAX_NAMES_REMEMBERED = 1024
"""Names of spans and of attributes kept encoded; headers have no bound, but an API has few."""

MAX_REMEMBERED_NAME_LENGTH = 128
"""Characters; longer names are made up."""

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
_BOOL = varint_tag(AnyValue.BOOL_VALUE_FIELD_NUMBER)
_INT = varint_tag(AnyValue.INT_VALUE_FIELD_NUMBER)

# What every span has, in one go: tag and content in turn.
_TRACE_ID = length_delimited_tag(SpanMessage.TRACE_ID_FIELD_NUMBER) + encode_varint(16)
_SPAN_ID = length_delimited_tag(SpanMessage.SPAN_ID_FIELD_NUMBER) + encode_varint(8)
_START = fixed64_tag(SpanMessage.START_TIME_UNIX_NANO_FIELD_NUMBER)
_END = fixed64_tag(SpanMessage.END_TIME_UNIX_NANO_FIELD_NUMBER)
_FLAGS = fixed32_tag(SpanMessage.FLAGS_FIELD_NUMBER)
_pack_fixed_fields = struct.Struct(
    f"<{len(_TRACE_ID)}s16s{len(_SPAN_ID)}s8s{len(_START)}sQ{len(_END)}sQ{len(_FLAGS)}sI"
).pack
_PARENT_SPAN_ID = length_delimited_tag(SpanMessage.PARENT_SPAN_ID_FIELD_NUMBER)
_TRACE_STATE = length_delimited_tag(SpanMessage.TRACE_STATE_FIELD_NUMBER)
_DROPPED_ATTRIBUTES = varint_tag(SpanMessage.DROPPED_ATTRIBUTES_COUNT_FIELD_NUMBER)
_EVENTS = length_delimited_tag(SpanMessage.EVENTS_FIELD_NUMBER)
_DROPPED_EVENTS = varint_tag(SpanMessage.DROPPED_EVENTS_COUNT_FIELD_NUMBER)
_EVENT_NAME = length_delimited_tag(SpanMessage.Event.NAME_FIELD_NUMBER)
_EVENT_ATTRIBUTES = length_delimited_tag(SpanMessage.Event.ATTRIBUTES_FIELD_NUMBER)
_EVENT_DROPPED_ATTRIBUTES = varint_tag(SpanMessage.Event.DROPPED_ATTRIBUTES_COUNT_FIELD_NUMBER)
_EVENT_TIME = fixed64_tag(SpanMessage.Event.TIME_UNIX_NANO_FIELD_NUMBER)
_pack_event_time = struct.Struct(f"<{len(_EVENT_TIME)}sQ").pack
_NAME = length_delimited_tag(SpanMessage.NAME_FIELD_NUMBER)
_KIND = varint_tag(SpanMessage.KIND_FIELD_NUMBER)
_STATUS = length_delimited_tag(SpanMessage.STATUS_FIELD_NUMBER)
_STATUS_UNSET = encode_field(_STATUS, b"")
_STATUS_ERROR = encode_field(_STATUS, Status(code=Status.STATUS_CODE_ERROR).SerializeToString())


def encode_span(span: Span) -> bytes:
    """Return a serialised `opentelemetry.proto.trace.v1.Span`."""
    parent = span.parent_span_id
    pieces = [
        _pack_fixed_fields(
            _TRACE_ID,
            span.trace_id,
            _SPAN_ID,
            span.span_id,
            _START,
            span.start_unix_ns,
            _END,
            span.end_unix_ns,
            _FLAGS,
            # Whether a parent is remote is known either way: only a header can name one.
            span.trace_flags | (_FLAGS_ROOT if parent is None else _FLAGS_CHILD),
        ),
        _encode_name_and_kind(span.name, span.kind),
        _STATUS_ERROR if span.is_error else _STATUS_UNSET,
    ]
    if parent is not None:
        pieces.append(encode_field(_PARENT_SPAN_ID, parent))
    if span.trace_state:
        pieces.append(encode_field(_TRACE_STATE, span.trace_state.encode()))
    if span.dropped_attributes_count:
        pieces.append(_DROPPED_ATTRIBUTES + encode_varint(span.dropped_attributes_count))
    pieces += map(_encoded_span_attribute, span.attributes.items())
    if span.events is not None:
        pieces += [encode_field(_EVENTS, _encode_event(event)) for event in span.events]
    if span.dropped_events_count:
        pieces.append(_DROPPED_EVENTS + encode_varint(span.dropped_events_count))
    return b"".join(pieces)


def _encode_event(event: SpanEvent) -> bytes:
    """Return the content of an `opentelemetry.proto.trace.v1.Span.Event`."""
    pieces = [_pack_event_time(_EVENT_TIME, event.unix_ns), encode_field(_EVENT_NAME, event.name.encode())]
    pieces += [_encode_attribute(_EVENT_ATTRIBUTES, name, value) for name, value in event.attributes.items()]
    if event.dropped_attributes_count:
        pieces.append(_EVENT_DROPPED_ATTRIBUTES + encode_varint(event.dropped_attributes_count))
    return b"".join(pieces)


@lru_cache(maxsize=MAX_NAMES_REMEMBERED)
def _encode_name_and_kind(name: str, kind: SpanKind) -> bytes:
    return encode_field(_NAME, name.encode()) + _KIND + encode_varint(kind)


def encode_resource(resource: Resource) -> bytes:
    """Return a serialised `opentelemetry.proto.resource.v1.Resource`."""
    return b"".join(
        [_encode_attribute(_RESOURCE_ATTRIBUTES, name, value) for name, value in resource.attributes.items()]
    )


def _encode_attribute(tag: bytes, name: str, value: AttributeValue) -> bytes:
    """Return one `KeyValue` of a repeated field."""
    key = _remembered_key(name) if len(name) <= MAX_REMEMBERED_NAME_LENGTH else _encode_key(name)
    any_value = _encode_value(value)
    length = encode_varint(len(any_value))
    whole = encode_varint(len(key) + len(length) + len(any_value))
    return b"".join((tag, whole, key, length, any_value))


def _encode_key(name: str) -> bytes:
    """Return the name of an attribute and the tag of its value."""
    return encode_field(_KEY, name.encode()) + _VALUE


_remembered_key = lru_cache(maxsize=MAX_NAMES_REMEMBERED)(_encode_key)


def _encode_span_attribute(name: str, value: AttributeValue) -> bytes:
    return _encode_attribute(_SPAN_ATTRIBUTES, name, value)


_encoded_span_attribute = AttributeMemory(_encode_span_attribute).__getitem__


def _encode_value(value: AttributeValue) -> bytes:
    """Return the content of an `AnyValue`."""
    if isinstance(value, str):
        return encode_field(_STRING, value.encode())
    if isinstance(value, tuple):
        items = [encode_field(_ITEM, encode_field(_STRING, item.encode())) for item in value]
        return encode_field(_ARRAY, b"".join(items))
    # bool before int: in Python it is one.
    if isinstance(value, bool):
        return _BOOL + encode_varint(value)
    if isinstance(value, int):
        # int64: negative numbers are their two's complement.
        return _INT + encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    return encode_field(_BYTES, value)


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
