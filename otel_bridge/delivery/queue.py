"""Encoded spans between the pipeline and the senders: put, take, acknowledge, put back.

Owns the spans until they are acknowledged, their order, the bound on their bytes, the cutting of batches, and
the writing of the books. It must not send, and must not decide how long a sender pauses.

Contract: a span that was put is held until its batch is acknowledged, so what is being sent counts towards
the bound and is there again after a failure. Batches are taken in the order of their spans, those that were
put back first. A full queue turns the newest span away: what it holds may be on its way already, and an
outage keeps its beginning. All public methods may be called from any thread and take the lock; the private
ones expect it taken. The books balance whenever it is free.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from otel_bridge.delivery.books import Books, Drop
from otel_bridge.delivery.timed_condition import TimedCondition
from otel_bridge.otlp.encoding import OVERHEAD_PER_SPAN, EncodedSpan
from otel_bridge.span import Resource

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""gRPC servers take 4 MiB a message by default; half of it leaves room for resources and other limits."""

MIN_BATCH_BYTES = 64 * 1024
"""What a backend that calls a batch too large takes at least, but for single spans."""

MAX_BATCH_AGE_SECONDS = 1.0
"""How long a span may wait for company."""

MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""Encoded spans held in memory; about half a minute at 1,000 exchanges/s with 2 KiB each."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive spans that are sent in one request."""

    number: int
    """The position of its first span among all that were ever put."""
    spans: tuple[EncodedSpan, ...]
    size: int
    """Bytes of its spans in a request, their resources excluded."""


