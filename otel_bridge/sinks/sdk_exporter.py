"""Spans to an exporter of the OpenTelemetry SDK: its own, or one that a vendor's package installs.

Owns the queue in front of the exporter and the thread that calls it. It must not know what an exporter does.

Contract: `submit` never waits for the exporter, which may block. At any time submitted = exported + queued +
the sum of the drops. A batch counts as exported unless the exporter raises or returns FAILURE; it is not
offered again, since the SDK leaves retries to exporters. A full queue refuses the newest span. `close` gives
up within its time, even when the exporter does not return.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from time import monotonic

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_bridge.delivery.trouble_log import TroubleLog
from otel_bridge.redaction.secret_shapes import redact_shapes
from otel_bridge.sdk.components import EXPORTERS, SdkSettingError, load_component
from otel_bridge.sdk.environment import read_batch_arguments
from otel_bridge.sdk.readable_spans import ReadableSpanBuilder
from otel_bridge.span import AttributeValue, Span

MAX_QUEUE_SPANS = 16_384
"""A quarter of a minute at 1,000 exchanges/s."""

MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""Of text and bytes in queued spans, so that long bodies do not pile up."""

MAX_BATCH_SPANS = 512
"""The SDK's own default; exporters are written with it in mind."""

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""Many protocols bound a message at 4 MiB; half of it leaves room for their overhead."""

MAX_BATCH_AGE_SECONDS = 1.0
"""How long a span may wait for company."""

OVERHEAD_BYTES = 1024
"""What a span counts in the queue beside its long values."""

_MIN_SHUTDOWN_SECONDS = 0.1

_OTLP_EXPORTERS = ("otlp_proto_grpc", "otlp_proto_http")
"""Exporters that take bytes as an attribute's value."""

_logger = logging.getLogger(__name__)


def open_exporter(name: str, setting: str) -> SdkExporterSink:
    """Return the sink of the exporter that is installed under a name, which `setting` gives.

    Raises SdkSettingError when there is none, or when it cannot be constructed. An exporter takes its own
    settings from the environment.
    """
    construct = load_component(EXPORTERS, name, setting)
    arguments = read_batch_arguments(os.environ)
    try:
        exporter = construct()
    except Exception as error:
        raise SdkSettingError(
            f"{setting}: `{name}` cannot be used: {type(error).__name__}: {_one_line(error)}"
        ) from error
    return SdkExporterSink(name, exporter, **arguments)


