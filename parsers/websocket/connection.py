"""A connection that left HTTP/1 for WebSocket.

Owns when the session is over, and the handshake's exchange until then. It must not read frames.

Contract: exactly one exchange comes out, the handshake's, with the session as its `application`. It is whole
when both ends sent a close frame, or when the connection ended after at least one end said that it is done:
by a close frame, or by ending its direction (FIN). A reset, an end in the middle of a message, and the end of
the capture are flagged as for any exchange.
"""

from __future__ import annotations

from ebpf.events import Direction, Role
from parsers.connection import Connection
from parsers.counters import INCOMPLETE_COUNTER
from parsers.exchange import Exchange, Incomplete
from parsers.http_exchange import HttpExchange, HttpResponse
from parsers.limits import ParserLimits
from parsers.prologue import Prologue
from parsers.stream import Piece
from parsers.websocket.dialogue import WebSocketDialogue


class WebSocketConnection(Connection):
    """One connection behind the handshake of a WebSocket."""

    __slots__ = ("_dialogue", "_handshake", "_handshake_bytes", "_one_way_bytes", "_out", "_speaker")

    def __init__(
        self,
        origin: Connection,
        limits: ParserLimits,
        counts: dict[str, int],
        handshake: HttpExchange,
        response: HttpResponse,
        unread: tuple[list[Piece], list[Piece]],
    ) -> None:
        """Take over from `origin`; `response` is that of `handshake`, `unread` what follows, by direction."""
        super().__init__(origin, limits, counts)
        self.role = handshake.role
        self._handshake = handshake
        self._handshake_bytes = _count_bytes(handshake)
        self._dialogue = WebSocketDialogue(response, handshake.role, limits, counts)
        self._out: list[Exchange] = []
        self._speaker = Direction.EGRESS
        self._one_way_bytes = 0
        for direction in (Direction.INGRESS, Direction.EGRESS):
            self._add(direction, unread[direction])

    @property
    def is_in_message(self) -> bool:
        """Whether bytes may have passed that were not captured.

        In the middle of a message, as always; and once one direction spoke alone for so long that the kernel
        side may have stopped copying it: its budget is at least a header block, and ends without a sign when
        it ends with a call.
        """
        return self._dialogue.is_in_message or self._one_way_bytes > self._limits.max_header_block // 2

    def _note_prologue(self, prologue: Prologue) -> None:
        """Do nothing: the handshake has it."""

    def _take_role(self, role: Role) -> None:
        """Do nothing: the handshake showed the role."""

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        reader = self._dialogue.readers[direction]
        if direction is not self._speaker:
            self._speaker = direction
            self._one_way_bytes = 0
        for piece in pieces:
            self._one_way_bytes += len(piece.data) + piece.gap
            if piece.data:
                reader.receive(piece.data, piece.ktime_ns, starts_record=piece.starts_record)
            if piece.gap:
                reader.miss(piece.gap, piece.missing, piece.ktime_ns)
            if piece.ends:
                reader.end(piece.ktime_ns)

    def _pump(self, ktime_ns: int) -> None:  # noqa: ARG002 - frames are read as they are added
        if self._dialogue.is_over and not self.is_ignored:
            self._emit(self._dialogue.failure)
            self.ignore()

    def _take_out(self) -> list[Exchange]:
        out, self._out = self._out, []
        return out

    def _take_stock(self) -> None:
        self.needs_attention = self._is_waiting or (not self.is_ignored and self.is_in_message)
        first, second = self.streams
        self.held_bytes = first.held_bytes + second.held_bytes
        if not self.is_ignored:
            self.held_bytes += self._dialogue.held_bytes + self._handshake_bytes

    def _finish(self, cause: Incomplete) -> None:
        if self.is_ignored:
            return
        dialogue = self._dialogue
        if self.closed_ktime_ns is None:
            self._emit(dialogue.failure or cause)
            return
        was_ended = dialogue.was_ended
        for reader in dialogue.readers:
            reader.end(self.last_ktime_ns)
        self._emit(dialogue.failure or (None if was_ended else Incomplete.CLOSED))

    def _drop(self) -> None:
        """Do nothing: what is held is let go with the session."""

    def _expire(self, ktime_ns: int) -> None:
        """Do nothing: nothing but late bytes and the end is waited for."""

    def _emit(self, incomplete: Incomplete | None) -> None:
        exchange = self._handshake
        exchange.application = self._dialogue.build_session()
        if exchange.incomplete is None and incomplete is not None:
            exchange.incomplete = incomplete
            self._counts[INCOMPLETE_COUNTER[incomplete]] += 1
        self._out.append(exchange)


def _count_bytes(handshake: HttpExchange) -> int:
    """Return the bytes of the fields that are held with an exchange."""
    messages = (message for message in (handshake.request, handshake.response) if message is not None)
    return sum(len(name) + len(value) for message in messages for name, value in message.headers)
