"""What the span of any exchange has, whatever its protocol is: shown by one that is not HTTP."""

from collections.abc import Mapping

import pytest

from ebpf.events import Origin, Role
from otel_bridge.span import AttributeValue, SpanKind
from otel_bridge.spans.addresses import network_attributes
from otel_bridge.spans.builder import SpanCounters, build_span
from otel_bridge.spans.description import SpanDescription
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.trace_context import ContextReading, TraceContext
from parsers.exchange import Incomplete
from tests.ask.connection import AskExchange
from tests.unit.otel_bridge.exchanges import CLIENT_SOCKET, CLOCK, RESOURCE, PlainIds

FULL = SpanDescription(
    "ASK time",
    {},
    ({"ask.body": "a long one"}, {"ask.header": "x"}),
    is_error=True,
    ending={"ask.ending": "given up"},
    surroundings={"ask.tunnel": "proxy"},
    anomalies=("odd",),
    redacted=2,
    dropped=3,
)


def ask(**changes: object) -> AskExchange:
    given = {"incomplete": Incomplete.LOST_BYTES, "anomalies": ("strange",), **changes}
    return AskExchange(
        1, 2, CLIENT_SOCKET, Role.CLIENT, Origin(1_000, 42, 43), b"time", b"noon", 1_000, 5_000, **given
    )  # type: ignore[arg-type]  # what it takes


def build(
    description: SpanDescription, exchange: AskExchange | None = None, **options: object
) -> tuple[dict[str, object], SpanCounters]:
    counters = SpanCounters()
    span = build_span(
        exchange or ask(),
        RESOURCE,
        CLOCK,
        PlainIds(),
        SpanOptions(**options),  # type: ignore[arg-type]  # checked there
        counters,
        peer={"wirespan.peer.name": "clock"},
        kinds={AskExchange: lambda *given: description._replace(attributes=among(given[-1]))},
    )
    assert (span.name, span.kind, span.resource) == (description.name, SpanKind.CLIENT, RESOURCE)
    assert span.end_unix_ns - span.start_unix_ns == 4_000
    assert span.start_unix_ns == CLOCK.unix_ns(1_000)
    return dict(span.attributes), counters


def among(shared: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {"ask.question": "time", **shared, "network.protocol.name": "ask"}


def test_what_all_spans_share_stands_among_what_the_protocol_says_in_order_of_worth() -> None:
    attributes, counters = build(FULL)
    assert list(attributes) == [
        "ask.question",
        *network_attributes(CLIENT_SOCKET),
        "wirespan.peer.name",
        "network.protocol.name",
        "wirespan.incomplete",
        "ask.ending",
        "ask.tunnel",
        "wirespan.anomalies",
        "wirespan.redacted",
        "ask.body",
        "ask.header",
    ]
    assert attributes["wirespan.incomplete"] == "lost_bytes"
    assert attributes["wirespan.anomalies"] == ("strange", "odd")
    assert (counters.built, counters.redacted_values, counters.dropped_attributes) == (1, 2, 3)


def test_a_limit_cuts_the_last_attributes_first_and_counts_them() -> None:
    everything, _ = build(FULL)
    attributes, counters = build(FULL, max_attributes=len(everything) - 1, max_value_length=3)
    assert "ask.header" not in attributes
    assert attributes["ask.body"] == "a l"
    assert counters.dropped_attributes == 4


def test_a_protocol_that_carries_no_trace_begins_one_and_one_that_does_goes_on_with_it() -> None:
    plain = SpanDescription("ASK", {})
    context = TraceContext(b"t" * 16, b"s" * 8, 0, "vendor=1")
    for description, parent, state in (
        (plain, None, ""),
        (SpanDescription("ASK", {}, trace=ContextReading(context, 1)), b"s" * 8, "vendor=1"),
    ):
        counters = SpanCounters()
        span = build_span(
            ask(),
            RESOURCE,
            CLOCK,
            PlainIds(),
            SpanOptions(),
            counters,
            kinds={AskExchange: lambda *_, it=description: it},
        )
        assert (span.parent_span_id, span.trace_state) == (parent, state)
        assert counters.malformed_trace_context == (0 if parent is None else 1)
        assert not span.is_error


def test_an_exchange_of_a_kind_without_a_row_is_a_bug() -> None:
    with pytest.raises(KeyError):
        build_span(ask(), RESOURCE, CLOCK, PlainIds(), SpanOptions())
