import threading
from time import monotonic

from otel_bridge.delivery.timed_condition import RealTimeCondition, TimedCondition


def test_time_is_monotonic_seconds() -> None:
    changed: TimedCondition = RealTimeCondition()
    before = monotonic()
    assert before <= changed.now() <= monotonic()


def test_its_lock_is_the_conditions() -> None:
    changed = RealTimeCondition()
    entered = []

    def enter() -> None:
        with changed:
            entered.append(1)

    thread = threading.Thread(target=enter)
    with changed.lock:
        thread.start()
        assert not entered
    thread.join()
    assert entered == [1]


def test_a_notification_under_the_lock_alone_ends_a_wait_without_limit() -> None:
    changed = RealTimeCondition()
    waiting, is_ready = threading.Event(), [False]

    def notify() -> None:
        waiting.wait()
        with changed.lock:
            is_ready[0] = True
            changed.notify_all()

    thread = threading.Thread(target=notify)
    thread.start()
    with changed:
        waiting.set()
        while not is_ready[0]:
            assert changed.wait()
    thread.join()
