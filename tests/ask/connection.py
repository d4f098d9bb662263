"""A connection that speaks ASK: lines in both directions, paired in their order.

A line that is cut by missing bytes is given up, and the pairs behind it are flagged: which answer belongs to
which question is not known any more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ebpf.events import Direction, Role, SocketEvent
from parsers.connection import Connection, begins_late
from parsers.exchange import Exchange, Incomplete
from parsers.limits import ParserLimits
from parsers.prologue import Prologue
from parsers.stream import Piece

MAX_LINE = 256
"""Bytes of a line; a longer one is given up as if it were lost. No word is that long."""
MAX_OPEN = 16
"""Questions that await their answer; the oldest is emitted without one."""


@dataclass(slots=True)
class AskExchange(Exchange):
    """One question and its answer."""

    question: bytes
    answer: bytes | None
    asked_ktime_ns: int
    answered_ktime_ns: int | None

    @property
    def start_ktime_ns(self) -> int:
        """When the question was asked."""
        return self.asked_ktime_ns

    @property
    def end_ktime_ns(self) -> int:
        """When it was answered, or asked where it was not."""
        return self.asked_ktime_ns if self.answered_ktime_ns is None else self.answered_ktime_ns

    @property
    def held_bytes(self) -> int:
        """Bytes of both words."""
        return len(self.question) + len(self.answer or b"")


class AskConnection(Connection):
    """One connection, from the first event seen of it."""

    __slots__ = ("_doubt", "_lines", "_open", "_out")

    def __init__(self, origin: SocketEvent, limits: ParserLimits, counts: dict[str, int]) -> None:
        super().__init__(origin, limits, counts)
        self.role = origin.role
        self._lines = (bytearray(), bytearray())
        self._open: deque[AskExchange] = deque()
        self._out: list[Exchange] = []
        self._doubt = Incomplete.JOINED_LATE if begins_late(origin) else None

    @property
    def is_in_message(self) -> bool:
        """Whether either direction is in the middle of a line."""
        return any(self._lines)

    def _take_role(self, role: Role) -> None:
        self.role = role

    def _note_prologue(self, prologue: Prologue) -> None:
        """Do nothing: no exchange of this kind has one."""

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        line = self._lines[direction]
        is_request = (direction is Direction.EGRESS) == (self.role is Role.CLIENT)
        for piece in pieces:
            line += piece.data
            while (end := line.find(b"\n")) >= 0:
                verb, _, word = bytes(line[:end]).partition(b" ")
                del line[: end + 1]
                if is_request and verb == b"ASK":
                    self._ask(word, piece)
                elif not is_request and verb == b"GOT":
                    self._answer(word, piece)
                else:
                    self._doubt = Incomplete.INVALID
            if piece.gap or len(line) > MAX_LINE:
                line.clear()
                self._doubt = Incomplete.LOST_BYTES

    def _ask(self, word: bytes, piece: Piece) -> None:
        self._open.append(
            AskExchange(
                self.connection_id,
                self.numbers.begin_request(piece.origin),
                self.socket,
                self.role,
                piece.origin,
                word,
                None,
                piece.ktime_ns,
                None,
                incomplete=self._doubt,
            )
        )
        if len(self._open) > MAX_OPEN:
            self._emit(Incomplete.EVICTED)

    def _answer(self, word: bytes, piece: Piece) -> None:
        if not self._open:
            self._doubt = Incomplete.LOST_BYTES
            return
        self._open[0].answer, self._open[0].answered_ktime_ns = word, piece.ktime_ns
        self._emit(self._doubt)

    def _emit(self, cause: Incomplete | None) -> None:
        exchange = self._open.popleft()
        exchange.incomplete = exchange.incomplete or cause
        self._out.append(exchange)

    def _pump(self, ktime_ns: int) -> None:
        """Do nothing: lines are read as they are added."""

    def _take_out(self) -> list[Exchange]:
        out, self._out = self._out, []
        return out

    def _take_stock(self) -> None:
        first, second = self.streams
        self.needs_attention = self._is_waiting
        self.held_bytes = first.held_bytes + second.held_bytes + sum(map(len, self._lines))

    def _finish(self, cause: Incomplete) -> None:
        while self._open:
            self._emit(cause)

    def _drop(self) -> None:
        self._open.clear()
        self._lines = (bytearray(), bytearray())

    def _expire(self, ktime_ns: int) -> None:
        """Do nothing: an answer may take as long as it takes."""
