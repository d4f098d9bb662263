"""The frame of RFC 6455: its header and its mask.

Owns the layout of a frame (§5.2) and which headers are legal. It must not know messages: what frames make
together is in `reader`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

FIRST_CONTROL: Final = CLOSE
"""Opcodes from here on are control frames (§5.5)."""
MAX_CONTROL_PAYLOAD: Final = 125
"""§5.5: a control frame has at most so many bytes and is not fragmented."""

FIN: Final = 0x80
RSV: Final = 0x70
RSV1: Final = 0x40
OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

FrameHeader: TypeAlias = tuple[int, int, bytes, int]
"""First byte (FIN, RSV, opcode), payload length, masking key or empty, and where the payload begins."""


def read_frame_header(data: bytes, at: int) -> FrameHeader | None:
    """Return the header that begins at `at`; None when it is not all there."""
    size = len(data)
    if size - at < 2:
        return None
    second = data[at + 1]
    length = second & _LENGTH
    end = at + 2
    if length > 125:
        width = 2 if length == 126 else 8
        end += width
        if size < end:
            return None
        length = int.from_bytes(data[end - width : end], "big")
    if not second & _MASKED:
        return data[at], length, b"", end
    end += 4
    return (data[at], length, data[end - 4 : end], end) if size >= end else None


def is_legal(header: FrameHeader, *, masked: bool, allowed_rsv: int) -> bool:
    """Whether an endpoint may send such a frame (§5.1, §5.2, §5.5).

    `masked` says whether this side masks: a client always, a server never. `allowed_rsv` are the reserved
    bits that an extension gave a meaning in data frames.
    """
    first, length, key, _ = header
    opcode = first & OPCODE
    # §5.2: the most significant bit of a 64-bit length must be 0.
    if opcode not in _OPCODES or bool(key) is not masked or length >> 63:
        return False
    if opcode >= FIRST_CONTROL:
        return bool(first & FIN) and length <= MAX_CONTROL_PAYLOAD and not first & RSV
    return not first & RSV & ~allowed_rsv


def unmask(data: bytes, key: bytes) -> bytes:
    """Return `data` without its mask (§5.3); `key` is that of its first byte, empty for none."""
    if not key:
        return data
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    # One operation on two large integers: a loop over bytes takes a hundred times as long.
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


def advance_key(key: bytes, count: int) -> bytes:
    """Return the key of the byte that is `count` behind the one of `key`."""
    shift = count & 3
    return key[shift:] + key[:shift] if shift else key
