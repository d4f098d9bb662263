"""The agent's own metrics: the counters of all stages in Prometheus form.

Owns names and help texts. Nothing is counted here: each stage counts for itself, and its counters are read
when the metrics are collected, so the hot path does not depend on this module.

The books balance, and can be checked from outside:

    wirespan_exchanges_total = wirespan_spans_built_total + wirespan_span_failures_total
                               + wirespan_exchanges_refused_total + wirespan_exchanges_waiting
    wirespan_spans_built_total = sum over fates of wirespan_spans_total + wirespan_spans_queued, for each sink
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.pipeline import Pipeline
from agent.tls.tls_processes import TlsProcesses
from agent.workloads.workload import Discovery
from parsers.counters import COUNTERS

EXCHANGE_REASON_PREFIX = "incomplete_"
VERDICT_PREFIX = "connections_"
OBSERVATIONS = {
    "budget_bytes": "Bytes beyond the budget of their direction: counted, not copied.",
    "sendfile_bytes": "Bytes that never were in user memory (sendfile, splice).",
    "rejoined_connections": "Connections begun anew, because bytes of them went by unwatched.",
    "unwanted_bytes": "Bytes on captured connections that the policy of their process leaves out.",
    "ring_records": "Records taken from the ring buffer.",
    "ring_bytes": "Bytes taken from the ring buffer.",
}
"""Help texts of what the source observes beside losses and verdicts."""

SPAN_METRICS = {
    "spans": "wirespan_spans_built",
    "refused": "wirespan_exchanges_refused",
    "waited": "wirespan_exchanges_waited",
    "pushed_out": "wirespan_exchanges_pushed_out",
}
"""Metrics whose name is not that of their counter."""
SELECTION_COUNTERS = {
    "refused_events": "Events captured provisionally of processes that were then not selected.",
    "unselectable_processes": (
        "Processes that are not captured for lack of room in the kernel's policy table."
    ),
    "changed_processes": "Running processes whose capture changed.",
    "unknown_processes": "Processes not captured because they ended before it was known what they were.",
    "missed_executions": "Programs whose execution was not seen, only what they did.",
}
"""Help texts of what selection counts; the exchanges that it refuses are counted where they are exported."""


def build_registry(running: Callable[[], Pipeline | None]) -> CollectorRegistry:
    """Return a registry over the counters of the pipeline that `running` names; None before there is one."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_AgentCollector(running))
    return registry


class _AgentCollector(Collector):
    def __init__(self, running: Callable[[], Pipeline | None]) -> None:
        self._running = running

    def describe(self) -> Iterable[Metric]:
        # Without it, registering would collect once, before there is anything to read.
        return ()

    def collect(self) -> Iterator[Metric]:
        version = importlib.metadata.version("wirespan")
        yield InfoMetricFamily(
            "wirespan_build", "What is running.", {"version": version, "python": platform.python_version()}
        )
        pipeline = self._running()
        if pipeline is not None:
            yield from _capture(pipeline)
            yield from _parsers(pipeline)
            yield from _spans(pipeline)
            yield from _processes(pipeline)


def _capture(pipeline: Pipeline) -> Iterator[Metric]:
    yield _labelled(
        "wirespan_capture_losses",
        "What should have been captured and was not, by cause: records, bytes or table entries.",
        "cause",
        pipeline.source.losses(),
    )
    observations = pipeline.source.observations()
    verdicts = {
        name.removeprefix(VERDICT_PREFIX): observations.pop(name)
        for name in list(observations)
        if name.startswith(VERDICT_PREFIX)
    }
    yield _labelled(
        "wirespan_connections_judged", "Connections by what their first bytes said.", "verdict", verdicts
    )
    for name, count in observations.items():
        yield CounterMetricFamily(f"wirespan_{name}", OBSERVATIONS[name], count)


def _parsers(pipeline: Pipeline) -> Iterator[Metric]:
    counters = pipeline.tracker.counters()
    yield CounterMetricFamily(
        "wirespan_exchanges", "Exchanges that the parsers emitted.", counters.pop("exchanges")
    )
    reasons = {
        name.removeprefix(EXCHANGE_REASON_PREFIX): counters.pop(name)
        for name in list(counters)
        if name.startswith(EXCHANGE_REASON_PREFIX)
    }
    yield _labelled(
        "wirespan_exchanges_incomplete", "Exchanges flagged as not whole, by reason.", "reason", reasons
    )
    for name, count in counters.items():
        yield CounterMetricFamily(f"wirespan_parser_{name}", f"Parsers: {COUNTERS[name]}.", count)
    yield GaugeMetricFamily(
        "wirespan_connections", "Connections tracked now.", pipeline.tracker.connection_count
    )
    yield GaugeMetricFamily(
        "wirespan_buffered_bytes", "Bytes of unfinished messages held now.", pipeline.tracker.buffered_bytes
    )


