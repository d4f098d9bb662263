"""Reading both clocks at one moment.

CLOCK_MONOTONIC is what the kernel side stamps with, CLOCK_REALTIME is what the world calls time.
"""

from __future__ import annotations

import time

from ebpf.events import ClockSample

_TRIES = 5
"""Readings taken; the tightest bracket wins, so one preemption between two of them does no harm."""


def read_clocks() -> ClockSample:
    """Return one moment on both clocks, within a microsecond on an idle machine.

    CLOCK_MONOTONIC is read between two readings of CLOCK_REALTIME, and taken to be their middle.
    """
    best_width, best = None, ClockSample(0, 0)
    for _ in range(_TRIES):
        before = time.time_ns()
        ktime_ns = time.monotonic_ns()
        width = time.time_ns() - before
        # a negative width is a step of the realtime clock between the two readings
        if width >= 0 and (best_width is None or width < best_width):
            best_width, best = width, ClockSample(ktime_ns, before + width // 2)
    return best if best_width is not None else ClockSample(time.monotonic_ns(), time.time_ns())
