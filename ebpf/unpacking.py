"""Unpacking of compressed input, piece by piece: gzip, bzip2, xz and zstd.

Owns which compressions are known, and how much one step may unpack. It must not read the input.

Contract: memory is bounded whatever the input claims: a step gives about `PIECE_BYTES`, and what a format
keeps of earlier output is bounded by `MAX_WINDOW_BYTES`. Several compressed files one behind the other are
one.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

PIECE_BYTES = 262_144
"""What one step unpacks of gzip, bzip2 and xz at most."""
MAX_WINDOW_BYTES = 134_217_728
"""Earlier output that may be referred to. `xz -9` needs half of it, `zstd --long` all; more is refused."""
MAGIC_BYTES = 6
"""As many bytes are enough to know a compression by."""
_ZSTD_STEP_BYTES = 128
"""zstd has no bound on the output of one step. Four bytes of it become 128 KiB at most (RFC 8878 section
3.1.1.2), so 128 become 4 MiB."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""Behind a byte from 0x50 to 0x5f (RFC 8878 section 3.1.2): parallel compressors begin a file with one."""

UNPACKING_ERRORS = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)


class _Decompressor(Protocol):
    """One compressed file, a member of the input."""

    def step(self, packed: memoryview) -> tuple[bytes, memoryview, bool]:
        """Return what was unpacked, the input still to be given, and whether to come again at once."""

    @property
    def is_over(self) -> bool:
        """Whether the member has ended; what follows is another one."""


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def step(self, packed: memoryview) -> tuple[bytes, memoryview, bool]:
        data = self._member.decompress(packed, PIECE_BYTES)
        rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return data, memoryview(rest), len(data) >= PIECE_BYTES

    @property
    def is_over(self) -> bool:
        return self._member.eof


class _Buffering:
    """bzip2 and xz, whose decompressors hold the input that they have not used."""

    def __init__(self, member: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._member = member

    def step(self, packed: memoryview) -> tuple[bytes, memoryview, bool]:
        data = self._member.decompress(packed, PIECE_BYTES)
        over = self._member.eof
        return data, memoryview(self._member.unused_data), not over and not self._member.needs_input

    @property
    def is_over(self) -> bool:
        return self._member.eof


class _Zstd:
    def __init__(self) -> None:
        self._member = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj(
            write_size=32_768
        )

    def step(self, packed: memoryview) -> tuple[bytes, memoryview, bool]:
        data = self._member.decompress(packed[:_ZSTD_STEP_BYTES])
        rest = packed[_ZSTD_STEP_BYTES:]
        if self._member.eof and (unused := self._member.unused_data):
            rest = packed[min(len(packed), _ZSTD_STEP_BYTES) - len(unused) :]
        return data, rest, False

    @property
    def is_over(self) -> bool:
        return self._member.eof


def _open_bzip2() -> _Decompressor:
    return _Buffering(bz2.BZ2Decompressor())


def _open_xz() -> _Decompressor:
    return _Buffering(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES))


class Unpacker:
    """The compression of one input, known by its first bytes."""

    def __init__(self, start: bytes) -> None:
        """Choose by the first `MAGIC_BYTES`, fewer when there are no more."""
        self.compression: str | None = None
        """Name of the compression; None: the input is not compressed."""
        self._open: Callable[[], _Decompressor] = _Gzip
        if start.startswith(b"\x1f\x8b"):
            self.compression, self._open = "gzip", _Gzip
        elif start.startswith(b"BZh"):
            self.compression, self._open = "bzip2", _open_bzip2
        elif start.startswith(b"\xfd7zXZ\0"):
            self.compression, self._open = "xz", _open_xz
        elif start.startswith(_ZSTD_MAGIC) or (start[1:4] == _ZSTD_SKIPPABLE and start[0] & 0xF0 == 0x50):
            self.compression, self._open = "zstd", _Zstd
        self._member: _Decompressor | None = None
        self._packed = memoryview(b"")
        self._again = False

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out before more is fed."""
        return not self._packed and not self._again

    @property
    def is_within_member(self) -> bool:
        """Whether a compressed file has begun and not ended."""
        return self._member is not None

    def feed(self, packed: bytes) -> None:
        """Take the next input; only when `needs_input`."""
        self._packed = memoryview(packed)

    def unpack(self) -> bytes:
        """Return the next piece, b"" when none came of this step. Raises one of `UNPACKING_ERRORS`."""
        if self.compression is None:
            data, self._packed = bytes(self._packed), memoryview(b"")
            return data
        if self._member is None:
            # Tapes and xz pad what they hold with zeros.
            self._packed = memoryview(bytes(self._packed).lstrip(b"\0"))
            if not self._packed:
                return b""
            self._member = self._open()
        data, self._packed, self._again = self._member.step(self._packed)
        if self._member.is_over:
            self._member, self._again = None, False
        return data
