"""Spans as the OpenTelemetry SDK's `ReadableSpan`, which is what its exporters take.

Owns the mapping. It must not queue or export.

Contract: a `ReadableSpan` says the same as the OTLP span of the same exchange, what was dropped included.
Nothing can be added to it. Only OTLP has bytes: other protocols are given them in base64 (specification,
"AnyValue representation for non-OTLP protocols"), because their exporters fail for any other type than text,
numbers and lists.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace import SpanKind as SdkSpanKind

from otel_bridge.scope import SCOPE_NAME, scope_version
from otel_bridge.span import AttributeValue, Resource, Span, SpanEvent, SpanKind

MAX_RESOURCES_REMEMBERED = 1024
"""Workloads of one node; more at once start the memory afresh."""

_KINDS = {SpanKind.SERVER: SdkSpanKind.SERVER, SpanKind.CLIENT: SdkSpanKind.CLIENT}


class ReceivedState(TraceState):
    """A tracestate that was read by the rules of W3C Trace Context level 2.

    `TraceState` itself refuses keys that level 2 added, and would drop such members.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        for member in text.split(",") if text else ():
            key, _, value = member.partition("=")
            self._dict[key] = value


class ReadableSpanBuilder:
    """Builds `ReadableSpan`s. One thread owns it: the resources last used are remembered.

    Unless the exporter `takes_bytes`, values that are bytes, such as binary bodies, become text in base64.
    """

    __slots__ = ("_resources", "_scope", "_takes_bytes")

    def __init__(self, *, takes_bytes: bool) -> None:
        self._takes_bytes = takes_bytes
        self._resources: dict[Resource, SdkResource] = {}
        self._scope = InstrumentationScope(SCOPE_NAME, scope_version())

    def build(self, span: Span) -> ReadableSpan:
        """Return the span as exporters read it."""
        trace_id = int.from_bytes(span.trace_id, "big")
        flags = TraceFlags(span.trace_flags)
        state = ReceivedState(span.trace_state)
        parent = None
        if span.parent_span_id is not None:
            # Only a header can name a parent, so it always is in another process.
            parent_id = int.from_bytes(span.parent_span_id, "big")
            parent = SpanContext(trace_id, parent_id, is_remote=True, trace_flags=flags, trace_state=state)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(
                trace_id,
                int.from_bytes(span.span_id, "big"),
                is_remote=False,
                trace_flags=flags,
                trace_state=state,
            ),
            parent=parent,
            resource=self._resource(span.resource),
            attributes=self._bounded(span.attributes, span.dropped_attributes_count),
            events=self._bounded_events(span.events or (), span.dropped_events_count),
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
            start_time=span.start_unix_ns,
            end_time=span.end_unix_ns,
            instrumentation_scope=self._scope,
        )

    def _resource(self, resource: Resource) -> SdkResource:
        known = self._resources.get(resource)
        if known is None:
            if len(self._resources) >= MAX_RESOURCES_REMEMBERED:
                self._resources.clear()
            known = self._resources[resource] = SdkResource(self._values(resource.attributes))
        return known

    def _bounded(self, attributes: Mapping[str, AttributeValue], dropped: int) -> BoundedAttributes:
        """Return attributes; `dropped` is how many the span's own limits left out."""
        bounded = BoundedAttributes(attributes=self._values(attributes))
        bounded.dropped += dropped
        return bounded

    def _bounded_events(self, events: Iterable[SpanEvent], dropped: int) -> BoundedList[Event]:
        bounded = BoundedList.from_seq(
            None,
            [
                Event(each.name, self._bounded(each.attributes, each.dropped_attributes_count), each.unix_ns)
                for each in events
            ],
        )
        bounded.dropped += dropped
        return bounded

    def _values(self, attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
        if self._takes_bytes:
            return attributes
        return {name: _as_text(value) for name, value in attributes.items()}


def _as_text(value: AttributeValue) -> AttributeValue:
    return b64encode(value).decode("ascii") if isinstance(value, bytes) else value
