from __future__ import annotations

import pytest

from ebpf.packets.unopened import describe_unopened
from tests.builders import describe, run_events
from tests.encapsulations import (
    OUTER,
    OUTER_6,
    TUNNELS,
    ethernet,
    geneve,
    gre,
    in_frame,
    in_ip,
    udp,
    vxlan,
)
from tests.packets import PcapPacket, Segment, ip_packet, read_capture, socket_events
from tests.packets import pcap as pcap_of
from tests.unit.ebpf.talks import WHOLE, exchange
from tests.unit.ebpf.test_packet_layers import IPV4, IPV6, Decoder


@pytest.mark.parametrize("segment", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_segment_is_found_in_every_tunnel(segment: Segment, tunnel: str) -> None:
    decoder = Decoder()
    data = TUNNELS[tunnel](segment.ip)
    found = decoder.decode(data)
    assert found is not None
    assert (found.payload, found.length, found.tags) == (b"hello", 5, ())
    assert decoder.counted == {"segments": 1, "packets_in_tunnels": 1}
    cut = decoder.decode(data[:-2], length=len(data))
    assert cut is not None
    assert (cut.payload, cut.length) == (b"hel", 5)


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_tunnel_cut_anywhere_is_counted_once(tunnel: str) -> None:
    data = TUNNELS[tunnel](IPV4.ip)
    for size in range(data.index(IPV4.ip) + 20):
        decoder = Decoder()
        assert decoder.decode(data[:size]) is None
        counted = dict(decoder.counted)
        assert counted.pop("packets_in_tunnels", 0) <= 1
        assert counted.pop("packets_not_opened", 0) <= 1
        assert sum(counted.values()) == 1


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_conversation_in_a_tunnel_is_told_once(tunnel: str) -> None:
    segments = exchange().segments
    outside = [PcapPacket(s.unix_ns, in_frame(TUNNELS[tunnel](s.ip))) for s in segments]
    inside = [PcapPacket(s.unix_ns, in_frame(s.ip)) for s in segments]
    assert [describe(each) for each in run_events(socket_events(outside))] == WHOLE
    # As `tcpdump -i any` has it on the host where the tunnel ends.
    both = [packet for pair in zip(outside, inside, strict=True) for packet in pair]
    assert [describe(each) for each in run_events(socket_events(both))] == WHOLE
    assert [describe(each) for each in run_events(socket_events(inside + outside))] == WHOLE


def test_tunnels_in_tunnels_end_at_the_bound() -> None:
    decoder = Decoder(max_tunnels=2)
    ip = IPV4.ip
    for depth in range(1, 5):
        ip = in_ip(ip)
        assert (decoder.decode(ip) is None) == (depth > 2)
    assert decoder.decoder.unopened.counts == {"in more than 2 tunnels": 2}
    # Without a bound, a packet of 64 KiB is three thousand calls deep.
    assert Decoder().decode(in_ip(IPV4.ip)[:20] * 3_000) is None


def test_a_mirrored_overlay_is_opened_to_the_end() -> None:
    overlay = vxlan(ethernet(0x0800, IPV4.ip), port=8472)
    mirrored = vxlan(ethernet(0x0800, overlay), vni=9)
    for packet in (mirrored, gre(0x0800, mirrored), geneve(0x6558, ethernet(0x0800, mirrored))):
        found = Decoder().decode(packet)
        assert found is not None
        assert found.payload == b"hello"


def test_the_tags_are_those_of_the_inner_frame() -> None:
    inner = ethernet(0x8100, b"\0\7\x08\0" + IPV4.ip)
    found = Decoder().decode(ethernet(0x8100, b"\0\x63\x08\0" + vxlan(inner)), 1)
    assert found is not None
    assert found.tags == (7,)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (ip_packet(*OUTER, 50, bytes(40)), "in ESP (encrypted)"),
        (ip_packet(*OUTER_6, 50, bytes(40)), "in ESP (encrypted)"),
        (ip_packet(*OUTER, 51, b"\x32\4\0\0" + bytes(20) + bytes(40)), "in ESP (encrypted)"),
        (ip_packet(*OUTER, 108, bytes(40)), "in compressed IP (IPComp)"),
        (ip_packet(*OUTER, 115, bytes(40)), "in L2TP tunnels"),
        (gre(0x880B, bytes(40), flags=1), "in PPTP tunnels"),
        (gre(0x0800, bytes(40), flags=2), "in GRE tunnels of another version"),
        (gre(0x0800, IPV4.ip, flags=0x4000), "in GRE tunnels with source routes"),
        (gre(0x88B5, IPV4.ip), "of the EtherType 0x88b5"),
        (udp(4500, b"\1\2\3\4" + bytes(40)), "in ESP (encrypted)"),
        (udp(51_820, b"\4\0\0\0" + bytes(40)), "in WireGuard (encrypted)"),
        (udp(50_000, b"\4\0\0\0" + bytes(40), source=51_820), "in WireGuard (encrypted)"),
        (udp(443, b"\xc0\0\0\0\1" + bytes(40)), "in QUIC (HTTP/3, encrypted)"),
        (udp(1194, bytes(40)), "in OpenVPN (encrypted)"),
        (udp(1701, bytes(40)), "in L2TP tunnels"),
        (udp(3544, bytes(40)), "in Teredo tunnels"),
        (udp(37_008, bytes(40)), "in TZSP (mirrored by a router)"),
        (udp(4790, b"\x0c\0\0\4" + bytes(40)), "in VXLAN-GPE of another kind"),
        (ip_packet(*OUTER, 47, bytes(40), flags=0x0010), "in later fragments of tunnels"),
        (udp(2152, b"\x34\xff\0\0\0\0\0\0\0\0\0\x85\0\0\0\0"), "in GTP tunnels that contradict themselves"),
    ],
)
def test_what_is_not_opened_is_named(packet: bytes, words: str) -> None:
    decoder = Decoder()
    assert decoder.decode(packet) is None
    assert decoder.decoder.unopened.counts == {words: 1}
    assert decoder.counts["packets_not_tcp"] == 1
    assert decoder.counts["packets_not_opened"] == 1


