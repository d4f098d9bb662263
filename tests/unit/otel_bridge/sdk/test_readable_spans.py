"""Spans as the SDK's exporters read them: the same, in every field, as over OTLP."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExportResult

from ebpf.events import Role
from otel_bridge.sdk.readable_spans import MAX_RESOURCES_REMEMBERED, ReadableSpanBuilder, ReceivedState
from otel_bridge.span import Resource, Span, SpanEvent, SpanKind
from otel_bridge.spans.trace_context import read_trace_context
from parsers.exchange import Incomplete
from tests.unit.otel_bridge.exchanges import body, exchange, request, response, span, span_of
from tests.unit.otel_bridge.official_encoding import encoded, official

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
values = st.one_of(
    text,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=60),
    st.lists(text, min_size=1, max_size=4).map(tuple),
)
attributes: st.SearchStrategy[dict[str, Any]] = st.dictionaries(names, values, max_size=6)
counts = st.integers(0, 2**32 - 1)
times = st.integers(0, 2**63 - 1)
states = st.sampled_from(
    ["", "a=1", "a=1,b=2", "1abc=x", "9=y,a@b@c=z", f"{'k' * 256}=v", "0/*-_@=" + "v" * 256, "t@vendor=1 2"]
)
events = st.builds(SpanEvent, text, times, attributes, counts)
spans = st.builds(
    Span,
    trace_id=st.integers(1, 2**128 - 1).map(lambda number: number.to_bytes(16, "big")),
    span_id=st.integers(1, 2**64 - 1).map(lambda number: number.to_bytes(8, "big")),
    parent_span_id=st.none() | st.integers(1, 2**64 - 1).map(lambda number: number.to_bytes(8, "big")),
    trace_state=states,
    trace_flags=st.integers(0, 255),
    name=text,
    kind=st.sampled_from(SpanKind),
    start_unix_ns=times,
    end_unix_ns=times,
    is_error=st.booleans(),
    resource=attributes.map(lambda drawn: Resource({"service.name": "x", **drawn})),
    attributes=attributes,
    dropped_attributes_count=counts,
    events=st.none() | st.lists(events, min_size=1, max_size=3),
    dropped_events_count=counts,
)


@given(spans)
def test_any_span_is_to_the_official_encoder_what_is_sent_over_otlp(one: Span) -> None:
    assert encoded([one]) == official([one])


@given(states)
def test_every_tracestate_that_is_read_is_kept(state: str) -> None:
    read = read_trace_context(
        {"traceparent": ["00-" + "1" * 32 + "-" + "2" * 16 + "-01"], "tracestate": [state]}
    )
    assert read.context is not None
    assert read.context.state == state
    assert ReceivedState(state).to_header() == state
    assert len(ReceivedState(state)) == len([member for member in state.split(",") if member])


def test_spans_of_exchanges_of_every_kind_equal_those_over_otlp() -> None:
    parent = [
        (b"Host", b"shop.example"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        (b"tracestate", b"7rojo=00f067,congo=t61"),
    ]
    cut = exchange(Role.CLIENT, request(), None)
    cut.incomplete = Incomplete.CLOSED
    made = [
        span_of(exchange(Role.SERVER, request(b"POST", headers=parent, content=body("ü".encode() * 20)))),
        span_of(exchange(Role.CLIENT, request(), response(503, content=body(b"\x00\xff" * 30, None)))),
        span_of(cut),
    ]
    assert encoded(made) == official(made)


@given(spans)
def test_without_bytes_any_span_can_be_written_as_json(one: Span) -> None:
    readable = ReadableSpanBuilder(takes_bytes=False).build(one)
    written = json.loads(json.dumps([dict(readable.attributes or {}), dict(readable.resource.attributes)]))
    for name, value in one.attributes.items():
        kept = written[0][name]
        if isinstance(value, bytes):
            assert b64decode(kept) == value
        else:
            assert kept == (list(value) if isinstance(value, tuple) else value)
    assert set(written[1]) == set(one.resource.attributes)


def test_the_console_of_the_sdk_can_write_a_body_that_is_no_text() -> None:
    one = span_of(exchange(Role.CLIENT, request(), response(503, content=body(b"\x00\xff", None))))
    one.events = [SpanEvent("websocket.message", 5, {"content": b"\xfe"})]
    out = io.StringIO()
    written = ConsoleSpanExporter(out=out).export([ReadableSpanBuilder(takes_bytes=False).build(one)])
    assert written is SpanExportResult.SUCCESS
    document = json.loads(out.getvalue())
    assert b64decode(document["attributes"]["http.response.body.content"]) == b"\x00\xff"
    assert b64decode(document["events"][0]["attributes"]["content"]) == b"\xfe"
    assert document["attributes"]["http.response.status_code"] == 503
    assert document["status"]["status_code"] == "ERROR"
    assert document["resource"]["attributes"]["service.name"] == "shop"
    assert document["context"]["span_id"] == f"0x{one.span_id.hex()}"


def test_spans_of_one_workload_share_a_resource_and_memory_of_them_is_bounded() -> None:
    builder = ReadableSpanBuilder(takes_bytes=True)
    first = builder.build(span(1)).resource
    assert builder.build(span(2)).resource is first
    for number in range(MAX_RESOURCES_REMEMBERED):
        builder.build(span(3, resource=Resource({"service.name": str(number)})))
    assert builder.build(span(4)).resource is not first


def test_nothing_can_be_added() -> None:
    readable = ReadableSpanBuilder(takes_bytes=True).build(span())
    assert readable.attributes is not None
    with pytest.raises(TypeError):
        readable.attributes["late"] = 1  # type: ignore[index]  # what is tried
