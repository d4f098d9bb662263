"""One direction of a TCP connection: segments by sequence number in, pieces by position in the stream held.

Owns sequence numbers, duplicates and overlaps, and what waits. It must not decide when to stop waiting
(`tcp_flow`) or look into the bytes.

Contract: positions count from 0 where the direction was first seen, whatever the sequence number wraps to.
Held pieces stand in stream order and don't overlap. Held bytes whose copies differ are
unknown: neither copy is chosen, they are counted in `conflicting_bytes` and come out as a gap. They are held
until the receiver has acknowledged them; a copy that comes later changes nothing for it, nor here.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from operator import attrgetter
from typing import Final, NamedTuple

from ebpf.packets.limits import PacketLimits

_SEQUENCE_MASK: Final = 0xFFFF_FFFF
_HALF: Final = 1 << 31
_position = attrgetter("position")


class Piece(NamedTuple):
    """A stretch of the stream; `length` beyond the payload is unknown."""

    position: int
    length: int
    payload: bytes
    unix_ns: int
    needs: int
    """How far the sender had received the other direction: what stands before that came first."""
    ends: bool
    """Nothing follows."""
    is_contested: bool = False
    """Copies differed behind the payload: no further one is believed."""

    @property
    def end(self) -> int:
        """Position behind it."""
        return self.position + self.length


class TcpStream:
    """One direction. `counts` is added to: `duplicate_bytes`, `conflicting_bytes`."""

    __slots__ = (
        "_base",
        "_counts",
        "_limits",
        "acknowledged",
        "acknowledged_unix_ns",
        "end",
        "held",
        "held_bytes",
        "is_acknowledged",
        "next",
    )

    def __init__(self, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._base: int | None = None
        self.next = 0
        """Position of the next byte that leaves here."""
        self.acknowledged = 0
        """Up to where the receiver has everything."""
        self.acknowledged_unix_ns = 0
        """When it said so of the first byte that has not left here."""
        self.is_acknowledged = False
        """Whether anything of the receiver was captured."""
        self.end: int | None = None
        """Position behind the last byte, known from FIN on."""
        self.held: list[Piece] = []
        self.held_bytes = 0

    @property
    def is_known(self) -> bool:
        """Whether it is known which sequence number position 0 has."""
        return self._base is not None

    @property
    def is_over(self) -> bool:
        """Whether its end has left here."""
        return self.end is not None and self.next >= self.end and not self.held

    @property
    def hole(self) -> int:
        """Bytes missing before the first held piece, or before what was acknowledged when nothing is held."""
        known = self.held[0].position if self.held else self.acknowledged
        return max(0, known - self.next)

    @property
    def is_hole_acknowledged(self) -> bool:
        """Whether the receiver has bytes that are missing here, so that they will not be repeated."""
        return self.acknowledged > self.next and self.hole > 0

    @property
    def has_data(self) -> bool:
        """Whether anything was sent since it began, also if it is missing."""
        return self.next > 0 or self.acknowledged > 0 or self.held_bytes > 0

    def has_data_before(self, sequence: int) -> bool:
        """Whether anything was sent before this sequence number, or is known to have been."""
        return self.has_data or (self._base is not None and self.locate(sequence) > 0)

    def begin(self, sequence: int) -> None:
        """Let position 0 be at this sequence number."""
        self._base = sequence & _SEQUENCE_MASK

    def begins_at(self, sequence: int) -> bool:
        """Whether position 0 is at this sequence number."""
        return self._base is not None and self._base == sequence & _SEQUENCE_MASK

    def locate(self, sequence: int) -> int:
        """Return the position of a sequence number: the one nearest to what comes next, possibly negative."""
        assert self._base is not None
        distance = (sequence - self._base - self.next + _HALF & _SEQUENCE_MASK) - _HALF
        return self.next + distance

    def is_plausible(self, sequence: int) -> bool:
        """Whether a sequence number can be of this connection."""
        distance = self.locate(sequence) - self.next
        return -self._limits.max_behind <= distance <= self._limits.max_jump

    def acknowledge(self, sequence: int, unix_ns: int) -> int:
        """Take an acknowledgement; return the position up to which its sender had received."""
        self.is_acknowledged = True
        position = self.locate(sequence)
        if self.end is not None:
            position = min(position, self.end)  # FIN counts as one byte
        if self.acknowledged < position <= self.next + self._limits.max_jump:
            if self.acknowledged <= self.next:
                self.acknowledged_unix_ns = unix_ns
            self.acknowledged = position
        return min(position, self.acknowledged)

    def insert(self, piece: Piece) -> None:
        """Hold what is new of a piece."""
        if self.end is not None and piece.end > self.end:
            self._counts["conflicting_bytes"] += piece.end - self.end
            piece = _cut_to(piece, self.end)
        if piece.ends:
            if self.end is not None or piece.end < self._highest:
                piece = piece._replace(ends=False)
            else:
                self.end = piece.end
                self.acknowledged = min(self.acknowledged, piece.end)
        if piece.position < self.next:
            self._counts["duplicate_bytes"] += min(piece.end, self.next) - piece.position
            piece = _cut_from(piece, self.next)
        if not self.held or piece.position >= self.held[-1].end:
            self._hold(piece)
        else:
            self._merge(piece)

    def take(self) -> Piece:
        """Give away the first held piece."""
        piece = self.held.pop(0)
        self.held_bytes -= len(piece.payload)
        self.next = piece.end
        return piece

    def skip(self, length: int) -> None:
        """Give up on the next bytes."""
        self.next += length

    def drop(self) -> None:
        """Give up on everything that is held."""
        self.held.clear()
        self.held_bytes = 0

    @property
    def _highest(self) -> int:
        return max(self.next, self.held[-1].end if self.held else 0)

    def _hold(self, piece: Piece) -> None:
        if piece.length or piece.ends:
            insort(self.held, piece, key=_position)
            self.held_bytes += len(piece.payload)

    def _merge(self, piece: Piece) -> None:
        """Hold what no held piece covers; compare the rest with what is held."""
        index = max(0, bisect_right(self.held, piece.position, key=_position) - 1)
        while index < len(self.held) and (piece.length or piece.ends):
            other = self.held[index]
            if other.position >= piece.end:
                break
            if other.end > piece.position:
                if piece.position < other.position:
                    self._hold(_cut_to(piece, other.position)._replace(ends=False))
                    index += 1
                    piece = _cut_from(piece, other.position)
                agrees = self._compare(index, other, piece)
                piece = _cut_from(piece, other.end)
                if not agrees:
                    piece = piece._replace(payload=b"", is_contested=True)
            index += 1
        self._hold(piece)

    def _compare(self, index: int, other: Piece, piece: Piece) -> bool:
        """Compare a new piece with a held one that begins no later; return whether they agree."""
        end = min(other.end, piece.end)
        start = piece.position - other.position
        held = other.payload[start : end - other.position]
        again = piece.payload[: end - piece.position]
        both = min(len(held), len(again))
        if held[:both] != again[:both]:
            # What follows in either segment goes too: it does not begin where a segment begins.
            self._counts["conflicting_bytes"] += end - piece.position
            self._replace(index, other._replace(payload=other.payload[:start], is_contested=True))
            return False
        self._counts["duplicate_bytes"] += both
        joins = start + len(held) == len(other.payload)
        if len(again) > len(held) and joins and not other.is_contested:
            self._replace(index, other._replace(payload=other.payload + again[len(held) :]))
        return True

    def _replace(self, index: int, piece: Piece) -> None:
        self.held_bytes += len(piece.payload) - len(self.held[index].payload)
        self.held[index] = piece


def _cut_from(piece: Piece, position: int) -> Piece:
    """Return what of a piece stands at or behind a position."""
    passed = min(max(0, position - piece.position), piece.length)
    return piece._replace(
        position=piece.position + passed, length=piece.length - passed, payload=piece.payload[passed:]
    )


def _cut_to(piece: Piece, position: int) -> Piece:
    """Return what of a piece stands before a position."""
    length = min(max(0, position - piece.position), piece.length)
    return piece._replace(length=length, payload=piece.payload[:length])
