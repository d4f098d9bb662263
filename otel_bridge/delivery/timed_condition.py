"""A condition variable that carries the clock its time-outs are measured with.

Owns the tie between waiting and time. It must not decide how long anything waits.

Contract: `now` never goes back, `wait(seconds)` returns after a notification or once `now` has advanced by
`seconds`. Whatever needs the time during delivery takes it from here, so a test can put a simulated time in
place of the real one and no test has to sit out a pause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from types import TracebackType
from typing import Any, Protocol


class TimedCondition(Protocol):
    """What queue, sender and sink need of a condition. Its lock is not reentrant."""

    lock: AbstractContextManager[Any]
    """The lock alone: entering it is quicker than entering the condition, and enough for code that only
    notifies."""

    def __enter__(self) -> bool:
        """Acquire the lock."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Release the lock."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until a notification or for `timeout` seconds; None waits without a limit."""

    def notify_all(self) -> None:
        """Wake everything that waits."""


class RealTimeCondition(threading.Condition):
    """A `TimedCondition` in real time."""

    now: Callable[[], float] = staticmethod(monotonic)

    def __init__(self) -> None:
        lock = threading.Lock()
        super().__init__(lock)
        self.lock: AbstractContextManager[Any] = lock
