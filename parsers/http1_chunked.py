"""The lines of the chunked coding (RFC 9112 §7.1): sizes, ends of chunks, trailers.

Owns lines that may be cut anywhere, what a size is, and the trailers until the last of them. It must not
count a chunk's bytes: `http1_reader` does.
"""

from __future__ import annotations

import re

from parsers.http1_head import Fields, parse_trailers
from parsers.limits import ParserLimits

_CHUNK_LENGTH = re.compile(rb"[0-9A-Fa-f]{1,15}")


class ChunkedLines:
    """The lines of one message's body; used again for the next message."""

    __slots__ = ("_limits", "_partial", "_trailer_bytes", "_trailer_lines")

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self._partial = bytearray()
        self._trailer_lines: list[bytes] = []
        self._trailer_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes held of a line that is not whole, and of trailers."""
        return len(self._partial) + self._trailer_bytes

    def take(self, data: bytes, start: int, fields: Fields) -> tuple[bytes | None, int]:
        """Return the line that `data` goes on with at `start`, without its end, and where the next begins.

        None instead of a line whose end is missing: what there is of it is set aside. A bare LF is noted in
        the anomalies of `fields`.
        """
        end = data.find(b"\n", start)
        if end < 0:
            self._partial += data[start:]
            return None, len(data)
        line = data[start:end]
        if self._partial:
            line = bytes(self._partial) + line
            self._partial.clear()
        if line.endswith(b"\r"):
            return line[:-1], end + 1
        if "bare_lf" not in fields.anomalies:
            fields.anomalies.append("bare_lf")
        return line, end + 1

    def is_within_bounds(self, *, in_trailers: bool) -> bool:
        """Whether what is set aside can still become a line, or trailers, of allowed length."""
        if in_trailers:
            return self.held_bytes <= self._limits.max_header_block
        return len(self._partial) <= self._limits.max_chunk_line

    def parse_size(self, line: bytes) -> int | None:
        """Return the length that a chunk's line announces; None when it is none."""
        size = line.partition(b";")[0].strip(b" \t")
        if _CHUNK_LENGTH.fullmatch(size) is None or len(line) > self._limits.max_chunk_line:
            return None
        return int(size, 16)

    def add_trailer(self, line: bytes) -> None:
        """Keep a line of the trailers."""
        self._trailer_lines.append(line)
        self._trailer_bytes += len(line)

    def take_trailers(self) -> Fields | None:
        """Return the trailers, all of which are there; None when there were none."""
        trailers = parse_trailers(b"\r\n".join(self._trailer_lines)) if self._trailer_lines else None
        self.clear()
        return trailers

    def clear(self) -> None:
        """Forget what is held."""
        self._partial.clear()
        self._trailer_lines = []
        self._trailer_bytes = 0
