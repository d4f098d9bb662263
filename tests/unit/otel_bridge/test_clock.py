from __future__ import annotations

from ebpf.events import ClockSample
from otel_bridge.clock import ClockOffset


def test_kernel_time_becomes_unix_time_by_the_latest_sample() -> None:
    clock = ClockOffset(ClockSample(ktime_ns=1_000, unix_ns=1_700_000_000_000_001_000))
    assert clock.unix_ns(5) == 1_700_000_000_000_000_005
    clock.update(ClockSample(ktime_ns=2_000, unix_ns=1_700_000_000_000_001_500))
    assert clock.unix_ns(5) == 1_699_999_999_999_999_505
