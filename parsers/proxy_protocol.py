"""The PROXY protocol: what a proxy says about a connection that it passes on, in front of everything else.

Owns the layout of both versions, by HAProxy's specification "The PROXY protocol", versions 1 and 2, and how
headers come off the beginning of a stream. It must not judge whether the sender of a header may be believed,
or read what stands behind it.

Contract: pure, and wire data never raises. Bytes that begin like a header and are none stay what they were:
they come out again, and the reader of what follows refuses them. A header is read only when every byte of it
is known. The specification allows one header. A proxy that does not expect one puts its own in front of it,
so several in a row are read, up to `MAX_HEADERS`. The checksum of version 2 (PP2_TYPE_CRC32C) is not
verified.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from parsers.limits import ParserLimits
from parsers.stream import Piece

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""Version 2 begins so (section 2.2)."""
V1_BEGINNING: Final = b"PROXY "
"""Version 1 begins so (section 2.1)."""
MAX_V1_BYTES: Final = 107
"""A whole header of version 1, its CRLF included (section 2.1)."""
MAX_HEADERS: Final = 4
"""Headers read in a row. One is the rule, two come of a proxy that does not know the protocol."""

_FIXED_BYTES: Final = 16
_TCP_LINE: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})"
)
_UNKNOWN_LINE: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")
_FIRST_BYTES: Final = (V1_BEGINNING[0], SIGNATURE[0])
_LOCAL, _PROXY = 0, 1
_INET, _INET6, _UNIX = 1, 2, 3
_ADDRESS_BYTES: Final = {_INET: 4, _INET6: 16, _UNIX: 108}
_AUTHORITY, _SSL = 0x02, 0x20
_CLIENT_USED_TLS: Final = 0x01
_TLV_HEAD_BYTES: Final = 3
# A name as DNS or RFC 3986 §3.2.2 allows it; anything else is no name that a client asked for.
_HOST_NAME: Final = re.compile(rb"[0-9A-Za-z._:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """One header. Addresses and ports are None when the header gives none: LOCAL, UNKNOWN, AF_UNSPEC.

    Addresses are textual, IPv4-mapped ones as IPv4; of a Unix socket it is the path, and no port.
    """

    version: int
    """1 or 2."""
    source_address: str | None = None
    """Of the client whose connection is passed on."""
    source_port: int | None = None
    destination_address: str | None = None
    """That the client connected to."""
    destination_port: int | None = None
    authority: str | None = None
    """Host name that the client asked for, mostly by SNI (PP2_TYPE_AUTHORITY)."""
    tls: bool = False
    """The client's connection to the proxy is encrypted (PP2_TYPE_SSL with PP2_CLIENT_SSL)."""
    is_whole: bool = True
    """False: bytes of the header were lost, so what it says is unknown; it gives nothing then."""


class Reading(Enum):
    """What the beginning of a stream comes to when no header is read from it."""

    NO_HEADER = "no_header"
    NEED_MORE = "need_more"
    """The bytes can still become a header."""


def may_begin_header(piece: Piece) -> bool:
    """Whether a stream that begins with this piece may begin with a header; the first byte mostly does."""
    data = piece.data
    return bool(data) and data[0] in _FIRST_BYTES


def read_proxy_header(data: bytes | bytearray, limit: int) -> tuple[ProxyHeader, int] | Reading:
    """Read the header that a stream begins with; return it and its length in bytes.

    Args:
        data: The beginning of the stream.
        limit: Greatest length of a header of version 2; a longer one is none.

    Asking again with more bytes takes no longer for those that were there before.

    """
    if data[: len(V1_BEGINNING)] == V1_BEGINNING[: len(data)]:
        return _read_v1(data) if len(data) > len(V1_BEGINNING) else Reading.NEED_MORE
    start = data[:_FIXED_BYTES]
    if start[: len(SIGNATURE)] != SIGNATURE[: len(start)]:
        return Reading.NO_HEADER
    if len(start) > len(SIGNATURE) and not _is_command(start[len(SIGNATURE)]):
        return Reading.NO_HEADER
    if len(start) < _FIXED_BYTES:
        return Reading.NEED_MORE
    size = _FIXED_BYTES + int.from_bytes(start[14:16], "big")
    if size > limit:
        return Reading.NO_HEADER
    if len(data) < size:
        return Reading.NEED_MORE
    header = _parse_v2(bytes(data[:size]))
    return Reading.NO_HEADER if header is None else (header, size)


class HeaderReader:
    """Takes the headers off one direction that may begin with some. `counts` are the tracker's counters."""

    __slots__ = ("_counts", "_data", "_limits", "_pieces", "headers", "is_over")

    def __init__(self, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._data = bytearray()
        self._pieces: list[Piece] = []
        self.headers: list[ProxyHeader] = []
        """Read so far, in the order in which they stand."""
        self.is_over = False
        """What comes next is no part of a header."""

    @property
    def held_bytes(self) -> int:
        """Bytes held until it is known whether they are a header."""
        return len(self._data)

    def take(self, pieces: list[Piece]) -> list[Piece]:
        """Take the next pieces of the direction; return those that are no part of a header.

        A gap, or the end of the direction, in the middle of a header leaves what it says unknown. Its bytes
        come out then: the reader of what follows has lost its place with them.
        """
        for index, piece in enumerate(pieces):
            self._pieces.append(piece)
            self._data += piece.data
            self._read(is_last=piece.gap > 0 or piece.ends)
            if self.is_over:
                return self.give_up() + pieces[index + 1 :]
        return []

    def give_up(self) -> list[Piece]:
        """Return what is held, for nothing more will come, or nothing more of it is a header."""
        pieces, self._pieces = self._pieces, []
        self._data.clear()
        self.is_over = True
        return pieces

    def _read(self, *, is_last: bool) -> None:
        while not self.is_over:
            if not self._data and self.headers and not is_last:
                # Nothing behind a header yet: the next byte shows whether another one follows.
                return
            reading = read_proxy_header(self._data, self._limits.max_proxy_header)
            if isinstance(reading, Reading):
                self.is_over = reading is Reading.NO_HEADER or is_last
                if self.is_over and self._data.startswith((V1_BEGINNING, SIGNATURE)):
                    self._counts["proxy_headers_invalid"] += 1
                    if reading is Reading.NEED_MORE:
                        version = 1 if self._data.startswith(V1_BEGINNING) else 2
                        self.headers.append(ProxyHeader(version, is_whole=False))
                return
            header, size = reading
            self._counts["proxy_headers"] += 1
            self.headers.append(header)
            self._discard(size)
            self.is_over = len(self.headers) >= MAX_HEADERS

    def _discard(self, size: int) -> None:
        """Drop the bytes of a header from what is held."""
        del self._data[:size]
        rest: list[Piece] = []
        for piece in self._pieces:
            dropped = min(size, len(piece.data))
            size -= dropped
            if dropped:
                piece = piece._replace(data=piece.data[dropped:], starts_record=False)
            if piece.data or piece.gap or piece.ends:
                rest.append(piece)
        self._pieces = rest


def _read_v1(data: bytes | bytearray) -> tuple[ProxyHeader, int] | Reading:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        is_text = b"\n" not in data[:MAX_V1_BYTES]
        return Reading.NEED_MORE if is_text and len(data) < MAX_V1_BYTES else Reading.NO_HEADER
    line = bytes(data[:end])
    if _UNKNOWN_LINE.fullmatch(line) is not None:
        # Section 2.1: what follows UNKNOWN is to be ignored.
        return ProxyHeader(1), end + 2
    match = _TCP_LINE.fullmatch(line)
    if match is None:
        return Reading.NO_HEADER
    family, *addresses, source_port, destination_port = (group.decode("ascii") for group in match.groups())
    ports = int(source_port), int(destination_port)
    try:
        kind = IPv4Address if family == "TCP4" else IPv6Address
        source, destination = (_format_address(kind(address)) for address in addresses)
    except ValueError:
        return Reading.NO_HEADER
    if max(ports) > 0xFFFF:
        return Reading.NO_HEADER
    return ProxyHeader(1, source, ports[0], destination, ports[1]), end + 2


def _is_command(octet: int) -> bool:
    """Whether the octet behind the signature is version 2 with a command that there is (section 2.2)."""
    return octet >> 4 == 2 and octet & 0x0F in (_LOCAL, _PROXY)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    """Read a whole header of version 2; None when its addresses do not fit into it."""
    command, family = data[12] & 0x0F, data[13] >> 4
    at = _FIXED_BYTES
    size = _ADDRESS_BYTES.get(family)
    addresses: tuple[str | None, int | None, str | None, int | None] = (None, None, None, None)
    if size is None:
        # Section 2.2: of AF_UNSPEC, and of a family that is not known, only the length counts.
        return ProxyHeader(2)
    length = 2 * size if family == _UNIX else 2 * size + 4
    if len(data) < at + length:
        # Section 2.2: under LOCAL the family and the addresses are to be ignored, whatever they are.
        return ProxyHeader(2) if command == _LOCAL else None
    if command == _PROXY:
        source, destination = data[at : at + size], data[at + size : at + 2 * size]
        if family == _UNIX:
            addresses = (_format_path(source), None, _format_path(destination), None)
        else:
            ports = data[at + 2 * size : at + length]
            kind = IPv4Address if family == _INET else IPv6Address
            addresses = (
                _format_address(kind(source)),
                int.from_bytes(ports[:2], "big"),
                _format_address(kind(destination)),
                int.from_bytes(ports[2:], "big"),
            )
    authority, tls = _read_tlvs(data, at + length)
    return ProxyHeader(2, *addresses, authority, tls)


def _read_tlvs(data: bytes, at: int) -> tuple[str | None, bool]:
    """Return authority and TLS of the fields behind the addresses; every other type is passed by its length.

    One that is longer than the header ends them.
    """
    authority: str | None = None
    tls = False
    while at + _TLV_HEAD_BYTES <= len(data):
        kind = data[at]
        start = at + _TLV_HEAD_BYTES
        at = start + int.from_bytes(data[at + 1 : start], "big")
        if at > len(data):
            break
        value = data[start:at]
        if kind == _AUTHORITY and _HOST_NAME.fullmatch(value) is not None:
            authority = value.decode("ascii")
        elif kind == _SSL and value:
            tls = value[0] & _CLIENT_USED_TLS != 0
    return authority, tls


def _format_address(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _format_path(padded: bytes) -> str | None:
    """Return the path of a Unix socket; None when it is unnamed. An abstract one begins with `@`."""
    if padded[:1] == b"\0":
        padded = b"@" + padded[1:] if padded.strip(b"\0") else b""
    path = padded.partition(b"\0")[0]
    return path.decode("utf-8", "backslashreplace") or None
