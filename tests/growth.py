"""Guards against quadratic growth: the only tests that ask how long something took.

A guard compares the processor time of a small input with that of one eight times as long, in one run. It is
marked `growth`, and CONTRIBUTING.md names it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

FACTOR = 8
"""The large input is so many times as long as the small one."""

_SLACK = 3
"""Room for noise. Time in proportion to the length grows by FACTOR, with its square by FACTOR²."""
_NOISE_SECONDS = 0.005
_RUNS = 4


def assert_not_quadratic(small: Callable[[], object], large: Callable[[], object]) -> None:
    """Fail when the large input takes far more than FACTOR times what the small one takes."""
    bound = FACTOR * _SLACK * min(_cpu_seconds(small) for _ in range(_RUNS)) + _NOISE_SECONDS
    taken = []
    while len(taken) < _RUNS:
        taken.append(_cpu_seconds(large))
        # Noise only ever adds.
        if taken[-1] < bound:
            return
    raise AssertionError(
        f"{min(taken):.4f} s of processor time, at most {bound:.4f} s would be in proportion"
    )


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = thread_time()
    work()
    return thread_time() - start