@pytest.mark.parametrize(
    "packet",
    [
        udp(53, bytes(40)),
        udp(4500, bytes(4) + bytes(40)),  # the exchange of keys
        udp(4500, b"\xff"),  # keeps a way open
        udp(51_820, b"nope" + bytes(40)),
        udp(443, b"\x16\xfe\xff" + bytes(40)),  # DTLS
        vxlan(ethernet(0x0800, IPV4.ip), flags=0),
        udp(8472, b"something else at that port"),
        geneve(0x0800, IPV4.ip)[:28] + b"\xc0" + geneve(0x0800, IPV4.ip)[29:],
        udp(2152, b"\x32\1\0\4\0\0\0\0" + bytes(40)),  # an echo
        gre(0, b""),  # a probe
        ip_packet(*OUTER, 17, bytes(40), flags=0x0010),  # a later fragment of a datagram
        ip_packet(*OUTER, 1, bytes(40)),
        ip_packet(*OUTER, 89, bytes(40)),
        ip_packet(*OUTER, 132, bytes(40)),
    ],
)
def test_what_holds_no_packet_is_no_loss(packet: bytes) -> None:
    decoder = Decoder()
    assert decoder.decode(packet) is None
    assert decoder.counted == {"packets_not_tcp": 1}


def test_the_first_fragment_of_a_tunnel_is_read_as_far_as_it_goes() -> None:
    whole = gre(0x0800, IPV4.ip)
    first = ip_packet(*OUTER, 47, whole[20:-8], flags=0x2000)
    found = Decoder().decode(first)
    assert found is not None
    assert len(found.payload) < found.length == 5


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, ""),
        (
            {"in GRE tunnels with source routes": 412},
            "412 packets in GRE tunnels with source routes were not opened",
        ),
        ({"in ESP (encrypted)": 1}, "1 packet in ESP (encrypted) was not opened"),
        (
            {"of USB": 2, "in ESP (encrypted)": 30, "in L2TP tunnels": 3},
            "30 packets in ESP (encrypted), 3 in L2TP tunnels and 2 of USB were not opened",
        ),
    ],
)
def test_the_sentence(counts: dict[str, int], sentence: str) -> None:
    assert describe_unopened(counts) == sentence


def test_a_capture_says_what_it_did_not_open() -> None:
    packets = [PcapPacket(number, in_frame(ip_packet(*OUTER, 50, bytes(40)))) for number in range(412)]
    source, _ = read_capture(pcap_of(packets))
    assert describe_unopened(source.unopened) == "412 packets in ESP (encrypted) were not opened"
    assert source.observations()["packets_not_opened"] == 412
