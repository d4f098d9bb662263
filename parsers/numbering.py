"""The number of each exchange on its connection, and the note that a request began.

Owns the numbers of one connection, whatever protocols it goes through. It must not know what an exchange is.

Contract: no two exchanges of a connection have the same number, and the same events give the same numbers.
They count from 0 in the order in which requests, and responses without one, were read. HTTP/2 numbers its
exchanges itself: by stream id, behind the numbers that HTTP/1 used before it on the same connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from ebpf.events import EventKind, Origin, SocketEvent

_BEHIND_ALL: Final = 1 << 32
"""Above every number that a connection uses before it is given up: stream ids have 31 bits."""


class RequestBegan(NamedTuple):
    """The head of a request is complete."""

    connection_id: int
    ordinal: int
    """The number that the exchange of the request will have."""
    origin: Origin
    """The call that moved the first byte of the request."""


RequestObserver: TypeAlias = Callable[[RequestBegan], None]
"""Called when the head of a request is complete: once for each, before its exchange is finished.

Every exchange with a request has had its note, except over HTTP/2 where the head of the request was lost. A
promised request (PUSH_PROMISE) has one even then. A head that is none is noted when a response refuses it. A
connection that is quarantined leaves notes whose exchange does not come. The observer must not raise.
"""


class ExchangeNumbers:
    """The numbers of one connection's exchanges."""

    __slots__ = ("connection_id", "next_ordinal", "observer")

    def __init__(self, first: SocketEvent) -> None:
        """Begin with the first event of a connection.

        A connection that does not begin with OPENED may have been given up before: for want of memory, or
        because nothing came. Its numbers begin far behind those that it had then.
        """
        self.connection_id = first.connection_id
        self.next_ordinal = (
            0 if first.kind is EventKind.OPENED else _BEHIND_ALL + first.ktime_ns + first.position
        )
        """The first number that is not used yet."""
        self.observer: RequestObserver | None = None

    def take(self) -> int:
        """Return the number of an exchange without a request."""
        ordinal = self.next_ordinal
        self.next_ordinal = ordinal + 1
        return ordinal

    def begin_request(self, origin: Origin) -> int:
        """Return the number of an exchange whose request has just begun, and note that it has."""
        ordinal = self.next_ordinal
        self.next_ordinal = ordinal + 1
        if self.observer is not None:
            self.note_request(ordinal, origin)
        return ordinal

    def note_request(self, ordinal: int, origin: Origin) -> None:
        """Note that a request has begun whose exchange has its number from elsewhere."""
        if self.observer is not None:
            self.observer(RequestBegan(self.connection_id, ordinal, origin))
