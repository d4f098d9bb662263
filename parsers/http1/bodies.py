"""How each framing takes what passes of a body: bytes, gaps, and the end of the direction.

Owns where in its body a message is, one object per message that has one. It must not look for the next
message, and it must not decide which framing a message has: `framing` does.

Contract: a body takes at most what belongs to it. `end` says whether it goes on, and how it ended.

| framing | takes | a gap | the end of the direction |
|---|---|---|---|
| length | as many bytes as were declared | counts | cuts the body |
| chunked | lines of the coding, and chunks | counts in a chunk; loses the place in a line | cuts the body |
| until the end | everything | counts | completes the body |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from parsers.http1.chunked import ChunkedLines, Found
from parsers.http1.framing import Framing
from parsers.http1.message import Message, RecordT
from parsers.http1.outcome import IN_CHUNKED, IN_LENGTH, UNTIL_END
from parsers.limits import ParserLimits
from parsers.stream import Piece

OPEN: Final = 0
"""More of the body is to come."""
WHOLE: Final = 1
"""All of the body has passed."""
BROKEN: Final = 2
"""What passed cannot stand in a body of this framing."""

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_MORE: Final = Found.MORE
_CHUNK: Final = Found.CHUNK
_INVALID: Final = Found.INVALID


class Body(ABC):
    """The place in the body of one message."""

    __slots__ = ("end", "needed")

    state: ClassVar[int]
    """State of the reader while the body is open."""
    ends_with_direction: ClassVar[bool] = False
    """Whether the end of the direction completes the body."""

    end: int
    needed: int
    """Bytes still to come of the declared length, or of the chunk; 0 between chunks."""

    @property
    def held_bytes(self) -> int:
        """Bytes held outside the message."""
        return 0

    @abstractmethod
    def take(
        self, data: bytes, at: int, message: Message[RecordT], ktime_ns: int, limits: ParserLimits
    ) -> int:
        """Take bytes of `data` from `at` on; return the position behind the last one taken."""

    def step_over(self, piece: Piece, message: Message[RecordT]) -> int | None:
        """Account for the gap of a piece; return how much of it is body, None when the place is lost."""
        count = min(piece.gap, self.needed)
        message.step_over(count, piece.missing, piece.ktime_ns)
        message.wire_size += count
        self.needed -= count
        return count


class LengthBody(Body):
    """A body of declared length, which is not 0."""

    __slots__ = ()

    state = IN_LENGTH

    def __init__(self, length: int) -> None:
        self.end = OPEN
        self.needed = length

    def take(
        self, data: bytes, at: int, message: Message[RecordT], ktime_ns: int, limits: ParserLimits
    ) -> int:
        """Take as much as is still to come."""
        count = len(data) - at
        needed = self.needed
        if count >= needed:
            count = needed
            self.end = WHOLE
        message.keep(data, at, count, ktime_ns, limits)
        self.needed = needed - count
        return at + count

    def step_over(self, piece: Piece, message: Message[RecordT]) -> int | None:
        """Account for a gap, which may complete the body."""
        count = super().step_over(piece, message)
        if not self.needed:
            self.end = WHOLE
        return count


class ChunkedBody(Body):
    """A body in the chunked coding (RFC 9112 §7.1)."""

    __slots__ = ("_lines",)

    state = IN_CHUNKED

    def __init__(self, limits: ParserLimits) -> None:
        self.end = OPEN
        self.needed = 0
        self._lines = ChunkedLines(limits)

    @property
    def held_bytes(self) -> int:
        """Bytes held of a line that is not whole, and of trailers."""
        return self._lines.held_bytes

    def take(
        self, data: bytes, at: int, message: Message[RecordT], ktime_ns: int, limits: ParserLimits
    ) -> int:
        """Take lines and chunks up to the end of the body."""
        start = at
        size = len(data)
        lines = self._lines
        while at < size and self.end == OPEN:
            needed = self.needed
            if needed:
                count = min(size - at, needed)
                message.keep(data, at, count, ktime_ns, limits)
                self.needed = needed - count
                at += count
                continue
            found, at = lines.read(data, at, message.fields)
            if ktime_ns > message.end_ktime_ns:
                message.end_ktime_ns = ktime_ns
            if found is _CHUNK:
                self.needed = lines.chunk_size
            elif found is _INVALID:
                self.end = BROKEN
            elif found is not _MORE:
                self.end = WHOLE
                trailers = lines.take_trailers()
                if trailers is not None:
                    message.record.trailers = trailers.headers[: limits.max_headers]
                    message.fields.anomalies += trailers.anomalies
        message.wire_size += at - start
        return at

    def step_over(self, piece: Piece, message: Message[RecordT]) -> int | None:
        """Account for a gap inside a chunk; in a line, the place in the coding is lost."""
        return super().step_over(piece, message) if self.needed else None


class BodyUntilEnd(Body):
    """A body that the end of the direction ends; only a response has one."""

    __slots__ = ()

    state = UNTIL_END
    ends_with_direction = True

    def __init__(self, _: ParserLimits) -> None:
        self.end = OPEN
        self.needed = 0

    def take(
        self, data: bytes, at: int, message: Message[RecordT], ktime_ns: int, limits: ParserLimits
    ) -> int:
        """Take everything."""
        message.keep(data, at, len(data) - at, ktime_ns, limits)
        return len(data)

    def step_over(self, piece: Piece, message: Message[RecordT]) -> int | None:
        """Account for a gap, whatever its length."""
        message.step_over(piece.gap, piece.missing, piece.ktime_ns)
        return piece.gap


BODIES: Final[dict[Framing, type[ChunkedBody] | type[BodyUntilEnd]]] = {
    Framing.CHUNKED: ChunkedBody,
    Framing.UNTIL_END: BodyUntilEnd,
}
"""The framings of a body of unknown length."""
