"""The ids of spans, and of the traces that begin with them.

Owns where ids come from. It must not know of trace context (`trace_context`).

Contract: the ids of an exchange are a function of the capture, the connection and the exchange's number on
it. So the replay of a recording gives the ids of the capture, every replay gives the same ones, and a span
can be named as a parent while it is still open.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, Protocol

from ebpf.capture_ids import CAPTURE_ID_BYTES

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_DIGEST_BYTES: Final = _TRACE_ID_BYTES + _SPAN_ID_BYTES
_INVALID_TRACE_ID: Final = bytes(_TRACE_ID_BYTES)
_INVALID_SPAN_ID: Final = bytes(_SPAN_ID_BYTES)
_INPUT: Final = struct.Struct(f"<{CAPTURE_ID_BYTES}sQQ")
"""Capture, connection, ordinal."""


class IdGenerator(Protocol):
    """Where the ids of spans come from."""

    def generate(self, connection_id: int, ordinal: int) -> tuple[bytes, bytes]:
        """Return the trace id (16 bytes) and the span id (8 bytes) of an exchange, neither all zero.

        The trace id is that of the trace that begins with the exchange, for one whose request names none.
        """


class CaptureIdGenerator:
    """Ids by capture, connection and ordinal: the halves of a hash of all three.

    They are unique, and each bit is as good as any other, for samplers decide by some of them. They are no
    secret: the capture's id is enough to compute them.
    """

    __slots__ = ("_capture_id", "_read_capture_id")

    def __init__(self, read_capture_id: Callable[[], bytes]) -> None:
        """`read_capture_id` is called at the first exchange: a source has its id by its first events."""
        self._read_capture_id = read_capture_id
        self._capture_id = b""

    def generate(self, connection_id: int, ordinal: int) -> tuple[bytes, bytes]:
        """Return the trace id and the span id of an exchange."""
        capture_id = self._capture_id or self._learn_capture_id()
        content = _INPUT.pack(capture_id, connection_id, ordinal)
        return divide_digest(blake2b(content, digest_size=_DIGEST_BYTES).digest())

    def _learn_capture_id(self) -> bytes:
        self._capture_id = capture_id = self._read_capture_id()
        assert len(capture_id) == CAPTURE_ID_BYTES, "a source has its id before its first exchange"
        return capture_id


def divide_digest(digest: bytes) -> tuple[bytes, bytes]:
    """Return a trace id and a span id, made of 24 bytes; in place of an all-zero one, which is invalid, 1."""
    trace_id, span_id = digest[:_TRACE_ID_BYTES], digest[_TRACE_ID_BYTES:]
    if trace_id == _INVALID_TRACE_ID:
        trace_id = (1).to_bytes(_TRACE_ID_BYTES, "big")
    if span_id == _INVALID_SPAN_ID:
        span_id = (1).to_bytes(_SPAN_ID_BYTES, "big")
    return trace_id, span_id
