"""When a run ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from agent.stop import GRACE_SECONDS, StopRequest


@pytest.fixture(autouse=True)
def _restored_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nothing_is_requested_at_first() -> None:
    stop = StopRequest()
    stop.after(None)
    assert not stop.requested
    assert stop.requested_at is None


def test_the_duration_ends_the_run() -> None:
    stop = StopRequest()
    stop.after(3600)
    assert not stop.requested
    stop.after(0)
    assert stop.requested


def test_calls_that_return_just_now_are_waited_for() -> None:
    stop = StopRequest()
    assert not stop.grace_is_over
    stop.request()
    assert not stop.grace_is_over
    stop.requested_at = time.monotonic() - GRACE_SECONDS
    assert stop.grace_is_over


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_its_time_is_kept(number: signal.Signals) -> None:
    stop = StopRequest()
    stop.on_signals()
    before = time.monotonic()
    os.kill(os.getpid(), number)
    assert stop.requested
    assert stop.requested_at is not None
    assert before <= stop.requested_at <= time.monotonic()


def test_a_second_signal_ends_the_process_at_once() -> None:
    program = (
        "import os, signal\n"
        "from agent.stop import StopRequest\n"
        "stop = StopRequest(); stop.on_signals()\n"
        "os.kill(os.getpid(), signal.SIGTERM); assert stop.requested\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGTERM


def test_an_output_that_nobody_reads_any_more_ends_the_run() -> None:
    reader, writer = os.pipe()
    try:
        stop = StopRequest()
        stop.when_unread(writer)
        assert not stop.requested
        os.close(reader)
        assert stop.requested
        assert stop.output_gone
    finally:
        os.close(writer)


def test_a_file_as_output_never_ends_the_run(tmp_path: object) -> None:
    with open(f"{tmp_path}/spans", "wb") as file:  # noqa: PTH123
        stop = StopRequest()
        stop.when_unread(file.fileno())
        assert not stop.requested
