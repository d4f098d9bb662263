"""Packets in packets: what is behind a transport that is not TCP.

Owns which tunnels are opened, and the words for those that are not. It must not decode what is inside.

Contract: nothing is guessed. A port alone opens no tunnel: the header behind it has to be one.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ebpf.packets.link_layer import ETHERNET_FRAME, IPV4, IPV6, MPLS

IPV4_IN_IP, UDP, IPV6_IN_IP, GRE, ESP, AUTHENTICATION_HEADER = 4, 17, 41, 47, 50, 51
ETHERNET_IN_IP, MPLS_IN_IP = 97, 137
TUNNEL_PROTOCOLS: Final = frozenset((IPV4_IN_IP, IPV6_IN_IP, GRE, ETHERNET_IN_IP, MPLS_IN_IP))
"""Protocols of IP that are tunnels always; UDP is one by its ports."""
ANY_IP = 0
"""Protocol of an inner packet that is known by its version alone."""
_UNOPENED_PROTOCOLS: Final = {
    ESP: "in ESP (encrypted)",
    94: "in IP tunnels of another kind",
    98: "in IP tunnels of another kind",
    108: "in compressed IP (IPComp)",
    115: "in L2TP tunnels",
}
_VXLAN_PORTS: Final = frozenset((4789, 8472))
"""That of RFC 7348, and that of Linux from before it."""
_VXLAN_GPE, _GENEVE, _GTP, _MPLS_IN_UDP = 4790, 6081, 2152, 6635
_GPE_PROTOCOLS: Final = {1: IPV4, 2: IPV6, 3: ETHERNET_FRAME, 5: MPLS}
_UNOPENED_PORTS: Final = {
    443: "in QUIC (HTTP/3, encrypted)",
    1194: "in OpenVPN (encrypted)",
    1701: "in L2TP tunnels",
    3544: "in Teredo tunnels",
    4500: "in ESP (encrypted)",
    37_008: "in TZSP (mirrored by a router)",
    51_820: "in WireGuard (encrypted)",
}
_TWO_SHORTS = struct.Struct("!HH")
_PPTP = "in PPTP tunnels"
_ERSPAN_2, _ERSPAN_3 = 0x88BE, 0x22EB
_WIREGUARD_TYPES: Final = (b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0")


class Inner(NamedTuple):
    """A packet in a packet."""

    protocol: int
    """EtherType, or `ANY_IP`."""
    offset: int


def find_inner(protocol: int, data: bytes, at: int) -> Inner | str | None:
    """Return what the payload of an IP packet holds.

    A packet; words for what is not opened; None for what carries no other. Raises struct.error or IndexError
    where a header is cut.
    """
    if protocol == UDP:
        return _find_in_udp(data, at)
    if protocol == IPV4_IN_IP:
        return Inner(IPV4, at)
    if protocol == IPV6_IN_IP:
        return Inner(IPV6, at)
    if protocol == GRE:
        return _find_in_gre(data, at)
    if protocol == ETHERNET_IN_IP:
        return Inner(ETHERNET_FRAME, at + 2)
    if protocol == MPLS_IN_IP:
        return Inner(MPLS, at)
    return _UNOPENED_PROTOCOLS.get(protocol)


def _find_in_gre(data: bytes, at: int) -> Inner | str | None:
    """Read GRE (RFC 2784, RFC 2890) and ERSPAN in it (draft-foschiano-erspan)."""
    flags, protocol = _TWO_SHORTS.unpack_from(data, at)
    if flags & 7:
        return _PPTP if flags & 7 == 1 else "in GRE tunnels of another version"
    if flags & 0x4000:
        return "in GRE tunnels with source routes"
    has_sequence = flags & 0x1000 != 0
    at += 4 + 4 * ((flags & 0x8000 != 0) + (flags & 0x2000 != 0) + has_sequence)
    if protocol == _ERSPAN_2:
        return Inner(ETHERNET_FRAME, at + 8 * has_sequence)
    if protocol == _ERSPAN_3:
        return Inner(ETHERNET_FRAME, at + (20 if data[at + 11] & 1 else 12))
    if protocol == 0:
        return None  # a probe whether the tunnel is alive
    return Inner(protocol, at)


def _find_in_udp(data: bytes, at: int) -> Inner | str | None:
    source, destination = _TWO_SHORTS.unpack_from(data, at)
    at += 8
    if destination in _VXLAN_PORTS:
        return _find_in_vxlan(data, at)
    if destination == _VXLAN_GPE:
        inner = _GPE_PROTOCOLS.get(data[at + 3])
        if data[at] & 0xF8 == 0x08 and inner is not None:
            return Inner(inner, at + 8)
        return "in VXLAN-GPE of another kind"
    if destination == _GENEVE:
        return _find_in_geneve(data, at)
    if destination == _GTP:
        return _find_in_gtp(data, at)
    if destination == _MPLS_IN_UDP:
        return Inner(MPLS, at)
    port = destination if destination in _UNOPENED_PORTS else source
    if port not in _UNOPENED_PORTS:
        return None
    start = data[at : at + 4]
    if port == 4500 and (start == bytes(4) or len(start) < 4):
        return None  # the exchange of keys (RFC 3948 section 2.2), or a packet that keeps a way open
    if port == 443 and not data[at] & 0x40:  # the fixed bit (RFC 9000 section 17.2)
        return None
    if port == 51_820 and start not in _WIREGUARD_TYPES:
        return None
    return _UNOPENED_PORTS[port]


def _find_in_vxlan(data: bytes, at: int) -> Inner | None:
    """Read VXLAN (RFC 7348 section 5), with which clouds mirror traffic too; flags but I and G are 0."""
    if data[at] & 0x7F != 0x08 or data[at + 7]:
        return None
    return Inner(ETHERNET_FRAME, at + 8)


def _find_in_geneve(data: bytes, at: int) -> Inner | str | None:
    """Read Geneve (RFC 8926 section 3.4)."""
    options, flags, protocol = struct.unpack_from("!BBH", data, at)
    if options & 0xC0 or flags & 0x80:  # another version, or of the tunnel's own
        return None
    return Inner(protocol, at + 8 + (options & 0x3F) * 4)


def _find_in_gtp(data: bytes, at: int) -> Inner | str | None:
    """Read GTP-U (3GPP TS 29.281 section 5); only messages of type 255 carry a packet."""
    flags, kind = data[at], data[at + 1]
    if flags & 0xF0 != 0x30 or kind != 255:
        return None
    at += 8
    if flags & 0x07:
        following = data[at + 3] if flags & 0x04 else 0
        at += 4
        while following:
            size = data[at] * 4
            if not size:
                return "in GTP tunnels that contradict themselves"
            following = data[at + size - 1]
            at += size
    return Inner(ANY_IP, at)
