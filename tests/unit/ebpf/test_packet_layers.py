from __future__ import annotations

import struct

import pytest

from ebpf.packets.counters import new_packet_counters
from ebpf.packets.file import Packet
from ebpf.packets.layers import PacketDecoder, TcpSegment
from ebpf.packets.limits import PacketLimits
from tests.packets import ACK, CLIENT, ETHERNET, NULL, RAW, SERVER, Segment, ip_packet, link_packet

IPV4 = Segment(CLIENT, SERVER, 7, 9, ACK, b"hello", 0)
IPV6 = Segment(("2001:db8::7", 40_000), ("2001:db8::1", 80), 7, 9, ACK, b"hello", 0)
MORE = 0x2000


class Decoder:
    """A decoder with its counts; packets come a nanosecond apart."""

    def __init__(self, **limits: int) -> None:
        self.counts = new_packet_counters()
        self.decoder = PacketDecoder(PacketLimits(**limits), self.counts)
        self.unix_ns = 0

    def decode(self, data: bytes, link_type: int = RAW, length: int | None = None) -> TcpSegment | None:
        self.unix_ns += 1
        packet = Packet(self.unix_ns, link_type, data, len(data) if length is None else length)
        return self.decoder.decode(packet, self.unix_ns)

    @property
    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.items() if count}


