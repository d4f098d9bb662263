from __future__ import annotations

from pathlib import Path

from ebpf.events import ClockSample, SocketEvent
from ebpf.input_stream import InputStream
from ebpf.packets.capture import PacketCapture
from tests.packets import (
    START_UNIX_NS,
    PcapPacket,
    Talk,
    block,
    interface,
    pcap,
    read_capture,
    section,
)

GET = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"


def talk_of(requests: int) -> Talk:
    talk = Talk()
    talk.open()
    for _ in range(requests):
        talk.request(GET)
    return talk


def test_the_clock_of_the_events_is_that_of_the_packets() -> None:
    source, events = read_capture(pcap(talk_of(1).packets))
    assert events[0] == ClockSample(START_UNIX_NS, START_UNIX_NS)
    assert events[2].ktime_ns == START_UNIX_NS + 3_000_000
    assert source.damage is None
    assert source.inspect(1, 1) == []
    assert source.poll(0) == []


def test_times_that_go_back_are_taken_as_they_are() -> None:
    packets = talk_of(3).packets
    packets[5] = PcapPacket(5, packets[5].data)
    _, events = read_capture(pcap(packets))
    assert sum(isinstance(event, SocketEvent) and bool(event.payload) for event in events) == 3


def test_packets_without_a_time_get_that_of_the_one_before() -> None:
    simple = [block(3, len(p.data).to_bytes(4, "little") + p.data) for p in talk_of(1).packets]
    source, events = read_capture(section() + interface() + b"".join(simple))
    assert source.losses()["undated_packets"] == 5
    assert events[0] == ClockSample(0, 0)
    assert {event.ktime_ns for event in events} == {0}


def test_a_long_capture_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap(talk_of(3_000).packets + [PcapPacket(START_UNIX_NS, b"")] * 10_000))
    source = PacketCapture(InputStream.open(path))
    sizes = []
    while not source.exhausted:
        sizes.append(len(source.poll(0)))
    source.close()
    assert sum(sizes) == 3_002
    assert max(sizes) <= 1_100
    assert 0 in sizes


def test_a_capture_that_is_closed_is_exhausted(tmp_path: Path) -> None:
    path = tmp_path / "closed.pcap"
    path.write_bytes(pcap(talk_of(1).packets))
    source = PacketCapture(InputStream.open(path))
    source.close()
    source.close()
    assert source.exhausted
    assert source.poll(0) == []


def test_an_empty_capture_tells_nothing() -> None:
    source, events = read_capture(pcap([]))
    assert events == []
    assert set(source.losses().values()) == {0}


def test_the_frames_of_a_cut_file_count_as_far_as_they_go() -> None:
    source, events = read_capture(pcap(talk_of(1).packets)[:-1])
    assert source.damage == "is cut, at byte 380; its last 81 bytes are not read"
    assert source.observations()["packets"] == 4
    assert len(events) == 3
