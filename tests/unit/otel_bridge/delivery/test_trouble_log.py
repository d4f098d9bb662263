import logging

import pytest

from otel_bridge.delivery.trouble_log import LOG_INTERVAL_SECONDS, TroubleLog
from tests.unit.otel_bridge.delivery.simulation import SimulatedTime


def test_each_kind_is_said_at_once_and_again_after_the_interval(caplog: pytest.LogCaptureFixture) -> None:
    time = SimulatedTime()
    log = TroubleLog(logging.getLogger("trouble"), time.now)
    for second in range(int(2 * LOG_INTERVAL_SECONDS)):
        time.seconds = SimulatedTime().seconds + second
        log.warn("a", "a at %d", second)
        if second >= 10:
            log.warn("b", "b at %d", second)
    assert caplog.messages == ["a at 0", "b at 10", "a at 60", "b at 70"]
