"""Bytes of a connection as long as the direction of its requests is unknown.

Owns what is kept until then. Contract: on a connection seen from birth, the first bytes show it soon. After a
late join or a loss, only the whole beginning of a message shows it: what cannot become one is passed over.
"""

from __future__ import annotations

from ebpf.events import Direction
from parsers.http1.beginnings import may_begin_message
from parsers.http1.sides import detect_side
from parsers.limits import ParserLimits
from parsers.stream import Piece


class UndecidedSides:
    """What both directions of one connection carried so far."""

    __slots__ = ("_limits", "passed_over", "pieces")

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self.pieces: tuple[list[Piece], list[Piece]] = ([], [])
        """By direction."""
        self.passed_over: Direction | None = None
        """Direction in which bytes were passed over since the other one carried any."""

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept."""
        return sum(len(piece.data) for kept in self.pieces for piece in kept)

    def is_full(self, direction: Direction) -> bool:
        """Whether more pieces are kept of a direction than the bound on reordering allows."""
        return len(self.pieces[direction]) > self._limits.max_reorder_pieces

    def add(self, direction: Direction, pieces: list[Piece], *, is_sure: bool) -> bool | None:
        """Keep pieces; return whether their direction carries requests, None when that does not show yet.

        `is_sure` says that every byte since birth is accounted for.
        """
        kept = self.pieces[direction]
        kept += pieces
        if self.passed_over is not direction:
            self.passed_over = None
        start = b"".join([piece.data for piece in kept])
        side = detect_side(start, joined_late=not is_sure)
        if side is not None or is_sure:
            return side
        limit = self._limits.max_header_block
        has_gap = any(piece.gap for piece in kept[:-1])
        if has_gap or self.is_full(direction) or not may_begin_message(start, limit):
            # Not from the first record that is kept on; from the newest one, perhaps.
            if len(kept) > 1:
                self.passed_over = direction
            del kept[:-1]
            start = kept[0].data if kept else b""
            side = detect_side(start, joined_late=True)
            if side is None and not may_begin_message(start, limit):
                self.passed_over = direction
                kept.clear()
        return side
