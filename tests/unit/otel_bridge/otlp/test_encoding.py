from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status as StatusMessage

from ebpf.events import Role
from otel_bridge.otlp.encoding import (
    OVERHEAD_PER_SPAN,
    RequestEncoder,
    encode_span,
)
from otel_bridge.span import Resource, Span, SpanEvent, SpanKind
from parsers.exchange import Incomplete
from tests.unit.otel_bridge.exchanges import RESOURCE, body, exchange, request, response, span, span_of
from tests.unit.otel_bridge.official_encoding import encoded, official

OTHER_RESOURCE = Resource({"service.name": "other", "process.pid": 7, "k8s.pod.label.a": ("x", "y")})


def test_the_request_equals_the_official_encoders() -> None:
    headers = [
        (b"Host", b"shop.example"),
        (b"X-Tag", b"a"),
        (b"X-Tag", "é".encode()),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (b"tracestate", b"a=1,b=2"),
    ]
    spans = [
        span_of(
            exchange(Role.SERVER, request(b"POST", headers=headers, content=body("ü".encode() * 20_000)))
        ),
        span_of(exchange(Role.CLIENT, request(), response(503, content=body(b"\x00\xff" * 3000, None)))),
        span(3, resource=OTHER_RESOURCE, filler=""),
        span(4, filler="é" * 5000),
    ]
    assert encoded(spans) == official(spans)


attribute_values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=300),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=4).map(
        tuple
    ),
)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        attribute_values,
        max_size=8,
    )
)
def test_attributes_of_every_type_equal_the_official_encoders(attributes: dict[str, Any]) -> None:
    one = span()
    one.attributes = attributes
    resource = Resource({"service.name": "x", **{f"r.{name}": value for name, value in attributes.items()}})
    one.resource = resource
    ours, theirs = encoded([one]), official([one])
    assert ours.resource_spans[0].scope_spans == theirs.resource_spans[0].scope_spans
    assert ours.resource_spans[0].resource.attributes[0].value.string_value == "x"
    assert len(ours.resource_spans[0].resource.attributes) == len(attributes) + 1


@given(
    st.lists(
        st.builds(
            SpanEvent,
            st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
            st.integers(0, 2**63),
            st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
                attribute_values,
                max_size=4,
            ),
        ),
        max_size=4,
    )
)
def test_events_equal_those_of_the_official_encoder(events: list[SpanEvent]) -> None:
    one = span()
    one.events = events or None
    assert encoded([one]) == official([one])


def test_dropped_events_and_their_dropped_attributes_are_reported() -> None:
    one = span()
    one.events = [SpanEvent("a", 1, {}, 3)]
    one.dropped_events_count = 5
    message = SpanMessage.FromString(encode_span(one))
    assert message.dropped_events_count == 5
    assert list(message.events) == [SpanMessage.Event(name="a", time_unix_nano=1, dropped_attributes_count=3)]


def test_spans_are_grouped_by_the_identity_of_their_resource() -> None:
    twin = Resource(dict(RESOURCE.attributes))
    request_ = encoded([span(1), span(2, resource=twin), span(3)])
    groups = [
        [message.span_id[-1] for message in group.scope_spans[0].spans] for group in request_.resource_spans
    ]
    assert groups == [[1, 3], [2]]


def test_a_kind_of_string_is_a_string() -> None:
    one = span()
    one.attributes = {"error.type": Incomplete.CLOSED}
    assert (
        encoded([one]).resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value == "closed"
    )


def test_dropped_attributes_are_reported() -> None:
    one = span()
    one.dropped_attributes_count = 9
    assert SpanMessage.FromString(encode_span(one)).dropped_attributes_count == 9


def test_more_resources_than_are_remembered_still_encode() -> None:
    encoder = RequestEncoder()
    names = [f"s{number}" for number in range(encoder.MAX_RESOURCES_REMEMBERED + 2)]
    for name in names:
        request_ = ExportTraceServiceRequest.FromString(
            encoder.encode([(Resource({"service.name": name}), encode_span(span()))])
        )
        assert request_.resource_spans[0].resource.attributes[0].value.string_value == name


def test_the_overhead_of_a_span_in_a_request_is_bounded() -> None:
    alone = RequestEncoder().encode([(RESOURCE, encode_span(span(1)))])
    large = encode_span(span(2, filler="x" * 3_000_000))
    both = RequestEncoder().encode([(RESOURCE, encode_span(span(1))), (RESOURCE, large)])
    # The lengths of the enclosing messages grow as well, which one span's allowance covers.
    assert len(both) - len(alone) - len(large) <= 2 * OVERHEAD_PER_SPAN


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=8, max_size=8),
    st.none() | st.binary(min_size=8, max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.integers(0, 2**63),
    st.integers(0, 255),
    st.booleans(),
    st.integers(0, 100_000),
)
def test_the_fields_of_a_span_equal_those_of_the_message_class(
    trace_id: bytes,
    span_id: bytes,
    parent: bytes | None,
    text: str,
    start: int,
    flags: int,
    is_error: bool,  # noqa: FBT001 - drawn by position like the others
    dropped: int,
) -> None:
    one = Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        trace_state=text,
        trace_flags=flags,
        name=text,
        kind=SpanKind.CLIENT,
        start_unix_ns=start,
        end_unix_ns=start + 7,
        is_error=is_error,
        resource=RESOURCE,
        dropped_attributes_count=dropped,
    )
    assert SpanMessage.FromString(encode_span(one)) == SpanMessage(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        trace_state=text,
        flags=flags | 0x100 | (0 if parent is None else 0x200),
        name=text,
        kind=SpanMessage.SPAN_KIND_CLIENT,
        start_time_unix_nano=start,
        end_time_unix_nano=start + 7,
        status=StatusMessage(code=2 if is_error else 0),
        dropped_attributes_count=dropped,
    )


def test_values_that_python_calls_equal_are_told_apart_in_any_order() -> None:
    values: list[Any] = [1, True, 0, False, "1", ("1",), b"1", True, 1, False, 0]
    fields = ("int", "bool", "int", "bool", "string", "array", "bytes", "bool", "int", "bool", "int")
    for value, field in zip(values, fields, strict=True):
        one = span()
        one.attributes = {"equal": value}
        message = SpanMessage.FromString(encode_span(one))
        assert message.attributes[0].value.WhichOneof("value") == f"{field}_value"
