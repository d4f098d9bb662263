"""An exchange becomes a span.

Owns what all spans share: ids, times, resource, the socket and its peer, what is not whole or odd, limits,
counts. What one protocol says of its exchanges is in a module for each (`http`), and the table `KINDS` says
which. It must not read clocks, make ids, or know how spans travel.

Contract: pure. Everything in a span is redacted. Attributes come in order of worth (what the conventions
name, then bodies, then headers), so that a bound cuts the least of them, and what it cut is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ebpf.events import Role
from otel_bridge.clock import ClockOffset
from otel_bridge.span import AttributeValue, Resource, Span, SpanKind
from otel_bridge.spans.addresses import network_attributes
from otel_bridge.spans.description import SpanDescription
from otel_bridge.spans.http import describe_http
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import IdGenerator
from otel_bridge.spans.trace_context import SAMPLED
from parsers.exchange import Exchange
from parsers.http_exchange import HttpExchange

Describe: TypeAlias = Callable[
    [Any, SpanKind, ClockOffset, SpanOptions, Mapping[str, AttributeValue]], SpanDescription
]
"""Takes an exchange of its kind, and the shared attributes that stand among its own; returns what is
particular to its span."""

# PROTOCOL: a row for its kind of exchange.
KINDS: Mapping[type[Exchange], Describe] = {HttpExchange: describe_http}
"""What describes an exchange, by its kind."""

_NOTHING: Mapping[str, str] = {}


@dataclass(slots=True)
class SpanCounters:
    """What happened while spans were built, over all of them; the caller owns it."""

    built: int = 0
    redacted_values: int = 0
    malformed_trace_context: int = 0
    dropped_attributes: int = 0


def build_span(
    exchange: Exchange,
    resource: Resource,
    clock: ClockOffset,
    ids: IdGenerator,
    options: SpanOptions,
    counters: SpanCounters | None = None,
    *,
    peer: Mapping[str, str] = _NOTHING,
    kinds: Mapping[type[Exchange], Describe] = KINDS,
) -> Span:
    """Return the span of an exchange.

    `counters`, when given, take part in what happened on the way. `peer` are attributes below
    `wirespan.peer.`: what the other end is known to be. Raises KeyError for an exchange of another kind than
    `kinds` has.
    """
    socket = exchange.socket
    kind = SpanKind.SERVER if exchange.role is Role.SERVER else SpanKind.CLIENT
    shared = network_attributes(socket)
    if peer:
        shared = {**shared, **peer}
    description = kinds[type(exchange)](exchange, kind, clock, options, shared)
    attributes = description.attributes
    if exchange.incomplete is not None:
        attributes["wirespan.incomplete"] = exchange.incomplete.value
    if description.ending:
        attributes.update(description.ending)
    if socket.tls is not None:
        attributes["wirespan.tls"] = socket.tls
    if description.surroundings:
        attributes.update(description.surroundings)
    anomalies = exchange.anomalies + description.anomalies
    if anomalies:
        attributes["wirespan.anomalies"] = anomalies
    redacted = description.redacted
    if redacted:
        attributes["wirespan.redacted"] = redacted
    for contents in description.contents:
        attributes.update(contents)
    dropped = _limit(attributes, options) + description.dropped
    trace = description.trace
    context = trace.context
    if counters is not None:
        counters.built += 1
        counters.redacted_values += redacted
        counters.malformed_trace_context += trace.malformed
        counters.dropped_attributes += dropped
    trace_id, span_id = ids.generate(exchange.connection_id, exchange.ordinal)
    # By position: names of arguments cost as much again as the record.
    return Span(
        trace_id if context is None else context.trace_id,
        span_id,
        None if context is None else context.span_id,
        "" if context is None else context.state,
        SAMPLED if context is None else context.flags,
        description.name,
        kind,
        clock.unix_ns(exchange.start_ktime_ns),
        clock.unix_ns(exchange.end_ktime_ns),
        description.is_error,
        resource,
        attributes,
        dropped,
        description.events,
        description.dropped_events,
    )


def _limit(attributes: dict[str, AttributeValue], options: SpanOptions) -> int:
    """Cut the attributes to their number and values to their length; return how many were dropped."""
    dropped = len(attributes) - options.max_attributes
    if dropped > 0:
        for name in list(attributes)[options.max_attributes :]:
            del attributes[name]
    longest = options.max_value_length
    if longest is not None:
        for name, value in attributes.items():
            if isinstance(value, str | bytes):
                attributes[name] = value[:longest]
            elif isinstance(value, tuple):
                attributes[name] = tuple([item[:longest] for item in value])
    return max(dropped, 0)
