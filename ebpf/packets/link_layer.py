"""From a link header to the network layer behind it: Ethernet and its relatives, PPP, MPLS, wireless.

Owns which link types, EtherTypes and PPP protocols are known. It must not look into the network layer further
than its version, and must not know tunnels in IP (`tunnels`).

Contract: what has no network layer that could carry TCP gives None and one count, and one of `Unopened` too
unless its kind never carries any (ARP, LLDP). Headers that are cut raise IndexError or struct.error, which
the caller counts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from ebpf.packets.limits import PacketLimits
from ebpf.packets.unopened import Unopened

IPV4, IPV6, ETHERNET_FRAME, MPLS = 0x0800, 0x86DD, 0x6558, 0x8847
"""EtherTypes; that of a whole Ethernet frame is GRE's and Geneve's ("transparent Ethernet bridging")."""
_MPLS_MULTICAST = 0x8848
_PPPOE_SESSION = 0x8864
_VLAN_TAGS: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))
"""IEEE 802.1Q, 802.1ad, and two from before it."""
_LEAST_ETHERTYPE = 0x0600
"""Below it, the field is the length of an IEEE 802.3 frame."""
_NOT_TCP: Final = frozenset(
    (
        0x0806,  # ARP
        0x8035,  # RARP
        0x0842,  # Wake-on-LAN
        0x22EA,  # stream reservation
        0x8808,  # flow control
        0x8809,  # LACP
        0x8863,  # PPPoE discovery
        0x887B,  # HomePlug
        0x888E,  # EAPOL
        0x88CC,  # LLDP
        0x88E1,  # HomePlug AV
        0x88F5,  # MVRP
        0x88F7,  # PTP
        0x8902,  # connectivity fault management
        0x9000,  # loopback test
        0x9003,
    )
)
"""What never carries TCP, and is in every capture."""
_UNOPENED_TYPES: Final = {
    0x880B: "in PPP without a session",
    0x88E5: "in MACsec (encrypted)",
    0x88E7: "in provider backbone bridging (802.1ah)",
    0x894F: "in service function chaining (NSH)",
    0x22F3: "in TRILL",
    0x8906: "of Fibre Channel",
    0x8914: "of Fibre Channel",
    0x8137: "of IPX",
    0x809B: "of AppleTalk",
    0x88A2: "of ATA over Ethernet",
}
_LOOPBACK_FAMILIES: Final = {2: IPV4, 10: IPV6, 24: IPV6, 28: IPV6, 30: IPV6}
"""AF_INET, and AF_INET6 of Linux and the BSDs."""
_PPP_PROTOCOLS: Final = {0x0021: IPV4, 0x0057: IPV6, 0x0281: MPLS, 0x0283: MPLS}
_PPP_UNOPENED: Final = {
    0x002D: "in PPP with compressed headers",
    0x002F: "in PPP with compressed headers",
    0x0031: "in bridged PPP",
    0x003D: "in multilink PPP",
    0x0053: "in PPP (encrypted)",
    0x00FB: "in compressed PPP",
    0x00FD: "in compressed PPP",
}
_FIRST_PPP_CONTROL = 0x4000
"""From here on PPP protocols negotiate and carry nothing (RFC 1661 section 2)."""
_NFLOG_PAYLOAD = 9
_LINK_NAMES: Final = {
    6: "of Token Ring",
    10: "of FDDI",
    107: "of Frame Relay",
    147: "of a private link type",
    187: "of Bluetooth",
    189: "of USB",
    195: "of IEEE 802.15.4",
    201: "of Bluetooth",
    220: "of USB",
    227: "of a CAN bus",
    230: "of IEEE 802.15.4",
    249: "of USB",
    253: "of netlink",
    254: "of Bluetooth",
}

_U16 = struct.Struct("!H")
_TAG = struct.Struct("!HH")
_LABEL = struct.Struct("!I")


class Network(NamedTuple):
    """Where the network layer begins."""

    protocol: int
    """EtherType: `IPV4` or `IPV6`."""
    offset: int
    tags: tuple[int, ...]
    """VLAN identifiers of the frame, the outermost first."""


class LinkDecoder:
    """Decodes link headers. `counts` is added to: `packets_not_tcp`, `packets_of_unknown_link`."""

    def __init__(self, limits: PacketLimits, counts: dict[str, int], unopened: Unopened) -> None:
        self._limits = limits
        self._counts = counts
        self._unopened = unopened
        self._layers = 0
        """Of the packet at hand."""
        ip, ethernet, ppp, hdlc = self.decode_ip, self.decode_ethernet, self._decode_ppp, self._decode_hdlc
        self._decoders: dict[int, tuple[Callable[[bytes, int], Network | None], int]] = {
            0: (self._decode_loopback, 0),
            1: (ethernet, 0),
            9: (ppp, 0),
            12: (ip, 0),
            14: (ip, 0),
            50: (self._decode_serial_ppp, 0),
            51: (self._decode_pppoe, 0),
            100: (self._decode_llc, 0),
            101: (ip, 0),
            104: (hdlc, 0),
            105: (self._decode_wireless, 0),
            108: (self._decode_loopback, 0),
            113: (self._decode_cooked, 14),
            119: (self._decode_prism, 0),
            127: (self._decode_radiotap, 0),
            163: (self._decode_avs, 0),
            166: (ppp, 2),
            204: (ppp, 1),
            205: (hdlc, 1),
            228: (lambda _data, at: Network(IPV4, at, ()), 0),
            229: (lambda _data, at: Network(IPV6, at, ()), 0),
            239: (self._decode_nflog, 0),
            240: (ethernet, 4),
            276: (self._decode_cooked_2, 0),
        }
        """By LINKTYPE_ value (https://www.tcpdump.org/linktypes.html), and the bytes before the header."""

    def decode(self, link_type: int, data: bytes) -> Network | None:
        """Return the network layer of a packet with this LINKTYPE_ value."""
        self._layers = 0
        known = self._decoders.get(link_type)
        if known is not None:
            decode, at = known
            return decode(data, at)
        self._counts["packets_of_unknown_link"] += 1
        self._unopened.add(_LINK_NAMES.get(link_type, f"of the link type {link_type}"))
        return None

    def decode_ethernet(self, data: bytes, at: int) -> Network | None:
        """Return the network layer of an Ethernet frame."""
        return self.decode_type(data, at + 12, at + 14)

    def decode_type(self, data: bytes, at: int, end: int) -> Network | None:
        """Return the network layer behind the EtherType at `at`; what it is the type of begins at `end`."""
        (protocol,) = _U16.unpack_from(data, at)
        if protocol in (IPV4, IPV6):
            return Network(protocol, end, ())
        tags: tuple[int, ...] = ()
        while protocol in _VLAN_TAGS and len(tags) < self._limits.max_tags:
            control, protocol = _TAG.unpack_from(data, end)
            tags += (control & 0x0FFF,)
            end += 4
        network = self.decode_protocol(protocol, data, end)
        return network if network is None or not tags else network._replace(tags=tags + network.tags)

    def decode_protocol(self, protocol: int, data: bytes, at: int) -> Network | None:
        """Return the network layer of what has this EtherType and begins at `at`."""
        if protocol in (IPV4, IPV6):
            return Network(protocol, at, ())
        self._layers += 1
        if self._layers > self._limits.max_link_layers:
            self._unopened.add(f"under more than {self._limits.max_link_layers} link layers")
            return self._pass_over()
        if protocol == _PPPOE_SESSION:
            return self._decode_pppoe(data, at)
        if protocol in (MPLS, _MPLS_MULTICAST):
            return self._decode_mpls(data, at)
        if protocol == ETHERNET_FRAME:
            return self.decode_ethernet(data, at)
        if protocol < _LEAST_ETHERTYPE:
            return self._decode_llc(data, at)
        if protocol in _VLAN_TAGS:
            self._unopened.add(f"in more than {self._limits.max_tags} VLANs")
        elif protocol not in _NOT_TCP:
            self._unopened.add(_UNOPENED_TYPES.get(protocol, f"of the EtherType 0x{protocol:04x}"))
        return self._pass_over()

    def decode_ip(self, data: bytes, at: int) -> Network | None:
        """Return an IP packet, known by its version alone."""
        version = data[at] >> 4
        if version == 4:
            return Network(IPV4, at, ())
        if version == 6:
            return Network(IPV6, at, ())
        return self._pass_over()

    def _pass_over(self) -> Network | None:
        self._counts["packets_not_tcp"] += 1
        return None

    def _decode_cooked(self, data: bytes, at: int) -> Network | None:
        """Decode a packet of all interfaces of a Linux host ("cooked"); `at` is that of its EtherType."""
        return self.decode_type(data, at, at + 2)

    def _decode_cooked_2(self, data: bytes, at: int) -> Network | None:
        return self.decode_type(data, at, at + 20)

    def _decode_loopback(self, data: bytes, at: int) -> Network | None:
        header = data[at : at + 4]
        family = min(int.from_bytes(header, "little"), int.from_bytes(header, "big"))
        protocol = _LOOPBACK_FAMILIES.get(family)
        return Network(protocol, at + 4, ()) if protocol is not None else self._pass_over()

    def _decode_llc(self, data: bytes, at: int) -> Network | None:
        """Decode IEEE 802.2 with SNAP (RFC 1042); without it no TCP follows."""
        if data[at : at + 3] != b"\xaa\xaa\x03":
            data[at + 2]  # a header that is cut is counted as such
            return self._pass_over()
        (protocol,) = _U16.unpack_from(data, at + 6)
        if data[at + 3 : at + 6] in (b"\0\0\0", b"\0\0\xf8") and protocol >= _LEAST_ETHERTYPE:
            return self.decode_type(data, at + 6, at + 8)
        return self._pass_over()

    def _decode_pppoe(self, data: bytes, at: int) -> Network | None:
        """Decode PPPoE's session stage (RFC 2516 section 4): six bytes, then PPP."""
        if data[at] != 0x11 or data[at + 1] != 0:
            return self._pass_over()
        return self._decode_ppp(data, at + 6)

    def _decode_serial_ppp(self, data: bytes, at: int) -> Network | None:
        if data[at] in (0x0F, 0x8F):
            return self._decode_hdlc(data, at)
        return self._decode_ppp(data, at)

    def _decode_hdlc(self, data: bytes, at: int) -> Network | None:
        """Decode Cisco's HDLC: address, control, EtherType."""
        return self.decode_type(data, at + 2, at + 4)

    def _decode_ppp(self, data: bytes, at: int) -> Network | None:
        """Decode PPP, address and protocol compressed or not (RFC 1661 section 6.5 and 6.6)."""
        if data[at : at + 2] == b"\xff\x03":
            at += 2
        protocol = data[at]
        at += 1
        if not protocol & 1:
            protocol = protocol << 8 | data[at]
            at += 1
        inner = _PPP_PROTOCOLS.get(protocol)
        if inner is not None:
            return self.decode_protocol(inner, data, at)
        if protocol < _FIRST_PPP_CONTROL:
            self._unopened.add(_PPP_UNOPENED.get(protocol, f"of the PPP protocol 0x{protocol:04x}"))
        return self._pass_over()

    def _decode_mpls(self, data: bytes, at: int) -> Network | None:
        """Decode a stack of labels (RFC 3032) and what is behind it, which no label says.

        It is known by its first four bits (RFC 4928 section 2): an IP version, or 0 for a control word, which
        an Ethernet frame follows (RFC 4448 section 4.6).
        """
        for _ in range(self._limits.max_labels):
            (label,) = _LABEL.unpack_from(data, at)
            at += 4
            if label & 0x100:
                break
        else:
            self._unopened.add(f"under more than {self._limits.max_labels} MPLS labels")
            return self._pass_over()
        first = data[at] >> 4
        if first in (4, 6):
            return self.decode_ip(data, at)
        if first == 0:
            return self.decode_ethernet(data, at + 4)
        if first != 1:  # 1 is of the operators' own channel (RFC 4385 section 5)
            self._unopened.add("in MPLS pseudowires without a control word")
        return self._pass_over()

    def _decode_nflog(self, data: bytes, at: int) -> Network | None:
        """Decode what the Linux firewall logged: attributes, whose lengths are in the order of its host."""
        orders: tuple[Literal["little"], Literal["big"]] = ("little", "big")
        for order in orders:
            found = _find_nflog_payload(data, at + 4, order)
            if found is not None:
                return self.decode_ip(data, found)
        return self._pass_over()

    def _decode_radiotap(self, data: bytes, at: int) -> Network | None:
        return self._decode_wireless(data, at + int.from_bytes(data[at + 2 : at + 4], "little"))

    def _decode_prism(self, data: bytes, at: int) -> Network | None:
        return self._decode_wireless(data, at + int.from_bytes(data[at + 4 : at + 8], "little"))

    def _decode_avs(self, data: bytes, at: int) -> Network | None:
        return self._decode_wireless(data, at + int.from_bytes(data[at + 4 : at + 8], "big"))

    def _decode_wireless(self, data: bytes, at: int) -> Network | None:
        """Decode an IEEE 802.11 frame; those with data that is not encrypted carry LLC."""
        kind, flags = data[at], data[at + 1]
        if kind & 0x0C != 0x08 or kind & 0x40:  # no data frame, or one without data
            return self._pass_over()
        if flags & 0x40:
            self._unopened.add("in wireless frames (encrypted)")
            return self._pass_over()
        end = at + (30 if flags & 3 == 3 else 24)
        if kind & 0x80:
            if data[end] & 0x80:
                self._unopened.add("in aggregated wireless frames")
                return self._pass_over()
            end += 6 if flags & 0x80 else 2
        return self._decode_llc(data, end)


def _find_nflog_payload(data: bytes, at: int, order: Literal["little", "big"]) -> int | None:
    """Return where the packet begins in the attributes of NFLOG, None when they are not of this order."""
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 2], order)
        kind = int.from_bytes(data[at + 2 : at + 4], order)
        if size < 4:
            return None
        if kind == _NFLOG_PAYLOAD:
            return at + 4 if at + 4 < len(data) else None
        at += size + -size % 4
    return None
