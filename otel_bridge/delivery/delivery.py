"""The OTLP sink: spans in, batches out, nothing lost while the backend is briefly away.

Owns the queue, the batches, the retries and the books. It must not encode (`otlp`) or know how a request
travels (`transport`).

Contract: `submit` never waits for the network. At any time submitted = exported + queued + the sum of the
drops. What has been accepted into the queue is delivered in order, or given up only because the backend
refused it for good or `close` ran out of time. A full queue refuses the newest span: what it holds may be on
its way already, and an outage keeps its beginning.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, deque
from time import monotonic

from otel_bridge.delivery.options import ExportOptions, OtlpProtocol
from otel_bridge.delivery.transport import Delivered, Outcome, Refused, TooLarge, Transport, TryAgain
from otel_bridge.otlp.encoding import OVERHEAD_PER_SPAN, EncodedSpan, RequestEncoder, encode_span
from otel_bridge.redaction.secret_shapes import redact_shapes
from otel_bridge.span import Span

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""gRPC servers take 4 MiB a message unless told otherwise; half of it leaves room for resources and other
limits."""

MAX_BATCH_AGE_SECONDS = 1.0
"""How long a span may wait for company."""

MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""Encoded spans held in memory; about half a minute at 1,000 exchanges/s with 2 KiB each."""

FIRST_BACKOFF_SECONDS = 0.5
BACKOFF_FACTOR = 2.0
MAX_BACKOFF_SECONDS = 5.0
"""A backend that is up again gets its spans within this time."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""The longest pause that a backend may ask for."""

LOG_INTERVAL_SECONDS = 60.0
"""One kind of trouble is logged once in this time; the counters tell how often it happened."""

_logger = logging.getLogger(__name__)


