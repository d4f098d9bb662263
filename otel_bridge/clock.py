"""Monotonic kernel time to Unix time: the one place where `_ktime_ns` becomes `_unix_ns`.

It must not read a clock: both clocks are read together by the event source, which says so in a `ClockSample`.

Contract: within one reading of the offset, durations are kept to the nanosecond. A later sample moves the
offset (the wall clock was stepped or slewed), so both ends of one span are converted between two samples,
never across one.
"""

from __future__ import annotations

from ebpf.events import ClockSample


class ClockOffset:
    """The distance between CLOCK_MONOTONIC and Unix time, as of the latest sample."""

    __slots__ = ("_offset_ns",)

    def __init__(self, sample: ClockSample) -> None:
        self._offset_ns = sample.unix_ns - sample.ktime_ns

    def update(self, sample: ClockSample) -> None:
        """Take a newer reading of both clocks; it holds for every conversion from now on."""
        self._offset_ns = sample.unix_ns - sample.ktime_ns

    def unix_ns(self, ktime_ns: int) -> int:
        """Return the Unix time in nanoseconds at which CLOCK_MONOTONIC read `ktime_ns`."""
        return ktime_ns + self._offset_ns
