"""Packet captures, pcap and pcapng, as packets with their link type and time.

Owns the two formats: draft-ietf-opsawg-pcap with its relatives, and draft-ietf-opsawg-pcapng. It must not
look into a packet. It is own code because a reader has to survive hostile files within a bound of memory, to
know interfaces with clocks and link types of their own, and to keep nanoseconds; the libraries at hand each
lack one of these.

Contract: a capture that is cut or damaged yields what stands before the damage, and `damage` says so. Memory
is bound by `PacketLimits.max_packet`, whatever lengths the capture claims.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from typing import Final, NamedTuple

from ebpf.capture_formats import PCAPNG_MAGIC
from ebpf.input_stream import InputStream
from ebpf.packets.limits import PacketLimits

_BYTE_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}


class _PcapForm(NamedTuple):
    """How one relative of pcap differs from another."""

    tick_ns: int
    header_bytes: int = 24
    """Length of the file's header."""
    record_bytes: int = 16
    """Length of a packet's header."""


_PCAP_FORMS: Final = {
    "a1b2c3d4": _PcapForm(1_000),
    "a1b23c4d": _PcapForm(1),
    # Kuznetzov's: interface, protocol and packet type follow in each header.
    "a1b2cd34": _PcapForm(1_000, record_bytes=24),
    # Ixia's of hardware and of software: the size of all packets follows in the file's header.
    "1c0001ac": _PcapForm(1, header_bytes=28),
    "1c0001ab": _PcapForm(1_000, header_bytes=28),
}

_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_SECRETS = 10
_READ_BLOCKS = frozenset((_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET))
_END_OF_OPTIONS, _TIME_RESOLUTION, _TIME_OFFSET = 0, 9, 14
_SECOND_NS = 1_000_000_000
_LATEST_UNIX_NS = 1 << 63
"""Beyond what spans can say; a time at or after it is none."""
_SECTION_START_BYTES = 12


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


class _UnreadableError(Exception):
    """What comes next can't be read; the message completes "the file ...". Never leaves this module."""


class _CutError(_UnreadableError):
    """It ended too early, which is no damage."""