class OtlpSink:
    """A `SpanSink` that delivers over OTLP from a thread of its own."""

    name = "otlp"

    def __init__(
        self,
        options: ExportOptions,
        *,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self._options = options
        # For messages: a URL may carry a password.
        self._backend = redact_shapes(options.endpoint)[0]
        self._transport: Transport = open_transport(options)
        self._encoder = RequestEncoder()
        self._max_queue_bytes = max_queue_bytes
        self._max_batch_bytes = max_batch_bytes
        # One condition guards everything below: work to send, results to wait for, the end. Who waits for
        # nothing enters its lock, which is quicker.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[EncodedSpan] = deque()
        self._queued_bytes = 0
        self._in_flight = 0
        self._oldest_at = 0.0
        self._submitted = 0
        self._exported = 0
        self._drops: Counter[str] = Counter(queue_full=0, refused=0, rejected=0, too_large=0, closed=0)
        self._flushers = 0
        self._closing = False
        self._abandoned = False
        self._logged_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="otlp-sender", daemon=True)
        self._thread.start()

    def submit(self, span: Span) -> None:
        """Queue a span; count it as dropped when the queue is full or the sink is closed."""
        encoded = encode_span(span)
        size = len(encoded) + OVERHEAD_PER_SPAN
        with self._lock:
            self._submitted += 1
            if self._closing:
                self._drops["closed"] += 1
                return
            if self._queued_bytes + size > self._max_queue_bytes:
                self._drops["queue_full"] += 1
                full = True
            else:
                full = False
                if not self._queue:
                    self._oldest_at = monotonic()
                    # The sender sleeps without a time-out while there is nothing to send.
                    self._changed.notify_all()
                self._queue.append((span.resource, encoded))
                self._queued_bytes += size
                if self._queued_bytes >= self._max_batch_bytes:
                    self._changed.notify_all()
        if full:
            self._say(
                "queue_full",
                "the OTLP queue is full (%d MiB): newest spans are dropped",
                self._max_queue_bytes >> 20,
            )

    def flush(self, timeout_seconds: float) -> bool:
        """Deliver what was submitted so far; return whether all of it went out in time."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            target = self._submitted
            lost = self._lost()
            self._flushers += 1
            self._changed.notify_all()
            try:
                # The queue is in order: once as many are settled as were submitted then, those are settled.
                while self._settled() < target:
                    remaining = deadline - monotonic()
                    if remaining <= 0 or self._abandoned:
                        return False
                    self._changed.wait(remaining)
            finally:
                self._flushers -= 1
            return self._lost() == lost

    def counters(self) -> dict[str, int]:
        """Return `submitted`, `exported`, `queued` (those being sent included) and `dropped_…` by cause."""
        with self._changed:
            return {
                "submitted": self._submitted,
                "exported": self._exported,
                "queued": len(self._queue) + self._in_flight,
                **{f"dropped_{cause}": count for cause, count in self._drops.items()},
            }

    def close(self, timeout_seconds: float) -> None:
        """Flush within the time, then give up what is left, counted as `dropped_closed`. Idempotent."""
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
            _logger.warning("%d spans could not be delivered to %s in time", left, self._backend)
        self._transport.close()
        self._thread.join(max(0.1, deadline - monotonic()))

    def _lost(self) -> int:
        return sum(self._drops.values())

    def _settled(self) -> int:
        return self._exported + self._lost()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._deliver(batch)

    def _next_batch(self) -> list[EncodedSpan]:
        """Wait until a batch is due and take it; [] at the end."""
        with self._changed:
            while not self._abandoned:
                if not self._queue:
                    if self._closing:
                        return []
                    self._changed.wait()
                    continue
                age = monotonic() - self._oldest_at
                due = self._queued_bytes >= self._max_batch_bytes or self._flushers or self._closing
                if due or age >= MAX_BATCH_AGE_SECONDS:
                    return self._take_batch()
                self._changed.wait(MAX_BATCH_AGE_SECONDS - age)
            return []

    def _take_batch(self) -> list[EncodedSpan]:
        batch: list[EncodedSpan] = []
        size = 0
        while self._queue:
            cost = len(self._queue[0][1]) + OVERHEAD_PER_SPAN
            if batch and size + cost > self._max_batch_bytes:
                break
            size += cost
            batch.append(self._queue.popleft())
        # The bytes in flight still are in memory, but a batch is small beside the queue's bound.
        self._queued_bytes -= size
        self._in_flight = len(batch)
        self._oldest_at = monotonic()
        return batch

    def _deliver(self, batch: list[EncodedSpan]) -> None:
        """Send a batch until it is settled, in parts where it is too large as a whole."""
        parts = [batch]
        while parts:
            part = parts.pop()
            outcome = self._send_until_answered(part)
            if outcome is None:
                return
            if isinstance(outcome, TooLarge) and len(part) > 1:
                middle = len(part) // 2
                parts += (part[middle:], part[:middle])
                continue
            self._settle(len(part), outcome)

    def _send_until_answered(self, part: list[EncodedSpan]) -> Delivered | TooLarge | Refused | None:
        """Return the final answer, however long it takes; None when the sink was abandoned first."""
        request = self._encoder.encode(part)
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            outcome: Outcome = self._transport.send(request, self._options.timeout_seconds)
            if not isinstance(outcome, TryAgain):
                return outcome
            pause = min(backoff, MAX_BACKOFF_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
            asked = outcome.after_seconds is not None
            if outcome.after_seconds is not None:
                pause = min(max(outcome.after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
            self._say("retry", "%s is not available, will try again: %s", self._backend, outcome.reason)
            backoff = min(backoff * BACKOFF_FACTOR, MAX_BACKOFF_SECONDS)
            if self._pause(pause, asked=asked):
                return None

    def _pause(self, seconds: float, *, asked: bool) -> bool:
        """Wait, as the backend `asked` or not; return whether the sink was abandoned meanwhile."""
        started_at = monotonic()
        with self._changed:
            while not self._abandoned:
                if self._closing and not asked:
                    # Little time is left: what is on its way gets more than one last try.
                    seconds = min(seconds, FIRST_BACKOFF_SECONDS)
                remaining = started_at + seconds - monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(remaining)
            return True

    def _settle(self, count: int, outcome: Delivered | TooLarge | Refused) -> None:
        """Enter the end of so many spans in the books, and say what was lost."""
        exported, cause, message = 0, "", ""
        if isinstance(outcome, Delivered):
            rejected = min(max(outcome.rejected, 0), count)
            exported = count - rejected
            cause, message = "rejected", outcome.message
        else:
            cause, message = ("too_large" if isinstance(outcome, TooLarge) else "refused"), outcome.reason
        with self._changed:
            if self._abandoned:
                # `close` has counted these spans already.
                return
            self._exported += exported
            self._drops[cause] += count - exported
            self._in_flight -= count
            self._changed.notify_all()
        if exported < count or message:
            self._say(
                cause,
                "%s did not take %d spans (%s): %s",
                self._backend,
                count - exported,
                cause,
                message,
            )

    def _say(self, cause: str, message: str, *arguments: object) -> None:
        now = monotonic()
        if now - self._logged_at.get(cause, -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
            self._logged_at[cause] = now
            _logger.warning(message, *arguments)


def open_transport(options: ExportOptions) -> Transport:
    """Return the transport that the options ask for. No connection is made yet.

    Raises ExportConfigurationError when a certificate or key cannot be used.
    """
    if options.protocol is OtlpProtocol.GRPC:
        from otel_bridge.delivery.grpc_transport import GrpcTransport

        return GrpcTransport(options)
    from otel_bridge.delivery.http_transport import HttpTransport

    return HttpTransport(options)
