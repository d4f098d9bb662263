"""Waiting on a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_SECONDS = 30


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask until it holds.

    Raises:
        TimeoutError: It did not; `what` was waited for.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)