class PacketFile:
    """A packet capture being read. `counts` is added to.

    `packets`, `damaged_packets`, `secrets_unused`.
    """

    def __init__(self, stream: InputStream, limits: PacketLimits, counts: dict[str, int]) -> None:
        """Begin to read a stream that `capture_formats.find_format` calls a packet capture."""
        self._stream = stream
        self._limits = limits
        self._counts = counts
        self.damage: str | None = None
        """What is wrong, as the rest of a sentence; None as far as it is whole."""
        self.is_cut = False
        """Whether it merely ended too early: what is there is right."""
        self._whole = 0
        """Up to where everything was read."""
        self._order = "<"
        self._interfaces: list[_Interface] = []

    def packets(self) -> Iterator[Packet | None]:
        """Yield the packets in the order of the capture, up to its end or its damage. To be used once.

        None where the next one has not come yet.
        """
        try:
            if not (yield from self._stream.await_bytes(4)):
                raise _CutError("is cut")
            reader = self._blocks() if self._stream.peek(4) == PCAPNG_MAGIC else self._records()
            for packet in reader:
                self._counts["packets"] += packet is not None
                yield packet
        except _UnreadableError as error:
            self.is_cut = isinstance(error, _CutError)
            self.damage = f"{error}, {self._stream.describe_rest(self._whole)}"
        else:
            if self._stream.problem is not None:
                self.is_cut = self._stream.is_cut
                self.damage = f"{self._stream.problem}, {self._stream.describe_rest(self._whole)}"

    def _await(self, count: int) -> Generator[None, None, None]:
        if not (yield from self._stream.await_bytes(count)):
            raise self._end_too_early()

    def _end_too_early(self) -> _UnreadableError:
        stream = self._stream
        if stream.problem is None:
            return _CutError("is cut")
        return _CutError(stream.problem) if stream.is_cut else _UnreadableError(stream.problem)

    def _skip(self, count: int) -> Generator[None, None, None]:
        """Pass over bytes, however many, without holding them."""
        while count:
            passed = self._stream.skip(count)
            count -= passed
            if not passed:
                yield from self._await(1)

    def _records(self) -> Iterator[Packet | None]:
        """Read a pcap file."""
        stream = self._stream
        magic = stream.peek(4)
        form = _PCAP_FORMS.get(magic.hex())
        if form is None:
            self._order, form = "<", _PCAP_FORMS[magic[::-1].hex()]
        else:
            self._order = ">"
        yield from self._await(form.header_bytes)
        start = stream.take(form.header_bytes)
        major, minor, _, _, _, network = struct.unpack_from(self._order + "HHiIII", start, 4)
        if major != 2:
            raise _UnreadableError(f"has the unknown version {major}")
        link_type = network & 0xFFFF  # above it, the length of the frame check sequence
        tick_ns, _, record_bytes = form
        most_ticks = _SECOND_NS // tick_ns
        unpack = struct.Struct(self._order + "IIII").unpack_from
        largest = self._limits.max_packet
        self._whole = stream.position
        while True:
            if not stream.holds(record_bytes) and not (yield from stream.await_bytes(record_bytes)):
                if stream.held:
                    raise self._end_too_early()
                return
            seconds, ticks, captured, length = unpack(stream.take(record_bytes))
            if minor < 4 and (minor < 3 or captured > length):
                captured, length = length, captured  # they changed places in version 2.3
            if captured > largest:
                raise _UnreadableError(f"is damaged: it claims a packet of {captured} bytes")
            if not stream.holds(captured):
                yield from self._await(captured)
            data = stream.take(captured)
            self._whole = stream.position
            unix_ns = seconds * _SECOND_NS + ticks * tick_ns if ticks < most_ticks else None
            yield Packet(unix_ns, link_type, data, max(captured, length))

    def _blocks(self) -> Iterator[Packet | None]:
        """Read a pcapng file."""
        stream = self._stream
        while True:
            if not stream.holds(8) and not (yield from stream.await_bytes(8)):
                if stream.held:
                    raise self._end_too_early()
                return
            start = stream.peek(8)
            if start.startswith(PCAPNG_MAGIC):
                yield from self._begin_section()
            else:
                kind, total = struct.unpack(self._order + "II", start)
                self._check_size(total, 12)
                if kind in _READ_BLOCKS:
                    packet = self._take_block(kind, (yield from self._read_block(total)))
                    if packet is not None:
                        yield packet
                else:
                    self._counts["secrets_unused"] += kind == _SECRETS
                    yield from self._skip(total - 4)
                    yield from self._await(4)
                    self._check_end(start, stream.take(4))
            self._whole = stream.position

    def _check_size(self, total: int, least: int) -> None:
        if total < least or total % 4:
            raise _UnreadableError(f"is damaged: it claims a block of {total} bytes")

    def _check_end(self, start: bytes, end: bytes) -> None:
        if start[4:8] != end:
            raise _UnreadableError("is damaged: a block has two lengths")

    def _read_block(self, total: int) -> Generator[None, None, bytes]:
        """Return a whole block, the header of a section included."""
        if total - 12 > self._limits.max_packet:
            raise _UnreadableError(f"is damaged: it claims a block of {total} bytes")
        if not self._stream.holds(total):
            yield from self._await(total)
        block = self._stream.take(total)
        self._check_end(block, block[-4:])
        return block

    def _begin_section(self) -> Generator[None, None, None]:
        yield from self._await(_SECTION_START_BYTES)
        start = self._stream.peek(_SECTION_START_BYTES)
        order = _BYTE_ORDERS.get(start[8:])
        if order is None:
            raise _UnreadableError("is damaged: a section has no byte order")
        self._order = order
        (total,) = struct.unpack_from(order + "I", start, 4)
        self._check_size(total, 16)
        block = yield from self._read_block(total)
        if total < 28:
            raise _UnreadableError("is damaged: a section has no header")
        (major,) = struct.unpack_from(order + "H", block, 12)
        if major != 1:
            raise _UnreadableError(f"has a section of the unknown version {major}")
        self._interfaces.clear()

    def _take_block(self, kind: int, block: bytes) -> Packet | None:
        body = block[8:-4]
        try:
            if kind == _PACKET:
                interface, high, low, captured, length = struct.unpack_from(self._order + "IIIII", body)
                return self._build_packet(interface, high << 32 | low, captured, length, body, 20)
            if kind == _INTERFACE:
                self._add_interface(body)
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
