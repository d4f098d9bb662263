"""Reading HTTP/2 frames of one direction: pieces of a stream in, what the frames say out.

Owns where a frame begins and ends, the parts of a field block, what a gap does, and finding frames again
after a loss. It must not decode fields or know what a stream is: `FrameSink` takes what passes.

Contract: wire data never raises. Reading is linear in the bytes, however they are cut. The content of DATA is
never held here; of other frames at most `ParserLimits.max_header_block`.

What a gap does, by what it lies in:

| in | then |
|---|---|
| the payload of DATA | stepped over: the size counts, the content stops |
| the payload of a field block | that block is lost, the frames behind it are not |
| any other payload | stepped over |
| a frame header, between two frames, or more than one frame | the place is lost |

Where the place is lost, bytes are passed over until something looks like a run of frames. That may be
content made to look so. Therefore whatever is read then is in `doubt` and the sink flags it, until
`search` has the proof.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, Missing
from parsers.exchange import Incomplete
from parsers.http2.block import PROMISE_BYTES, BlockParts
from parsers.http2.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_MAX_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    PADDED,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WITH_PRIORITY,
    breaks_protocol,
    find_max_frame_size,
    is_plausible,
    unpack_header,
)
from parsers.http2.search import FrameSearch
from parsers.http2.sink import FrameSink
from parsers.limits import ParserLimits
from parsers.stream import NOTHING_MISSING, Piece

MAX_CONTROL_PAYLOAD: Final = 240
"""Bytes kept of a frame that carries no fields: 40 settings, and there are about ten."""

_WITH_FIELDS: Final = (HEADERS, PUSH_PROMISE, CONTINUATION)

# States of a reader.
_LOST: Final = 0
_PREFACE: Final = 1
_BETWEEN: Final = 2
"""The next byte begins a frame, or continues the header of one."""
_CONTENT: Final = 3
"""In the payload of DATA."""
_PAYLOAD: Final = 4
"""In a payload that is collected."""


class FrameReader:
    """Reads the frames of one direction; `joined_late` when its beginning was not seen."""

    __slots__ = (
        "_block",
        "_counts",
        "_direction",
        "_finder",
        "_flags",
        "_is_first",
        "_kind",
        "_left",
        "_limits",
        "_pad",
        "_pad_unread",
        "_partial",
        "_payload",
        "_payload_bound",
        "_sink",
        "_state",
        "_stream_id",
        "doubt",
        "held_bytes",
        "is_in_frame",
        "is_touched",
        "longest",
        "loss",
    )

    def __init__(
        self,
        sink: FrameSink,
        direction: Direction,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        joined_late: bool,
    ) -> None:
        self._sink = sink
        self._direction = direction
        self._limits = limits
        self._counts = counts
        self._state = _LOST if joined_late else _PREFACE
        self._kind = 0
        self._flags = 0
        self._stream_id = 0
        self._left = 0
        self._pad = 0
        self._pad_unread = False
        self._partial = bytearray()
        self._payload = bytearray()
        self._payload_bound = 0
        self._is_first = not joined_late
        self._block = BlockParts()
        self._finder = FrameSearch()
        self.is_in_frame = False
        """A frame, or the field block that it begins, has begun and not ended."""
        self.held_bytes = 0
        """Bytes held of an unfinished frame or field block."""
        self.is_touched = False
        """Something of this direction was seen, or is known to be missing."""
        self.longest = DEFAULT_MAX_FRAME_SIZE
        """Greatest payload that is plausible: what the peer accepts, or what was seen."""
        self.loss: Incomplete | None = Incomplete.JOINED_LATE if joined_late else None
        """Why frames of this direction are not known, the latest reason; None when all are."""
        self.doubt = self.loss
        """The same while it is open whether what is read are frames; None when they surely are."""

    @property
    def is_lost(self) -> bool:
        """Whether bytes are passed over."""
        return self._state == _LOST

    def read(self, piece: Piece) -> None:
        """Read the next piece of the stream."""
        data = piece.data
        end = len(data)
        at = 0
        if data or piece.gap:
            self.is_touched = True
        self.is_in_frame = False
        if self.doubt is not None:
            begins = piece.starts_record and self._state == _BETWEEN and not self._partial
            self._finder.begin_record(aligned=begins)
        while at < end:
            state = self._state
            if state == _BETWEEN:
                at = self._read_header(piece, at, end)
            elif state == _CONTENT:
                at = self._read_content(piece, at, end)
            elif state == _PAYLOAD:
                at = self._collect(piece, at, end)
            elif state == _LOST:
                at = self._search(piece, at, end)
            else:
                at = self._read_preface(piece, at)
        if self.doubt is not None and self._finder.end_record(
            aligned=self._state == _BETWEEN and not self._partial and not self._block.is_open
        ):
            self._trust()
        if piece.gap:
            self._pass_gap(piece)
        if self._state != _BETWEEN or self._partial or self._block.is_open:
            self.is_in_frame = self._state != _LOST
            self.held_bytes = len(self._partial) + len(self._payload) + self._block.size
        else:
            self.held_bytes = 0

    def _read_preface(self, piece: Piece, at: int) -> int:
        """Tell the client's direction, which begins with the preface, from the server's."""
        partial = self._partial
        count = min(len(PREFACE) - len(partial), len(piece.data) - at)
        start = bytes(partial) + piece.data[at : at + count]
        if start == PREFACE[: len(start)]:
            partial += piece.data[at : at + count]
            if len(start) == len(PREFACE):
                partial.clear()
                self._state = _BETWEEN
                self._sink.note_preface(self._direction)
            return at + count
        if not partial:
            self._state = _BETWEEN
            return at
        self._lose(self.doubt or Incomplete.INVALID, NOTHING_MISSING, piece.ktime_ns)
        return at

    def _read_header(self, piece: Piece, at: int, end: int) -> int:
        """Read a frame header, and the payload too when all of it is here; return where reading goes on."""
        data = piece.data
        partial = self._partial
        if partial or end - at < HEADER_BYTES:
            count = min(HEADER_BYTES - len(partial), end - at)
            partial += data[at : at + count]
            at += count
            if len(partial) < HEADER_BYTES:
                return at
            high, low, kind, flags, stream_id = unpack_header(partial, 0)
            partial.clear()
        else:
            high, low, kind, flags, stream_id = unpack_header(data, at)
            at += HEADER_BYTES
        length = high << 8 | low
        if self._is_first:
            self._is_first = False
            if kind != SETTINGS:
                # RFC 9113 §3.4: both sides begin with SETTINGS.
                self._refuse(piece)
                return at
        if self.doubt is not None:
            if not is_plausible(length, kind, flags, stream_id, self.longest):
                self._lose(self.doubt or Incomplete.INVALID, NOTHING_MISSING, piece.ktime_ns)
                return at
            if self._finder.note_frame(length):
                self._trust()
        stream_id &= 0x7FFF_FFFF
        if (self._block.is_open or kind == CONTINUATION) and not self._continues(kind, stream_id, piece):
            return at
        if length > self.longest:
            self.longest = length
        if kind == DATA:
            if not stream_id:
                self._refuse(piece)
                return at
            if length <= end - at and not flags & PADDED:
                self._sink.take_data(
                    self._direction, stream_id, at, length, piece, ends=flags & END_STREAM != 0
                )
                return at + length
        elif breaks_protocol(length, kind, stream_id):
            self._refuse(piece)
            return at
        elif kind == HEADERS and flags & (END_HEADERS | PADDED) == END_HEADERS:
            start = at + 5 if flags & WITH_PRIORITY else at
            after = at + length
            if start <= after <= end and length <= self._limits.max_header_block:
                if self._sink.take_block(
                    self._direction,
                    stream_id,
                    None,
                    data[start:after],
                    piece.origin,
                    piece.ktime_ns,
                    ends=flags & END_STREAM != 0,
                ):
                    return after
                self._lose(self.doubt or Incomplete.INVALID, NOTHING_MISSING, piece.ktime_ns)
                return at
        self._kind = kind
        self._flags = flags
        self._stream_id = stream_id
        self._left = length
        self._begin_payload(piece)
        return at

    def _refuse(self, piece: Piece) -> None:
        """Give up the place because of a frame that no receiver accepts."""
        self._counts["http2_invalid_frames"] += 1
        self._lose(self.doubt or Incomplete.INVALID, NOTHING_MISSING, piece.ktime_ns)

    def _continues(self, kind: int, stream_id: int, piece: Piece) -> bool:
        """Check that a field block is not interrupted (RFC 9113 §6.10); else the place is given up."""
        if not self._block.is_open and self.doubt is not None:
            # Found again in the middle of a block.
            self._block.open(stream_id, piece.origin, ends=False)
            self._block.lose(self.doubt)
            return True
        if self._block.is_open and kind == CONTINUATION and stream_id == self._block.stream_id:
            return True
        self._refuse(piece)
        return False

    def _begin_payload(self, piece: Piece) -> None:
        """Decide what becomes of the payload; an empty one is over at once."""
        kind = self._kind
        if kind == DATA:
            self._pad = 0
            self._pad_unread = self._flags & PADDED != 0
            self._state = _CONTENT
            if not self._left:
                # Only a padded frame without its pad length comes here empty.
                self._refuse(piece)
            return
        if kind in _WITH_FIELDS:
            block = self._block
            if kind != CONTINUATION:
                ends = kind == HEADERS and self._flags & END_STREAM != 0
                block.open(self._stream_id, piece.origin, ends=ends)
            if self._left > self._limits.max_header_block - block.size and block.loss is None:
                self._counts["oversized_heads"] += 1
                block.lose(Incomplete.INVALID)
            self._payload_bound = self._left if block.loss is None else PROMISE_BYTES
        else:
            wanted = kind in (RST_STREAM, SETTINGS, GOAWAY)
            self._payload_bound = MAX_CONTROL_PAYLOAD if wanted else 0
        self._state = _PAYLOAD
        if not self._left:
            self._end_payload(piece)

    def _read_content(self, piece: Piece, at: int, end: int) -> int:
        if self._pad_unread:
            self._pad = piece.data[at]
            self._pad_unread = False
            self._left -= 1
            at += 1
            if self._pad > self._left:
                self._refuse(piece)
                return at
        count = min(end - at, self._left - self._pad)
        if count > 0:
            self._sink.take_data(self._direction, self._stream_id, at, count, piece, ends=False)
            at += count
            self._left -= count
        if self._left <= self._pad:
            padding = min(end - at, self._left)
            at += padding
            self._left -= padding
            self._pad = self._left
        if not self._left:
            self._end_content(piece)
        return at

    def _end_content(self, piece: Piece) -> None:
        self._state = _BETWEEN
        if self._flags & END_STREAM:
            self._sink.end_stream(self._direction, self._stream_id, piece.ktime_ns)

    def _collect(self, piece: Piece, at: int, end: int) -> int:
        """Collect a payload, up to its bound; nothing is copied twice when all of it is here."""
        payload = self._payload
        count = min(end - at, self._left)
        room = self._payload_bound - len(payload)
        if room > 0:
            payload += memoryview(piece.data)[at : at + min(count, room)]
        at += count
        self._left -= count
        if not self._left:
            self._end_payload(piece)
        return at

    def _end_payload(self, piece: Piece) -> None:
        """Take a payload that is here, as far as it was wanted."""
        payload = bytes(self._payload)
        self._payload.clear()
        self._state = _BETWEEN
        kind = self._kind
        if kind in _WITH_FIELDS:
            if not self._block.add(kind, self._flags, payload):
                self._refuse(piece)
            elif self._flags & END_HEADERS:
                self._end_block(piece.ktime_ns)
        elif kind == RST_STREAM:
            code = int.from_bytes(payload, "big") if len(payload) == 4 else None
            self._sink.reset_stream(self._direction, self._stream_id, code, piece.ktime_ns)
        elif kind == GOAWAY and len(payload) >= 4:
            last = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
            self._sink.go_away(self._direction, last, piece.ktime_ns)
        elif kind == SETTINGS:
            size = find_max_frame_size(payload)
            if size is not None:
                self._sink.note_max_frame_size(self._direction, size)

    def _end_block(self, ktime_ns: int) -> None:
        parts = self._block
        block = parts.close()
        if parts.loss is not None:
            self._sink.lose_block(
                self._direction, parts.stream_id, parts.promised_id, parts.loss, parts.origin, ends=parts.ends
            )
        elif not self._sink.take_block(
            self._direction,
            parts.stream_id,
            parts.promised_id,
            block,
            parts.origin,
            ktime_ns,
            ends=parts.ends,
        ):
            self._lose(self.doubt or Incomplete.INVALID, NOTHING_MISSING, ktime_ns)

    def _pass_gap(self, piece: Piece) -> None:
        """Step over unknown bytes as far as the frame they begin in reaches; beyond it the place is lost."""
        state = self._state
        if state == _LOST:
            self._finder.pass_gap(piece.gap)
            return
        count = min(piece.gap, self._left) if state > _BETWEEN else 0
        if count:
            self._left -= count
            if state == _CONTENT:
                self._miss_content(count, piece)
            else:
                self._miss_payload(piece)
        if count < piece.gap:
            self._lose(Incomplete.LOST_BYTES, piece.missing, piece.ktime_ns)

    def _miss_content(self, count: int, piece: Piece) -> None:
        if self._pad_unread:
            # How much of it was padding is not known any more.
            self._pad_unread = False
            self._pad = self._left
            self._sink.miss_data(self._direction, self._stream_id, None, piece.missing, piece.ktime_ns)
        else:
            padding = max(0, self._pad - self._left)
            self._pad -= padding
            if count > padding:
                self._sink.miss_data(
                    self._direction, self._stream_id, count - padding, piece.missing, piece.ktime_ns
                )
        if not self._left:
            self._end_content(piece)

    def _miss_payload(self, piece: Piece) -> None:
        """Give up a payload with missing bytes; what stood before them may name a promised stream."""
        self._payload_bound = 0
        if self._kind in _WITH_FIELDS:
            del self._payload[PROMISE_BYTES:]
            self._block.lose(Incomplete.LOST_BYTES)
        else:
            self._payload.clear()
        if not self._left:
            self._end_payload(piece)

    def _lose(self, cause: Incomplete, missing: Missing, ktime_ns: int) -> None:
        """Give up the place: pass over bytes from here on."""
        if self._block.is_open:
            self._block.lose(cause)
            self._end_block(ktime_ns)
        self._state = _LOST
        self._left = 0
        self._partial.clear()
        self._payload.clear()
        self._finder.start()
        self.loss = self.doubt = cause
        self._counts["lost_places"] += 1
        self._sink.lose_place(self._direction, cause, missing, ktime_ns)

    def _search(self, piece: Piece, at: int, end: int) -> int:
        """Look for frames; return where they begin, or the end of the piece."""
        begins = at == 0 and piece.starts_record
        if begins and piece.data.startswith(PREFACE):
            # It proves nothing: content may hold it too.
            at = len(PREFACE)
        found = self._finder.find(piece.data, at, self.longest, begins=begins)
        if found is None:
            self._counts["discarded_bytes"] += end - at
            return end
        self._counts["discarded_bytes"] += found - at
        self._counts["resynchronised"] += 1
        self._state = _BETWEEN
        return found

    def _trust(self) -> None:
        self.doubt = None
        self._sink.trust(self._direction)
