"""The one place where all stages meet: events in, spans out.

    source ──event──► processes, selection          who is it, and is it captured?
             event──► tracker ──exchange──► build_span ──span──► sinks
             clock sample──► clock                   monotonic time becomes Unix time

Owns the order in which the stages are called, and nothing of what they do. Contract: single-threaded; a bug
in one exchange costs that exchange, is counted and said once.

Each stage works on many records before the next one does (`EXCHANGES_AT_ONCE`): taken one exchange at a time,
the stages push each other's code out of the processor's caches, which costs a third more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from agent.endpoints import EndpointTable
from agent.processes import ProcessTable
from agent.selection import Selection
from agent.stop import StopRequest
from ebpf.events import (
    CaptureEvent,
    ClockSample,
    EventSource,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    SocketEvent,
)
from otel_bridge.clock import ClockOffset
from otel_bridge.span import SpanSink
from otel_bridge.spans import SpanCounters, SpanOptions, build_span
from otel_bridge.trace_context import IdGenerator
from parsers.exchange import HttpExchange
from parsers.tracker import ConnectionTracker

POLL_SECONDS = 0.1
"""Longest wait for events: how late a stop, an expiry and the liveness mark may be."""
EXCHANGES_AT_ONCE = 100
"""Exchanges that wait for the others of their poll before they are built. More gain nothing."""
MAX_LAST_POLLS = 100
"""Polls after a stop was asked for: what the ring holds is drained; a busy host can't hold up the end."""

log = logging.getLogger(__name__)


class Pipeline:
    """All stages of one run, wired."""

    def __init__(
        self,
        source: EventSource,
        processes: ProcessTable,
        tracker: ConnectionTracker,
        ids: IdGenerator,
        options: SpanOptions,
        sinks: Sequence[SpanSink],
        *,
        endpoints: EndpointTable | None = None,
        selection: Selection | None = None,
        ktime_now: Callable[[], int] | None = None,
    ) -> None:
        """Wire the stages.

        `endpoints` names the services of a source that knows no processes. `ktime_now` is CLOCK_MONOTONIC in
        nanoseconds for a live source, whose time passes also when nothing happens; without it time is that of
        the events.
        """
        self.source = source
        self.processes = processes
        self.tracker = tracker
        self.selection = selection
        self.sinks = sinks
        self.ticked_at = time.monotonic()
        """When the loop last came round, by time.monotonic()."""
        self._endpoints = endpoints
        self._ids = ids
        self._options = options
        self._ktime_now = ktime_now
        self._clock: ClockOffset | None = None
        self._latest_ktime_ns = 0
        self._built = SpanCounters()
        self._failures = 0
        self._reported_bug: str | None = None

    def run(self, stop: StopRequest) -> None:
        """Carry events to the sinks until a stop is requested or the source is exhausted.

        Then finish what is pending and hand it to the sinks, which are neither flushed nor closed.
        """
        source, tracker = self.source, self.tracker
        last_polls = 0
        while not source.exhausted and last_polls < MAX_LAST_POLLS:
            stopping = stop.requested if self._ktime_now is None else stop.settled
            # Taken before the poll: what happened until then has been delivered after it.
            ktime_ns = self._ktime_now() if self._ktime_now else 0
            events = source.poll(0 if stopping else POLL_SECONDS)
            self._take(events)
            self._export(tracker.advance(max(ktime_ns, self._latest_ktime_ns)))
            for cookie, connection_id in tracker.awaiting():
                self._take(source.inspect(cookie, connection_id))
            self._report_bug()
            self.ticked_at = time.monotonic()
            if stopping:
                if not events:
                    break
                last_polls += 1
        self._export(tracker.flush())
        self._report_bug()

    def counters(self) -> dict[str, int]:
        """Return what became of the exchanges, and what was replaced or left out while spans were built.

        Every exchange becomes a span (`spans`), handed to every sink, or is lost to a bug (`span_failures`).
        """
        return {
            "spans": self._built.built,
            "span_failures": self._failures,
            "redacted_values": self._built.redacted_values,
            "malformed_trace_contexts": self._built.malformed_trace_context,
            "dropped_attributes": self._built.dropped_attributes,
        }

    def _take(self, events: Sequence[CaptureEvent]) -> None:
        feed = self.tracker.feed
        processes = self.processes
        selection = self.selection
        latest = self._latest_ktime_ns
        finished: list[HttpExchange] = []
        for event in events:
            if event.ktime_ns > latest:
                latest = event.ktime_ns
            if isinstance(event, SocketEvent):
                tgid = event.tgid
                if tgid and tgid not in processes:
                    facts = processes.observe(tgid, event.ktime_ns)
                    if selection and event.provisional:
                        selection.judge(facts)
                if event.provisional and selection and selection.refuses(event):
                    continue
                if exchanges := feed(event):
                    finished += exchanges
                    if len(finished) >= EXCHANGES_AT_ONCE:
                        self._export(finished)
                        finished = []
                continue
            # What follows changes what is known of processes and time: earlier exchanges go first.
            self._export(finished)
            finished = []
            if isinstance(event, ClockSample):
                self._set_clock(event)
            elif isinstance(event, ProcessExecuted):
                facts = processes.execute(event)
                if selection:
                    selection.judge(facts)
            elif isinstance(event, ProcessExited):
                processes.exit(event)
            elif isinstance(event, ProcessFacts):
                processes.learn(event)
        self._export(finished)
        self._latest_ktime_ns = latest

    def _set_clock(self, sample: ClockSample) -> None:
        if self._clock is None:
            self._clock = ClockOffset(sample)
        else:
            self._clock.update(sample)

    def _export(self, exchanges: Sequence[HttpExchange]) -> None:
        clock = self._clock
        if clock is None or not exchanges:
            return
        spans = []
        for exchange in exchanges:
            message = exchange.request or exchange.response
            assert message is not None, "an exchange has a request or a response"
            try:
                resource = (
                    self.processes.resource(exchange.tgid, message.start_ktime_ns)
                    if self._endpoints is None
                    else self._endpoints.resource(exchange.socket)
                )
                spans.append(build_span(exchange, resource, clock, self._ids, self._options, self._built))
            except Exception as bug:  # noqa: BLE001 (whatever it is, it must cost one exchange and not the run)
                self._failures += 1
                self._report(f"{type(bug).__name__} while building a span: {bug}", exc_info=bug)
        for sink in self.sinks:
            for span in spans:
                sink.submit(span)

    def _report_bug(self) -> None:
        if bug := self.tracker.last_bug:
            self._report(bug)

    def _report(self, bug: str, exc_info: BaseException | None = None) -> None:
        if self._reported_bug is None:
            self._reported_bug = bug
            log.error("a bug cost one exchange; the run goes on, further ones are counted only: %s", bug)
            log.debug("where it happened", exc_info=exc_info)
