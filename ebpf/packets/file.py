"""Packet capture files, pcap and pcapng, compressed by gzip or not, as packets with their link type and time.

Owns the file formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. It must not look into a packet. It
is own code because a reader has to survive hostile files within a bound of memory, to know interfaces with
clocks and link types of their own, and to keep nanoseconds; the libraries at hand each lack one of these.

Contract: a file that is cut or damaged yields what stands before the damage, and `damage` says so. Memory is
bound by `PacketLimits.max_packet`, whatever lengths the file claims and however far it unpacks.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ebpf.packets.limits import PacketLimits

_GZIP_MAGIC = b"\x1f\x8b"
_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_PCAP_MAGICS = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
"""Byte order, and nanoseconds of a tick."""

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_READ_BLOCKS = (_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET)
_END_OF_OPTIONS, _TIME_RESOLUTION, _TIME_OFFSET = 0, 9, 14
_SECOND_NS = 1_000_000_000
_LATEST_UNIX_NS = 1 << 63
"""Beyond what spans can say; a time at or after it is none."""
_SKIPPED_AT_ONCE = 65_536


class PacketFileError(Exception):
    """The file can't be opened, or is no packet capture; the message says what to do."""


class Packet(NamedTuple):
    """One packet as it was captured."""

    unix_ns: int | None
    """None when the file does not say, or says nothing sensible."""
    link_type: int
    """LINKTYPE_ value (https://www.tcpdump.org/linktypes.html)."""
    data: bytes
    """What was captured, from the link header on."""
    length: int
    """True length on the wire, never below that of `data`."""


class _Interface(NamedTuple):
    link_type: int
    snap_length: int
    """0 without a bound."""
    ticks_per_second: int
    offset_seconds: int


class _DamagedError(Exception):
    """What comes next can't be read; the message completes "the file ...". Never leaves this module."""


