"""One direction of one connection: positioned bytes in any order, pieces in stream order out.

Owns order, duplicates and gaps. It must not look into the bytes, and it has no clock: time is that of the
events.

Contract: pieces come out in stream order and cover the stream without overlap; what is missing comes out as
a piece with a length and causes, never as filler. At most `ParserLimits.max_reorder_pieces` pieces and
`ParserLimits.max_stream_buffer` bytes wait for an earlier one.

A jump in position is judged so:

| what jumps | what it means |
|---|---|
| an event with payload and causes in `missing` | the kernel side says that bytes were lost: a gap at once |
| anything else | a matter of order, for `reorder_ns` or until a bound is hit; then a gap |
| an event whose payload is shorter than its length | a gap behind the payload, at once |
"""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from ebpf.events import Missing, Origin, SocketEvent
from parsers.limits import ParserLimits

NOTHING_MISSING = Missing(0)


class Piece(NamedTuple):
    """A stretch of the stream: bytes, then `gap` unknown bytes; `ends` says that nothing follows."""

    data: bytes
    gap: int
    missing: Missing
    ktime_ns: int
    """When it passed; for a gap found by a jump, the last time known before it. That of `origin`, and here
    too because it is read several times for each piece."""
    origin: Origin
    starts_record: bool
    """`data` begins where a socket call's bytes, or a captured chunk of them, began."""
    ends: bool = False


NO_PIECE = Piece(b"", 0, NOTHING_MISSING, 0, Origin(0), False)
"""In place of a piece where there is none."""


class ByteStream:
    """Puts the pieces of one direction in order.

    `position` is where the stream begins; None takes it from whatever arrives first.
    """

    __slots__ = (
        "_counts",
        "_held",
        "_last_ktime_ns",
        "_limits",
        "_next",
        "held_bytes",
        "held_since_ktime_ns",
    )

    def __init__(self, limits: ParserLimits, counts: dict[str, int], position: int | None) -> None:
        self._limits = limits
        self._counts = counts
        self._next = position
        self._held: list[tuple[int, int, Piece]] = []
        self._last_ktime_ns = 0
        self.held_bytes = 0
        self.held_since_ktime_ns = 0
        """Since when the pieces that are held wait; meaningless while there are none."""

    @property
    def is_waiting(self) -> bool:
        """Whether pieces are held back for an earlier one."""
        return bool(self._held)

    @property
    def position(self) -> int:
        """Where the pieces that came out so far end; 0 as long as none did."""
        return self._next or 0

    @property
    def is_untouched(self) -> bool:
        """Whether nothing came in this direction so far, not even a gap."""
        return not self._next and not self._held

    def follow(self, event: SocketEvent) -> bool:
        """Take a DATA event whose payload, not empty, is what comes next; else False, nothing being taken."""
        length = event.length
        if event.position != self._next or not length or length != len(event.payload) or self._held:
            return False
        self._next += length
        self._last_ktime_ns = event.ktime_ns
        return True

    def receive(self, event: SocketEvent) -> list[Piece]:
        """Take a DATA event; return the pieces that are now in order."""
        payload = event.payload
        if self.follow(event):
            return [Piece(payload, 0, NOTHING_MISSING, event.ktime_ns, event.origin, True)]
        length = event.length
        gap = length - len(payload)
        if gap < 0:
            payload = payload[:length]
            gap = 0
        piece = Piece(
            payload, gap, event.missing if gap else NOTHING_MISSING, event.ktime_ns, event.origin, True
        )
        return self._place(event.position, length, piece, event.missing)

    def end(self, event: SocketEvent) -> list[Piece]:
        """Take an ENDED event: the direction is over at its position."""
        piece = Piece(b"", 0, NOTHING_MISSING, event.ktime_ns, event.origin, False, True)
        return self._place(event.position, 0, piece, NOTHING_MISSING)

    def expire(self, ktime_ns: int) -> list[Piece]:
        """Give up on bytes that others have waited for since `reorder_ns` before `ktime_ns`."""
        pieces: list[Piece] = []
        while self._held and ktime_ns - self.held_since_ktime_ns >= self._limits.reorder_ns:
            pieces += self._skip_to_held(NOTHING_MISSING)
        return pieces

    def drain(self) -> list[Piece]:
        """Give up on everything that is waited for; return all that is held."""
        pieces: list[Piece] = []
        while self._held:
            pieces += self._skip_to_held(NOTHING_MISSING)
        return pieces

    def _place(self, position: int, length: int, piece: Piece, missing: Missing) -> list[Piece]:
        if self._next is None:
            self._next = position
            if missing:
                # How much is lost before it is unknown.
                self._next -= 1
        if position > self._next:
            if not self._held:
                self.held_since_ktime_ns = piece.ktime_ns
            insort(self._held, (position, length, piece))
            self.held_bytes += len(piece.data)
            if missing and piece.data:
                return self._skip_up_to(position, missing)
            pieces: list[Piece] = []
            while (
                len(self._held) > self._limits.max_reorder_pieces
                or self.held_bytes > self._limits.max_stream_buffer
            ):
                pieces += self._skip_to_held(NOTHING_MISSING)
            return pieces
        return (
            self._append(position, length, piece, [])
            if not self._held
            else self._append_all(position, length, piece)
        )

    def _append_all(self, position: int, length: int, piece: Piece) -> list[Piece]:
        pieces: list[Piece] = []
        self._append(position, length, piece, pieces)
        self._release(pieces)
        return pieces

    def _release(self, pieces: list[Piece]) -> None:
        """Move what is no longer ahead of the stream from the held pieces to `pieces`."""
        assert self._next is not None
        while self._held and self._held[0][0] <= self._next:
            position, length, piece = self._held.pop(0)
            self.held_bytes -= len(piece.data)
            self._append(position, length, piece, pieces)
        if self._held:
            self.held_since_ktime_ns = min(entry[2].ktime_ns for entry in self._held)

    def _skip_up_to(self, position: int, missing: Missing) -> list[Piece]:
        pieces: list[Piece] = []
        while self._held and self._held[0][0] <= position:
            pieces += self._skip_to_held(missing)
        return pieces

    def _skip_to_held(self, missing: Missing) -> list[Piece]:
        """Declare a gap up to the first held piece; return the gap and all that follows without another."""
        assert self._next is not None
        position, _, first = self._held[0]
        gap = position - self._next
        pieces: list[Piece] = []
        if gap > 0:
            self._count_gap(gap)
            self._next = position
            origin = first.origin._replace(ktime_ns=self._last_ktime_ns)
            pieces.append(Piece(b"", gap, missing, self._last_ktime_ns, origin, False))
        self._release(pieces)
        return pieces

    def _append(self, position: int, length: int, piece: Piece, pieces: list[Piece]) -> list[Piece]:
        """Append what of a piece is new; with bytes that passed before, the record start is dropped."""
        assert self._next is not None
        passed = self._next - position
        if passed > 0:
            if passed >= length and not piece.ends:
                self._counts["duplicate_bytes"] += length
                return pieces
            if passed > 0 and not piece.ends:
                self._counts["duplicate_bytes"] += passed
                known = piece.data[passed:]
                gap = length - passed - len(known)
                piece = piece._replace(data=known, gap=gap, starts_record=False)
                length -= passed
        if piece.gap:
            self._count_gap(piece.gap)
        self._next += length
        self._last_ktime_ns = piece.ktime_ns
        pieces.append(piece)
        return pieces

    def _count_gap(self, length: int) -> None:
        self._counts["gaps"] += 1
        self._counts["gap_bytes"] += length
