"""Conversations in packets, and what is told of them, for the tests of packet captures."""

from __future__ import annotations

from ebpf.events import SocketEvent
from ebpf.packets.limits import PacketLimits
from tests.builders import describe, run_events
from tests.packets import Segment, Talk, pcap, read_capture, socket_events, to_packets

GET = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
SECOND = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
WHOLE = ["GET /1 1.1 (0) -> 200 1.1 (5 b'hello')"]


def exchange() -> Talk:
    talk = Talk()
    talk.open()
    talk.request(GET)
    talk.response(OK)
    talk.close()
    return talk


def told(segments: list[Segment], limits: PacketLimits | None = None) -> list[SocketEvent]:
    return socket_events(to_packets(segments), limits)


def described(segments: list[Segment], limits: PacketLimits | None = None) -> list[str]:
    return [describe(each) for each in run_events(told(segments, limits))]


def counted(segments: list[Segment], limits: PacketLimits | None = None) -> dict[str, int]:
    source, _ = read_capture(pcap(to_packets(segments)), limits)
    counts = {**source.losses(), **source.observations()}
    return {name: count for name, count in counts.items() if count and name not in ("packets", "segments")}


def without(segments: list[Segment], *dropped: Segment) -> list[Segment]:
    return [segment for segment in segments if segment not in dropped]