def is_packet_capture(path: Path) -> bool:
    """Return whether the file begins as a packet capture does, unpacked if need be; False if unreadable."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start.startswith(_GZIP_MAGIC):
                file.seek(0)
                start = _unpacked(file).read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return start == _SECTION_MAGIC or start in _PCAP_MAGICS


def _unpacked(file: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))


class PacketFile:
    """An open packet capture. `counts` is added to: `packets`, `damaged_packets`.

    Raises PacketFileError when the file is missing, or foreign.
    """

    def __init__(self, path: Path, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self.damage: str | None = None
        """What is wrong with the file, and how many bytes of it are not read; None when nothing is."""
        self._whole = 0
        self._read_bytes = 0
        self._order = "<"
        self._interfaces: list[_Interface] = []
        try:
            self._plain = path.open("rb")
        except OSError as error:
            raise PacketFileError(f"{path} can't be read: {error.strerror}.") from error
        self._file: BinaryIO = self._plain
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._magic = self._read_magic(path)
            undo.pop_all()

    def _read_magic(self, path: Path) -> bytes:
        try:
            if self._plain.read(2) == _GZIP_MAGIC:
                self._file = _unpacked(self._plain)
            self._plain.seek(0)
            magic = self._read_up_to(4)
        except (_DamagedError, OSError) as error:
            raise PacketFileError(f"{path} can't be read: {error}.") from error
        if magic != _SECTION_MAGIC and magic not in _PCAP_MAGICS:
            raise PacketFileError(
                f"{path} is no packet capture. Name a file made by tcpdump, in the form pcap or pcapng."
            )
        return magic

    def packets(self) -> Iterator[Packet]:
        """Yield the packets in the order of the file, up to its end or its damage. To be used once."""
        try:
            for packet in self._blocks() if self._magic == _SECTION_MAGIC else self._records():
                self._counts["packets"] += 1
                yield packet
        except _DamagedError as error:
            cut = self._size() - self._whole
            self.damage = f"{error}; its last {cut} bytes are not read" if cut > 0 else str(error)

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._file.close()
        self._plain.close()

    def _size(self) -> int:
        """Return the size of the file; of a compressed one, how much was unpacked."""
        return os.fstat(self._plain.fileno()).st_size if self._file is self._plain else self._read_bytes

    def _read_up_to(self, count: int) -> bytes:
        try:
            data = self._file.read(count)
        except (EOFError, zlib.error, OSError) as error:
            raise _DamagedError(f"can't be read to its end ({error})") from None
        self._read_bytes += len(data)
        return data

    def _read(self, count: int) -> bytes:
        data = self._read_up_to(count)
        if len(data) < count:
            raise _DamagedError("is cut")
        return data

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._read(min(count, _SKIPPED_AT_ONCE)))

    def _records(self) -> Iterator[Packet]:
        """Read a pcap file behind its magic."""
        self._order, tick_ns = _PCAP_MAGICS[self._magic]
        major, _, _, _, _, network = struct.unpack(self._order + "HHiIII", self._read(20))
        if major != 2:
            raise _DamagedError(f"has the unknown version {major}")
        link_type = network & 0xFFFF  # above it, the length of the frame check sequence
        header = struct.Struct(self._order + "IIII")
        self._whole = self._read_bytes
        while start := self._read_up_to(header.size):
            if len(start) < header.size:
                raise _DamagedError("is cut")
            seconds, ticks, captured, length = header.unpack(start)
            if captured > self._limits.max_packet:
                raise _DamagedError(f"is damaged: it claims a packet of {captured} bytes")
            data = self._read(captured)
            self._whole = self._read_bytes
            yield Packet(seconds * _SECOND_NS + ticks * tick_ns, link_type, data, max(captured, length))

    def _blocks(self) -> Iterator[Packet]:
        """Read a pcapng file behind its first block type."""
        start = self._magic
        while start:
            if len(start) < 4:
                raise _DamagedError("is cut")
            if start == _SECTION_MAGIC:
                self._begin_section()
            else:
                kind, body = self._read_block(start)
                packet = self._take_block(kind, body)
                if packet is not None:
                    yield packet
            self._whole = self._read_bytes
            start = self._read_up_to(4)

    def _begin_section(self) -> None:
        start = self._read(8)
        order = _BYTE_ORDERS.get(start[4:])
        if order is None:
            raise _DamagedError("is damaged: a section has no byte order")
        self._order = order
        body = self._finish_block(_SECTION, start[:4], read_already=4)
        if len(body) < 12:
            raise _DamagedError("is damaged: a section has no header")
        (major,) = struct.unpack_from(order + "H", body, 0)
        if major != 1:
            raise _DamagedError(f"has a section of the unknown version {major}")
        self._interfaces.clear()

    def _read_block(self, start: bytes) -> tuple[int, bytes]:
        (kind,) = struct.unpack(self._order + "I", start)
        return kind, self._finish_block(kind, self._read(4), read_already=0)

    def _finish_block(self, kind: int, length: bytes, *, read_already: int) -> bytes:
        """Return what is left of a block's body; b"" for one that nobody needs."""
        (total,) = struct.unpack(self._order + "I", length)
        left = total - 12 - read_already
        if left < 0 or total % 4:
            raise _DamagedError(f"is damaged: it claims a block of {total} bytes")
        body = b""
        if kind not in _READ_BLOCKS:
            self._skip(left)
        elif left > self._limits.max_packet:
            raise _DamagedError(f"is damaged: it claims a block of {total} bytes")
        else:
            body = self._read(left)
        if self._read(4) != length:
            raise _DamagedError("is damaged: a block has two lengths")
        return body

    def _take_block(self, kind: int, body: bytes) -> Packet | None:
        try:
            if kind == _INTERFACE:
                self._add_interface(body)
            elif kind == _PACKET:
                interface, high, low, captured, length = struct.unpack_from(self._order + "IIIII", body)
                return self._build_packet(interface, high << 32 | low, captured, length, body, 20)
            elif kind == _OLD_PACKET:
                interface, _, high, low, captured, length = struct.unpack_from(self._order + "HHIIII", body)
                return self._build_packet(interface, high << 32 | low, captured, length, body, 20)
            elif kind == _SIMPLE_PACKET:
                (length,) = struct.unpack_from(self._order + "I", body)
                snap_length = self._interfaces[0].snap_length if self._interfaces else 0
                captured = min(length, snap_length or length, len(body) - 4)
                return self._build_packet(0, None, captured, length, body, 4)
        except struct.error:
            self._counts["damaged_packets"] += 1
        return None

    def _add_interface(self, body: bytes) -> None:
        if len(self._interfaces) >= self._limits.max_interfaces:
            return
        link_type, _, snap_length = struct.unpack_from(self._order + "HHI", body)
        ticks_per_second, offset_seconds = 1_000_000, 0
        at = 8
        while at + 4 <= len(body):
            code, length = struct.unpack_from(self._order + "HH", body, at)
            value = body[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4
            if code == _END_OF_OPTIONS:
                break
            if code == _TIME_RESOLUTION and len(value) == 1:
                exponent = value[0] & 0x7F
                ticks_per_second = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == _TIME_OFFSET and len(value) == 8:
                (offset_seconds,) = struct.unpack(self._order + "q", value)
        self._interfaces.append(_Interface(link_type, snap_length, ticks_per_second, offset_seconds))

    def _build_packet(
        self, number: int, ticks: int | None, captured: int, length: int, body: bytes, start: int
    ) -> Packet | None:
        if number >= len(self._interfaces) or captured > len(body) - start:
            self._counts["damaged_packets"] += 1
            return None
        interface = self._interfaces[number]
        unix_ns = None
        if ticks is not None:
            unix_ns = ticks * _SECOND_NS // interface.ticks_per_second + interface.offset_seconds * _SECOND_NS
            if not 0 <= unix_ns < _LATEST_UNIX_NS:
                unix_ns = None
        data = body[start : start + captured]
        return Packet(unix_ns, interface.link_type, data, max(captured, length))
