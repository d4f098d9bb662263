"""One run from start to end: `run`, `record` and `replay` as sequences of opening, working and closing.

Owns the order of starting (outputs first, since they fail fast; then the health server, discovery, the
probes, the processes that run already, their TLS libraries) and of stopping (last events, then probes off,
then delivery within the time-out).
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import procfs
from agent.config import Configuration
from agent.config_sources import ConfigurationError
from agent.discovery import await_first_answer, open_discovery
from agent.endpoints import EndpointTable
from agent.logs import announce_ready
from agent.outputs import id_generator, open_sinks, resource_builder, span_options, uses_standard_output
from agent.pipeline import POLL_SECONDS, Pipeline
from agent.processes import ProcessTable
from agent.recorder import Recorder
from agent.selection import Selection
from agent.selection_rules import SelectionRules, require_processes
from agent.stop import StopRequest
from agent.tls.inspector import Inspector, load_inspector
from agent.tls.tls_processes import TlsProcesses
from agent.workloads.workload import Discovery
from ebpf.capture import LiveCapture
from ebpf.capture_formats import CaptureFormat, find_format
from ebpf.capture_ids import new_capture_id
from ebpf.compilation import Compilation
from ebpf.input_stream import InputError, InputStream
from ebpf.packets.capture import PacketCapture
from ebpf.packets.unopened import describe_unopened
from ebpf.recording import RecordedCapture, RecordingWriter
from ebpf.uretprobes import find_hazard
from otel_bridge.span import SpanSink
from otel_bridge.spans.options import SpanOptions
from parsers.tracker import ConnectionTracker

GC_THRESHOLD = 50_000
"""Objects that outlive their allocation before the collector looks: some hundred pending exchanges' worth."""

log = logging.getLogger(__name__)


