"""A connection that speaks HTTP/2, from its preface, an upgrade, or somewhere in its middle.

Owns how the frames of both directions meet the life of a connection: its role, its end, what is held. It must
not read frames (`reader`) or know what they mean (`streams`).

Contract: as for every `Connection`. Both directions are read as they come, for neither needs the other: a
stream id pairs them.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, EventKind, Role, SocketEvent
from parsers.connection import Connection
from parsers.exchange import Exchange, Incomplete
from parsers.http2.exchanges import ExchangeBuilder
from parsers.http2.session import Http2Session
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.prologue import Prologue
from parsers.stream import NOTHING_MISSING, Piece

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_DATA: Final = EventKind.DATA
_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_UNKNOWN: Final = Role.UNKNOWN


class Http2Connection(Connection):
    """One connection that speaks HTTP/2.

    `origin` is its first event, or what was spoken before; `unread` is what that left unread, by direction,
    from the client's preface on. `handshake` is the exchange of an upgrade (`Upgrade: h2c`): its request is
    answered on stream 1. With `joined_late` frames are looked for first.
    """

    __slots__ = ("_builder", "_session", "_unread")

    def __init__(
        self,
        origin: SocketEvent | Connection,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        joined_late: bool,
        unread: tuple[list[Piece], list[Piece]] = ([], []),
        handshake: HttpExchange | None = None,
    ) -> None:
        super().__init__(origin, limits, counts)
        self._builder = ExchangeBuilder(self.numbers, self.socket, limits, counts)
        self._builder.prologue = self.prologue
        self._session = Http2Session(self._builder, limits, counts, joined_late=joined_late)
        self._unread = (list(unread[_INGRESS]), list(unread[_EGRESS]))
        if handshake is not None:
            self.role = handshake.role
        if self.role is not _UNKNOWN:
            self._take_role(self.role)
        elif not isinstance(origin, Connection) and origin.role is not _UNKNOWN:
            self._take_role(origin.role)
        if handshake is not None:
            requests = _EGRESS if handshake.role is Role.CLIENT else _INGRESS
            self._session.table.open_handshake(handshake, requests, self.last_ktime_ns)

    @property
    def is_in_message(self) -> bool:
        """Whether either direction is in the middle of a message, or of a frame."""
        return self._session.is_in_message

    @property
    def due_ktime_ns(self) -> int:
        """As for every connection, and when a stream has waited long enough."""
        return min(super().due_ktime_ns, self._session.table.due_ktime_ns)

    def feed(self, event: SocketEvent) -> list[Exchange]:
        """Take an event; return the exchanges that it completes."""
        direction = event.direction
        if (
            event.kind is not _DATA
            or self.is_ignored
            or self.role is _UNKNOWN
            or self._may_have_header
            or not self.streams[direction].follow(event)
        ):
            return super().feed(event)
        self._session.readers[direction].read(
            Piece(event.payload, 0, NOTHING_MISSING, event.ktime_ns, event.origin, True)
        )
        self.last_ktime_ns = event.ktime_ns
        self._take_stock()
        return self._builder.take_out()

    def _take_role(self, role: Role) -> None:
        self.role = role
        self._session.table.take_requests(_EGRESS if role is Role.CLIENT else _INGRESS)

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        reader = self._session.readers[direction]
        for piece in pieces:
            reader.read(piece)
            if piece.ends:
                self._session.table.end_direction(direction, piece.ktime_ns)

    def _pump(self, ktime_ns: int) -> None:  # noqa: ARG002 - pieces are read as they are added
        for direction in (_INGRESS, _EGRESS):
            pieces = self._unread[direction]
            if pieces:
                unread = list(pieces)
                pieces.clear()
                self._add(direction, unread)

    def _take_out(self) -> list[Exchange]:
        return self._builder.take_out()

    def _note_prologue(self, prologue: Prologue) -> None:
        self._builder.prologue = prologue

    def _take_stock(self) -> None:
        session = self._session
        table = session.table
        first, second = self.streams
        self.held_bytes = first.held_bytes + second.held_bytes + session.count_held_bytes()
        if self._header_reader is not None:
            self.held_bytes += self._header_reader.held_bytes
        self.needs_attention = table.open_halves > 0 or (
            session.is_in_message or table.is_waiting or self._is_waiting
        )
        if self.role is _UNKNOWN and table.requests is not None:
            self.role = Role.CLIENT if table.requests is _EGRESS else Role.SERVER

    def _finish(self, cause: Incomplete) -> None:
        if self.closed_ktime_ns is None:
            self._session.table.finish(cause, None)
        else:
            # Whatever else ends the wait for late bytes, the connection has ended before.
            self._session.table.finish(Incomplete.CLOSED, self.last_ktime_ns)

    def _drop(self) -> None:
        self._session = Http2Session(self._builder, self._limits, self._counts, joined_late=True)

    def _expire(self, ktime_ns: int) -> None:
        self._session.table.expire(ktime_ns)