@pytest.mark.parametrize("segment", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("link_type", [0, 1, 12, 14, 101, 108, 113, 276])
def test_a_segment_is_found_behind_every_link_header(segment: Segment, link_type: int) -> None:
    decoder = Decoder()
    found = decoder.decode(link_packet(link_type, segment.ip), link_type)
    assert found is not None
    assert (found.sequence, found.acknowledgement, found.payload, found.length) == (7, 9, b"hello", 5)
    assert (found.source.port, found.destination.port) == (40_000, 80)
    assert len(found.source.address) == (4 if segment is IPV4 else 16)
    assert (found.syn, found.fin, found.rst, found.tags) == (False, False, False, ())
    assert decoder.counted == {"segments": 1}


@pytest.mark.parametrize(("segment", "link_type"), [(IPV4, 228), (IPV6, 229)])
def test_link_types_that_say_the_protocol(segment: Segment, link_type: int) -> None:
    assert Decoder().decode(segment.ip, link_type) is not None


@pytest.mark.parametrize("family", [2, 10, 24, 28, 30])
@pytest.mark.parametrize("order", ["<", ">"])
def test_loopback_headers_in_both_byte_orders(family: int, order: str) -> None:
    ip = IPV4.ip if family == 2 else IPV6.ip
    assert Decoder().decode(struct.pack(order + "I", family) + ip, NULL) is not None


@pytest.mark.parametrize("link_type", [ETHERNET, 113, 276])
def test_vlan_tags_are_read_and_kept(link_type: int) -> None:
    for tags in ([(0x8100, 10)], [(0x88A8, 20), (0x8100, 10)], [(0x9100, 5)]):
        found = Decoder().decode(link_packet(link_type, IPV4.ip, tags), link_type)
        assert found is not None
        assert found.tags == tuple(tag for _, tag in tags)


def test_tags_beyond_the_bound_are_not_followed() -> None:
    decoder = Decoder(max_tags=2)
    assert decoder.decode(link_packet(ETHERNET, IPV4.ip, [(0x8100, 1)] * 3), ETHERNET) is None
    assert decoder.counted == {"packets_not_tcp": 1, "packets_not_opened": 1}
    assert decoder.decoder.unopened.counts == {"in more than 2 VLANs": 1}


def test_what_the_capture_cut_off_is_known_by_number() -> None:
    decoder = Decoder()
    whole = link_packet(ETHERNET, IPV4.ip)
    found = decoder.decode(whole[:-3], ETHERNET, len(whole))
    assert found is not None
    assert (found.payload, found.length) == (b"he", 5)
    found = decoder.decode(whole[:-5], ETHERNET, len(whole))
    assert found is not None
    assert (found.payload, found.length) == (b"", 5)


def test_a_frame_is_padded_behind_its_packet() -> None:
    found = Decoder().decode(link_packet(ETHERNET, IPV4.ip) + bytes(7), ETHERNET)
    assert found is not None
    assert (found.payload, found.length) == (b"hello", 5)


@pytest.mark.parametrize("segment", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_a_length_of_0_leaves_it_to_the_frame(segment: Segment) -> None:
    ip = ip_packet(segment.source[0], segment.destination[0], 6, segment.tcp, total=0)
    found = Decoder().decode(ip[:-2], RAW, len(ip))
    assert found is not None
    assert (found.payload, found.length) == (b"hel", 5)


def test_a_length_beyond_the_frame_leaves_the_rest_unknown() -> None:
    ip = ip_packet(*("192.0.2.7", "192.0.2.1"), 6, IPV4.tcp, total=len(IPV4.ip) + 10)
    found = Decoder().decode(ip)
    assert found is not None
    assert (found.payload, found.length) == (b"hello", 15)


def test_options_of_ipv4_are_stepped_over() -> None:
    ip = bytearray(IPV4.ip)
    ip[0] = 0x46
    ip[2:4] = struct.pack("!H", len(ip) + 4)
    found = Decoder().decode(bytes(ip[:20]) + bytes(4) + bytes(ip[20:]))
    assert found is not None
    assert found.payload == b"hello"


def extended(*headers: tuple[int, bytes]) -> bytes:
    """An IPv6 packet with extension headers: (type, what follows the type of the next one)."""
    following = [kind for kind, _ in headers[1:]] + [6]
    chain = b"".join(bytes([kind]) + body for kind, (_, body) in zip(following, headers, strict=True))
    return ip_packet("2001:db8::7", "2001:db8::1", headers[0][0], chain + IPV6.tcp)


@pytest.mark.parametrize(
    "headers",
    [
        [(0, b"\0" + bytes(6))],
        [(0, b"\0" + bytes(6)), (60, b"\1" + bytes(14)), (43, b"\0" + bytes(6))],
        [(51, b"\4" + bytes(22))],
        [(44, b"\0\0\0\0\0\0\7")],
    ],
    ids=["hop by hop", "several", "authentication", "atomic fragment"],
)
def test_extension_headers_are_stepped_over(headers: list[tuple[int, bytes]]) -> None:
    found = Decoder().decode(extended(*headers))
    assert found is not None
    assert found.payload == b"hello"


def test_extension_headers_beyond_the_bound_are_not_followed() -> None:
    decoder = Decoder(max_extension_headers=2)
    assert decoder.decode(extended(*[(60, b"\0" + bytes(6))] * 3)) is None
    assert decoder.counted == {"packets_not_tcp": 1}


def test_other_protocols_are_counted() -> None:
    decoder = Decoder()
    for ip in (
        ip_packet("192.0.2.7", "192.0.2.1", 17, b"udp"),
        ip_packet("2001:db8::7", "2001:db8::1", 17, b"udp"),
        ip_packet("2001:db8::7", "2001:db8::1", 44, b"\x11\0\0\1\0\0\0\7udp"),
        b"\x50",
    ):
        assert decoder.decode(ip) is None
    assert decoder.decode(bytes(12) + b"\x08\x06" + bytes(28), ETHERNET) is None
    assert decoder.decode(struct.pack("<I", 7), NULL) is None
    assert decoder.counted == {"packets_not_tcp": 6}


def test_unknown_link_types_are_counted() -> None:
    decoder = Decoder()
    assert decoder.decode(IPV4.ip, 147) is None
    assert decoder.decode(IPV4.ip, 999) is None
    assert decoder.counted == {"packets_of_unknown_link": 2, "packets_not_opened": 2}
    assert decoder.decoder.unopened.counts == {"of a private link type": 1, "of the link type 999": 1}


def with_byte(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("data", "link_type"),
    [
        (b"", RAW),
        (b"\0" * 10, ETHERNET),
        (bytes(12) + b"\x81\x00\0", ETHERNET),
        (IPV4.ip[:15], RAW),
        (IPV4.ip[:30], RAW),
        (IPV6.ip[:30], RAW),
        (IPV6.ip[:50], RAW),
        (extended((0, b"\0" + bytes(6)))[:41], RAW),
        (with_byte(IPV4.ip, 0, 0x44), RAW),
        (with_byte(IPV4.ip, 0, 0x65), 228),
        (with_byte(IPV6.ip, 0, 0x40), 229),
        (with_byte(IPV4.ip, 32, 0x40), RAW),
        (with_byte(IPV4.ip, 32, 0xF0), RAW),
        (Segment(CLIENT, CLIENT, 1, 1, ACK, b"", 0).ip, RAW),
    ],
)
def test_headers_that_are_cut_or_contradict_each_other_are_counted(data: bytes, link_type: int) -> None:
    decoder = Decoder()
    assert decoder.decode(data, link_type) is None
    assert decoder.counted == {"damaged_packets": 1}


def fragments(segment: Segment, size: int, identifier: int = 77) -> list[bytes]:
    """The IP fragments of a segment, `size` bytes each."""
    tcp = segment.tcp
    parts = []
    for start in range(0, len(tcp), size):
        part, more = tcp[start : start + size], start + size < len(tcp)
        if segment is IPV6:
            header = struct.pack("!BBHI", 6, 0, start | more, identifier)
            parts.append(ip_packet(segment.source[0], segment.destination[0], 44, header + part))
        else:
            flags = start // 8 | MORE * more
            ip = bytearray(ip_packet(segment.source[0], segment.destination[0], 6, part, flags=flags))
            ip[4:6] = struct.pack("!H", identifier)
            parts.append(bytes(ip))
    return parts


@pytest.mark.parametrize("segment", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_fragments_are_put_together_in_any_order(segment: Segment) -> None:
    decoder = Decoder()
    first, second, third, *rest = fragments(segment, 8)
    parts = [*rest, third, first, first, second]
    found = [decoder.decode(part) for part in parts]
    assert found[:-1] == [None] * (len(parts) - 1)
    last = found[-1]
    assert last is not None
    assert (last.payload, last.length) == (b"hello", 5)
    decoder.decoder.finish()
    assert decoder.counted == {"segments": 1, "fragments": len(parts)}


def changed(part: bytes) -> bytes:
    return part[:-1] + bytes([part[-1] ^ 1])


def moved(part: bytes, flags: int) -> bytes:
    return part[:6] + struct.pack("!H", flags) + part[8:]


PARTS = fragments(IPV4, 16)
SMALL_PARTS = fragments(IPV4, 8)


@pytest.mark.parametrize(
    "parts",
    [
        [PARTS[0], changed(PARTS[0]), *PARTS[1:]],
        [PARTS[0], moved(PARTS[1], 1 | MORE), *PARTS[1:]],
        [PARTS[-1], moved(PARTS[0], 5 | MORE), *PARTS[:-1]],
        [PARTS[-1], moved(PARTS[1], 2), *PARTS[:-1]],
        [SMALL_PARTS[2], moved(SMALL_PARTS[1], 1), *SMALL_PARTS],
        [PARTS[1], moved(PARTS[1], 2), *PARTS],
        [moved(PARTS[0], 8_191 | MORE), *PARTS],
        [PARTS[0][:-2], *PARTS[1:]],
        [ip_packet("192.0.2.7", "192.0.2.1", 6, b"", flags=MORE), *PARTS],
        PARTS[:-1],
    ],
    ids=[
        "differs",
        "overlaps",
        "beyond the end",
        "two ends",
        "an end before others",
        "an end that was none",
        "too long",
        "cut",
        "empty",
        "missing",
    ],
)
def test_fragments_that_do_not_fit_lose_their_datagram(parts: list[bytes]) -> None:
    decoder = Decoder()
    for part in parts:
        assert decoder.decode(part, length=len(PARTS[0]) if part == PARTS[0][:-2] else None) is None
    decoder.decoder.finish()
    assert decoder.counted == {"fragments": len(parts), "lost_fragments": len(parts)}


def test_fragments_wait_within_their_bounds() -> None:
    decoder = Decoder(max_datagrams=2, fragment_ns=100)
    for identifier in (1, 2, 3):
        decoder.decode(fragments(IPV4, 16, identifier)[0])
    assert decoder.counts["lost_fragments"] == 1
    for part in fragments(IPV4, 16, 2)[1:]:
        found = decoder.decode(part)
    assert found is not None
    decoder.unix_ns = 200
    decoder.decode(fragments(IPV4, 16, 4)[0])
    assert decoder.counts["lost_fragments"] == 2


def test_a_length_of_0_is_no_leave_for_a_packet_of_any_size() -> None:
    decoder = Decoder(max_packet=1_000)
    ip = ip_packet(*("192.0.2.7", "192.0.2.1"), 6, IPV4.tcp, total=0)
    assert decoder.decode(ip, RAW, 2**32 - 1) is None
    assert decoder.counted == {"damaged_packets": 1}
    assert decoder.decode(ip, RAW, 1_000) is not None


def test_an_authentication_header_of_ipv4_is_stepped_over() -> None:
    header = b"\x06\x04\0\0" + bytes(8) + bytes(12)
    found = Decoder().decode(ip_packet("192.0.2.7", "192.0.2.1", 51, header + IPV4.tcp))
    assert found is not None
    assert found.payload == b"hello"
