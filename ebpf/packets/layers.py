"""From a captured packet to the TCP segment in it: network and transport layer, in tunnels or not.

Owns the headers of these layers. It must not know link headers (`link_layer`), those of tunnels (`tunnels`)
or connections (`tcp_stream`, `tcp_flow`). Checksums are not looked at: a sender's packets are captured before
its network card fills them in.

Contract: wire data never raises. A packet without a TCP segment gives None and one count. What the capture
cut off a segment (snapshot length) is known by number: `length` is the true one, `payload` what is there.

A segment in a tunnel is read as if it were in none: a capture on all interfaces has it twice, outside and
inside, which are duplicates. So the tunnel's number is no part of a connection, and two tenants whose
addresses and ports are the same at the same time are distinguished by their sequence numbers alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from ebpf.packets.file import Packet
from ebpf.packets.ip_fragments import DatagramKey, Fragment, Fragments
from ebpf.packets.limits import PacketLimits
from ebpf.packets.link_layer import IPV4, LinkDecoder, Network
from ebpf.packets.tunnels import ANY_IP, AUTHENTICATION_HEADER, TUNNEL_PROTOCOLS, Inner, find_inner
from ebpf.packets.unopened import Unopened

_TCP = 6
_EXTENSION_HEADERS: Final = frozenset((0, 43, 51, 60, 135, 139, 140))
"""IPv6 headers with a length of their own (RFC 7045 section 4); a fragment header is 44."""
_FRAGMENT_HEADER = 44

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


class PacketDecoder:
    """Decodes packets one after the other. `counts` is added to.

    `packets_not_tcp`, `packets_of_unknown_link`, `packets_not_opened`, `packets_in_tunnels`,
    `damaged_packets`, and those of `Fragments`.
    """

    def __init__(self, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self.unopened = Unopened(limits.max_unopened_kinds, counts)
        """What was not opened, in words."""
        self._link = LinkDecoder(limits, counts, self.unopened)
        self._fragments = Fragments(limits, counts)

    def decode(self, packet: Packet, unix_ns: int) -> TcpSegment | None:
        """Return the TCP segment of a packet captured at `unix_ns`, or None."""
        try:
            network = self._link.decode(packet.link_type, packet.data)
            return self._decode_network(packet.data, packet.length, network, unix_ns, 0)
        except (struct.error, IndexError):  # a header is cut
            self._counts["damaged_packets"] += 1
            return None

    def finish(self) -> None:
        """Count what still waits for fragments: nothing more comes."""
        self._fragments.finish()

    def _decode_network(
        self, data: bytes, limit: int, network: Network | None, unix_ns: int, depth: int
    ) -> TcpSegment | None:
        """Decode a network layer that is within `depth` tunnels and ends before `limit`."""
        if network is None:
            return None
        if network.protocol == IPV4:
            return self._decode_ipv4(data, limit, network, unix_ns, depth)
        return self._decode_ipv6(data, limit, network, unix_ns, depth)

    def _decode_ipv4(
        self, data: bytes, limit: int, network: Network, unix_ns: int, depth: int
    ) -> TcpSegment | None:
        start = network.offset
        first, total, identifier, flags, protocol, source, destination = _IPV4_HEADER.unpack_from(data, start)
        header_bytes = (first & 0x0F) * 4
        end = start + total if total else self._find_end(limit, start)
        at = start + header_bytes
        if first >> 4 != 4 or header_bytes < 20 or at > end:
            self._counts["damaged_packets"] += 1
            return None
        if protocol == AUTHENTICATION_HEADER and not flags & 0x1FFF:
            protocol, at = data[at], at + (data[at + 1] + 2) * 4  # RFC 4302 section 2.2
        if protocol != _TCP:
            return self._decode_other(protocol, data, at, end, unix_ns, depth, is_later=flags & 0x1FFF != 0)
        if flags & 0x3FFF:
            key = DatagramKey(network.tags, source, destination, identifier)
            part = Fragment((flags & 0x1FFF) * 8, data[at:end], end - at, bool(flags & 0x2000))
            return self._decode_fragment(key, part, unix_ns)
        return self._decode_tcp(data, at, end, network.tags, source, destination, unix_ns)

    def _decode_ipv6(
        self, data: bytes, limit: int, network: Network, unix_ns: int, depth: int
    ) -> TcpSegment | None:
        start = network.offset
        first, size, following, source, destination = _IPV6_HEADER.unpack_from(data, start)
        if first >> 4 != 6:
            self._counts["damaged_packets"] += 1
            return None
        at = start + 40
        end = at + size if size else self._find_end(limit, start)  # 0 is that of a jumbogram too (RFC 2675)
        is_later = False
        for _ in range(self._limits.max_extension_headers):
            if following == _FRAGMENT_HEADER:
                following, offset, identifier = _FRAGMENT.unpack_from(data, at)
                at += 8
                if offset & 0xFFF9 and following == _TCP:
                    key = DatagramKey(network.tags, source, destination, identifier)
                    part = Fragment(offset & 0xFFF8, data[at:end], end - at, bool(offset & 1))
                    return self._decode_fragment(key, part, unix_ns)
                if offset & 0xFFF8:
                    is_later = True
                    break
            elif following in _EXTENSION_HEADERS:
                unit = 4 if following == AUTHENTICATION_HEADER else 8
                extra = 2 if following == AUTHENTICATION_HEADER else 1
                following, length = data[at], data[at + 1]
                at += (length + extra) * unit
            else:
                break
        if following != _TCP:
            return self._decode_other(following, data, at, end, unix_ns, depth, is_later=is_later)
        return self._decode_tcp(data, at, end, network.tags, source, destination, unix_ns)

    def _find_end(self, limit: int, start: int) -> int:
        """Return the end of a packet whose length is 0, which a card that cuts it itself (TSO) is handed.

        It ends with what it is in; what claims to be larger than any packet is damaged.
        """
        if limit - start > self._limits.max_packet:
            raise IndexError
        return limit

    def _decode_other(
        self, protocol: int, data: bytes, at: int, end: int, unix_ns: int, depth: int, *, is_later: bool
    ) -> TcpSegment | None:
        """Look for a packet in a packet; of one in fragments the first is looked at, as far as it goes."""
        inner: Inner | str | None
        if is_later:
            inner = "in later fragments of tunnels" if protocol in TUNNEL_PROTOCOLS else None
        else:
            inner = self._find_inner(protocol, data, at)
        if isinstance(inner, Inner) and depth >= self._limits.max_tunnels:
            inner = f"in more than {self._limits.max_tunnels} tunnels"
        if isinstance(inner, str):
            self.unopened.add(inner)
            inner = None
        if inner is None:
            self._counts["packets_not_tcp"] += 1
            return None
        self._counts["packets_in_tunnels"] += depth == 0
        if inner.protocol == ANY_IP:
            network = self._link.decode_ip(data, inner.offset)
        else:
            network = self._link.decode_protocol(inner.protocol, data, inner.offset)
        return self._decode_network(data, end, network, unix_ns, depth + 1)

    def _find_inner(self, protocol: int, data: bytes, at: int) -> Inner | str | None:
        """Find what is within; what is cut so short that no tunnel is known to be there holds nothing."""
        try:
            return find_inner(protocol, data, at)
        except (struct.error, IndexError):
            if protocol in TUNNEL_PROTOCOLS:
                raise
            return None

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