class SpanQueue:
    """The queue of one sink."""

    def __init__(
        self,
        changed: TimedCondition,
        *,
        max_bytes: int = MAX_QUEUE_BYTES,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self._changed = changed
        self._lock = changed.lock
        self._max_batch_bytes = max_batch_bytes
        self._room = max_bytes
        """Bytes that spans of no batch may take: the bound without the batches; below 0 once closed."""
        self._books = Books()
        self._waiting: deque[EncodedSpan] = deque()
        """Spans of no batch yet."""
        self._waiting_bytes = 0
        self._returned: list[Batch] = []
        """Batches that were put back, by number."""
        self._taken: dict[int, Batch] = {}
        """Batches that are being sent, by number."""
        self._first_waiting_number = 0
        """The number of the first of the waiting spans, or of the next one to come."""
        self._waiting_since = 0.0
        """When the first of the waiting spans was put, or the latest batch cut."""
        self._flushers = 0
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """No span is accepted any more; what is held may still be delivered."""
        return self._is_closed

    def put(self, resource: Resource, encoded: bytes) -> Drop | None:
        """Hold a span, or count it as dropped; return why it was turned away, None when it is held."""
        # This runs for every span, so it keeps no more than a sum: the rest is derived when a batch is cut.
        size = len(encoded) + OVERHEAD_PER_SPAN
        with self._lock:
            self._books.submitted += 1
            waiting_bytes = self._waiting_bytes + size
            if waiting_bytes > self._room:
                cause = Drop.CLOSED if self._is_closed else Drop.QUEUE_FULL
                self._books.drops[cause] += 1
                return cause
            waiting = self._waiting
            if not waiting:
                # A sender sleeps without a time-out while there is nothing to send.
                self._waiting_since = self._changed.now()
                self._changed.notify_all()
            waiting.append((resource, encoded))
            self._waiting_bytes = waiting_bytes
            if waiting_bytes >= self._max_batch_bytes > waiting_bytes - size:
                self._changed.notify_all()
            return None

    def seconds_until_due(self) -> float | None:
        """Return after how many seconds a batch is due; 0 for now, None while there is none."""
        with self._lock:
            return self._seconds_until_due()

    def take(self) -> Batch | None:
        """Return the first batch to send, due or not; None when every span is being sent already."""
        with self._lock:
            return self._take()

    def wait_and_take(self, pause_left: Callable[[], float]) -> Batch | None:
        """Wait until a batch is due and take it; return None once the queue is closed and nothing is held.

        `pause_left` returns for how many more seconds the caller must not send. It is called under the lock.
        """
        with self._changed:
            while not self._is_finished():
                seconds = self._seconds_until_due()
                if seconds is not None:
                    seconds = max(seconds, pause_left())
                if seconds == 0:
                    return self._take()
                self._changed.wait(seconds)
            return None

    def acknowledge(self, batch: Batch, exported: int, cause: Drop = Drop.REJECTED) -> bool:
        """Let go of a batch for good: `exported` of its spans arrived, the others were dropped for `cause`.

        Return False when the queue was abandoned while the batch was sent: its spans count as closed.
        """
        with self._lock:
            if not self._release(batch):
                return False
            # A closed queue stays without room.
            if not self._is_closed:
                self._room += batch.size
            self._books.exported += exported
            self._books.drops[cause] += len(batch.spans) - exported
            self._changed.notify_all()
            return True

    def put_back(self, batch: Batch) -> None:
        """Hold a batch for another attempt, ahead of all spans that came after its own."""
        with self._lock:
            if self._release(batch):
                # A batch of its own for the next attempt: a late answer to this one must not count for it.
                self._hold_again(Batch(batch.number, batch.spans, batch.size))

    def split(self, batch: Batch) -> None:
        """Put a batch of two spans or more back as two halves, to be taken one after the other.

        Batches that are cut later are no larger than a half, down to `MIN_BATCH_BYTES`.
        """
        middle = len(batch.spans) // 2
        with self._lock:
            self._max_batch_bytes = min(self._max_batch_bytes, max(MIN_BATCH_BYTES, batch.size // 2))
            if self._release(batch):
                self._hold_again(_batch(batch.number, batch.spans[:middle]))
                self._hold_again(_batch(batch.number + middle, batch.spans[middle:]))

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until what is held now is acknowledged; return whether all of it was exported in time."""
        with self._changed:
            deadline = self._changed.now() + timeout_seconds
            target = self._first_waiting_number + len(self._waiting)
            given_up = self._books.given_up
            self._flushers += 1
            self._changed.notify_all()
            try:
                while self._first_held_number() < target:
                    remaining = deadline - self._changed.now()
                    if remaining <= 0:
                        return False
                    self._changed.wait(remaining)
            finally:
                self._flushers -= 1
            return self._books.given_up == given_up

    def close(self) -> bool:
        """Accept no more spans, and make what is held due; return False when it was closed before."""
        with self._lock:
            if self._is_closed:
                return False
            self._end()
            return True

    def abandon(self) -> int:
        """Close and drop whatever is held, also what is being sent, as closed; return how many spans."""
        with self._lock:
            left = self._queued() + self._in_flight()
            self._books.drops[Drop.CLOSED] += left
            self._first_waiting_number += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._returned.clear()
            self._taken.clear()
            self._end()
            return left

    def counters(self) -> dict[str, int]:
        """Return `Books.counters` of one moment."""
        with self._lock:
            return self._books.counters(held=self._queued() + self._in_flight())

    def check(self) -> None:
        """Raise UnbalancedBooksError unless the books balance with what is held."""
        with self._lock:
            self._books.check(queued=self._queued(), in_flight=self._in_flight())

    def _is_finished(self) -> bool:
        """Return whether nothing is held, and nothing will be."""
        return self._is_closed and not (self._waiting or self._returned or self._taken)

    def _seconds_until_due(self) -> float | None:
        if self._returned:
            return 0.0
        if not self._waiting:
            return None
        if self._waiting_bytes >= self._max_batch_bytes or self._flushers or self._is_closed:
            return 0.0
        return max(0.0, self._waiting_since + MAX_BATCH_AGE_SECONDS - self._changed.now())

    def _take(self) -> Batch | None:
        if self._returned:
            batch = self._returned.pop(0)
        elif self._waiting:
            batch = self._cut_batch()
        else:
            return None
        self._taken[batch.number] = batch
        return batch

    def _queued(self) -> int:
        """Return how many spans are held and not being sent."""
        return len(self._waiting) + sum(len(batch.spans) for batch in self._returned)

    def _in_flight(self) -> int:
        """Return how many spans are being sent: taken, and neither acknowledged nor put back."""
        return sum(len(batch.spans) for batch in self._taken.values())

    def _end(self) -> None:
        """Accept no more spans."""
        self._is_closed = True
        self._room = -1
        self._changed.notify_all()

    def _release(self, batch: Batch) -> bool:
        """Take a batch off those being sent; return False when it is none of them."""
        if self._taken.get(batch.number) is not batch:
            return False
        del self._taken[batch.number]
        return True

    def _hold_again(self, batch: Batch) -> None:
        insort(self._returned, batch, key=attrgetter("number"))
        self._changed.notify_all()

    def _cut_batch(self) -> Batch:
        """Return as many of the waiting spans as fit into a request, at least one."""
        waiting = self._waiting
        spans: list[EncodedSpan] = []
        size = 0
        while waiting:
            cost = len(waiting[0][1]) + OVERHEAD_PER_SPAN
            if spans and size + cost > self._max_batch_bytes:
                break
            size += cost
            spans.append(waiting.popleft())
        batch = Batch(self._first_waiting_number, tuple(spans), size)
        self._first_waiting_number += len(spans)
        self._waiting_bytes -= size
        self._room -= size
        self._waiting_since = self._changed.now()
        return batch

    def _first_held_number(self) -> int:
        """Return the number of the first span that is held; that of the next one to come when none is."""
        numbers = (batch.number for batch in (*self._returned, *self._taken.values()))
        return min(numbers, default=self._first_waiting_number)


def _batch(number: int, spans: tuple[EncodedSpan, ...]) -> Batch:
    return Batch(number, spans, sum(len(encoded) + OVERHEAD_PER_SPAN for _, encoded in spans))
