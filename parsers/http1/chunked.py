"""The lines of the chunked coding (RFC 9112 §7.1): sizes, ends of chunks, trailers.

Owns lines that may be cut anywhere, which line comes next, what a size is, and the trailers until the last of
them. It must not count a chunk's bytes: `bodies` does.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from parsers.http1.disputes import find_trailer_disputes
from parsers.http1.head import Fields, parse_trailers
from parsers.limits import ParserLimits

_PLAIN_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_MAX_SIZE_DIGITS = 15
"""Digits of a size that is believed, leading zeros aside: always below 2**63, the bound of common servers."""
_MAX_ACCEPTED_DIGITS = 16
"""Digits of a size, leading zeros included, that every server takes."""
_SIZE_DIGITS = re.compile(rb"[0-9A-Fa-f]+")
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
# RFC 9112 §7.1.1 without the white space that its grammar calls bad, which servers take differently.
_PLAIN_EXTENSIONS = re.compile(rb"(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*")
_LAST_CHUNK = b"0\r\n\r\n"

# Lines that may come next.
_SIZE: Final = 0
_CHUNK_END: Final = 1
_TRAILER: Final = 2


class Found(Enum):
    """What a line of the chunked coding says."""

    MORE = "more"
    """Nothing yet: another line follows, or the rest of this one."""
    CHUNK = "chunk"
    """A chunk of `chunk_size` bytes follows."""
    LAST = "last"
    """The body is over, its trailers included."""
    INVALID = "invalid"
    """No such line can stand here, or it is beyond its bound."""


# Bound once: looking up a member of an enumeration takes longer than comparing it.
_MORE: Final = Found.MORE
_CHUNK: Final = Found.CHUNK
_LAST: Final = Found.LAST
_INVALID: Final = Found.INVALID


class ChunkedLines:
    """The lines of one message's body; used again for the next message."""

    __slots__ = ("_limits", "_next", "_partial", "_trailer_bytes", "_trailer_lines", "chunk_size")

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self._next = _SIZE
        self._partial = bytearray()
        self._trailer_lines: list[bytes] = []
        self._trailer_bytes = 0
        self.chunk_size = 0
        """Length of the chunk found last, in bytes."""

    @property
    def held_bytes(self) -> int:
        """Bytes held of a line that is not whole, and of trailers."""
        return len(self._partial) + self._trailer_bytes

    def read(self, data: bytes, start: int, fields: Fields) -> tuple[Found, int]:
        """Read the line that `data` goes on with at `start`; return what it says, and where the next begins.

        What there is of a line whose end is missing is set aside. A bare LF is noted in the anomalies of
        `fields`. When a chunk was found, the caller reads its data before the next line.
        """
        expected = self._next
        end = data.find(b"\n", start)
        if end < 0:
            self._partial += data[start:]
            return self._check_partial(expected), len(data)
        line = data[start:end]
        after = end + 1
        if self._partial:
            line = bytes(self._partial) + line
            self._partial.clear()
        if line.endswith(b"\r"):
            line = line[:-1]
        else:
            add_once(fields.anomalies, "bare_lf")
        if expected == _SIZE:
            return self._read_size(line, fields), after
        if expected == _CHUNK_END:
            self._next = _SIZE
            return (_INVALID if line else _MORE), after
        if not line:
            return _LAST, after
        self._trailer_lines.append(line)
        self._trailer_bytes += len(line)
        in_bounds = self.held_bytes <= self._limits.max_header_block
        return (_MORE if in_bounds else _INVALID), after

    def take_trailers(self) -> Fields | None:
        """Return the trailers, which are complete; None when there were none."""
        lines = self._trailer_lines
        self.clear()
        if not lines:
            return None
        trailers = parse_trailers(b"\r\n".join(lines))
        trailers.anomalies += find_trailer_disputes(trailers.headers)
        return trailers

    def clear(self) -> None:
        """Forget what is held, and begin with a size again."""
        self._next = _SIZE
        self._partial.clear()
        self._trailer_lines = []
        self._trailer_bytes = 0

    def _check_partial(self, expected: int) -> Found:
        """Return MORE if what is set aside can still become a line of allowed length, else INVALID."""
        if expected == _TRAILER:
            in_bounds = self.held_bytes <= self._limits.max_header_block
        else:
            in_bounds = len(self._partial) <= self._limits.max_chunk_line
        return _MORE if in_bounds else _INVALID

    def _read_size(self, line: bytes, fields: Fields) -> Found:
        digits = line if _PLAIN_SIZE.fullmatch(line) is not None else self._take_digits(line, fields)
        if digits is None:
            return _INVALID
        self.chunk_size = int(digits, 16)
        if not self.chunk_size:
            self._next = _TRAILER
            return _MORE
        self._next = _CHUNK_END
        return _CHUNK

    def _take_digits(self, line: bytes, fields: Fields) -> bytes | None:
        """Return the digits of a size that is not plain; None when they are none, or too many."""
        before, semicolon, extensions = line.partition(b";")
        padded = before.strip(b" \t")
        digits = padded.lstrip(b"0") or padded[:1]
        if (
            _SIZE_DIGITS.fullmatch(padded) is None
            or len(digits) > _MAX_SIZE_DIGITS
            or len(line) > self._limits.max_chunk_line
        ):
            return None
        is_plain = padded == before and len(before) <= _MAX_ACCEPTED_DIGITS
        if not is_plain or _PLAIN_EXTENSIONS.fullmatch(semicolon + extensions) is None:
            add_once(fields.anomalies, "malformed_chunk_size")
        return digits


def add_once(anomalies: list[str], name: str) -> None:
    """Add a name to anomalies in which it may be already."""
    if name not in anomalies:
        anomalies.append(name)


def ends_like_chunked_body(record: bytes) -> bool:
    """Whether a record ends as a chunked body without trailers does.

    Good evidence when the place in the coding is unknown: it takes content that ends a call with the same
    bytes to be wrong.
    """
    return record.endswith(b"\r\n" + _LAST_CHUNK) or record == _LAST_CHUNK
