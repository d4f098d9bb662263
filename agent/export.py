"""From exchanges to the sinks: whose each one is, whether it should be captured, and its span.

    exchange ──► process at its time ──► still unknown? waits
                                    └──► selected? ──► span of its resource ──► every sink

Owns that order, and nothing of what it calls does. Contract: single-threaded; a bug in one exchange costs
that exchange, is counted and said once.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from agent.endpoints import EndpointTable
from agent.processes import Process, ProcessTable
from agent.selection import Selection
from agent.waiting import WaitingExchanges
from agent.workloads.workload import Discovery
from ebpf.events import ClockSample
from otel_bridge.clock import ClockOffset
from otel_bridge.span import Resource, Span, SpanSink
from otel_bridge.spans.http import SpanCounters, SpanOptions, build_span
from otel_bridge.spans.trace_context import IdGenerator
from parsers.exchange import HttpExchange

T = TypeVar("T")

_NO_PEER: Mapping[str, str] = {}

log = logging.getLogger(__name__)


class Export:
    """The way of exchanges to the sinks."""

    def __init__(
        self,
        processes: ProcessTable,
        ids: IdGenerator,
        options: SpanOptions,
        sinks: Sequence[SpanSink],
        *,
        endpoints: EndpointTable | None = None,
        selection: Selection | None = None,
        discovery: Discovery | None = None,
        ktime_now: Callable[[], int] = lambda: 0,
    ) -> None:
        """Wire it. `endpoints` names the services of a source that knows no processes."""
        self._processes = processes
        self._ids = ids
        self._options = options
        self._options_without_bodies = dataclasses.replace(options, capture_bodies=False)
        self._sinks = sinks
        self._endpoints = endpoints
        self._selection = selection if selection is not None and selection.selects else None
        self._discovery = discovery
        self._ktime_now = ktime_now
        self._clock: ClockOffset | None = None
        self._waiting = WaitingExchanges()
        self._built = SpanCounters()
        self._failures = 0
        self._refused = 0
        self._reported_bug: str | None = None

    def set_clock(self, sample: ClockSample) -> None:
        """Take a reading of both clocks; the first one has to come before any exchange."""
        if self._clock is None:
            self._clock = ClockOffset(sample)
        else:
            self._clock.update(sample)

    def take(self, exchanges: Iterable[HttpExchange]) -> None:
        """Hand exchanges on; those whose process is not known well enough wait."""
        spans: list[Span] = []
        endpoints = self._endpoints
        now = self._ktime_now()
        # Neighbours are mostly of one process, so it is looked up when it may be another.
        process: Process | None = None
        is_ready = False
        for exchange in exchanges:
            if endpoints is not None:
                self._build(spans, exchange, endpoints.resource, exchange.socket, self._options)
                continue
            message = exchange.request or exchange.response
            assert message is not None, "an exchange has a request or a response"
            if process is None or not process.is_now(exchange.tgid, message.start_ktime_ns):
                process = self._processes.find(exchange.tgid, message.start_ktime_ns)
                is_ready = self._is_ready(process, now)
            if is_ready:
                self._pass(spans, exchange, process)
                continue
            for pushed_out, its_process in self._waiting.add(exchange, process):
                self._pass(spans, pushed_out, its_process)
        self._submit(spans)

    def release(self) -> None:
        """Hand on what has waited long enough: call it when time has passed or discovery has learnt."""
        if not self._waiting:
            return
        now = self._ktime_now()
        self._pass_all(self._waiting.take(lambda process: self._is_ready(process, now)))

    def finish(self) -> None:
        """Hand on everything that waits, with what is known of it."""
        self._pass_all(self._waiting.take(lambda process: True))  # noqa: ARG005 (whoever it is)

    def report_bug(self, bug: str, exc_info: BaseException | None = None) -> None:
        """Say the first bug of a run."""
        if self._reported_bug is None:
            self._reported_bug = bug
            log.error("a bug cost one exchange; the run goes on, further ones are counted only: %s", bug)
            log.debug("where it happened", exc_info=exc_info)

    def counters(self) -> dict[str, int]:
        """Return what became of the exchanges, and what was replaced or left out while spans were built.

        Every exchange becomes a span (`spans`), handed to every sink, is lost to a bug (`span_failures`), is
        none that should be captured (`refused`), or waits (`waiting`).
        """
        return {
            "spans": self._built.built,
            "span_failures": self._failures,
            "refused": self._refused,
            "redacted_values": self._built.redacted_values,
            "malformed_trace_contexts": self._built.malformed_trace_context,
            "dropped_attributes": self._built.dropped_attributes,
            **self._waiting.counters(),
        }

    def _is_ready(self, process: Process, now: int) -> bool:
        is_complete = self._processes.complete(process, now)
        selection = self._selection
        if selection is None:
            return is_complete
        if process.decision is None:
            selection.decide(process)
        return is_complete and not selection.is_pending(process)

    def _pass_all(self, exchanges: Iterable[tuple[HttpExchange, Process]]) -> None:
        spans: list[Span] = []
        for exchange, process in exchanges:
            self._pass(spans, exchange, process)
        self._submit(spans)

    def _pass(self, spans: list[Span], exchange: HttpExchange, process: Process) -> None:
        options = self._options
        if self._selection is not None:
            if process.decision is None:
                self._selection.decide(process)
            if not self._selection.accepts(process, exchange):
                self._refused += 1
                return
            if process.decision is not None and not process.decision.bodies:
                options = self._options_without_bodies
        self._build(spans, exchange, self._processes.resource, process, options)

    def _build(
        self,
        spans: list[Span],
        exchange: HttpExchange,
        resource_of: Callable[[T], Resource],
        whose: T,
        options: SpanOptions,
    ) -> None:
        assert self._clock is not None, "the first event of any source is a reading of both clocks"
        peer = _NO_PEER
        if self._discovery is not None and exchange.socket.remote_address is not None:
            peer = self._discovery.peer(exchange.socket.remote_address)
        try:
            resource = resource_of(whose)
            spans.append(
                build_span(exchange, resource, self._clock, self._ids, options, self._built, peer=peer)
            )
        except Exception as bug:  # noqa: BLE001 (whatever it is, it must cost one exchange and not the run)
            self._failures += 1
            self.report_bug(f"{type(bug).__name__} while building a span: {bug}", exc_info=bug)

    def _submit(self, spans: Sequence[Span]) -> None:
        for sink in self._sinks:
            for span in spans:
                sink.submit(span)
