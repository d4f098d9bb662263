"""What an IP packet may travel in: link headers beyond those of `tests.packets`, and tunnels."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.packets import ETHERNET, ip_packet, link_packet

OUTER = ("198.51.100.1", "198.51.100.2")
OUTER_6 = ("2001:db8:ffff::1", "2001:db8:ffff::2")


def ether_type(ip: bytes) -> int:
    """Return the EtherType of an IP packet."""
    return 0x86DD if ip[0] >> 4 == 6 else 0x0800


def ethernet(protocol: int, payload: bytes) -> bytes:
    """Return an Ethernet frame."""
    return b"\x02\0\0\0\0\1" + b"\x02\0\0\0\0\2" + struct.pack("!H", protocol) + payload


def udp(port: int, payload: bytes, source: int = 50_000, *, six: bool = False) -> bytes:
    """Return an IP packet with a datagram."""
    datagram = struct.pack("!HHHH", source, port, 8 + len(payload), 0) + payload
    return ip_packet(*(OUTER_6 if six else OUTER), 17, datagram)


def vxlan(frame: bytes, *, port: int = 4789, flags: int = 0x08, vni: int = 42, six: bool = False) -> bytes:
    return udp(port, struct.pack("!BxxxI", flags, vni << 8) + frame, six=six)


def geneve(protocol: int, inner: bytes, *, options: bytes = b"") -> bytes:
    return udp(6081, struct.pack("!BBHI", len(options) // 4, 0, protocol, 42 << 8) + options + inner)


def gtp(ip: bytes, *, extended: bool = False) -> bytes:
    header = struct.pack("!BBHI", 0x34 if extended else 0x30, 255, len(ip), 7)
    return udp(2152, header + (b"\0\0\0\x85\1\0\0\0" if extended else b"") + ip)


def gre(protocol: int, inner: bytes, *, flags: int = 0, six: bool = False) -> bytes:
    fields = bytes(4) * ((flags & 0x8000 != 0) + (flags & 0x2000 != 0) + (flags & 0x1000 != 0))
    content = struct.pack("!HH", flags, protocol) + fields + inner
    return ip_packet(*(OUTER_6 if six else OUTER), 47, content)


def in_ip(ip: bytes, *, six: bool = False) -> bytes:
    return ip_packet(*(OUTER_6 if six else OUTER), 41 if ip[0] >> 4 == 6 else 4, ip)


def ppp(ip: bytes, start: bytes = b"") -> bytes:
    return start + struct.pack("!H", 0x57 if ip[0] >> 4 == 6 else 0x21) + ip


def pppoe(ip: bytes) -> bytes:
    return struct.pack("!BBHH", 0x11, 0, 7, len(ip) + 2) + ppp(ip)


def labels(count: int) -> bytes:
    """Return a stack of MPLS labels."""
    return b"".join(struct.pack("!I", 16 << 12 | (number == count - 1) << 8 | 64) for number in range(count))


def snap(ip: bytes) -> bytes:
    return b"\xaa\xaa\x03\0\0\0" + struct.pack("!H", ether_type(ip)) + ip


def nflog(ip: bytes, order: str = "<") -> bytes:
    prefix = struct.pack(order + "HH", 10, 10) + b"drop:\0" + bytes(2)
    return b"\x02\0\0\x05" + prefix + struct.pack(order + "HH", 4 + len(ip), 9) + ip + bytes(-len(ip) % 4)


def wireless(ip: bytes, *, qos: bool = False, flags: int = 1, four: bool = False) -> bytes:
    """Return an IEEE 802.11 data frame."""
    header = bytes([0x88 if qos else 0x08, 3 if four else flags]) + bytes(28 if four else 22)
    return header + (bytes(2) if qos else b"") + snap(ip)


LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "Ethernet II": (1, lambda ip: ethernet(ether_type(ip), ip)),
    "802.3 with SNAP": (1, lambda ip: ethernet(len(ip) + 8, snap(ip))),
    "SNAP in a VLAN": (1, lambda ip: ethernet(0x8100, struct.pack("!HH", 7, len(ip) + 8) + snap(ip))),
    "PPPoE": (1, lambda ip: ethernet(0x8864, pppoe(ip))),
    "PPPoE in a VLAN": (1, lambda ip: ethernet(0x8100, b"\0\x07\x88\x64" + pppoe(ip))),
    "MPLS": (1, lambda ip: ethernet(0x8847, labels(1) + ip)),
    "MPLS, five labels, multicast": (1, lambda ip: ethernet(0x8848, labels(5) + ip)),
    "Ethernet in MPLS": (
        1,
        lambda ip: ethernet(0x8847, labels(2) + bytes(4) + ethernet(ether_type(ip), ip)),
    ),
    "PPP": (9, ppp),
    "PPP with address": (9, lambda ip: ppp(ip, b"\xff\x03")),
    "PPP, protocol compressed": (9, lambda ip: b"\x57" + ip if ip[0] >> 4 == 6 else b"\x21" + ip),
    "MPLS in PPP": (9, lambda ip: b"\x02\x81" + labels(1) + ip),
    "PPP on a serial line": (50, lambda ip: ppp(ip, b"\xff\x03")),
    "Cisco HDLC on a serial line": (50, lambda ip: b"\x0f\0" + struct.pack("!H", ether_type(ip)) + ip),
    "PPPoE without Ethernet": (51, pppoe),
    "LLC of ATM": (100, snap),
    "Cisco HDLC": (104, lambda ip: b"\x0f\0" + struct.pack("!H", ether_type(ip)) + ip),
    "802.11": (105, wireless),
    "802.11 with quality of service": (105, lambda ip: wireless(ip, qos=True, flags=2)),
    "802.11 between access points": (105, lambda ip: wireless(ip, four=True)),
    "Prism": (119, lambda ip: bytes(4) + struct.pack("<I", 144) + bytes(136) + wireless(ip)),
    "radiotap": (127, lambda ip: b"\0\0\x0c\0" + bytes(8) + wireless(ip)),
    "AVS": (163, lambda ip: bytes(4) + struct.pack(">I", 64) + bytes(56) + wireless(ip)),
    "PPP of pppd": (166, lambda ip: ppp(ip, b"\0\x03")),
    "PPP with direction": (204, lambda ip: ppp(ip, b"\0\xff\x03")),
    "Cisco HDLC with direction": (205, lambda ip: b"\1\x0f\0" + struct.pack("!H", ether_type(ip)) + ip),
    "NFLOG": (239, nflog),
    "NFLOG of a big-endian host": (239, lambda ip: nflog(ip, ">")),
    "netANALYZER": (240, lambda ip: bytes(4) + ethernet(ether_type(ip), ip)),
    "cooked, with SNAP": (113, lambda ip: bytes(14) + b"\0\x04" + snap(ip)),
}
"""Link type and header by name."""

TUNNELS: dict[str, Callable[[bytes], bytes]] = {
    "IP in IP": in_ip,
    "IP in IPv6": lambda ip: in_ip(ip, six=True),
    "GRE": lambda ip: gre(ether_type(ip), ip),
    "GRE with all fields": lambda ip: gre(ether_type(ip), ip, flags=0xB000),
    "GRE over IPv6": lambda ip: gre(ether_type(ip), ip, six=True),
    "NVGRE": lambda ip: gre(0x6558, ethernet(ether_type(ip), ip), flags=0x2000),
    "MPLS in GRE": lambda ip: gre(0x8847, labels(2) + ip),
    "ERSPAN I": lambda ip: gre(0x88BE, ethernet(ether_type(ip), ip)),
    "ERSPAN II": lambda ip: gre(0x88BE, bytes(8) + ethernet(ether_type(ip), ip), flags=0x1000),
    "ERSPAN III": lambda ip: gre(0x22EB, bytes(12) + ethernet(ether_type(ip), ip), flags=0x1000),
    "ERSPAN III, platform": lambda ip: gre(
        0x22EB, bytes(11) + b"\1" + bytes(8) + ethernet(ether_type(ip), ip), flags=0x1000
    ),
    "Ethernet in IP": lambda ip: ip_packet(*OUTER, 97, b"\x30\0" + ethernet(ether_type(ip), ip)),
    "MPLS in IP": lambda ip: ip_packet(*OUTER, 137, labels(1) + ip),
    "MPLS in UDP": lambda ip: udp(6635, labels(1) + ip),
    "VXLAN": lambda ip: vxlan(ethernet(ether_type(ip), ip)),
    "VXLAN over IPv6": lambda ip: vxlan(ethernet(ether_type(ip), ip), six=True),
    "VXLAN at Linux's old port": lambda ip: vxlan(ethernet(ether_type(ip), ip), port=8472),
    "VXLAN with group policy": lambda ip: vxlan(ethernet(ether_type(ip), ip), flags=0x88),
    "VXLAN-GPE": lambda ip: udp(4790, bytes([12, 0, 0, 2 if ip[0] >> 4 == 6 else 1, 0, 0, 1, 0]) + ip),
    "Geneve": lambda ip: geneve(0x6558, ethernet(ether_type(ip), ip)),
    "Geneve of IP, with options": lambda ip: geneve(ether_type(ip), ip, options=bytes(12)),
    "GTP": gtp,
    "GTP with an extension header": lambda ip: gtp(ip, extended=True),
}
"""The outer IP packet by name."""


def in_frame(ip: bytes) -> bytes:
    """Return an IP packet in an Ethernet frame."""
    return link_packet(ETHERNET, ip)
