"""Delivery in simulated time: one thread, no clock, everything in the order that the times give."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_bridge.delivery.queue import SpanQueue
from otel_bridge.delivery.sender import Sender
from otel_bridge.delivery.transport import Delivered, Outcome
from otel_bridge.otlp.encoding import OVERHEAD_PER_SPAN, EncodedSpan, encode_span
from tests.unit.otel_bridge.exchanges import span


class SimulatedTime:
    """A `TimedCondition` whose time passes only while something waits.

    Whatever is due during a wait happens in it, at its time: plans made by `at`, and a turn of the sender
    when a test waits for one.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seconds = 1_000.0
        self.notifications = 0
        self.sender: Sender | None = None
        self.queue: SpanQueue | None = None
        self._plans: list[tuple[float, Callable[[], None]]] = []

    def __enter__(self) -> bool:
        return self.lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.lock.__exit__(kind, error, trace)

    def now(self) -> float:
        return self.seconds

    def notify_all(self) -> None:
        """Count it. Every wait ends after one thing has happened, so there is nothing to wake."""
        self.notifications += 1

    def at(self, seconds: float, plan: Callable[[], None]) -> None:
        """Carry a plan out so many seconds from now."""
        self._plans.append((self.seconds + seconds, plan))
        self._plans.sort(key=lambda planned: planned[0])

    def wait(self, timeout: float | None = None) -> bool:
        """Let time pass until one thing has happened, or the time-out has."""
        end = None if timeout is None else self.seconds + timeout
        self.lock.release()
        try:
            return self._pass_until(end)
        finally:
            self.lock.acquire()

    def _pass_until(self, end: float | None) -> bool:
        turn = self._next_turn()
        plan = self._plans[0][0] if self._plans else None
        first = min((moment for moment in (turn, plan, end) if moment is not None), default=None)
        assert first is not None, "this would wait for ever"
        self.seconds = max(self.seconds, first)
        if plan == first:
            self._plans.pop(0)[1]()
        elif turn == first:
            self.turn()
        else:
            return False
        return True

    def _next_turn(self) -> float | None:
        if self.sender is None or self.queue is None:
            return None
        due = self.queue.seconds_until_due()
        return None if due is None else self.seconds + max(due, self.sender.pause_left())

    def turn(self) -> None:
        """Let the sender make the attempt that is due."""
        assert self.sender is not None
        assert self.queue is not None
        batch = self.queue.take()
        assert batch is not None
        self.sender.deliver(batch)


class ScriptedBackend:
    """A `Transport` that answers as scripted, and takes what no answer is left for."""

    def __init__(self, time: SimulatedTime) -> None:
        self._time = time
        self.answers: deque[Outcome | Callable[[], Outcome]] = deque()
        self.attempts: list[tuple[float, list[int]]] = []
        """Seconds since the beginning, and the numbers of the spans sent."""
        self.delivered: list[int] = []
        self.timeouts: set[float] = set()
        self.is_closed = False
        self._started_at = time.now()

    def send(self, request: bytes, timeout_seconds: float) -> Outcome:
        numbers = [
            int.from_bytes(one.span_id, "big")
            for group in ExportTraceServiceRequest.FromString(request).resource_spans
            for scope in group.scope_spans
            for one in scope.spans
        ]
        self.attempts.append((self._time.now() - self._started_at, numbers))
        self.timeouts.add(timeout_seconds)
        answer = self.answers.popleft() if self.answers else Delivered()
        outcome = answer() if callable(answer) else answer
        if isinstance(outcome, Delivered):
            self.delivered += numbers
        return outcome

    def close(self) -> None:
        self.is_closed = True


def encoded(number: int, *, filler: str = "") -> EncodedSpan:
    one = span(number, filler=filler)
    return one.resource, encode_span(one)


SIZE = len(encoded(1)[1]) + OVERHEAD_PER_SPAN
"""What a span of `encoded` takes of a bound; numbers have the same width in it."""
