"""Takes batches from the queue, sends them, and acts on the answers.

Owns the order of attempts, the pauses between them, and what is said of failures. It must not hold spans
(`queue` does), count them (`books`), or know how a request travels (`transport`).

Contract: a batch is acknowledged after the backend has answered for good. After a temporary refusal it goes
back to the queue, and nothing is sent before the pause is over. An exception of a transport is a bug, and
counts as a temporary refusal. What a backend says is quoted in messages, as one line.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from otel_bridge.delivery.books import Drop
from otel_bridge.delivery.queue import Batch, SpanQueue
from otel_bridge.delivery.timed_condition import TimedCondition
from otel_bridge.delivery.transport import Delivered, Outcome, TooLarge, Transport, TryAgain
from otel_bridge.delivery.trouble_log import TroubleLog
from otel_bridge.foreign_text import quote
from otel_bridge.otlp.encoding import RequestEncoder

FIRST_BACKOFF_SECONDS = 0.5
BACKOFF_FACTOR = 2.0
MAX_BACKOFF_SECONDS = 5.0
"""A backend that is up again gets its spans within this time."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""The longest pause that a backend may ask for."""

_logger = logging.getLogger(__name__)


def _jitter() -> float:
    """Return a factor around 1, so that the agents of a cluster do not come back all at once."""
    return random.uniform(0.8, 1.2)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class _Pause:
    """A time in which nothing is sent."""

    started_at: float
    seconds: float
    is_asked: bool
    """The backend named it."""


class Sender:
    """Delivers one queue over one transport."""

    def __init__(
        self,
        queue: SpanQueue,
        transport: Transport,
        changed: TimedCondition,
        *,
        timeout_seconds: float,
        backend: str,
        jitter: Callable[[], float] = _jitter,
    ) -> None:
        """`backend` names the destination in messages; `timeout_seconds` is for one attempt."""
        self._queue = queue
        self._transport = transport
        self._changed = changed
        self._timeout_seconds = timeout_seconds
        self._backend = backend
        self._jitter = jitter
        self._encoder = RequestEncoder()
        self._troubles = TroubleLog(_logger, changed.now)
        self._backoff_seconds = FIRST_BACKOFF_SECONDS
        self._pause: _Pause | None = None

    def run(self) -> None:
        """Deliver until the queue is finished."""
        while batch := self._queue.wait_and_take(self.pause_left):
            self.deliver(batch)

    def deliver(self, batch: Batch) -> None:
        """Make one attempt at a batch and act on the answer."""
        outcome: Outcome
        try:
            outcome = self._transport.send(self._encoder.encode(batch.spans), self._timeout_seconds)
        except Exception as error:  # noqa: BLE001 - a bug must cost neither the spans nor the thread
            outcome = TryAgain(f"a bug of wirespan, please report it: {type(error).__name__}: {error}")
        self._act_on(outcome, batch)

    def pause_left(self) -> float:
        """Return for how many more seconds nothing may be sent."""
        pause = self._pause
        if pause is None:
            return 0.0
        seconds = pause.seconds
        if self._queue.is_closed and not pause.is_asked:
            # Little time is left: what is on its way gets more than one last try.
            seconds = min(seconds, FIRST_BACKOFF_SECONDS)
        return max(0.0, pause.started_at + seconds - self._changed.now())

    def _act_on(self, outcome: Outcome, batch: Batch) -> None:
        count = len(batch.spans)
        if isinstance(outcome, TryAgain):
            self._pause_after(outcome.after_seconds)
            self._troubles.warn(
                "retry", "%s is not available, will try again: %s", self._backend, quote(outcome.reason)
            )
            self._queue.put_back(batch)
            return
        if isinstance(outcome, TooLarge) and count > 1:
            # Halves go out one by one: a backend that says so about everything is not flooded.
            self._pause_after(None)
            self._queue.split(batch)
            return
        self._backoff_seconds = FIRST_BACKOFF_SECONDS
        exported = 0
        if isinstance(outcome, Delivered):
            exported = count - min(max(outcome.rejected, 0), count)
            cause, message = Drop.REJECTED, outcome.message
        else:
            cause = Drop.TOO_LARGE if isinstance(outcome, TooLarge) else Drop.REFUSED
            message = outcome.reason
        if not self._queue.acknowledge(batch, exported, cause):
            return
        if exported < count:
            self._troubles.warn(
                cause,
                "%s did not take %d spans (%s): %s",
                self._backend,
                count - exported,
                cause,
                quote(message),
            )
        elif message:
            self._troubles.warn("taken", "%s took %d spans, but: %s", self._backend, count, quote(message))

    def _pause_after(self, asked_seconds: float | None) -> None:
        if asked_seconds is None:
            seconds = self._backoff_seconds * self._jitter()
        else:
            seconds = min(max(asked_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
        self._pause = _Pause(self._changed.now(), seconds, is_asked=asked_seconds is not None)
        self._backoff_seconds = min(self._backoff_seconds * BACKOFF_FACTOR, MAX_BACKOFF_SECONDS)
