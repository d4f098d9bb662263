"""What a span says of an ASK exchange, and the rows by which each stage knows the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ebpf.protocols import JudgedProtocol
from otel_bridge.clock import ClockOffset
from otel_bridge.span import AttributeValue, SpanKind
from otel_bridge.spans.builder import KINDS
from otel_bridge.spans.description import SpanDescription
from otel_bridge.spans.options import SpanOptions
from parsers.protocols import PROTOCOLS, ProtocolRow
from tests.ask.connection import AskConnection, AskExchange

NUMBER = 9


def describe_ask(
    exchange: AskExchange,
    kind: SpanKind,
    clock: ClockOffset,
    options: SpanOptions,
    shared: Mapping[str, AttributeValue],
) -> SpanDescription:
    attributes: dict[str, AttributeValue] = {"ask.question": exchange.question.decode(errors="replace")}
    if exchange.answer is not None:
        attributes["ask.answer"] = exchange.answer.decode(errors="replace")
    return SpanDescription("ASK", {**attributes, **shared, "network.protocol.name": "ask"})


JUDGED = (JudgedProtocol("ask", NUMBER, Path(__file__).with_name("infer_ask.h")),)
READ = (*PROTOCOLS, ProtocolRow("ask", NUMBER, AskConnection, AskExchange))
DESCRIBED = {**KINDS, AskExchange: describe_ask}
