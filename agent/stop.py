"""When a run ends: a signal, the duration, or the reader of its output going away.

Contract: the first SIGTERM or SIGINT asks for an orderly stop; a second one ends the process at once, as it
would without this module. Signal handlers only set a flag.
"""

from __future__ import annotations

import select
import signal
import time
from types import FrameType

GRACE_SECONDS = 0.1
"""How long a live capture goes on after a stop was asked for. A call that moved bytes is recorded when it
returns, and a busy processor delays that: its peer may have read the bytes, and caused the stop, before."""


class StopRequest:
    """Whether the run has been asked to stop, and when."""

    def __init__(self) -> None:
        self.requested_at: float | None = None
        """When the stop was asked for, by time.monotonic(); None before."""
        self.output_gone = False
        """Whether the cause was that the output has no reader any more."""
        self._deadline: float | None = None
        self._output: select.poll | None = None

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

    def on_signals(self) -> None:
        """Take SIGTERM and SIGINT as requests. Only the main thread may call this."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signature is Python's)
        self.request()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)
