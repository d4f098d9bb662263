"""What each stage of the product takes for a conversation, from kernel records to OTLP bytes.

Owns the order of the calls, which is that of `agent/pipeline.py`: the records of a poll are decoded, then up
to EXCHANGES_AT_ONCE exchanges go from stage to stage. All imports from `otel_bridge` that varied traffic
needs are here.

Contract: times are processor time of the process, in nanoseconds.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from agent.pipeline import EXCHANGES_AT_ONCE
from ebpf.events import SocketEvent
from ebpf.layout import RecordDecoder
from otel_bridge.clock import ClockOffset
from otel_bridge.otlp.encoding import RequestEncoder, encode_span
from otel_bridge.redaction.redactor import Redactor
from otel_bridge.span import Resource
from otel_bridge.spans.builder import SpanCounters, build_span
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import CaptureIdGenerator
from parsers.exchange import Exchange
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.bench.records import CAPTURE_ID, CLOCK

RECORDS_PER_POLL = 512
"""About as many as an agent finds in the ring at 2,500 exchanges/s and four records each."""


@dataclass(slots=True)
class StageTimes:
    """Processor time of each stage, in nanoseconds."""

    decode: int = 0
    """Records to events."""
    parse: int = 0
    """Events to exchanges."""
    span: int = 0
    """Exchanges to spans, redaction included."""
    encode: int = 0
    """Spans to the bytes of OTLP requests."""

    @property
    def total(self) -> int:
        """From records to bytes."""
        return self.decode + self.parse + self.span + self.encode


RedactorCall = tuple[Callable[..., object], tuple[object, ...], dict[str, object]]


class Stages:
    """The stages of an agent with default settings: redaction on, bodies and headers captured."""

    def __init__(self) -> None:
        self._resource = Resource({"service.name": "shop"})
        self._clock = ClockOffset(CLOCK)
        self._ids = CaptureIdGenerator(lambda: CAPTURE_ID)
        self._options = SpanOptions()
        self._encoder = RequestEncoder()
        self._tracker = ConnectionTracker(ParserLimits())
        self._decoder = RecordDecoder()
        self.counters = SpanCounters()
        self.incomplete = 0
        """Exchanges that are not whole."""
        self.encoded_bytes = 0

    def run(self, records: Sequence[bytes]) -> StageTimes:
        """Take records through all stages."""
        times = StageTimes()
        now, decode, tracker = time.process_time_ns, self._decoder.decode, self._tracker
        for start in range(0, len(records), RECORDS_PER_POLL):
            began = now()
            events = [decode(record) for record in records[start : start + RECORDS_PER_POLL]]
            times.decode += now() - began
            coming = iter(events)
            is_last = False
            while not is_last:
                began = now()
                exchanges: list[Exchange] = []
                for event in coming:
                    assert isinstance(event, SocketEvent)
                    exchanges += tracker.feed(event)
                    if len(exchanges) >= EXCHANGES_AT_ONCE:
                        break
                else:
                    exchanges += tracker.advance(events[-1].ktime_ns)
                    is_last = True
                times.parse += now() - began
                self._export(exchanges, times)
        return times

    def _export(self, exchanges: list[Exchange], times: StageTimes) -> None:
        now = time.process_time_ns
        resource, clock, ids, options = self._resource, self._clock, self._ids, self._options
        counters = self.counters
        began = now()
        spans = [build_span(exchange, resource, clock, ids, options, counters) for exchange in exchanges]
        built = now()
        request = self._encoder.encode([(span.resource, encode_span(span)) for span in spans])
        times.encode += now() - built
        times.span += built - began
        self.incomplete += sum(exchange.incomplete is not None for exchange in exchanges)
        self.encoded_bytes += len(request)


@contextmanager
def noting_redaction(calls: list[RedactorCall]) -> Iterator[None]:
    """Note the calls of the redactor from outside, not those of its functions among each other."""
    functions = {
        name: function
        for name, function in vars(Redactor).items()
        if callable(function) and not name.startswith("_")
    }
    depth = 0

    def note(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def noted(*arguments: object, **named: object) -> object:
            nonlocal depth
            if not depth:
                calls.append((function, arguments, named))
            depth += 1
            try:
                return function(*arguments, **named)
            finally:
                depth -= 1

        return noted

    for name, function in functions.items():
        setattr(Redactor, name, note(function))
    try:
        yield
    finally:
        for name, function in functions.items():
            setattr(Redactor, name, function)


def time_redaction(calls: Sequence[RedactorCall]) -> int:
    """Return the processor time, in nanoseconds, of the noted calls made again."""
    began = time.process_time_ns()
    for function, arguments, named in calls:
        function(*arguments, **named)
    return time.process_time_ns() - began
