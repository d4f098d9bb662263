"""Huffman-coded strings of HPACK (RFC 7541 §5.2), a byte at a time.

Owns the walk through the code; the code itself is hpack's table, which goes by half bytes. It must remember
no string: what is kept is which state a byte leads to, never what was sent.

Contract: bytes in, decoded bytes out, or None when they are no valid code. Linear in the input.
"""

from __future__ import annotations

from typing import Final

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

MAX_STEPS: Final = 16_384
"""Steps remembered, of 65,536 that exist. Text needs about 3,000; the bound keeps them below 3 MiB when
the peer sends random bytes."""

_Step = tuple[int, bytes, bool] | None
"""The next state times 256, what is emitted, and whether a string may end here; None when it is no code."""

_steps: dict[int, _Step] = {}


def decode_huffman(coded: bytes) -> bytes | None:
    """Return the string that `coded` stands for; None when it is not a valid code, or badly padded."""
    state = 0
    may_end = True
    parts: list[bytes] = []
    steps = _steps
    for byte in coded:
        key = state | byte
        step = steps[key] if key in steps else _take_step(key)
        if step is None:
            return None
        state, part, may_end = step
        parts.append(part)
    return b"".join(parts) if may_end else None


def _take_step(key: int) -> _Step:
    """Go the two half steps of one byte, and remember where they lead while there is room."""
    state = key >> 8
    flags = 0
    emitted = bytearray()
    for nibble in (key >> 4 & 0x0F, key & 0x0F):
        state, flags, symbol = HUFFMAN_TABLE[state << 4 | nibble]
        if flags & HUFFMAN_FAIL:
            break
        if flags & HUFFMAN_EMIT_SYMBOL:
            emitted.append(symbol)
    step = None if flags & HUFFMAN_FAIL else (state << 8, bytes(emitted), bool(flags & HUFFMAN_COMPLETE))
    if len(_steps) < MAX_STEPS:
        _steps[key] = step
    return step
