"""Finding the next frame of a WebSocket after the place was lost.

Owns what is believed to be frames, and holds it until it is. It must not read messages.

Contract: a frame's header is short, so content may look like one by chance, or because its author makes it so
to. So a run begins where a record does, consists of at least two frames (or ends with a close frame), and
ends where a record does. Whatever is no run is counted as discarded.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parsers.limits import ParserLimits
from parsers.websocket.frames import (
    CLOSE,
    CONTINUATION,
    FIN,
    FIRST_CONTROL,
    OPCODE,
    is_legal,
    read_frame_header,
    unmask,
)

_RELIABLE_RUN: Final = 2
_MIN_CLOSE_CODE: Final = 1000
_MAX_CLOSE_CODE: Final = 4999
"""RFC 6455 §7.4.2: the codes that may be sent."""


class Run(NamedTuple):
    """What a run of frames consists of."""

    frames: int
    has_message: bool
    """A message is among them, not control frames alone."""
    is_close: bool
    """The last one is a close frame that has a code."""
    rest: int
    """Bytes of the last one that are still to come."""


NO_RUN: Final = Run(0, has_message=False, is_close=False, rest=0)


def recognise_run(data: bytes, before: Run, *, masked: bool, allowed_rsv: int) -> Run:
    """Return the run that `before` and `data` behind it are together; NO_RUN when they are none.

    A run is nothing but whole messages in one frame each, and control frames. This is stricter than reading,
    for other bytes must not look like it: fragments do not count, since zeros and small numbers read like
    them; nor do empty messages, since the second byte of a frame and the key behind it read like one. A
    length must be in its shortest form (§5.2), and a close frame the last, with a code that may be sent
    (§7.4.2).
    """
    frames, has_message, is_close, rest = before
    at = rest
    size = len(data)
    while at < size:
        header = read_frame_header(data, at)
        if header is None or is_close or not is_legal(header, masked=masked, allowed_rsv=allowed_rsv):
            return NO_RUN
        first, length, key, start = header
        opcode = first & OPCODE
        shortest = 2 if length <= 125 else 4 if length <= 0xFFFF else 10
        if not first & FIN or opcode == CONTINUATION or start - at != shortest + len(key):
            return NO_RUN
        if opcode < FIRST_CONTROL and not length:
            return NO_RUN
        at = start + length
        if opcode < FIRST_CONTROL:
            has_message = True
        elif opcode == CLOSE:
            code = int.from_bytes(unmask(data[start : start + 2], key), "big")
            if not _MIN_CLOSE_CODE <= code <= _MAX_CLOSE_CODE:
                return NO_RUN
            is_close = True
        frames += 1
    return Run(frames, has_message, is_close, at - size)


class FrameSearch:
    """Looks for frames in the records of one direction. `counts` are the tracker's counters, added to here.

    `masked` and `allowed_rsv` as for `is_legal`.
    """

    __slots__ = ("_allowed_rsv", "_counts", "_limits", "_masked", "_records", "_run", "held_bytes")

    def __init__(
        self, limits: ParserLimits, counts: dict[str, int], *, masked: bool, allowed_rsv: int
    ) -> None:
        self._limits = limits
        self._counts = counts
        self._masked = masked
        self._allowed_rsv = allowed_rsv
        self._records: list[tuple[bytes, int]] = []
        self._run = NO_RUN
        self.held_bytes = 0
        """Bytes of the run so far."""

    def offer(self, data: bytes, ktime_ns: int, *, starts_record: bool) -> list[tuple[bytes, int]]:
        """Take the next bytes; return those of a run with their times, once it is believed, else nothing."""
        run = NO_RUN
        if self._records:
            run = self._recognise(data, self._run)
            if not run.frames:
                self.forget()
        if not run.frames and starts_record:
            run = self._recognise(data, NO_RUN)
        if not run.frames:
            self._counts["discarded_bytes"] += len(data)
            return []
        self._run = run
        self._records.append((data, ktime_ns))
        self.held_bytes += len(data)
        # With control frames alone it is not known whether they stand in the middle of a message.
        if not run.rest and (run.is_close or (run.frames >= _RELIABLE_RUN and run.has_message)):
            self._counts["resynchronised"] += 1
            return self._take_out()
        limits = self._limits
        if self.held_bytes > limits.max_stream_buffer or len(self._records) > limits.max_reorder_pieces:
            self.forget()
        return []

    def forget(self) -> None:
        """Give up what is held: what follows does not follow it, or not closely."""
        self._counts["discarded_bytes"] += self.held_bytes
        self._take_out()

    def _recognise(self, data: bytes, before: Run) -> Run:
        return recognise_run(data, before, masked=self._masked, allowed_rsv=self._allowed_rsv)

    def _take_out(self) -> list[tuple[bytes, int]]:
        records, self._records = self._records, []
        self._run = NO_RUN
        self.held_bytes = 0
        return records
