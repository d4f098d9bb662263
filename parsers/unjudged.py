"""First bytes of connections that are not judged yet: they wait for the answer that shows what they are.

Owns what waits, and for how long it may. It must not look into bytes: the source judges, and says so by
OPENED. Contract: what waited comes out once, in its order; what never is opened goes when room is needed, and
that is counted where it may have been HTTP.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from ebpf.events import EventKind, SocketEvent
from parsers.limits import ParserLimits

EVENT_BYTES = 512
"""What an event takes besides its payload: a request may come in calls of one byte."""


class UnjudgedEvents:
    """What waits, by connection. `counts` are the tracker's counters, added to here."""

    def __init__(self, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        # Oldest first.
        self._waiting: OrderedDict[int, list[SocketEvent]] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that wait, each event counted as `EVENT_BYTES` and its payload."""
        return self._held_bytes

    def hold(self, event: SocketEvent) -> None:
        """Let an event of kind UNJUDGED wait."""
        self._waiting.setdefault(event.connection_id, []).append(event)
        self._held_bytes += EVENT_BYTES + len(event.payload)
        limits = self._limits
        while (
            len(self._waiting) > limits.max_unjudged_connections
            or self._held_bytes > limits.max_unjudged_buffer
        ):
            _, events = self._waiting.popitem(last=False)
            self._release(events)
            self._counts["unjudged_evicted"] += 1

    def take(self, opened: SocketEvent) -> list[SocketEvent]:
        """Return what waited of a connection that is now opened, as DATA."""
        events = self._waiting.pop(opened.connection_id, None)
        if events is None:
            return []
        self._release(events)
        return [
            replace(
                event,
                kind=EventKind.DATA,
                role=opened.role,
                joined_late=opened.joined_late,
                socket=opened.socket,
            )
            for event in events
        ]

    def clear(self) -> None:
        """Give up on everything: no answer will come any more."""
        self._waiting.clear()
        self._held_bytes = 0

    def _release(self, events: list[SocketEvent]) -> None:
        self._held_bytes -= sum(EVENT_BYTES + len(event.payload) for event in events)
