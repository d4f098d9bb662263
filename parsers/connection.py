"""What is the same for every connection, whatever is spoken over it: its streams, its times, its end.

Owns the order of both directions' bytes, the role, and when a connection is over. It must not look into the
bytes: a subclass for each protocol does, and it has no clock: time is that of the events.

Contract: a subclass gets in-order pieces through `_add` and reads on in `_pump`; what it has completed comes
out of `_take_out`. When a connection goes over to another protocol, `successor` is set: whoever holds the
connection puts the successor in its place and calls its `begin`. A connection with a successor is not fed
again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from ebpf.events import Direction, EventKind, Role, SocketEvent, SocketInfo
from parsers.exchange import HttpExchange, Incomplete
from parsers.limits import ParserLimits
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
    """Whether a connection of which this is the first event was in use before.

    Every connection begins with OPENED; one that does not was given up before, so its past is unknown.
    """
    return event.joined_late or (event.kind is _DATA and event.position > 0)


class Connection(ABC):
    """One connection while one protocol is spoken. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_counts",
        "_limits",
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
        self.streams: tuple[ByteStream, ByteStream]
        """By direction."""
        self.role = _UNKNOWN
        """Whose socket this is, as far as it is known."""
        self.last_ktime_ns: int
        """Time of the latest event."""
        self.closed_ktime_ns: int | None = None
        """When it was closed; bytes received before may still be read afterwards."""
        if isinstance(origin, Connection):
            self.role = origin.role
            self.streams = origin.streams
            self.last_ktime_ns = origin.last_ktime_ns
            self.closed_ktime_ns = origin.closed_ktime_ns
            self.accounted_bytes = origin.accounted_bytes
            self.alarm_ktime_ns = origin.alarm_ktime_ns
            self.asked_ktime_ns = origin.asked_ktime_ns
        else:
            begins_at = None if origin.kind is _DATA and origin.position > 0 else 0
            self.streams = (ByteStream(limits, counts, begins_at), ByteStream(limits, counts, begins_at))
            self.last_ktime_ns = origin.ktime_ns

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

    def begin(self) -> list[HttpExchange]:
        """Read what the predecessor left unread; return the exchanges that it completes."""
        self._pump(self.last_ktime_ns)
        self._take_stock()
        return self._take_out()

    def feed(self, event: SocketEvent) -> list[HttpExchange]:
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
                self._add(direction, pieces)
                self._pump(event.ktime_ns)
        if kind is _CLOSED and self.closed_ktime_ns is None:
            self.closed_ktime_ns = event.ktime_ns
        self.last_ktime_ns = event.ktime_ns
        self._take_stock()
        return self._take_out()

    def expire(self, ktime_ns: int) -> list[HttpExchange]:
        """Let time pass up to `ktime_ns`; return what that decides."""
        for direction in (_INGRESS, _EGRESS):
            pieces = self.streams[direction].expire(ktime_ns)
            if pieces:
                self._add(direction, pieces)
                self._pump(ktime_ns)
        self._expire(ktime_ns)
        closed = self.closed_ktime_ns
        if closed is not None and ktime_ns - closed >= self._limits.close_grace_ns:
            return self.finish(Incomplete.CLOSED)
        self._take_stock()
        return self._take_out()

    def finish(self, cause: Incomplete) -> list[HttpExchange]:
        """End the connection: return what is pending, flagged."""
        self.is_finished = True
        if self.is_ignored:
            return self._take_out()
        for direction in (_INGRESS, _EGRESS):
            self._add(direction, self.streams[direction].drain())
        self._pump(self.last_ktime_ns)
        if self.successor is not None:
            # The last bytes changed the protocol, and nobody will put the successor in this one's place.
            return self._take_out() + self.successor.begin() + self.successor.finish(cause)
        self._finish(cause)
        return self._take_out()

    def ignore(self) -> None:
        """Drop everything and read nothing more of this connection."""
        self.is_ignored = True
        self._drop()
        self.streams = (
            ByteStream(self._limits, self._counts, None),
            ByteStream(self._limits, self._counts, None),
        )
        self._take_stock()

    @property
    def _is_waiting(self) -> bool:
        """Whether the end of the connection, or bytes that are late, are waited for."""
        first, second = self.streams
        return self.closed_ktime_ns is not None or first.is_waiting or second.is_waiting

    @abstractmethod
    def _take_role(self, role: Role) -> None:
        """Learn who opened the connection."""

    @abstractmethod
    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        """Take the next pieces of one direction."""

    @abstractmethod
    def _pump(self, ktime_ns: int) -> None:
        """Read both directions until neither gets on."""

    @abstractmethod
    def _take_out(self) -> list[HttpExchange]:
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
