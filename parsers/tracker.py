"""All connections: which are fed, have waited too long, must go to stay within memory, and the counts.

Owns the table of connections and every decision by time or memory. It must not know what a message is, nor
any protocol but by its row in `protocols`. Time is that of the events and of `advance`, never of a clock.

Contract: a bug in one connection never stops the others: that connection is quarantined, counted, and its
traceback is in `last_bug` for the edge to log.
"""

from __future__ import annotations

import heapq
import traceback
from collections import OrderedDict
from collections.abc import Sequence

from ebpf.events import EventKind, SocketEvent
from parsers.connection import NEVER_NS, Connection
from parsers.counters import new_counters
from parsers.exchange import Exchange, Incomplete
from parsers.limits import ParserLimits
from parsers.numbering import RequestObserver
from parsers.protocols import PROTOCOLS, ProtocolRow
from parsers.unjudged import UnjudgedEvents

QUIET_NS = 100_000_000
"""How long a connection in the middle of a message is quiet before its uncaptured tail is asked for."""
ASK_AGAIN_NS = 500_000_000
"""How long until the same connection is asked for again: a stream of server-sent events is often quiet."""

_BUG_FRAMES = 8


class ConnectionTracker:
    """Turns the socket events of all connections into exchanges; `protocols` are those that are read."""

    def __init__(
        self,
        limits: ParserLimits,
        protocols: Sequence[ProtocolRow] = PROTOCOLS,
        *,
        request_observer: RequestObserver | None = None,
    ) -> None:
        """Begin with no connection. `request_observer` is called when a request begins, as it says itself."""
        self._limits = limits
        self._request_observer = request_observer
        self._open_by_number = {row.number: row.open for row in protocols}
        self._recognise_by_kind = {row.kind: row.recognise for row in protocols if row.recognise}
        self._counts = new_counters()
        # Least recently fed first.
        self._connections: OrderedDict[int, Connection] = OrderedDict()
        # When a connection is looked at next: one entry for each that needs attention, and outdated ones.
        self._alarms: list[tuple[int, int]] = []
        self._first_look_ns = min(QUIET_NS + 1, limits.reorder_ns, limits.close_grace_ns)
        self._awaiting: list[tuple[int, int]] = []
        self._buffered_bytes = 0
        self._unjudged = UnjudgedEvents(limits, self._counts)
        self.last_bug: str | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for all connections together."""
        return self._buffered_bytes + self._unjudged.held_bytes

    @property
    def connection_count(self) -> int:
        """Connections tracked now."""
        return len(self._connections)

    def feed(self, event: SocketEvent) -> list[Exchange]:
        """Take an event; return the exchanges that it completes."""
        identity = event.connection_id
        connections = self._connections
        connection = connections.get(identity)
        if connection is None:
            kind = event.kind
            if kind is EventKind.CLOSED or kind is EventKind.ENDED:
                return []
            if kind is EventKind.UNJUDGED:
                self._unjudged.hold(event)
                return []
            open_connection = self._open_by_number.get(event.socket.protocol)
            if open_connection is None:
                self._counts["unread_protocol_events"] += 1
                return []
            connection = open_connection(event, self._limits, self._counts)
            connection.numbers.observer = self._request_observer
            connections[identity] = connection
            self._counts["connections"] += 1
            if kind is EventKind.OPENED and (waiting := self._unjudged.take(event)):
                exchanges = self.feed(event)
                for earlier in waiting:
                    exchanges = exchanges + self.feed(earlier)
                return exchanges
        else:
            connections.move_to_end(identity)
        try:
            exchanges = connection.feed(event)
            if connection.successor is not None:
                connection, more = self._succeed(identity, connection.successor)
                exchanges = exchanges + more
        except Exception:  # noqa: BLE001 - whatever the bug is, the other connections go on
            exchanges = self._quarantine(connection)
        held = connection.held_bytes
        if held != connection.accounted_bytes:
            self._buffered_bytes += held - connection.accounted_bytes
            connection.accounted_bytes = held
        if connection.needs_attention:
            due = event.ktime_ns + self._first_look_ns
            if due < connection.alarm_ktime_ns:
                self._set_alarm(identity, connection, due)
        if (
            self._buffered_bytes > self._limits.max_total_buffer
            or len(connections) > self._limits.max_connections
        ):
            exchanges = exchanges + self._evict()
        return self._complete(exchanges) if exchanges else exchanges

    def advance(self, ktime_ns: int) -> list[Exchange]:
        """Let time pass up to `ktime_ns`; return what reordering, closing and idleness decide."""
        exchanges: list[Exchange] = []
        alarms = self._alarms
        connections = self._connections
        self._awaiting.clear()
        while alarms and alarms[0][0] <= ktime_ns:
            due, identity = heapq.heappop(alarms)
            connection = connections.get(identity)
            if connection is not None and connection.alarm_ktime_ns == due:
                connection.alarm_ktime_ns = NEVER_NS
                if connection.needs_attention:
                    exchanges += self._attend(identity, connection, ktime_ns)
        while connections:
            identity, connection = next(iter(connections.items()))
            if ktime_ns - connection.last_ktime_ns < self._limits.idle_ns:
                break
            exchanges += self._finish(identity, connection, Incomplete.TIMED_OUT)
        return self._complete(exchanges)

    def awaiting(self) -> list[tuple[int, int]]:
        """Return (cookie, connection id) of connections that may have an uncaptured tail to be asked for.

        Those that the last `advance` found in the middle of a message and quiet for `QUIET_NS`; each is
        returned at most once per `ASK_AGAIN_NS`.
        """
        found = self._awaiting
        self._awaiting = []
        return found

    def flush(self) -> list[Exchange]:
        """End everything because the capture ends; return what is pending, flagged STOPPED."""
        exchanges: list[Exchange] = []
        for identity, connection in list(self._connections.items()):
            exchanges += self._finish(identity, connection, Incomplete.STOPPED)
        self._unjudged.clear()
        return self._complete(exchanges)

    def counters(self) -> dict[str, int]:
        """Return the counters, from the start; `counters.py` says what each counts. All are present."""
        return dict(self._counts)

    def _complete(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Recognise what the exchanges carry; a bug in that costs what it would have found."""
        recognise_by_kind = self._recognise_by_kind
        for exchange in exchanges:
            recognise = recognise_by_kind.get(type(exchange))
            if recognise is None:
                continue
            try:
                recognise(exchange, self._limits, self._counts)
            except Exception:  # noqa: BLE001 - as in feed
                self.last_bug = traceback.format_exc(limit=-_BUG_FRAMES)
                self._counts["unrecognised"] += 1
        return exchanges

    def _attend(self, identity: int, connection: Connection, ktime_ns: int) -> list[Exchange]:
        """Do what is due for a connection, and set the alarm for what is not."""
        exchanges: list[Exchange] = []
        if connection.due_ktime_ns <= ktime_ns:
            try:
                exchanges = connection.expire(ktime_ns)
                if connection.successor is not None:
                    connection, more = self._succeed(identity, connection.successor)
                    exchanges = exchanges + more
            except Exception:  # noqa: BLE001 - as in feed
                exchanges = self._quarantine(connection)
            if connection.is_finished:
                self._forget(identity, connection)
                return exchanges
            self._account(connection)
        due = connection.due_ktime_ns
        if connection.is_in_message:
            ask = connection.last_ktime_ns + QUIET_NS + 1
            if connection.asked_ktime_ns is not None:
                ask = max(ask, connection.asked_ktime_ns + ASK_AGAIN_NS)
            if ask <= ktime_ns:
                self._awaiting.append((connection.cookie, identity))
                connection.asked_ktime_ns = ktime_ns
                ask = ktime_ns + ASK_AGAIN_NS
            due = min(due, ask)
        if due < NEVER_NS:
            # Never again at the same time, whatever a bug leaves due.
            self._set_alarm(identity, connection, max(due, ktime_ns + 1))
        return exchanges

    def _succeed(self, identity: int, successor: Connection) -> tuple[Connection, list[Exchange]]:
        """Put what the connection goes over to in its place; return it and what it completes at once.

        What is unread already may end that again: a request inside a tunnel may set up the next one.
        """
        exchanges = successor.begin()
        while successor.successor is not None:
            successor = successor.successor
            exchanges = exchanges + successor.begin()
        self._connections[identity] = successor
        return successor, exchanges

    def _set_alarm(self, identity: int, connection: Connection, due_ktime_ns: int) -> None:
        connection.alarm_ktime_ns = due_ktime_ns
        heapq.heappush(self._alarms, (due_ktime_ns, identity))

    def _account(self, connection: Connection) -> None:
        self._buffered_bytes += connection.held_bytes - connection.accounted_bytes
        connection.accounted_bytes = connection.held_bytes

    def _forget(self, identity: int, connection: Connection) -> None:
        del self._connections[identity]
        self._buffered_bytes -= connection.accounted_bytes

    def _finish(self, identity: int, connection: Connection, cause: Incomplete) -> list[Exchange]:
        try:
            exchanges = connection.finish(cause)
        except Exception:  # noqa: BLE001 - as in feed
            exchanges = self._quarantine(connection)
        self._forget(identity, connection)
        return exchanges

    def _evict(self) -> list[Exchange]:
        """Finish the least recently fed connections until both bounds hold."""
        exchanges: list[Exchange] = []
        limits = self._limits
        while self._connections and (
            self._buffered_bytes > limits.max_total_buffer or len(self._connections) > limits.max_connections
        ):
            identity, connection = next(iter(self._connections.items()))
            self._counts["connections_evicted"] += 1
            exchanges += self._finish(identity, connection, Incomplete.EVICTED)
        return exchanges

    def _quarantine(self, connection: Connection) -> list[Exchange]:
        self.last_bug = traceback.format_exc(limit=-_BUG_FRAMES)
        self._counts["connections_quarantined"] += 1
        connection.ignore()
        return []
