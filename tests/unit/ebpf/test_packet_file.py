from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import pytest

from ebpf.capture_formats import CaptureFormat, find_format
from ebpf.input_stream import InputStream
from ebpf.packets.counters import new_packet_counters
from ebpf.packets.file import Packet, PacketFile
from ebpf.packets.limits import PacketLimits
from tests.packets import (
    ETHERNET,
    RAW,
    START_UNIX_NS,
    PcapPacket,
    block,
    enhanced,
    interface,
    pcap,
    section,
)

TIME_RESOLUTION, TIME_OFFSET, COMMENT = 9, 14, 1
MICROSECONDS = START_UNIX_NS // 1_000
PACKET = PcapPacket(START_UNIX_NS + 123_456_789, b"packet", 60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture"


def read(
    path: Path, content: bytes, limits: PacketLimits | None = None
) -> tuple[list[Packet], str | None, dict[str, int]]:
    path.write_bytes(content)
    counts = new_packet_counters()
    stream = InputStream.open(path)
    file = PacketFile(stream, limits or PacketLimits(), counts)
    packets = [packet for packet in file.packets() if packet is not None]
    stream.close()
    assert counts["packets"] == len(packets)
    return packets, file.damage, counts


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_pcap_in_all_its_forms(path: Path, order: str, nanoseconds: bool, pack: type[bytes]) -> None:  # noqa: FBT001
    packets, damage, _ = read(path, pack(pcap([PACKET], RAW, order=order, nanoseconds=nanoseconds)))
    unix_ns = PACKET.unix_ns if nanoseconds else PACKET.unix_ns // 1_000 * 1_000
    assert packets == [Packet(unix_ns, RAW, b"packet", 60)]
    assert damage is None


def test_relatives_of_pcap_with_longer_headers(path: Path) -> None:
    for order in "<>":
        for magic, nanoseconds in ((0x1C0001AC, True), (0x1C0001AB, False)):
            whole = pcap([PACKET, PACKET], RAW, order=order, nanoseconds=nanoseconds)
            ixia = struct.pack(order + "I", magic) + whole[4:24] + struct.pack(order + "I", 44) + whole[24:]
            unix_ns = PACKET.unix_ns if nanoseconds else PACKET.unix_ns // 1_000 * 1_000
            packets, damage, _ = read(path, ixia)
            assert packets == [Packet(unix_ns, RAW, b"packet", 60)] * 2
            assert damage is None
        head = struct.pack(order + "IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 96, RAW)
        one = struct.pack(order + "IIIIIHBB", 1, 2, 6, 60, 3, 0x800, 0, 0) + b"packet"
        packets, damage, _ = read(path, head + one * 2)
        assert packets == [Packet(1_000_002_000, RAW, b"packet", 60)] * 2
        assert damage is None


@pytest.mark.parametrize(("minor", "swapped"), [(1, True), (2, True), (3, True), (3, False), (4, False)])
def test_lengths_change_places_in_old_versions(path: Path, minor: int, swapped: bool) -> None:  # noqa: FBT001
    content = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, minor, 0, 0, 96, RAW)
    content += struct.pack("<IIII", 1, 2, *((60, 6) if swapped else (6, 60))) + b"packet"
    packets, damage, _ = read(path, content)
    assert packets == [Packet(1_000_002_000, RAW, b"packet", 60)]
    assert damage is None


def test_a_time_with_more_than_a_second_of_ticks_is_none(path: Path) -> None:
    for nanoseconds, ticks in ((False, 1_000_000), (True, 1_000_000_000)):
        content = pcap([], nanoseconds=nanoseconds) + struct.pack("<IIII", 1, ticks, 0, 0)
        assert read(path, content)[0] == [Packet(None, ETHERNET, b"", 0)]


def test_tls_secrets_are_counted_and_other_blocks_are_not(path: Path) -> None:
    content = section() + interface() + block(10, b"secrets!") + block(4, bytes(8)) + block(5, bytes(12))
    packets, damage, counts = read(path, content + block(0x0BAD, bytes(8)) + enhanced(b"a", 1))
    assert len(packets) == 1
    assert damage is None
    assert counts["secrets_unused"] == 1


def test_the_length_of_the_check_sequence_is_no_part_of_the_link_type(path: Path) -> None:
    content = bytearray(pcap([PACKET]))
    content[20:24] = struct.pack("<I", 0x2400_0001)
    assert read(path, bytes(content))[0][0].link_type == ETHERNET


@pytest.mark.parametrize("order", ["<", ">"])
def test_interfaces_have_clocks_and_link_types_of_their_own(path: Path, order: str) -> None:
    content = (
        section(order)
        + interface(ETHERNET, order=order)
        + interface(RAW, options=[(COMMENT, b"abc"), (TIME_RESOLUTION, b"\x09")], order=order)
        + interface(RAW, options=[(TIME_RESOLUTION, b"\x8a"), (0, b"")], order=order)
        + interface(RAW, options=[(TIME_OFFSET, struct.pack(order + "q", -60))], order=order)
        + enhanced(b"a", MICROSECONDS, order=order)
        + enhanced(b"bc", START_UNIX_NS + 5, number=1, length=9, order=order)
        + enhanced(b"d", 1_700_000_000 * 1_024 + 512, number=2, order=order)
        + enhanced(b"e", MICROSECONDS, number=3, order=order)
    )
    packets, damage, _ = read(path, content)
    assert damage is None
    assert packets == [
        Packet(START_UNIX_NS, ETHERNET, b"a", 1),
        Packet(START_UNIX_NS + 5, RAW, b"bc", 9),
        Packet(START_UNIX_NS + 500_000_000, RAW, b"d", 1),
        Packet(START_UNIX_NS - 60_000_000_000, RAW, b"e", 1),
    ]


def test_a_new_section_has_its_own_order_and_interfaces(path: Path) -> None:
    content = (
        section("<")
        + interface(ETHERNET)
        + enhanced(b"a", MICROSECONDS)
        + section(">")
        + interface(RAW, order=">")
        + enhanced(b"b", MICROSECONDS, order=">")
        + enhanced(b"c", MICROSECONDS, number=1, order=">")
    )
    packets, damage, counts = read(path, content)
    assert [(packet.link_type, packet.data) for packet in packets] == [(ETHERNET, b"a"), (RAW, b"b")]
    assert damage is None
    assert counts["damaged_packets"] == 1


def test_older_and_simple_packet_blocks(path: Path) -> None:
    old = struct.pack("<HHIIII", 0, 0, MICROSECONDS >> 32, MICROSECONDS & 0xFFFF_FFFF, 2, 7) + b"ab"
    simple = struct.pack("<I", 9) + b"abcd"
    content = section() + interface(snap=4) + block(2, old) + block(3, simple)
    packets, _, _ = read(path, content)
    assert packets == [Packet(START_UNIX_NS, ETHERNET, b"ab", 7), Packet(None, ETHERNET, b"abcd", 9)]


def test_blocks_that_nobody_needs_are_passed_over_without_being_held(path: Path) -> None:
    limits = PacketLimits(max_packet=1_000)
    content = section() + block(0x0BAD, bytes(100_000)) + interface() + enhanced(b"a", MICROSECONDS)
    packets, damage, _ = read(path, content, limits)
    assert [packet.data for packet in packets] == [b"a"]
    assert damage is None


@pytest.mark.parametrize(
    ("ticks", "options"),
    [
        (2**64 - 1, [(TIME_RESOLUTION, b"\x00")]),
        (0, [(TIME_OFFSET, struct.pack("<q", -(2**63)))]),
        (0, [(TIME_OFFSET, struct.pack("<q", 2**63 - 1))]),
        (2**63, [(TIME_RESOLUTION, b"\x80")]),
    ],
)
def test_a_time_that_cannot_be_is_none(path: Path, ticks: int, options: list[tuple[int, bytes]]) -> None:
    packets, _, _ = read(path, section() + interface(options=options) + enhanced(b"a", ticks))
    assert packets == [Packet(None, ETHERNET, b"a", 1)]


def test_the_finest_resolutions_leave_no_time(path: Path) -> None:
    for resolution in (b"\x7f", b"\xff"):
        content = section() + interface(options=[(TIME_RESOLUTION, resolution)]) + enhanced(b"a", 2**64 - 1)
        assert read(path, content)[0] == [Packet(0, ETHERNET, b"a", 1)]


def test_options_of_a_wrong_length_mean_nothing(path: Path) -> None:
    options = [(TIME_RESOLUTION, b"\x09\x09"), (TIME_OFFSET, b"\x01")]
    packets, _, _ = read(path, section() + interface(options=options) + enhanced(b"a", MICROSECONDS))
    assert packets[0].unix_ns == START_UNIX_NS


@pytest.mark.parametrize(
    "damaged",
    [
        block(6, struct.pack("<IIIII", 0, 0, 0, 50, 50) + b"too short"),
        block(6, b"1234"),
        block(6, struct.pack("<IIIII", 7, 0, 0, 0, 0)),
        block(2, b"12"),
        block(3, b""),
        block(1, b"1234"),
    ],
)
def test_a_block_that_contradicts_itself_is_counted_and_the_next_is_read(path: Path, damaged: bytes) -> None:
    content = section() + interface() + damaged + enhanced(b"a", MICROSECONDS)
    packets, damage, counts = read(path, content)
    assert [packet.data for packet in packets] == [b"a"]
    assert (damage, counts["damaged_packets"]) == (None, 1)


def test_interfaces_beyond_the_bound_are_not_kept(path: Path) -> None:
    content = section() + interface() * 5 + enhanced(b"a", 0, number=1) + enhanced(b"b", 0, number=2)
    packets, _, counts = read(path, content, PacketLimits(max_interfaces=2))
    assert [packet.data for packet in packets] == [b"a"]
    assert counts["damaged_packets"] == 1


WHOLE = section() + interface() + enhanced(b"abcd", MICROSECONDS)


@pytest.mark.parametrize(
    ("content", "damage", "left"),
    [
        (pcap([PACKET, PACKET])[:-3], "is cut", 19),
        (pcap([PACKET])[: 24 + 22 + 3] + b"abc", "is cut", 3),
        (pcap([PACKET])[:10], "is cut", 10),
        (
            pcap([PACKET]) + struct.pack("<IIII", 1, 1, 2**32 - 1, 5),
            "is damaged: it claims a packet of 4294967295 bytes",
            16,
        ),
        (
            pcap([PACKET])[:4] + b"\x03" + pcap([PACKET])[5:],
            "has the unknown version 3",
            46,
        ),
        (WHOLE + b"\x06\0", "is cut", 2),
        (WHOLE + WHOLE[:10], "is cut", 10),
        (WHOLE + block(6, b"12345678")[:-4], "is cut", 16),
        (
            WHOLE + struct.pack("<II", 6, 2**32 - 4) + bytes(8),
            "is damaged: it claims a block of 4294967292 bytes",
            16,
        ),
        (
            WHOLE + struct.pack("<II", 5, 2**32 - 4) + bytes(8),
            "is cut",
            16,
        ),
        (
            WHOLE + struct.pack("<II", 6, 8),
            "is damaged: it claims a block of 8 bytes",
            8,
        ),
        (
            WHOLE + struct.pack("<III", 6, 12, 16),
            "is damaged: a block has two lengths",
            12,
        ),
        (
            WHOLE + section()[:8] + b"nope" + section()[12:],
            "is damaged: a section has no byte order",
            28,
        ),
        (
            WHOLE + section(major=2),
            "has a section of the unknown version 2",
            28,
        ),
        (
            WHOLE + struct.pack("<IIII", 0x0A0D0D0A, 16, 0x1A2B3C4D, 16),
            "is damaged: a section has no header",
            16,
        ),
    ],
)
def test_what_stands_before_the_damage_is_read(path: Path, content: bytes, damage: str, left: int) -> None:
    where = f"at byte {len(content) - left}; its last {left} bytes are not read"
    assert read(path, content)[1] == f"{damage}, {where}"


def test_a_compressed_file_that_is_cut_is_read_as_far_as_it_goes(path: Path) -> None:
    content = gzip.compress(pcap([PACKET] * 5_000))
    packets, damage, _ = read(path, content[:-200])
    assert packets
    assert damage is not None
    assert "is cut: its gzip compression has no end, at byte " in damage


def test_a_file_that_unpacks_far_beyond_its_size_is_read_within_the_bound(path: Path) -> None:
    # One packet of 4 GiB, and one unused block of 4 GiB: both end at the damage.
    for bomb in (
        pcap([]) + struct.pack("<IIII", 1, 1, 2**32 - 1, 2**32 - 1) + bytes(50_000_000),
        WHOLE + struct.pack("<II", 5, 2**32 - 4) + bytes(50_000_000),
    ):
        path.write_bytes(gzip.compress(bomb))
        stream = InputStream.open(path)
        assert find_format(stream) in (CaptureFormat.PCAP, CaptureFormat.PCAPNG)
        file = PacketFile(stream, PacketLimits(), new_packet_counters())
        tracemalloc.start()
        list(file.packets())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert file.damage is not None
        assert peak < 4_000_000
        stream.close()
