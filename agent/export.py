"""From exchanges to the sinks: the attribution of each, and its span if it is accepted.

    exchange ──► attribution ──► pending: waits
                            └──► accepted, also in its role and at its port? ──► span ──► every sink

Owns that order and the counts. It must not know processes or decisions but by their `Attribution`. Contract:
single-threaded; a bug in one exchange costs that exchange, is counted and logged once.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

from agent.attribution import Attribution, Attributor
from agent.decisions import CaptureState
from agent.endpoints import EndpointTable
from agent.waiting import WaitingExchanges
from agent.workloads.workload import Discovery
from ebpf.events import ClockSample
from otel_bridge.clock import ClockOffset
from otel_bridge.span import Resource, Span, SpanSink
from otel_bridge.spans.builder import KINDS, Describe, SpanCounters, build_span
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import IdGenerator
from parsers.exchange import Exchange

_NO_PEER: Mapping[str, str] = {}

log = logging.getLogger(__name__)


class Export:
    """The way of exchanges to the sinks."""

    def __init__(
        self,
        attributor: Attributor,
        ids: IdGenerator,
        options: SpanOptions,
        sinks: Sequence[SpanSink],
        *,
        endpoints: EndpointTable | None = None,
        discovery: Discovery | None = None,
        kinds: Mapping[type[Exchange], Describe] = KINDS,
    ) -> None:
        """Wire it.

        With `endpoints`, for a source without processes, services go by their address. `kinds` are the
        exchanges that become spans, and how.
        """
        self._attributor = attributor
        self._ids = ids
        self._options = options
        self._options_without_bodies = dataclasses.replace(options, capture_bodies=False)
        self._sinks = sinks
        self._endpoints = endpoints
        self._discovery = discovery
        self._kinds = kinds
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

    def take(self, exchanges: Iterable[Exchange]) -> None:
        """Hand exchanges on; those whose attribution is pending wait."""
        spans: list[Span] = []
        endpoints = self._endpoints
        # Neighbours are mostly of one process, so an attribution serves until it may be another.
        attribution: Attribution | None = None
        for exchange in exchanges:
            if endpoints is not None:
                self._pass_of_endpoint(spans, exchange, endpoints)
                continue
            start_ktime_ns, tgid = exchange.start_ktime_ns, exchange.origin.tgid
            if (
                attribution is None
                or tgid != attribution.tgid
                or start_ktime_ns < attribution.holds_from_ktime_ns
            ):
                attribution = self._attributor.attribute(tgid, start_ktime_ns)
            if attribution.state is not CaptureState.PENDING:
                self._pass(spans, exchange, attribution)
                continue
            for pushed_out, its_attribution in self._waiting.add(exchange, attribution):
                self._pass(spans, pushed_out, self._attributor.conclude(its_attribution))
        self._submit(spans)

    def release(self) -> None:
        """Hand on what is no longer pending: call it when time has passed or discovery has learnt."""
        if self._waiting:
            self._pass_all(self._waiting.take(self._attributor.renew))

    def finish(self) -> None:
        """Hand on everything that waits, with what is known of it."""
        self._pass_all(self._waiting.take(self._attributor.conclude))

    def report_bug(self, bug: str, exc_info: BaseException | None = None) -> None:
        """Log the first bug of a run."""
        if self._reported_bug is None:
            self._reported_bug = bug
            log.error("a bug cost one exchange; the run goes on, further ones are counted only: %s", bug)
            log.debug("where it happened", exc_info=exc_info)

    def counters(self) -> dict[str, int]:
        """Return what became of the exchanges, and what was replaced or left out while spans were built.

        Every exchange becomes a span (`spans`), which every sink gets, is lost to a bug (`span_failures`), is
        refused (`refused`), or waits (`waiting`).
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

    def _pass_all(self, exchanges: Iterable[tuple[Exchange, Attribution]]) -> None:
        spans: list[Span] = []
        for exchange, attribution in exchanges:
            self._pass(spans, exchange, attribution)
        self._submit(spans)

    def _pass(self, spans: list[Span], exchange: Exchange, attribution: Attribution) -> None:
        """Build the span of an exchange that is not pending, unless it is refused."""
        is_accepted = attribution.state is CaptureState.ACCEPTED
        if attribution.in_force is not None:
            is_accepted = attribution.accepts(exchange.role, exchange.socket, exchange.start_ktime_ns)
        if not is_accepted:
            self._refused += 1
            return
        if attribution.resource is None:
            self._fail(attribution.bug)
            return
        options = self._options if attribution.bodies else self._options_without_bodies
        self._build(spans, exchange, attribution.resource, options)

    def _pass_of_endpoint(self, spans: list[Span], exchange: Exchange, endpoints: EndpointTable) -> None:
        try:
            resource = endpoints.resource(exchange.socket)
        except Exception as bug:  # noqa: BLE001 (as below)
            self._fail(bug)
        else:
            self._build(spans, exchange, resource, self._options)

    def _build(self, spans: list[Span], exchange: Exchange, resource: Resource, options: SpanOptions) -> None:
        assert self._clock is not None, "the first event of any source is a reading of both clocks"
        peer = _NO_PEER
        if self._discovery is not None and exchange.socket.remote_address is not None:
            peer = self._discovery.peer(exchange.socket.remote_address)
        try:
            spans.append(
                build_span(
                    exchange,
                    resource,
                    self._clock,
                    self._ids,
                    options,
                    self._built,
                    peer=peer,
                    kinds=self._kinds,
                )
            )
        except Exception as bug:  # noqa: BLE001 (whatever it is, it must cost one exchange and not the run)
            self._fail(bug)

    def _fail(self, bug: Exception | None) -> None:
        """Count an exchange that a bug has cost."""
        self._failures += 1
        self.report_bug(f"{type(bug).__name__} while building a span: {bug}", exc_info=bug)

    def _submit(self, spans: Sequence[Span]) -> None:
        for sink in self._sinks:
            for span in spans:
                sink.submit(span)