def _spans(pipeline: Pipeline) -> Iterator[Metric]:
    counters = pipeline.counters()
    for name, help_text in (
        ("spans", "Spans built; each is handed to every sink."),
        ("span_failures", "Exchanges that could not be built into a span: bugs."),
        ("refused", "Exchanges of processes, or of a direction, that are not to be captured after all."),
        ("waited", "Exchanges that waited until it was known what their process runs in."),
        ("pushed_out", "Exchanges that could not wait any longer for lack of room."),
        ("redacted_values", "Values replaced before anything left the process."),
        ("malformed_trace_contexts", "Trace context headers ignored for breaking their specification."),
        ("dropped_attributes", "Attributes left out for the bound on their number."),
    ):
        yield CounterMetricFamily(SPAN_METRICS.get(name, f"wirespan_{name}"), help_text, counters[name])
    yield GaugeMetricFamily("wirespan_exchanges_waiting", "Exchanges that wait now.", counters["waiting"])
    fates = CounterMetricFamily(
        "wirespan_spans", "Spans by sink and fate: exported, or dropped for a cause.", labels=("sink", "fate")
    )
    queued = GaugeMetricFamily("wirespan_spans_queued", "Spans waiting in a sink now.", labels=("sink",))
    for sink in pipeline.sinks:
        for fate, count in sink.counters().items():
            if fate == "queued":
                queued.add_metric((sink.name,), count)
            elif fate != "submitted":
                fates.add_metric((sink.name, fate), count)
    yield fates
    yield queued


def _processes(pipeline: Pipeline) -> Iterator[Metric]:
    counters = pipeline.processes.counters()
    yield GaugeMetricFamily("wirespan_processes", "Processes known and running.", counters["running"])
    yield CounterMetricFamily(
        "wirespan_processes_vanished", "Processes gone before /proc could be read.", counters["vanished"]
    )
    yield CounterMetricFamily(
        "wirespan_processes_unidentified",
        "Processes whose container could not be found out in time.",
        counters["unidentified"],
    )
    if pipeline.selection is not None:
        selection = pipeline.selection.counters()
        for name, help_text in SELECTION_COUNTERS.items():
            yield CounterMetricFamily(f"wirespan_{name}", help_text, selection[name])
    if pipeline.discovery is not None:
        yield from _discovery(pipeline.discovery)
    if pipeline.tls_processes is not None:
        yield from _tls(pipeline.tls_processes)


def _discovery(discovery: Discovery) -> Iterator[Metric]:
    counters = discovery.counters()
    known = GaugeMetricFamily(
        "wirespan_discovery_state", "Containers and pods that discovery has now.", labels=("what",)
    )
    for name in sorted(discovery.states & counters.keys()):
        known.add_metric((name,), counters.pop(name))
    yield known
    yield _labelled(
        "wirespan_discovery", "What discovery of containers and pods did and met, by kind.", "what", counters
    )


def _tls(tls_processes: TlsProcesses) -> Iterator[Metric]:
    counters = tls_processes.counters()
    known = GaugeMetricFamily(
        "wirespan_tls_state",
        "Files that have probes, processes that use files with TLS, processes to be looked at.",
        labels=("what",),
    )
    for name in sorted(tls_processes.states):
        known.add_metric((name,), counters.pop(name))
    yield known
    yield _labelled("wirespan_tls", "What was done and met on the way to TLS libraries.", "what", counters)
    stacks: dict[str, int] = {}
    for probed in tls_processes.stacks():
        if probed.problem is not None:
            stacks[probed.stack.name] = stacks.get(probed.stack.name, 0) + probed.processes
    unseen = GaugeMetricFamily(
        "wirespan_tls_unseen_processes",
        "Captured processes with a TLS implementation that can't be probed, by its name.",
        labels=("stack",),
    )
    for name, processes in stacks.items():
        unseen.add_metric((name,), processes)
    yield unseen


def _labelled(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
