"""What is the same for every connection, whatever is spoken over it: its streams, its times, its end.

Owns the order of both directions' bytes, the role, when a connection is over, and taking headers of the PROXY
protocol off its beginning. It must not look into the bytes behind them: a subclass for each protocol does,
and it has no clock: time is that of the events.

Contract: a subclass gets in-order pieces through `_add` and reads on in `_pump`; what it has completed comes
out of `_take_out`. When a connection goes over to another protocol, `successor` is set: the tracker
puts the successor in its place and calls its `begin`. A connection with a successor is not fed
again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from ebpf.events import Direction, EventKind, Role, SocketEvent, SocketInfo
from parsers.exchange import Exchange, Incomplete
from parsers.limits import ParserLimits
from parsers.numbering import ExchangeNumbers
from parsers.prologue import Prologue, add_headers
from parsers.proxy_protocol import HeaderReader, may_begin_header
from parsers.stream import ByteStream, Piece

NEVER_NS: Final = 1 << 63
"""A time that does not come."""

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_DATA: Final = EventKind.DATA
_ENDED: Final = EventKind.ENDED
_CLOSED: Final = EventKind.CLOSED
_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_UNKNOWN: Final = Role.UNKNOWN


def begins_late(event: SocketEvent) -> bool:
    """Whether a connection with this first event was in use before.

    Every connection begins with OPENED; one that does not was given up before, so its past is unknown.
    """
    return event.joined_late or (event.kind is _DATA and event.position > 0)


class Connection(ABC):
    """One connection while one protocol is spoken. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_counts",
        "_header_direction",
        "_header_reader",
        "_limits",
        "_may_have_header",
        "accounted_bytes",
        "alarm_ktime_ns",
        "asked_ktime_ns",
        "closed_ktime_ns",
        "connection_id",
        "held_bytes",
        "is_finished",
        "is_ignored",
        "last_ktime_ns",
        "needs_attention",
        "numbers",
        "prologue",
        "role",
        "socket",
        "streams",
        "successor",
    )

    def __init__(
        self, origin: SocketEvent | Connection, limits: ParserLimits, counts: dict[str, int]
    ) -> None:
        """Begin with the first event of a connection, or take over from what was spoken before."""
        self._limits = limits
        self._counts = counts
        self.connection_id: int = origin.connection_id
        self.held_bytes = 0
        """Bytes held for this connection."""
        self.needs_attention = False
        """Whether time alone may matter: in the middle of a message, or something is waited for."""
        self.accounted_bytes = 0
        """`held_bytes` as the tracker last counted it."""
        self.alarm_ktime_ns = NEVER_NS
        """When the tracker looks at this connection next."""
        self.asked_ktime_ns: int | None = None
        """When the tracker last asked for an uncaptured tail."""
        self.is_finished = False
        self.is_ignored = False
        self.successor: Connection | None = None
        """What takes over from here, since the protocol changed."""
        self.socket: SocketInfo = origin.socket
        self.numbers: ExchangeNumbers
        """Shared with what takes over."""
        self.streams: tuple[ByteStream, ByteStream]
        """By direction."""
        self.role = _UNKNOWN
        """Whose socket this is, as far as it is known."""
        self.last_ktime_ns: int
        """Time of the latest event."""
        self.closed_ktime_ns: int | None = None
        """When it was closed; bytes received before may still be read afterwards."""
        self.prologue: Prologue | None = None
        """What stood in front of what is spoken; None when nothing did."""
        self._header_reader: HeaderReader | None = None
        """While a direction begins with a header of the PROXY protocol, or may."""
        self._header_direction: Direction
        """The direction that it reads."""
        if isinstance(origin, Connection):
            self.role = origin.role
            self.numbers = origin.numbers
            self.streams = origin.streams
            self.last_ktime_ns = origin.last_ktime_ns
            self.closed_ktime_ns = origin.closed_ktime_ns
            self.accounted_bytes = origin.accounted_bytes
            self.alarm_ktime_ns = origin.alarm_ktime_ns
            self.asked_ktime_ns = origin.asked_ktime_ns
            self.prologue = origin.prologue
            self._may_have_header = False
        else:
            is_late = origin.kind is _DATA and origin.position > 0
            begins_at = None if is_late else 0
            self.numbers = ExchangeNumbers(origin)
            self.streams = (ByteStream(limits, counts, begins_at), ByteStream(limits, counts, begins_at))
            self.last_ktime_ns = origin.ktime_ns
            self._may_have_header = not (is_late or origin.joined_late)
            """A header may still come; False as soon as anything else came in the direction of requests."""

    @property
    @abstractmethod
    def is_in_message(self) -> bool:
        """Whether either direction is in the middle of a message."""

    @property
    def due_ktime_ns(self) -> int:
        """When `expire` has something to decide; `NEVER_NS` when nothing waits."""
        due = NEVER_NS
        if self.closed_ktime_ns is not None:
            due = self.closed_ktime_ns + self._limits.close_grace_ns
        for stream in self.streams:
            if stream.is_waiting:
                due = min(due, stream.held_since_ktime_ns + self._limits.reorder_ns)
        return due

    @property
    def cookie(self) -> int:
        """Key under which the source finds the live connection."""
        return self.socket.cookie

    def begin(self) -> list[Exchange]:
        """Read what the predecessor left unread; return the exchanges that it completes."""
        self._pump(self.last_ktime_ns)
        self._take_stock()
        return self._take_out()

    def feed(self, event: SocketEvent) -> list[Exchange]:
        """Take an event; return the exchanges that it completes."""
        kind = event.kind
        if self.role is _UNKNOWN and event.role is not _UNKNOWN:
            self._take_role(event.role)
        if self.is_ignored:
            if kind is _DATA:
                self._counts["discarded_bytes"] += event.length
        elif kind is _DATA or kind is _ENDED:
            direction = event.direction
            stream = self.streams[direction]
            pieces = stream.receive(event) if kind is _DATA else stream.end(event)
            if pieces:
                self._receive(direction, pieces)
                self._pump(event.ktime_ns)
        if kind is _CLOSED and self.closed_ktime_ns is None:
            self.closed_ktime_ns = event.ktime_ns
        self.last_ktime_ns = event.ktime_ns
        self._take_stock()
        return self._take_out()

    def expire(self, ktime_ns: int) -> list[Exchange]:
        """Let time pass up to `ktime_ns`; return what that decides."""
        for direction in (_INGRESS, _EGRESS):
            pieces = self.streams[direction].expire(ktime_ns)
            if pieces:
                self._receive(direction, pieces)
                self._pump(ktime_ns)
            if self.successor is not None:
                # What the other direction waits for is the successor's.
                return self._take_out()
        self._expire(ktime_ns)
        if self.successor is not None:
            return self._take_out()
        closed = self.closed_ktime_ns
        if closed is not None and ktime_ns - closed >= self._limits.close_grace_ns:
            return self.finish(Incomplete.CLOSED)
        self._take_stock()
        return self._take_out()

    def finish(self, cause: Incomplete) -> list[Exchange]:
        """End the connection: return what is pending, flagged."""
        self.is_finished = True
        if self.successor is None:
            if self.is_ignored:
                return self._take_out()
            for direction in (_INGRESS, _EGRESS):
                self._receive(direction, self.streams[direction].drain())
            if (reader := self._header_reader) is not None:
                self._header_reader = None
                self._add(self._header_direction, reader.give_up())
            self._pump(self.last_ktime_ns)
        if self.successor is not None:
            # The last bytes changed the protocol, and the tracker will not put the successor in this one's
            # place.
            return self._take_out() + self.successor.begin() + self.successor.finish(cause)
        self._finish(cause)
        return self._take_out()

    def ignore(self) -> None:
        """Drop everything and read nothing more of this connection."""
        self.is_ignored = True
        self._header_reader = None
        self._drop()
        self.streams = (
            ByteStream(self._limits, self._counts, None),
            ByteStream(self._limits, self._counts, None),
        )
        self._take_stock()

    def _receive(self, direction: Direction, pieces: list[Piece]) -> None:
        """Take the next pieces of one direction, and read what is no header of the PROXY protocol."""
        if self._may_have_header:
            pieces = self._take_off_headers(direction, pieces)
        if pieces:
            self._add(direction, pieces)

    def _take_off_headers(self, direction: Direction, pieces: list[Piece]) -> list[Piece]:
        """Return the pieces without the headers that the direction begins with, if it does.

        Only the direction of requests can; as long as that is not known either one may.
        """
        reader = self._header_reader
        if not pieces:
            return pieces
        if reader is None:
            role = self.role
            if role is not _UNKNOWN and (direction is _EGRESS) != (role is Role.CLIENT):
                return pieces
            count = sum([len(piece.data) + piece.gap for piece in pieces])
            if self.streams[direction].position != count or not may_begin_header(pieces[0]):
                self._may_have_header = role is _UNKNOWN
                return pieces
            reader = self._header_reader = HeaderReader(self._limits, self._counts)
            self._header_direction = direction
        elif direction is not self._header_direction:
            return pieces
        known = len(reader.headers)
        rest = reader.take(pieces)
        if len(reader.headers) > known:
            self.prologue = add_headers(self.prologue, reader.headers[known:])
            self._note_prologue(self.prologue)
        if reader.is_over:
            self._header_reader = None
            self._may_have_header = False
        return rest

    @property
    def _is_waiting(self) -> bool:
        """Whether the end of the connection, or bytes that are late, are waited for."""
        first, second = self.streams
        return self.closed_ktime_ns is not None or first.is_waiting or second.is_waiting

    @abstractmethod
    def _take_role(self, role: Role) -> None:
        """Learn which side opened the connection."""

    @abstractmethod
    def _note_prologue(self, prologue: Prologue) -> None:
        """Learn what stood in front; no exchange was completed before."""

    @abstractmethod
    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        """Take the next pieces of one direction."""

    @abstractmethod
    def _pump(self, ktime_ns: int) -> None:
        """Read both directions until neither gets on."""

    @abstractmethod
    def _take_out(self) -> list[Exchange]:
        """Return the exchanges completed since this was last asked."""

    @abstractmethod
    def _take_stock(self) -> None:
        """Tell anew what is held, and whether time matters."""

    @abstractmethod
    def _finish(self, cause: Incomplete) -> None:
        """End what is pending."""

    @abstractmethod
    def _drop(self) -> None:
        """Drop everything that is pending."""

    @abstractmethod
    def _expire(self, ktime_ns: int) -> None:
        """Decide what waits for anything but late bytes or the end."""
