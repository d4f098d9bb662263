"""One direction of a WebSocket: bytes as they pass in, messages and control frames out.

Owns fragmentation (RFC 6455 §5.4), what a gap does, and finding the next frame after a loss. It must not know
the other direction, nor where the bytes come from: a connection of its own, or a stream of HTTP/2.

Contract: wire data never raises, and what is kept of a message is its true beginning. What a gap does, by
what it lies in:

| in | then |
|---|---|
| the payload of a frame | stepped over: sizes and counts go on, the content of the message stops |
| everything else | the place is lost: bytes are passed over up to records that are nothing but whole frames |

Behind a loss neither a close frame nor a forbidden one ends the reading: else content made up to
look like one would hide what follows.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ebpf.events import Direction, Missing
from parsers.exchange import Incomplete
from parsers.http_exchange import MessageFlow, Truncation, WebSocketMessage, truncation_of
from parsers.limits import ParserLimits
from parsers.websocket.deflate import MessageInflater
from parsers.websocket.frames import (
    CLOSE,
    CONTINUATION,
    FIN,
    FIRST_CONTROL,
    OPCODE,
    RSV,
    RSV1,
    FrameHeader,
    advance_key,
    is_legal,
    read_frame_header,
    unmask,
)
from parsers.websocket.log import MessageLog
from parsers.websocket.search import FrameSearch

_NO_MESSAGE: Final = 0
"""No opcode of a message."""


class _State(Enum):
    IN_STEP = "in_step"
    LOST = "lost"
    OVER = "over"


_IN_STEP: Final = _State.IN_STEP
_LOST: Final = _State.LOST
_OVER: Final = _State.OVER


class WebSocketReader:
    """Reads the frames of one direction. `counts` are the tracker's counters, added to here.

    `masked` says whether this is the client's direction. `inflater` is there when compression was agreed on;
    `any_extension` says that reserved bits may have a meaning that is unknown here.
    """

    __slots__ = (
        "_content",
        "_control",
        "_control_cut",
        "_counts",
        "_direction",
        "_first",
        "_frame_size",
        "_header",
        "_inflater",
        "_is_compressed",
        "_is_doubtful",
        "_key",
        "_last_close",
        "_log",
        "_masked",
        "_needed",
        "_opcode",
        "_room",
        "_rsv",
        "_search",
        "_size",
        "_state",
        "_truncation",
        "closed",
        "ended",
        "failure",
        "flow",
    )

    def __init__(
        self,
        direction: Direction,
        log: MessageLog,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        masked: bool,
        inflater: MessageInflater | None = None,
        any_extension: bool = False,
    ) -> None:
        self._direction = direction
        self._log = log
        self._counts = counts
        self._masked = masked
        self._inflater = inflater
        self._rsv = RSV if any_extension else RSV1 if inflater is not None else 0
        self._state = _IN_STEP
        self._header = b""
        self._first = 0
        self._frame_size = 0
        self._needed = 0
        self._key = b""
        self._control = b""
        self._control_cut: Truncation | None = None
        self._opcode = _NO_MESSAGE
        self._is_compressed = False
        self._size = 0
        self._content = bytearray()
        self._room = 0
        self._truncation: Truncation | None = None
        self._search = FrameSearch(limits, counts, masked=masked, allowed_rsv=self._rsv)
        self._is_doubtful = False
        self._last_close: tuple[bytes, int, bool] | None = None
        self.flow = MessageFlow()
        """What passed so far."""
        self.failure: Incomplete | None = None
        """Why `flow` is less than what passed, unless that was by design (the capture's budget)."""
        self.closed = False
        """A close frame passed."""
        self.ended = False
        """The direction ended."""

    @property
    def is_over(self) -> bool:
        """Whether nothing that follows can matter."""
        return self._state is _OVER

    @property
    def is_done(self) -> bool:
        """Whether the sender said that it is done: by a close frame, or by ending its direction."""
        return self.closed or self.ended or self._last_close is not None

    @property
    def is_in_message(self) -> bool:
        """Whether a message or a frame has begun and not ended."""
        return bool(self._needed or self._header or self._opcode)

    @property
    def held_bytes(self) -> int:
        """Bytes held for this direction."""
        held = self._log.held_bytes(self._direction)
        held += len(self._content) + len(self._control) + len(self._header) + self._search.held_bytes
        return held if self._inflater is None else held + self._inflater.held_bytes

    def receive(self, data: bytes, ktime_ns: int, *, starts_record: bool = True) -> None:
        """Take the next bytes; `starts_record` says that they begin where a call's bytes may have begun."""
        self._log.pass_time(ktime_ns)
        if self._state is _IN_STEP:
            self._read(data, ktime_ns)
        elif self._state is _LOST:
            found = self._search.offer(data, ktime_ns, starts_record=starts_record)
            if found:
                self._state = _IN_STEP
                self._is_doubtful = True
                for record in found:
                    self.receive(*record)
        else:
            self._counts["discarded_bytes"] += len(data)

    def miss(self, count: int | None, missing: Missing, ktime_ns: int) -> None:
        """Account for a gap of `count` bytes; None if its length is unknown."""
        self._log.pass_time(ktime_ns)
        self._search.forget()
        if self._state is not _IN_STEP or count == 0:
            return
        if self._needed and count is not None:
            step = min(count, self._needed)
            count -= step
            self._step_over(step, truncation_of(missing))
            if not self._needed:
                self._end_frame(ktime_ns)
        if count != 0 and self._state is _IN_STEP:
            cause = truncation_of(missing)
            self._lose_place(cause)
            if cause is Truncation.GAP:
                self._fail(Incomplete.LOST_BYTES)

    def keep_no_more(self) -> None:
        """Keep nothing more of the session, for want of room; messages are still counted."""
        self._log.is_full = True
        if self._opcode:
            self._truncation = self._truncation or Truncation.LIMIT
            self._content = bytearray()
        if self._inflater is not None:
            self._inflater.lose(Truncation.LIMIT)

    def end(self, ktime_ns: int) -> None:
        """Take the end of the direction."""
        self._log.pass_time(ktime_ns)
        self._search.forget()
        if self._last_close is not None:
            self._close(*self._last_close)
        self.ended = True
        if self._state is not _OVER:
            if self.is_in_message:
                self._fail(Incomplete.CLOSED)
            self._stop()

    def _read(self, data: bytes, ktime_ns: int) -> None:
        if self._header:
            data = self._header + data
            self._header = b""
        at, size = 0, len(data)
        while at < size:
            if not self._needed:
                header = read_frame_header(data, at)
                if header is None:
                    self._header = data[at:]
                    return
                at = header[3]
                if not self._begin_frame(header):
                    self._refuse_frame()
            if self._needed:
                count = min(size - at, self._needed)
                self._take(data, at, count)
                at += count
            if not self._needed and self._state is _IN_STEP:
                self._end_frame(ktime_ns)
            if self._state is not _IN_STEP:
                self._counts["discarded_bytes"] += size - at
                return

    def _refuse_frame(self) -> None:
        """Read no further; behind a loss, the place was not what it seemed."""
        self._counts["websocket_invalid_frames"] += 1
        if self._is_doubtful:
            self._lose_place(Truncation.GAP)
        else:
            self._fail(Incomplete.INVALID)
            self._stop()

    def _begin_frame(self, header: FrameHeader) -> bool:
        """Take a header; return whether such a frame may stand here."""
        if not is_legal(header, masked=self._masked, allowed_rsv=self._rsv):
            return False
        self._last_close = None
        first, length, self._key, _ = header
        self._first, self._needed, self._frame_size = first, length, length
        opcode = first & OPCODE
        if opcode == CONTINUATION:
            # RFC 7692 §6.1: only the first frame of a message carries the bit.
            return bool(self._opcode) and not (first & RSV1 and self._inflater is not None)
        if opcode < FIRST_CONTROL:
            if self._opcode:
                return False
            self._begin_message(opcode, first & RSV)
        return True

    def _begin_message(self, opcode: int, rsv: int) -> None:
        self._opcode = opcode
        self._size = 0
        self._truncation = None
        self._room = self._log.room(self._direction)
        inflater = self._inflater
        self._is_compressed = rsv == RSV1 and inflater is not None
        if not self._is_compressed:
            if rsv:
                # What another extension did to the payload is not known.
                self._truncation = Truncation.DECODE_ERROR
            return
        assert inflater is not None
        if self._room:
            inflater.begin()
        else:
            # No later message has room either, so the window is not needed any more.
            inflater.lose(Truncation.LIMIT)
            self._truncation = Truncation.LIMIT

    def _take(self, data: bytes, at: int, count: int) -> None:
        """Take payload of the frame in progress."""
        self._needed -= count
        key = self._key
        if key:
            self._key = advance_key(key, count)
        if self._first & OPCODE >= FIRST_CONTROL:
            if self._control_cut is None:
                self._control += unmask(data[at : at + count], key)
            return
        self._size += count
        if self._truncation is not None:
            return
        left = self._room - len(self._content)
        if self._is_compressed:
            assert self._inflater is not None
            self._content += self._inflater.inflate(unmask(data[at : at + count], key), left)
            self._truncation = self._inflater.truncation
        else:
            self._content += unmask(data[at : at + min(count, left)], key)
            if count > left:
                self._truncation = Truncation.LIMIT

    def _step_over(self, count: int, cause: Truncation) -> None:
        """Account for missing payload of the frame in progress."""
        self._needed -= count
        if self._key:
            self._key = advance_key(self._key, count)
        if self._first & OPCODE >= FIRST_CONTROL:
            self._control_cut = cause
        else:
            self._size += count
            self._truncation = self._truncation or cause
            if self._is_compressed:
                assert self._inflater is not None
                self._inflater.lose(cause)

    def _end_frame(self, ktime_ns: int) -> None:
        opcode = self._first & OPCODE
        if opcode >= FIRST_CONTROL:
            self._end_control(opcode, ktime_ns)
        elif self._first & FIN:
            self._end_message(ktime_ns)

    def _end_message(self, ktime_ns: int) -> None:
        content = self._content
        if self._is_compressed and self._truncation is None:
            assert self._inflater is not None
            content += self._inflater.end(self._room - len(content))
            self._truncation = self._inflater.truncation
        self.flow.count += 1
        self.flow.size += self._size
        self._log.add(
            WebSocketMessage(
                self._direction, self._opcode, self._size, bytes(content), ktime_ns, self._truncation
            )
        )
        self._opcode = _NO_MESSAGE
        self._content = bytearray()

    def _end_control(self, opcode: int, ktime_ns: int) -> None:
        payload, cut = self._control, self._control_cut
        self._control, self._control_cut = b"", None
        kept = payload[: self._log.room(self._direction)]
        truncation = Truncation.LIMIT if len(kept) < len(payload) else cut
        self._log.add(WebSocketMessage(self._direction, opcode, self._frame_size, kept, ktime_ns, truncation))
        if opcode == CLOSE:
            self._last_close = payload, ktime_ns, cut is None
            if not self._is_doubtful:
                self._close(*self._last_close)

    def _close(self, payload: bytes, ktime_ns: int, is_whole: bool) -> None:  # noqa: FBT001 - as it was set aside
        """Believe a close frame; RFC 6455 §5.5.1: nothing follows it."""
        self._last_close = None
        self.closed = True
        self._log.close(self._direction, payload, ktime_ns, is_whole=is_whole)
        if self._opcode:
            self._fail(Incomplete.CLOSED)
        self._stop()

    def _lose_place(self, cause: Truncation) -> None:
        self._counts["lost_places"] += 1
        self._last_close = None
        self.flow.uncounted = True
        self._stop(cause)
        self._state = _LOST

    def _fail(self, cause: Incomplete) -> None:
        self.flow.uncounted = True
        self.failure = self.failure or cause

    def _stop(self, cause: Truncation = Truncation.GAP) -> None:
        """Give up what has begun, and read nothing more."""
        self._state = _OVER
        self._counts["discarded_bytes"] += len(self._header)
        self._header = self._control = b""
        self._control_cut = None
        self._needed = 0
        self._opcode = _NO_MESSAGE
        self._content = bytearray()
        if self._inflater is not None:
            self._inflater.lose(cause)
