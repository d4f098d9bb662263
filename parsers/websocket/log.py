"""What is kept of the messages of one WebSocket, both directions together.

Owns the bounds of a session, which may last for days, and how it was closed. It must not read bytes beyond
the body of a close frame.

Contract: at most `ParserLimits.max_websocket_messages` messages and control frames, and of each direction at
most `ParserLimits.max_body` bytes of content. The first ones are kept, so room that is used up never comes
back.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction
from parsers.content import cut_on_boundary
from parsers.http_exchange import WebSocketMessage
from parsers.limits import ParserLimits
from parsers.websocket.frames import TEXT

_MESSAGE_BYTES: Final = 200
"""What a record costs besides its content."""


class MessageLog:
    """The messages of one session. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_counts",
        "_held",
        "_limits",
        "_used",
        "close_code",
        "close_reason",
        "closed_at_ktime_ns",
        "closed_by",
        "dropped",
        "is_full",
        "last_ktime_ns",
        "messages",
    )

    def __init__(self, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._used = [0, 0]
        self._held = [0, 0]
        self.messages: list[WebSocketMessage] = []
        """In the order in which they were read; two directions may be read out of order of time."""
        self.dropped = 0
        """Messages and control frames that were not kept."""
        self.is_full = False
        """Whatever carries the session has no room for more of it."""
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.closed_by: Direction | None = None
        """Direction of the first close frame."""
        self.closed_at_ktime_ns = 0
        self.last_ktime_ns = 0
        """When the last byte passed, known or not, or a direction ended."""

    def held_bytes(self, direction: Direction) -> int:
        """Return the bytes held for the messages of a direction."""
        return self._held[direction]

    def pass_time(self, ktime_ns: int) -> None:
        """Note that bytes passed at this time."""
        if ktime_ns > self.last_ktime_ns:
            self.last_ktime_ns = ktime_ns

    def room(self, direction: Direction) -> int:
        """Return how many bytes of content the next message of a direction may have."""
        limits = self._limits
        if not limits.capture_bodies or self.is_full or len(self.messages) >= limits.max_websocket_messages:
            return 0
        return limits.max_body - self._used[direction]

    def add(self, message: WebSocketMessage) -> None:
        """Keep a message, or count it when there is no room for it."""
        self._counts["websocket_messages"] += 1
        limits = self._limits
        if self.is_full or len(self.messages) >= limits.max_websocket_messages:
            self.dropped += 1
            self._counts["websocket_messages_dropped"] += 1
            return
        if not limits.capture_bodies:
            message.content, message.truncation = b"", None
        elif message.truncation is not None:
            self._counts["websocket_messages_cut"] += 1
        # Charged before the cut on a boundary: room that one message leaves would be taken for that of all.
        self._used[message.direction] += len(message.content)
        self._held[message.direction] += len(message.content) + _MESSAGE_BYTES
        if message.truncation is not None and message.opcode == TEXT:
            message.content = cut_on_boundary(message.content, "utf-8")
        self.messages.append(message)

    def close(self, direction: Direction, payload: bytes, ktime_ns: int, *, is_whole: bool) -> None:
        """Take the body of a close frame (RFC 6455 §5.5.1); `is_whole` says that nothing of it is missing."""
        if self.closed_by is not None and ktime_ns >= self.closed_at_ktime_ns:
            return
        self.closed_by = direction
        self.closed_at_ktime_ns = ktime_ns
        self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
        reason = payload[2:].decode("utf-8", "replace")
        self.close_reason = reason if reason and is_whole else None

    def in_order(self) -> list[WebSocketMessage]:
        """Return the messages in order of time."""
        return sorted(self.messages, key=_time)


def _time(message: WebSocketMessage) -> int:
    return message.ktime_ns