def _spare_the_collector() -> None:
    """Restrict the cycle collector to what a run allocates, and run it less often.

    Exchanges and spans form no cycles and are freed by reference count, and the objects of modules stay for
    good: walking them every few exchanges frees nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def run_live(configuration: Configuration, kernel_side: Compilation) -> None:
    """Capture on this host and export until a signal or the duration ends it.

    `kernel_side` was begun with the capture options of the same configuration.
    """
    stop = StopRequest()
    stop.on_signals(outlasts_hangups=configuration.output.spans_file not in (None, "-"))
    running: list[Pipeline] = []
    started_at = time.monotonic()
    with contextlib.ExitStack() as closing:
        require_processes(configuration.selection_rules())
        options = span_options(configuration)
        sinks = _open_sinks(configuration, stop, closing)
        if configuration.agent.health_listen is not None:
            _serve_health(configuration, running, started_at, closing)
        host = open_captured_host(configuration, options, stop, closing, kernel_side)
        pipeline = live_pipeline(configuration, options, host, sinks)
        running.append(pipeline)
        _spare_the_collector()
        if host.selected is not None:
            log.info("capturing %d processes that run already", host.selected)
        announce_ready(configuration.agent.log_format)
        stop.after(configuration.agent.duration)
        pipeline.run(stop)
        _report_losses(host.source.losses())


def replay_recording(configuration: Configuration, file: Path) -> None:
    """Export a recording or a packet capture as a run would have; `-` is standard input.

    Spans come while a pipe is open. Raises InputError: at once for an input that is neither, and at the end,
    after everything before it was exported, for one that is damaged.
    """
    configuration = configuration.without_pods()
    stop = StopRequest()
    stop.on_signals(outlasts_hangups=configuration.output.spans_file not in (None, "-"))
    with contextlib.ExitStack() as closing:
        options = span_options(configuration)
        stream = InputStream.open(file)
        closing.callback(stream.close)
        source = _open_capture(stream, stop)
        if source is None:
            return
        closing.callback(source.close)
        sinks = _open_sinks(configuration, stop, closing)
        resources = resource_builder(options)
        Pipeline(
            source,
            ProcessTable(resources.build),
            ConnectionTracker(configuration.parser_limits()),
            id_generator(lambda: source.capture_id),
            options,
            sinks,
            endpoints=EndpointTable(resources.build_endpoint) if isinstance(source, PacketCapture) else None,
        ).run(stop)
        _report_replay(source, stream.name)


def _open_capture(stream: InputStream, stop: StopRequest) -> RecordedCapture | PacketCapture | None:
    """Open an input by what it holds, whatever its name; None when a stop comes before its first bytes."""
    while (found := find_format(stream)) is None:
        if stop.requested:
            return None
        stream.wait(POLL_SECONDS)
    if found is CaptureFormat.RECORDING:
        return RecordedCapture(stream, is_stopped=lambda: stop.requested)
    return PacketCapture(stream, is_stopped=lambda: stop.requested)


def _report_replay(source: RecordedCapture | PacketCapture, name: str) -> None:
    """Log what was read and what was not. Raises InputError for an input that is damaged."""
    observations = source.observations()
    if seen := describe_losses(observations):
        log.info("read: %s", seen)
    if isinstance(source, PacketCapture):
        if not observations["packets"] and not source.damage:
            log.warning("%s holds no packets", name)
        if unopened := describe_unopened(source.unopened):
            log.warning("%s", unopened)
        if observations["secrets_unused"]:
            log.warning("%s holds TLS secrets, which are not used: encrypted connections stay closed", name)
    _report_losses(source.losses())
    if source.damage and source.is_cut:
        log.warning("%s %s", name, source.damage)
    elif source.damage:
        raise InputError(
            f"{name} {source.damage}.\nWhat stands before that was exported. Copy it again if it is whole "
            "where it was made; else capture again."
        )


def record_live(configuration: Configuration, file: Path) -> None:
    """Capture on this host into a file until a signal or the duration ends it.

    The file holds the kernel's records as they came. The facts of a process stand before its first record,
    because the process will be gone when the file is replayed.
    """
    stop = StopRequest()
    stop.on_signals()
    require_processes(configuration.selection_rules())
    with contextlib.ExitStack() as closing:
        # The file first: it fails at once, and closes last, when the losses of the capture are known.
        capture_id = new_capture_id()
        try:
            writer = RecordingWriter(
                file, version=importlib.metadata.version("wirespan"), capture_id=capture_id
            )
        except OSError as error:
            raise ConfigurationError(f"can't write {file}: {error.strerror}") from None
        losses: dict[str, int] = {}
        closing.callback(lambda: writer.close(losses))
        kernel_side = Compilation(configuration.capture_options())
        closing.callback(kernel_side.abandon)
        host = open_captured_host(
            configuration, span_options(configuration), stop, closing, kernel_side, capture_id=capture_id
        )
        source = host.source
        recorder = Recorder(source, writer, host.processes, host.selection, host.tls_processes)
        announce_ready(configuration.agent.log_format)
        stop.after(configuration.agent.duration)
        try:
            recorder.run(stop)
        except OSError as error:
            raise ConfigurationError(f"{file} can't be written any further: {error.strerror}") from None
        finally:
            losses.update(source.losses())
        _report_losses(losses)


@dataclass(frozen=True, slots=True)
class CapturedHost:
    """The host of this agent: the running capture, the processes, and which of them are captured."""

    source: LiveCapture
    processes: ProcessTable
    selection: Selection
    discovery: Discovery | None
    tls_processes: TlsProcesses | None
    """None when TLS is left alone."""
    selected: int | None
    """How many processes were selected that ran already; None without a rule to select by."""


def open_captured_host(
    configuration: Configuration,
    options: SpanOptions,
    stop: StopRequest,
    closing: contextlib.ExitStack,
    kernel_side: Compilation,
    *,
    capture_id: bytes | None = None,
) -> CapturedHost:
    """Attach to the kernel and select the processes that run; command lines are redacted as spans are.

    `kernel_side` was begun with the capture options of the same configuration. `capture_id` is given where
    something else bears it too. Raises CaptureUnavailable, ConfigurationError.
    """
    # Imported and opened while the kernel side is compiled, which is waited for below.
    inspector = load_inspector() if configuration.tls.enabled else None
    discovery = open_discovery(configuration)
    if discovery is not None:
        closing.callback(discovery.close)
    source = LiveCapture(kernel_side, capture_id=capture_id)
    closing.callback(source.close)
    processes = ProcessTable(
        resource_builder(options).build,
        read=procfs.read_process,
        start_of=procfs.start_unix_ns,
        discovery=discovery,
        ktime_now=time.monotonic_ns,
    )
    rules = configuration.selection_rules()
    tls_processes = None
    if source.tls_obstacle is not None:
        log.warning("TLS is not captured: %s", source.tls_obstacle)
    elif inspector is not None:
        tls_processes = _watch_tls_processes(source, rules, inspector, closing)
    selection = Selection(
        rules,
        source,
        processes,
        discovery=discovery,
        on_change=None if tls_processes is None else tls_processes.policy_changed,
    )
    if discovery is not None and rules.needs_workload and not await_first_answer(discovery, stop):
        log.warning("nothing is known of containers yet: see above; the capture begins without")
    selected = selection.apply_to_running() if rules.pids or rules.decides_at_exec else None
    if tls_processes is not None:
        _attach_to_running(tls_processes, rules, none_is_selected=selected is None)
    return CapturedHost(source, processes, selection, discovery, tls_processes, selected)


def _watch_tls_processes(
    source: LiveCapture, rules: SelectionRules, inspector: Inspector, closing: contextlib.ExitStack
) -> TlsProcesses:
    hazard = find_hazard()
    if hazard is not None:
        log.warning("TLS is captured of Go programs only: %s", hazard)
    tls_processes = TlsProcesses(
        source,
        source,
        inspector,
        default_policy=rules.default_policy,
        uretprobe_hazard=hazard,
    )
    closing.callback(tls_processes.close)
    return tls_processes


def _attach_to_running(tls_processes: TlsProcesses, rules: SelectionRules, *, none_is_selected: bool) -> None:
    """Attach to the TLS libraries of the processes that are captured, within bounds.

    Selected processes were reported when they were selected. Installed libraries are probed ahead of the
    processes that will map them; containers bring their own.
    """
    if not rules.needs_workload and not rules.pids:
        tls_processes.look_at_installed(rules.accepts_executable if rules.executables else None)
    if none_is_selected:
        tls_processes.look_at_running()
    is_complete = tls_processes.await_attached()
    counters = tls_processes.counters()
    log.info(
        "TLS: probes in %d files, which %d processes use%s",
        counters["files"],
        counters["users"],
        "" if is_complete else "; some are still looked at",
    )


def live_pipeline(
    configuration: Configuration, options: SpanOptions, host: CapturedHost, sinks: Sequence[SpanSink]
) -> Pipeline:
    """Return all stages wired to the kernel of this host."""
    return Pipeline(
        host.source,
        host.processes,
        ConnectionTracker(configuration.parser_limits()),
        id_generator(lambda: host.source.capture_id),
        options,
        sinks,
        selection=host.selection,
        discovery=host.discovery,
        tls_processes=host.tls_processes,
        ktime_now=time.monotonic_ns,
    )


def _open_sinks(
    configuration: Configuration, stop: StopRequest, closing: contextlib.ExitStack
) -> list[SpanSink]:
    sinks = open_sinks(configuration)
    if uses_standard_output(configuration, os.environ):
        stop.when_unread(sys.stdout.fileno())
    timeout = configuration.agent.shutdown_timeout

    def close() -> None:
        asked_at = stop.requested_at if stop.requested_at is not None else time.monotonic()
        for sink in sinks:
            sink.close(max(0.0, asked_at + timeout - time.monotonic()))
            if not stop.output_gone:
                _report_drops(sink)

    closing.callback(close)
    return sinks


def _serve_health(
    configuration: Configuration, running: list[Pipeline], started_at: float, closing: contextlib.ExitStack
) -> None:
    from agent.health import HealthServer, HealthUnavailableError
    from agent.metrics import build_registry

    address = configuration.agent.health_listen
    assert address is not None
    try:
        server = HealthServer(
            address.host,
            address.port,
            build_registry(lambda: running[0] if running else None),
            ticked_at=lambda: running[0].ticked_at if running else started_at,
            is_ready=lambda: bool(running),
        )
    except HealthUnavailableError as error:
        raise ConfigurationError(f"`agent.health_listen`: {error}") from None
    closing.callback(server.close)
    log.info("health and metrics on port %d", server.port)


def describe_losses(losses: Mapping[str, int]) -> str:
    """Return the losses as a text, empty when there are none."""
    return ", ".join(f"{cause} {count}" for cause, count in losses.items() if count)


def _report_losses(losses: Mapping[str, int]) -> None:
    if lost := describe_losses(losses):
        log.warning("lost: %s", lost)


def _report_drops(sink: SpanSink) -> None:
    counters = sink.counters()
    dropped = {
        cause: count
        for cause, count in counters.items()
        if count and cause not in ("submitted", "exported", "queued")
    }
    if dropped:
        causes = ", ".join(f"{cause} {count}" for cause, count in dropped.items())
        log.warning("%d of %d spans dropped: %s", sum(dropped.values()), counters["submitted"], causes)