class SdkExporterSink:
    """A `SpanSink` that calls a `SpanExporter` from a thread of its own."""

    def __init__(
        self,
        exporter_name: str,
        exporter: SpanExporter,
        *,
        max_queue_spans: int = MAX_QUEUE_SPANS,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        max_batch_spans: int = MAX_BATCH_SPANS,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_batch_age_seconds: float = MAX_BATCH_AGE_SECONDS,
    ) -> None:
        self.name = f"sdk:{exporter_name}"
        self._exporter_name = exporter_name
        self._exporter = exporter
        self._max_queue_spans = max_queue_spans
        self._max_queue_bytes = max_queue_bytes
        self._max_batch_spans = min(max_batch_spans, max_queue_spans)
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_age_seconds = max_batch_age_seconds
        # Guards everything below: spans to export, results to wait for, the end.
        self._changed = threading.Condition()
        self._queue: deque[tuple[Span, int]] = deque()
        self._queued_bytes = 0
        self._in_flight = 0
        self._oldest_at = 0.0
        self._submitted = 0
        self._exported = 0
        self._drops: Counter[str] = Counter(queue_full=0, failed=0, closed=0)
        self._flushers = 0
        self._closing = False
        self._abandoned = False
        self._troubles = TroubleLog(_logger, monotonic)
        self._thread = threading.Thread(target=self._run, name=f"exporter-{exporter_name}", daemon=True)
        self._thread.start()

    def submit(self, span: Span) -> None:
        """Queue a span; count it as dropped when the queue is full or the sink is closed."""
        size = _count_bytes(span)
        with self._changed:
            self._submitted += 1
            if self._closing:
                self._drops["closed"] += 1
                return
            is_full = (
                len(self._queue) >= self._max_queue_spans or self._queued_bytes + size > self._max_queue_bytes
            )
            if is_full:
                self._drops["queue_full"] += 1
            else:
                if not self._queue:
                    self._oldest_at = monotonic()
                    self._changed.notify_all()
                self._queue.append((span, size))
                self._queued_bytes += size
                if self._is_batch_full():
                    self._changed.notify_all()
        if is_full:
            self._troubles.warn(
                "queue_full",
                "the queue of exporter %s is full: newest spans are dropped",
                self._exporter_name,
            )

    def flush(self, timeout_seconds: float) -> bool:
        """Export what was submitted so far; return whether the exporter took all of it in time."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            target = self._submitted
            lost = self._drops.total()
            self._flushers += 1
            self._changed.notify_all()
            try:
                # The queue is in order: once as many are settled as were submitted then, those are settled.
                while self._exported + self._drops.total() < target:
                    remaining = deadline - monotonic()
                    if remaining <= 0 or self._abandoned:
                        return False
                    self._changed.wait(remaining)
            finally:
                self._flushers -= 1
            return self._drops.total() == lost

    def counters(self) -> dict[str, int]:
        """Return `submitted`, `exported`, `queued` (those being exported included) and `dropped_…`."""
        with self._changed:
            return {
                "submitted": self._submitted,
                "exported": self._exported,
                "queued": len(self._queue) + self._in_flight,
                **{f"dropped_{cause}": count for cause, count in self._drops.items()},
            }

    def close(self, timeout_seconds: float) -> None:
        """Flush within the time, give up what is left as `dropped_closed`, shut down. Idempotent."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self.flush(max(0.0, deadline - monotonic()))
        with self._changed:
            left = len(self._queue) + self._in_flight
            self._abandoned = True
            self._drops["closed"] += left
            self._queue.clear()
            self._queued_bytes = 0
            self._in_flight = 0
            self._changed.notify_all()
        if left:
            _logger.warning("exporter %s did not take %d spans in time", self._exporter_name, left)
        # A thread of its own, because an exporter that does not return may hold what its shutdown waits for.
        seconds = max(_MIN_SHUTDOWN_SECONDS, deadline - monotonic())
        shutdown = threading.Thread(target=self._shut_down, args=(seconds,), daemon=True)
        shutdown.start()
        shutdown.join(seconds)
        self._thread.join(max(_MIN_SHUTDOWN_SECONDS, deadline - monotonic()))

    def _run(self) -> None:
        builder = ReadableSpanBuilder(takes_bytes=self._exporter_name in _OTLP_EXPORTERS)
        while batch := self._next_batch():
            problem = ""
            try:
                if self._exporter.export([builder.build(span) for span in batch]) is SpanExportResult.FAILURE:
                    problem = "it says that it failed"
            except BaseException as error:  # noqa: BLE001 - a foreign exporter must not end the thread
                problem = f"{type(error).__name__}: {_one_line(error)}"
            self._settle(len(batch), problem)

    def _next_batch(self) -> list[Span]:
        """Wait until a batch is due and take it; [] at the end."""
        with self._changed:
            while not self._abandoned:
                if not self._queue:
                    if self._closing:
                        return []
                    self._changed.wait()
                    continue
                age = monotonic() - self._oldest_at
                due = self._is_batch_full() or self._flushers or self._closing
                if due or age >= self._max_batch_age_seconds:
                    return self._take_batch()
                self._changed.wait(self._max_batch_age_seconds - age)
            return []

    def _take_batch(self) -> list[Span]:
        batch: list[Span] = []
        total = 0
        while self._queue and len(batch) < self._max_batch_spans:
            span, size = self._queue[0]
            if batch and total + size > self._max_batch_bytes:
                break
            self._queue.popleft()
            batch.append(span)
            total += size
        self._queued_bytes -= total
        self._in_flight = len(batch)
        self._oldest_at = monotonic()
        return batch

    def _is_batch_full(self) -> bool:
        return len(self._queue) >= self._max_batch_spans or self._queued_bytes >= self._max_batch_bytes

    def _settle(self, count: int, problem: str) -> None:
        """Enter the end of so many spans in the books, and say what was lost."""
        with self._changed:
            if self._abandoned:
                # `close` has counted these spans already.
                return
            if problem:
                self._drops["failed"] += count
            else:
                self._exported += count
            self._in_flight = 0
            self._changed.notify_all()
        if problem:
            self._troubles.warn(
                "failed", "exporter %s did not take %d spans: %s", self._exporter_name, count, problem
            )

    def _shut_down(self, seconds: float) -> None:
        try:
            if self._exporter.force_flush(int(seconds * 1000)) is False:
                _logger.warning("exporter %s could not flush what it holds", self._exporter_name)
            self._exporter.shutdown()
        except BaseException as error:  # noqa: BLE001 - a foreign exporter must not disturb the end
            _logger.warning("exporter %s could not be shut down: %s", self._exporter_name, _one_line(error))


def _count_bytes(span: Span) -> int:
    """Return about how much memory a span takes."""
    size = OVERHEAD_BYTES + sum(map(_length, span.attributes.values()))
    for event in span.events or ():
        size += OVERHEAD_BYTES + sum(map(_length, event.attributes.values()))
    return size


def _length(value: AttributeValue) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return sum(map(len, value)) if isinstance(value, tuple) else 0


def _one_line(error: BaseException) -> str:
    """Return the message of an error; it may quote a URL with a password."""
    return redact_shapes(" ".join(str(error).split()))[0]
