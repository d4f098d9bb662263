"""The record this stage emits: one finished span, and its receiver.

Contract: a `Span` is final and already redacted; it may be written anywhere. Times are Unix
nanoseconds; attribute names and types are those of the semantic conventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, TypeAlias

AttributeValue: TypeAlias = str | bool | int | bytes | tuple[str, ...]
"""Spans share values, so none can change; bytes become `bytes_value` in OTLP, a tuple `array_value`."""


class SpanKind(IntEnum):
    """The values are those of opentelemetry.proto.trace.v1.Span.SpanKind."""

    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """The workload a span belongs to; its spans share one object, since identity is what groups them."""

    attributes: Mapping[str, AttributeValue]

    @property
    def service_name(self) -> str:
        """`service.name`, always present."""
        return str(self.attributes["service.name"])


@dataclass(slots=True)
class SpanEvent:
    """Something that happened at one moment of a span, such as a WebSocket message."""

    name: str
    unix_ns: int
    attributes: dict[str, AttributeValue]
    dropped_attributes_count: int = 0


@dataclass(slots=True)
class Span:
    """One exchange as an OpenTelemetry span."""

    trace_id: bytes
    """16 bytes, not all zero."""
    span_id: bytes
    """8 bytes, not all zero."""
    parent_span_id: bytes | None
    trace_state: str
    """W3C tracestate list as received, or empty."""
    trace_flags: int
    """W3C trace-flags, 8 bits."""
    name: str
    kind: SpanKind
    start_unix_ns: int
    end_unix_ns: int
    is_error: bool
    resource: Resource
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    dropped_attributes_count: int = 0
    events: list[SpanEvent] | None = None
    """In order of time; None instead of an empty list, which nearly every span would carry."""
    dropped_events_count: int = 0


class SpanSink(Protocol):
    """Where finished spans go: an OTLP backend, a file, the console."""

    name: str
    """What metrics call it: `otlp`, `file`, `console`."""

    def submit(self, span: Span) -> None:
        """Take a span. Never blocks on a network and never raises for a full queue: it drops and counts."""

    def flush(self, timeout_seconds: float) -> bool:
        """Deliver what was submitted so far; return whether all of it went out in time."""

    def counters(self) -> dict[str, int]:
        """Return what became of the spans: `submitted`, `exported`, `queued` and each cause of a drop."""

    def close(self, timeout_seconds: float) -> None:
        """Flush within the time, then release. Idempotent."""
