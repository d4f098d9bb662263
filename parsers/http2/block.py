"""The parts of one field block, as frames bring them (RFC 9113 §4.3).

Owns what a HEADERS, PUSH_PROMISE or CONTINUATION payload holds beside its part of the block: padding,
priority, the promised stream. It must not decode fields.

Contract: a block that was lost or refused keeps nothing, but still ends where it would have ended.
"""

from __future__ import annotations

from ebpf.events import Origin
from parsers.exchange import Incomplete
from parsers.http2.frames import CONTINUATION, PADDED, PUSH_PROMISE, WITH_PRIORITY

PROMISE_BYTES = 5
"""Bytes of a PUSH_PROMISE payload that name the promised stream: pad length and stream id."""
_PRIORITY_BYTES = 5


class BlockParts:
    """The field block that a direction is in the middle of, if it is."""

    __slots__ = ("_parts", "ends", "is_open", "loss", "origin", "promised_id", "size", "stream_id")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.is_open = False
        self.size = 0
        """Bytes held."""
        self.stream_id = 0
        self.promised_id: int | None = None
        self.ends = False
        """The stream ends behind this block."""
        self.loss: Incomplete | None = None
        """Why the block will not be known; None while it may."""
        self.origin = Origin(0)
        """The call that moved its first byte."""

    def open(self, stream_id: int, origin: Origin, *, ends: bool) -> None:
        """Begin a block."""
        self.is_open = True
        self.stream_id = stream_id
        self.promised_id = None
        self.ends = ends
        self.loss = None
        self.origin = origin

    def lose(self, cause: Incomplete) -> None:
        """Keep nothing of the block; its end is still waited for."""
        self.loss = self.loss or cause
        self._parts.clear()
        self.size = 0

    def add(self, kind: int, flags: int, payload: bytes) -> bool:
        """Take a payload; False when its padding or priority do not fit into it.

        Of a lost block the payload may be cut; only the promised stream is taken from it.
        """
        start = 0
        end = len(payload)
        if kind != CONTINUATION:
            if flags & PADDED:
                start = 1
                end -= payload[0] if payload else 0
            if kind == PUSH_PROMISE:
                identity = payload[start : start + 4]
                if len(identity) == 4:
                    self.promised_id = int.from_bytes(identity, "big") & 0x7FFF_FFFF
                start += 4
            elif flags & WITH_PRIORITY:
                start += _PRIORITY_BYTES
        if self.loss is not None:
            return True
        if start > end:
            return False
        self._parts.append(payload[start:end])
        self.size += end - start
        return True

    def close(self) -> bytes:
        """End the block and return it; what is returned of a lost one means nothing."""
        parts = self._parts
        self._parts = []
        self.is_open = False
        self.size = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)
