from __future__ import annotations

import struct

import pytest

from tests.encapsulations import LINKS, ethernet, labels, ppp, pppoe, wireless
from tests.packets import ETHERNET, link_packet
from tests.unit.ebpf.test_packet_layers import IPV4, IPV6, Decoder


@pytest.mark.parametrize("segment", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("link", LINKS)
def test_a_segment_is_found_in_every_link_layer(segment: object, link: str) -> None:
    ip = IPV6.ip if segment is IPV6 else IPV4.ip
    link_type, build = LINKS[link]
    decoder = Decoder()
    data = build(ip)
    found = decoder.decode(data, link_type)
    assert found is not None
    assert (found.payload, found.length) == (b"hello", 5)
    assert found.tags == ((7,) if "VLAN" in link else ())
    assert decoder.counted == {"segments": 1}
    cut = decoder.decode(data[: data.index(b"hello") + 3], link_type, len(data))
    assert cut is not None
    assert (cut.payload, cut.length) == (b"hel", 5)


@pytest.mark.parametrize("link", LINKS)
def test_a_link_header_cut_anywhere_is_counted_once(link: str) -> None:
    link_type, build = LINKS[link]
    data = build(IPV4.ip)
    for size in range(data.index(IPV4.ip) + 20):
        decoder = Decoder()
        assert decoder.decode(data[:size], link_type) is None
        counted = dict(decoder.counted)
        assert counted.pop("packets_not_opened", 0) <= 1
        assert sum(counted.values()) == 1


def test_labels_beyond_the_bound_are_not_followed() -> None:
    decoder = Decoder(max_labels=3)
    assert decoder.decode(ethernet(0x8847, labels(3) + IPV4.ip), ETHERNET) is not None
    assert decoder.decode(ethernet(0x8847, labels(4) + IPV4.ip), ETHERNET) is None
    assert decoder.decoder.unopened.counts == {"under more than 3 MPLS labels": 1}


def test_link_layers_in_link_layers_end_at_the_bound() -> None:
    decoder = Decoder(max_link_layers=3)
    frame = ethernet(0x0800, IPV4.ip)
    for depth in range(1, 6):
        frame = ethernet(0x6558, frame)
        assert (decoder.decode(frame, ETHERNET) is None) == (depth > 3)
    assert decoder.decoder.unopened.counts == {"under more than 3 link layers": 2}
    # Each is fourteen bytes: without a bound, a frame of 64 KiB is four thousand calls deep.
    assert Decoder().decode(ethernet(0x6558, b"")[:14] * 5_000, ETHERNET) is None


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (ethernet(0x88E5, bytes(60)), "in MACsec (encrypted)"),
        (ethernet(0x88B5, bytes(60)), "of the EtherType 0x88b5"),
        (ethernet(0x8100, b"\0\1\x88\xe7" + bytes(60)), "in provider backbone bridging (802.1ah)"),
        (ethernet(0x8864, pppoe(IPV4.ip)[:6] + b"\0\xfd" + bytes(9)), "in compressed PPP"),
        (ethernet(0x8864, pppoe(IPV4.ip)[:6] + b"\0\x2d" + bytes(9)), "in PPP with compressed headers"),
        (ethernet(0x8864, pppoe(IPV4.ip)[:6] + b"\x01\x01" + bytes(9)), "of the PPP protocol 0x0001"),
        (ethernet(0x8847, labels(1) + b"\x52" + bytes(60)), "in MPLS pseudowires without a control word"),
    ],
)
def test_what_is_not_opened_is_named(frame: bytes, words: str) -> None:
    decoder = Decoder()
    assert decoder.decode(frame, ETHERNET) is None
    assert decoder.decoder.unopened.counts == {words: 1}
    assert decoder.counted == {"packets_not_tcp": 1, "packets_not_opened": 1}


@pytest.mark.parametrize(
    ("link_type", "words"),
    [(189, "of USB"), (187, "of Bluetooth"), (6, "of Token Ring"), (300, "of the link type 300")],
)
def test_a_link_type_that_is_not_known_is_named(link_type: int, words: str) -> None:
    decoder = Decoder()
    assert decoder.decode(bytes(100), link_type) is None
    assert decoder.decoder.unopened.counts == {words: 1}


def test_wireless_frames_that_are_encrypted_or_aggregated_are_named() -> None:
    decoder = Decoder()
    aggregated = bytearray(wireless(IPV4.ip, qos=True))
    aggregated[24] = 0x80
    assert decoder.decode(wireless(IPV4.ip, flags=0x41), 105) is None
    assert decoder.decode(bytes(aggregated), 105) is None
    assert decoder.decoder.unopened.counts == {
        "in wireless frames (encrypted)": 1,
        "in aggregated wireless frames": 1,
    }


@pytest.mark.parametrize(
    ("frame", "link_type"),
    [
        (ethernet(0x0806, bytes(28)), 1),  # ARP
        (ethernet(0x88CC, bytes(28)), 1),  # LLDP
        (ethernet(0x8863, bytes(28)), 1),  # PPPoE discovery
        (ethernet(0x8809, bytes(28)), 1),  # LACP
        (ethernet(38, b"\x42\x42\x03" + bytes(35)), 1),  # spanning tree
        (ethernet(60, b"\xaa\xaa\x03\0\0\x0c\x20\0" + bytes(52)), 1),  # Cisco's discovery
        (ethernet(0x8864, b"\x11\0\0\7\0\4\xc0\x21" + bytes(9)), 1),  # link control of PPP
        (ethernet(0x8847, labels(1) + b"\x10" + bytes(60)), 1),  # the operators' own channel
        (b"\x80\0" + bytes(60), 105),  # a beacon
        (b"\x48\0" + bytes(60), 105),  # a data frame without data
        (ppp(IPV4.ip, b"\x80\x21"), 9),  # IP control of PPP
        (b"\x02\0\0\x05" + struct.pack("<HH", 8, 1) + bytes(4), 239),  # a log line without a packet
    ],
)
def test_what_never_carries_tcp_is_no_loss(frame: bytes, link_type: int) -> None:
    decoder = Decoder()
    assert decoder.decode(frame, link_type) is None
    assert decoder.counted == {"packets_not_tcp": 1}


def test_kinds_beyond_the_bound_are_counted_together() -> None:
    decoder = Decoder(max_unopened_kinds=2)
    for protocol in (0x88B5, 0x88B6, 0x88B7, 0x88B8, 0x88B5):
        decoder.decode(ethernet(protocol, bytes(60)), ETHERNET)
    assert decoder.decoder.unopened.counts == {
        "of the EtherType 0x88b5": 2,
        "of the EtherType 0x88b6": 1,
        "of other kinds": 2,
    }


def test_a_tag_in_a_cooked_header_stays_with_its_connection() -> None:
    found = Decoder().decode(link_packet(113, IPV4.ip, [(0x88A8, 20), (0x8100, 10)]), 113)
    assert found is not None
    assert found.tags == (20, 10)
