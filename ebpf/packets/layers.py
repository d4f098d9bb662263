"""From a captured packet to the TCP segment in it: link, network and transport layer.

Owns the headers of these layers, and which link types are known. It must not know connections
(`tcp_stream`, `tcp_flow`). Checksums are not looked at: a sender's packets are captured before its network
card fills them in.

Contract: wire data never raises. A packet without a TCP segment gives None and one count. What the capture
cut off a segment (snapshot length) is known by number: `length` is the true one, `payload` what is there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from ebpf.packets.file import Packet
from ebpf.packets.ip_fragments import DatagramKey, Fragment, Fragments
from ebpf.packets.limits import PacketLimits

_TCP = 6
_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))  # IEEE 802.1Q, 802.1ad, and two from before it
_NULL, _LOOP = 0, 108
_TYPE_AND_HEADER: Final = {1: (12, 14), 113: (14, 16), 276: (0, 20)}
"""Ethernet, Linux cooked and its second version: where the EtherType stands, and where the header ends."""
_RAW: Final = {12: 0, 14: 0, 101: 0, 228: _IPV4, 229: _IPV6}
"""Link types without a link header, and the protocol that they say; 0 leaves it to the version field."""
_LOOPBACK_FAMILIES: Final = {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}
"""AF_INET, and AF_INET6 of Linux and the BSDs."""
_EXTENSION_HEADERS: Final = frozenset((0, 43, 51, 60, 135, 139, 140))
"""IPv6 headers with a length of their own (RFC 7045 section 4); a fragment header is 44."""
_FRAGMENT_HEADER, _AUTHENTICATION_HEADER = 44, 51

_U16 = struct.Struct("!H")
_TAG = struct.Struct("!HH")
_FRAGMENT = struct.Struct("!BxHI")
_IPV4_HEADER = struct.Struct("!BxHHHxBxx4s4s")
_IPV6_HEADER = struct.Struct("!BxxxHBx16s16s")
_TCP_HEADER = struct.Struct("!HHIIBB")
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10


class Endpoint(NamedTuple):
    """One end of a connection, its address as it stands in the packet."""

    address: bytes
    port: int


@dataclass(slots=True)
class TcpSegment:
    """One TCP segment."""

    unix_ns: int
    tags: tuple[int, ...]
    """VLAN identifiers, the outermost first."""
    source: Endpoint
    destination: Endpoint
    sequence: int
    acknowledgement: int | None
    """None without the flag ACK."""
    syn: bool
    fin: bool
    rst: bool
    payload: bytes
    length: int
    """True length of the payload."""


class _Network(NamedTuple):
    """Where the network layer begins."""

    protocol: int
    offset: int
    tags: tuple[int, ...]


class PacketDecoder:
    """Decodes packets one after the other. `counts` is added to.

    `packets_not_tcp`, `packets_of_unknown_link`, `damaged_packets`, and those of `Fragments`.
    """

    def __init__(self, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._fragments = Fragments(limits, counts)

    def decode(self, packet: Packet, unix_ns: int) -> TcpSegment | None:
        """Return the TCP segment of a packet captured at `unix_ns`, or None."""
        try:
            network = self._decode_link(packet)
            if network is None:
                return None
            if network.protocol == _IPV4:
                return self._decode_ipv4(packet, network, unix_ns)
            if network.protocol == _IPV6:
                return self._decode_ipv6(packet, network, unix_ns)
        except (struct.error, IndexError):  # a header is cut
            self._counts["damaged_packets"] += 1
            return None
        self._counts["packets_not_tcp"] += 1
        return None

    def finish(self) -> None:
        """Count what still waits for fragments: nothing more comes."""
        self._fragments.finish()

    def _decode_link(self, packet: Packet) -> _Network | None:
        link_type, data = packet.link_type, packet.data
        if link_type in _TYPE_AND_HEADER:
            return self._decode_tags(data, *_TYPE_AND_HEADER[link_type])
        if link_type in (_NULL, _LOOP):
            family = min(int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
            return _Network(_LOOPBACK_FAMILIES.get(family, 0), 4, ())
        protocol = _RAW.get(link_type, -1)
        if protocol < 0:
            self._counts["packets_of_unknown_link"] += 1
            return None
        return _Network(protocol or {4: _IPV4, 6: _IPV6}.get(data[0] >> 4, 0), 0, ())

    def _decode_tags(self, data: bytes, at: int, end: int) -> _Network:
        """Decode the EtherType at `at`, and the VLAN tags behind the link header, which ends at `end`."""
        tags: tuple[int, ...] = ()
        (protocol,) = _U16.unpack_from(data, at)
        while protocol in _VLAN_TAGS and len(tags) < self._limits.max_tags:
            control, protocol = _TAG.unpack_from(data, end)
            tags += (control & 0x0FFF,)
            end += 4
        return _Network(protocol, end, tags)

    def _decode_ipv4(self, packet: Packet, network: _Network, unix_ns: int) -> TcpSegment | None:
        data, start = packet.data, network.offset
        first, total, identifier, flags, protocol, source, destination = _IPV4_HEADER.unpack_from(data, start)
        header_bytes = (first & 0x0F) * 4
        if first >> 4 != 4 or header_bytes < 20:
            self._counts["damaged_packets"] += 1
            return None
        if protocol != _TCP:
            self._counts["packets_not_tcp"] += 1
            return None
        # 0 is what a card that cuts the packet itself (TSO) is handed when it exceeds 16 bits.
        end = start + total if total else packet.length
        at = start + header_bytes
        if flags & 0x3FFF:
            key = DatagramKey(network.tags, source, destination, identifier)
            part = Fragment((flags & 0x1FFF) * 8, data[at:end], end - at, bool(flags & 0x2000))
            return self._decode_fragment(key, part, unix_ns)
        return self._decode_tcp(data, at, end, network.tags, source, destination, unix_ns)

    def _decode_ipv6(self, packet: Packet, network: _Network, unix_ns: int) -> TcpSegment | None:
        data, start = packet.data, network.offset
        first, size, following, source, destination = _IPV6_HEADER.unpack_from(data, start)
        if first >> 4 != 6:
            self._counts["damaged_packets"] += 1
            return None
        at = start + 40
        end = at + size if size else packet.length  # 0: as above, or a jumbogram (RFC 2675)
        for _ in range(self._limits.max_extension_headers):
            if following == _FRAGMENT_HEADER:
                following, offset, identifier = _FRAGMENT.unpack_from(data, at)
                at += 8
                if offset & 0xFFF9 and following == _TCP:
                    key = DatagramKey(network.tags, source, destination, identifier)
                    part = Fragment(offset & 0xFFF8, data[at:end], end - at, bool(offset & 1))
                    return self._decode_fragment(key, part, unix_ns)
                if offset & 0xFFF9:
                    break
            elif following in _EXTENSION_HEADERS:
                unit = 4 if following == _AUTHENTICATION_HEADER else 8
                extra = 2 if following == _AUTHENTICATION_HEADER else 1
                following, length = data[at], data[at + 1]
                at += (length + extra) * unit
            else:
                break
        if following != _TCP:
            self._counts["packets_not_tcp"] += 1
            return None
        return self._decode_tcp(data, at, end, network.tags, source, destination, unix_ns)

    def _decode_fragment(self, key: DatagramKey, part: Fragment, unix_ns: int) -> TcpSegment | None:
        self._counts["fragments"] += 1
        whole = self._fragments.add(key, part, unix_ns)
        if whole is None:
            return None
        return self._decode_tcp(whole, 0, len(whole), key.tags, key.source, key.destination, unix_ns)

    def _decode_tcp(
        self,
        data: bytes,
        at: int,
        end: int,
        tags: tuple[int, ...],
        source_address: bytes,
        destination_address: bytes,
        unix_ns: int,
    ) -> TcpSegment | None:
        source_port, destination_port, sequence, acknowledgement, offset, flags = _TCP_HEADER.unpack_from(
            data, at
        )
        start = at + (offset >> 4) * 4
        source = Endpoint(source_address, source_port)
        destination = Endpoint(destination_address, destination_port)
        if offset < 0x50 or start > end or source == destination:
            self._counts["damaged_packets"] += 1
            return None
        self._counts["segments"] += 1
        return TcpSegment(
            unix_ns,
            tags,
            source,
            destination,
            sequence,
            acknowledgement if flags & _ACK else None,
            flags & _SYN != 0,
            flags & _FIN != 0,
            flags & _RST != 0,
            data[start:end],
            end - start,
        )
