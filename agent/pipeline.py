"""The one place where all stages meet: events in, spans out.

    source ──event──► process feed                  processes, selection, TLS libraries
             event──► tracker ──exchange──► export ──span──► sinks
             clock sample──► export                 monotonic time becomes Unix time

Owns the order in which the stages are called, and nothing of what they do. Contract: single-threaded.

Each stage works on many records before the next one does (`EXCHANGES_AT_ONCE`). One exchange at a time costs
a third more, because the stages push each other's code out of the processor's caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from agent.attribution import Attributor
from agent.endpoints import EndpointTable
from agent.export import Export
from agent.process import END_OF_TIME_NS
from agent.process_feed import ProcessFeed
from agent.processes import ProcessTable
from agent.selection import Selection
from agent.stop import StopRequest
from agent.tls.tls_processes import TlsProcesses
from agent.workloads.workload import Discovery
from ebpf.events import CaptureEvent, ClockSample, EventSource, SocketEvent
from otel_bridge.span import SpanSink
from otel_bridge.spans.builder import KINDS, Describe
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import IdGenerator
from parsers.exchange import Exchange
from parsers.tracker import ConnectionTracker

POLL_SECONDS = 0.1
"""Longest wait for events: how late a stop, an expiry and the liveness mark may be."""
EXCHANGES_AT_ONCE = 100
"""Exchanges that wait for the others of their poll before they are built. More gain nothing."""


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
        discovery: Discovery | None = None,
        tls_processes: TlsProcesses | None = None,
        ktime_now: Callable[[], int] | None = None,
        kinds: Mapping[type[Exchange], Describe] = KINDS,
    ) -> None:
        """Wire the stages.

        `endpoints` names the services of a source without processes. `ktime_now` is CLOCK_MONOTONIC in
        nanoseconds for a live source, whose time passes also when nothing happens; without it the time is
        that of the latest event.
        """
        self.source = source
        self.processes = processes
        self.tracker = tracker
        self.selection = selection
        self.sinks = sinks
        self.ticked_at = time.monotonic()
        """When the loop last came round, by time.monotonic()."""
        self.discovery = discovery
        self.tls_processes = tls_processes
        self._process_feed = ProcessFeed(processes, selection, tls_processes)
        self._export = Export(
            Attributor(processes, selection, self._now),
            ids,
            options,
            sinks,
            endpoints=endpoints,
            discovery=discovery,
            kinds=kinds,
        )
        self._ktime_now = ktime_now
        self._latest_ktime_ns = 0

    def run(self, stop: StopRequest) -> None:
        """Carry events to the sinks until a stop is requested or the source is exhausted.

        Then finish what is pending and hand it to the sinks, which are neither flushed nor closed.
        """
        source, tracker = self.source, self.tracker
        while not source.exhausted:
            stopping = stop.requested if self._ktime_now is None else stop.grace_is_over
            # Taken before the poll: what happened until then has been delivered after it.
            ktime_ns = self._ktime_now() if self._ktime_now else 0
            events = source.poll(0 if stopping else POLL_SECONDS)
            self._take(events)
            self._note_delivered(ktime_ns)
            self._export.take(tracker.advance(max(ktime_ns, self._latest_ktime_ns)))
            for cookie, connection_id in tracker.awaiting():
                self._take(source.inspect(cookie, connection_id))
            self._process_feed.advance()
            self._export.release()
            self._report_bug()
            self.ticked_at = time.monotonic()
            # The last poll has emptied the ring; a busy host would fill it for ever.
            if stopping:
                break
        if self._process_feed.awaits_delivery:
            self._take(source.poll(0))
            self._note_delivered(END_OF_TIME_NS)
        self._export.take(tracker.flush())
        self._export.finish()
        self._report_bug()

    def counters(self) -> dict[str, int]:
        """Return what became of the exchanges: `Export.counters`."""
        return self._export.counters()

    def _now(self) -> int:
        return self._latest_ktime_ns if self._ktime_now is None else self._ktime_now()

    def _note_delivered(self, ktime_ns: int) -> None:
        self._process_feed.note_delivered(ktime_ns)
        # Exchanges of a process come out in their order: those that waited go before those that follow.
        self._export.release()

    def _take(self, events: Sequence[CaptureEvent]) -> None:
        feed = self.tracker.feed
        process_feed = self._process_feed
        seen_tgids = process_feed.seen_tgids
        latest = self._latest_ktime_ns
        finished: list[Exchange] = []
        for event in events:
            if event.ktime_ns > latest:
                latest = event.ktime_ns
            if isinstance(event, SocketEvent):
                if event.origin.tgid not in seen_tgids:
                    process_feed.sight(event)
                if event.provisional and process_feed.refuses(event):
                    continue
                if exchanges := feed(event):
                    finished += exchanges
                    if len(finished) >= EXCHANGES_AT_ONCE:
                        self._export.take(finished)
                        finished = []
                continue
            # Any other event changes what is known of processes or time: earlier exchanges go first.
            self._export.take(finished)
            finished = []
            if isinstance(event, ClockSample):
                self._export.set_clock(event)
            else:
                process_feed.take(event)
        self._export.take(finished)
        self._latest_ktime_ns = latest

    def _report_bug(self) -> None:
        if bug := self.tracker.last_bug:
            self._export.report_bug(bug)
