"""How much a span holds."""

from __future__ import annotations

from otel_bridge.spans.builder import SpanCounters
from otel_bridge.spans.options import SpanOptions
from parsers.http_exchange import HttpRequest
from tests.unit.otel_bridge.exchanges import body, exchange, request, response, span_of


def test_what_exceeds_the_number_of_attributes_is_counted_and_headers_go_first() -> None:
    many = [(f"X-{number}".encode(), b"v") for number in range(200)]
    given = exchange(request_=request(headers=many, content=body(b"kept")))
    assert isinstance(given.request, HttpRequest)
    given.request.dropped_headers = 5
    counters = SpanCounters()
    span = span_of(given, counters=counters)
    assert len(span.attributes) == 128
    assert span.attributes["http.request.body.content"] == "kept"
    semantic = len(span_of(exchange(request_=request(headers=[], content=body(b"kept")))).attributes)
    assert span.dropped_attributes_count == semantic + 200 - 128 + 5
    assert counters.dropped_attributes == span.dropped_attributes_count


def test_values_are_cut_to_a_configured_length_after_redaction() -> None:
    headers = [(b"Authorization", b"Bearer s3cret"), (b"X-Long", b"0123456789")]
    given = exchange(request_=request(headers=headers), response_=response(content=body(b"\x00" * 20, None)))
    attributes = span_of(given, SpanOptions(max_value_length=9)).attributes
    assert attributes["http.request.header.x-long"] == ("012345678",)
    assert attributes["http.request.header.authorization"] == ("Bearer RE",)
    assert attributes["http.response.body.content"] == b"\x00" * 9
