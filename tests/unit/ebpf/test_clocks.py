from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ebpf.clocks import read_clocks


def test_both_readings_are_one_moment() -> None:
    before_ktime_ns, before_unix_ns = time.monotonic_ns(), time.time_ns()
    sample = read_clocks()
    assert before_ktime_ns <= sample.ktime_ns <= time.monotonic_ns()
    assert before_unix_ns <= sample.unix_ns <= time.time_ns()


def test_the_tightest_reading_wins_and_a_step_backwards_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    brackets = iter([100, 90, 200, 1_200, 2_000, 2_010, 3_000, 3_500, 4_000, 4_400])
    monotonic: Iterator[int] = iter(range(1, 10))
    monkeypatch.setattr(time, "time_ns", lambda: next(brackets))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(monotonic))
    sample = read_clocks()
    assert (sample.ktime_ns, sample.unix_ns) == (3, 2_005)
