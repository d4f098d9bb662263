"""When a run ends: a signal, the duration, or the reader of its output going away.

Contract: the first SIGTERM, SIGINT or SIGHUP asks for an orderly stop; a second one ends the process at
once, as it would without this module. Programs that rotate files send SIGHUP, so it does not stop a run that
writes a spans file, unless the terminal of the run went away. A SIGHUP that was ignored at the start (nohup)
stays ignored. Signal handlers only set a flag.
"""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType

GRACE_SECONDS = 0.1
"""How long a live capture goes on after a stop was asked for. A call that moved bytes is recorded when it
returns, and a busy processor delays that: its peer may have read the bytes, and caused the stop, before."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Whether the run has been asked to stop, and when."""

    def __init__(self) -> None:
        self.requested_at: float | None = None
        """When the stop was asked for, by time.monotonic(); None before."""
        self.output_gone = False
        """Whether the cause was that the output has no reader any more."""
        self._deadline: float | None = None
        self._output: select.poll | None = None
        self._outlasts_hangups = False
        self._had_terminal = False

    @property
    def requested(self) -> bool:
        """Whether a signal came, `request` was called, or the duration is over."""
        if self.requested_at is None:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self.request()
            elif self._output is not None and self._output.poll(0):
                self.output_gone = True
                self.request()
        return self.requested_at is not None

    @property
    def grace_is_over(self) -> bool:
        """Whether a stop was asked for at least `GRACE_SECONDS` ago."""
        if not self.requested or self.requested_at is None:
            return False
        return time.monotonic() >= self.requested_at + GRACE_SECONDS

    def after(self, duration_seconds: float | None) -> None:
        """Stop this long from now; None means never by itself."""
        self._deadline = None if duration_seconds is None else time.monotonic() + duration_seconds

    def when_unread(self, descriptor: int) -> None:
        """Stop when the pipe or terminal behind an output is closed at its other end."""
        self._output = select.poll()
        self._output.register(descriptor, 0)  # errors and hang-ups are reported unasked

    def request(self) -> None:
        """Ask for an orderly stop."""
        self.requested_at = time.monotonic()

    def on_signals(self, *, outlasts_hangups: bool = False) -> None:
        """Take the signals of this module as requests. Only the main thread may call this.

        With `outlasts_hangups`, SIGHUP is none as long as the terminal is there that was there at the start,
        or when there was none.
        """
        self._outlasts_hangups = outlasts_hangups
        self._had_terminal = _has_terminal()
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signature is Python's)
        if number == signal.SIGHUP and self._outlasts_hangups and _has_terminal() == self._had_terminal:
            return
        self.request()
        for each in _SIGNALS:
            if signal.getsignal(each) == self._handle:
                signal.signal(each, signal.SIG_DFL)


def _has_terminal() -> bool:
    """Return whether the process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
