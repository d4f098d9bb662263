"""The OTLP sink: spans in, batches out, nothing lost while the backend is briefly away.

Owns the putting together of queue, sender and transport, and the sender's thread. It must not encode
(`otlp`), and must not know of batches, answers or pauses.

Contract: `submit` never waits for the network. What has been accepted into the queue is delivered in order,
or given up only because the backend refused it for good or `close` ran out of time. The counters are those
of `books`, and balance at any time.
"""

from __future__ import annotations

import logging
import threading

from otel_bridge.delivery.books import Drop
from otel_bridge.delivery.options import ExportOptions, OtlpProtocol
from otel_bridge.delivery.queue import MAX_BATCH_BYTES, MAX_QUEUE_BYTES, SpanQueue
from otel_bridge.delivery.sender import Sender
from otel_bridge.delivery.timed_condition import RealTimeCondition
from otel_bridge.delivery.transport import Transport
from otel_bridge.delivery.trouble_log import TroubleLog
from otel_bridge.otlp.encoding import encode_span
from otel_bridge.redaction.secret_shapes import redact_shapes
from otel_bridge.span import Span

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
        """Start the sender. Raises ExportConfigurationError when a certificate or key cannot be used."""
        # For messages: a URL may carry a password.
        self._backend = redact_shapes(options.endpoint)[0]
        self._transport = open_transport(options)
        self._changed = RealTimeCondition()
        self._max_queue_bytes = max_queue_bytes
        self._queue = SpanQueue(self._changed, max_bytes=max_queue_bytes, max_batch_bytes=max_batch_bytes)
        self._put = self._queue.put
        self._troubles = TroubleLog(_logger, self._changed.now)
        sender = Sender(
            self._queue,
            self._transport,
            self._changed,
            timeout_seconds=options.timeout_seconds,
            backend=self._backend,
        )
        self._thread = threading.Thread(target=sender.run, name="otlp-sender", daemon=True)
        self._thread.start()

    def submit(self, span: Span) -> None:
        """Queue a span; count it as dropped when the queue is full or the sink is closed."""
        cause = self._put(span.resource, encode_span(span))
        # None first: looking a member of an enum up takes as long as the rest of this method.
        if cause is not None and cause is Drop.QUEUE_FULL:
            self._troubles.warn(
                Drop.QUEUE_FULL,
                "the OTLP queue is full (%d MiB): newest spans are dropped",
                self._max_queue_bytes >> 20,
            )

    def flush(self, timeout_seconds: float) -> bool:
        """Deliver what was submitted so far; return whether all of it went out in time."""
        return self._queue.flush(timeout_seconds)

    def counters(self) -> dict[str, int]:
        """Return `submitted`, `exported`, `queued` (those being sent included) and `dropped_…` by cause."""
        return self._queue.counters()

    def close(self, timeout_seconds: float) -> None:
        """Flush within the time, then give up what is left, counted as `dropped_closed`. Idempotent."""
        deadline = self._changed.now() + timeout_seconds
        if not self._queue.close():
            return
        self._queue.flush(timeout_seconds)
        left = self._queue.abandon()
        if left:
            _logger.warning("%d spans could not be delivered to %s in time", left, self._backend)
        self._transport.close()
        self._thread.join(max(0.1, deadline - self._changed.now()))


def open_transport(options: ExportOptions) -> Transport:
    """Return the transport that the options ask for. No connection is made yet.

    Raises ExportConfigurationError when a certificate or key cannot be used.
    """
    if options.protocol is OtlpProtocol.GRPC:
        from otel_bridge.delivery.grpc_transport import GrpcTransport

        return GrpcTransport(options)
    from otel_bridge.delivery.http_transport import HttpTransport

    return HttpTransport(options)
