"""Spans encoded by this project and by the official encoder, which takes the SDK's spans."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_bridge.otlp.encoding import RequestEncoder, encode_span
from otel_bridge.sdk.readable_spans import ReadableSpanBuilder
from otel_bridge.span import Span


def official(spans: list[Span]) -> ExportTraceServiceRequest:
    """Return what the official exporter sends for the same spans."""
    builder = ReadableSpanBuilder(takes_bytes=True)
    request = encode_spans([builder.build(one) for one in spans])
    resources = list(dict.fromkeys(one.resource for one in spans))
    flags = [one.trace_flags for one in sorted(spans, key=lambda one: resources.index(one.resource))]
    for resource_spans in request.resource_spans:
        for message in resource_spans.scope_spans[0].spans:
            # The official encoder leaves out what the protocol has bits 0-7 for.
            message.flags |= flags.pop(0)
    return request


def encoded(spans: list[Span]) -> ExportTraceServiceRequest:
    """Return what this project sends."""
    return ExportTraceServiceRequest.FromString(
        RequestEncoder().encode((one.resource, encode_span(one)) for one in spans)
    )
