"""When a run ends."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.stop import GRACE_SECONDS, StopRequest


@pytest.fixture(autouse=True)
def _restored_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    # Under nohup the tests begin with it ignored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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


def test_a_run_that_outlasts_hangups_goes_on() -> None:
    stop = StopRequest()
    stop.on_signals(outlasts_hangups=True)
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop.requested
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested


def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopRequest()
    stop.on_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop.requested


def test_a_terminal_that_goes_away_ends_the_run_also_with_a_spans_file(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    program = (
        "import pathlib, time\n"
        "from agent.stop import StopRequest\n"
        "stop = StopRequest()\n"
        "stop.on_signals(outlasts_hangups=True)\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "print('stopping' if stop.requested else 'going on', flush=True)\n"
        "while not stop.requested: time.sleep(0.01)\n"
        f"pathlib.Path({str(ended)!r}).touch()\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    try:
        assert b"ready" in os.read(terminal, 100)
        os.kill(child, signal.SIGHUP)
        os.write(terminal, b"\n")
        said = b""
        while not said.strip():
            said = os.read(terminal, 100).replace(b"\r\n", b"")
        assert said == b"going on"
        os.close(terminal)
        os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    assert ended.exists()
