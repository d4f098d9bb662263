r"""Builders of packets and packet captures, shared by all tests: a conversation is told segment by segment.

`Talk` owns sequence numbers and times, so that a test reads like a dialogue:

    talk = Talk()
    talk.open()
    talk.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    talk.close()
    exchanges = run_packets(talk.packets)
"""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ebpf.capture_formats import CaptureFormat, find_format
from ebpf.events import CaptureEvent, SocketEvent
from ebpf.input_stream import InputStream
from ebpf.packets.capture import PacketCapture
from ebpf.packets.limits import PacketLimits
from parsers.http_exchange import HttpExchange
from tests.builders import MILLISECOND_NS, run_events

FIN, SYN, RST, ACK = 1, 2, 4, 16
START_UNIX_NS = 1_700_000_000_000_000_000
CLIENT, SERVER = ("192.0.2.7", 40_000), ("192.0.2.1", 80)
ETHERNET, RAW, LOOP, NULL, SLL, SLL2 = 1, 101, 108, 0, 113, 276
Address = tuple[str, int]


@dataclass(frozen=True)
class Segment:
    """A TCP segment before it is put into a packet."""

    source: Address
    destination: Address
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes
    unix_ns: int

    @property
    def ip(self) -> bytes:
        """The IP packet that carries it."""
        return ip_packet(self.source[0], self.destination[0], 6, self.tcp)

    @property
    def tcp(self) -> bytes:
        options = b"\x01\x01\x08\x0a" + bytes(8)
        return (
            struct.pack(
                "!HHIIBBHHH",
                self.source[1],
                self.destination[1],
                self.sequence & 0xFFFF_FFFF,
                self.acknowledgement & 0xFFFF_FFFF,
                (5 + len(options) // 4) << 4,
                self.flags,
                65_535,
                0,
                0,
            )
            + options
            + self.payload
        )


def ip_packet(
    source: str, destination: str, protocol: int, payload: bytes, *, total: int | None = None, flags: int = 0
) -> bytes:
    """Return an IPv4 or IPv6 packet; `total` replaces its length field, `flags` are those of fragments."""
    if ":" in source:
        size = len(payload) if total is None else total
        return (
            struct.pack("!IHBB", 6 << 28, size, protocol, 64)
            + socket.inet_pton(socket.AF_INET6, source)
            + socket.inet_pton(socket.AF_INET6, destination)
            + payload
        )
    size = 20 + len(payload) if total is None else total
    return (
        struct.pack("!BBHHHBBH", 0x45, 0, size, 77, flags, 64, protocol, 0)
        + socket.inet_aton(source)
        + socket.inet_aton(destination)
        + payload
    )


def link_packet(link_type: int, ip: bytes, tags: Sequence[tuple[int, int]] = ()) -> bytes:
    """Return a packet of a link type; `tags` are (EtherType, VLAN), the outermost first."""
    protocol = 0x86DD if ip[0] >> 4 == 6 else 0x0800
    types = [kind for kind, _ in tags] + [protocol]
    tagged = b"".join(
        struct.pack("!HH", 0xE000 | tag, types[number + 1]) for number, (_, tag) in enumerate(tags)
    )
    first = struct.pack("!H", types[0])
    headers = {
        ETHERNET: bytes(12) + first,
        SLL: bytes(14) + first,
        SLL2: first + bytes(18),
        NULL: struct.pack("<I", 2 if protocol == 0x0800 else 24),
        LOOP: struct.pack(">I", 2 if protocol == 0x0800 else 30),
    }
    return headers.get(link_type, b"") + tagged + ip


class Talk:
    """One TCP connection, seen on the wire. Each segment comes a millisecond after the one before it."""

    def __init__(
        self,
        client: Address = CLIENT,
        server: Address = SERVER,
        *,
        client_isn: int = 1_000,
        server_isn: int = 5_000_000,
        start_unix_ns: int = START_UNIX_NS,
    ) -> None:
        self.ends = (client, server)
        self.next = [client_isn, server_isn]
        self.unix_ns = start_unix_ns
        self.segments: list[Segment] = []

    def send(self, sender: int, payload: bytes = b"", flags: int = ACK, *, ack: int | None = None) -> Segment:
        """Append a segment of the client (0) or the server (1), acknowledging all that was sent before."""
        segment = Segment(
            self.ends[sender],
            self.ends[1 - sender],
            self.next[sender],
            self.next[1 - sender] if ack is None else ack,
            flags,
            payload,
            self.unix_ns,
        )
        self.next[sender] += len(payload) + bool(flags & SYN) + bool(flags & FIN)
        self.unix_ns += MILLISECOND_NS
        self.segments.append(segment)
        return segment

    def open(self) -> None:
        """Shake hands."""
        self.send(0, flags=SYN, ack=0)
        self.send(1, flags=SYN | ACK)
        self.send(0)

    def request(self, data: bytes, *, size: int = 1_460) -> None:
        """Send bytes of requests in segments of at most `size`, then the server's acknowledgement."""
        self._transfer(0, data, size)

    def response(self, data: bytes, *, size: int = 1_460) -> None:
        """Send bytes of responses in segments of at most `size`, then the client's acknowledgement."""
        self._transfer(1, data, size)

    def close(self) -> None:
        """End both directions, the client's first."""
        self.send(0, flags=FIN | ACK)
        self.send(1, flags=FIN | ACK)
        self.send(0)

    def wait(self, nanoseconds: int) -> None:
        """Let time pass without a segment."""
        self.unix_ns += nanoseconds

    @property
    def packets(self) -> list[PcapPacket]:
        """The conversation as Ethernet packets."""
        return to_packets(self.segments)

    def _transfer(self, sender: int, data: bytes, size: int) -> None:
        for start in range(0, len(data), size):
            self.send(sender, data[start : start + size])
        self.send(1 - sender)


@dataclass(frozen=True)
class PcapPacket:
    """A packet as a capture file has it."""

    unix_ns: int
    data: bytes
    length: int | None = None
    """True length, when the data is cut."""

    def cut(self, size: int) -> PcapPacket:
        """Return it as a capture with this snapshot length has it."""
        return replace(self, data=self.data[:size], length=len(self.data))


def to_packets(segments: Sequence[Segment], link_type: int = ETHERNET) -> list[PcapPacket]:
    """Return segments as packets of a link type."""
    return [PcapPacket(segment.unix_ns, link_packet(link_type, segment.ip)) for segment in segments]


def pcap(
    packets: Sequence[PcapPacket], link_type: int = ETHERNET, *, order: str = "<", nanoseconds: bool = True
) -> bytes:
    """Return a pcap file."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, link_type)]
    for packet in packets:
        seconds, rest = divmod(packet.unix_ns, 1_000_000_000)
        ticks = rest if nanoseconds else rest // 1_000
        length = len(packet.data) if packet.length is None else packet.length
        parts += [struct.pack(order + "IIII", seconds, ticks, len(packet.data), length), packet.data]
    return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a block of a pcapng file."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<", major: int = 1) -> bytes:
    """Return the header of a pcapng section."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1), order)


def interface(
    link_type: int = ETHERNET, *, options: Sequence[tuple[int, bytes]] = (), snap: int = 0, order: str = "<"
) -> bytes:
    """Return the description of an interface."""
    body = struct.pack(order + "HHI", link_type, 0, snap)
    for code, value in options:
        body += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(1, body, order)


def enhanced(
    data: bytes, ticks: int, *, number: int = 0, length: int | None = None, order: str = "<"
) -> bytes:
    """Return a packet block."""
    size = len(data) if length is None else length
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), size)
    return block(6, head + data, order)


def read_capture(
    content: bytes, limits: PacketLimits | None = None
) -> tuple[PacketCapture, list[CaptureEvent]]:
    """Read a capture file to its end."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        stream = InputStream.open(Path(file.name))
        assert find_format(stream) in (CaptureFormat.PCAP, CaptureFormat.PCAPNG)
        source = PacketCapture(stream, limits)
        events: list[CaptureEvent] = []
        while not source.exhausted:
            events += source.poll(0)
        source.close()
    return source, events


def socket_events(
    packets: Sequence[PcapPacket], limits: PacketLimits | None = None, link_type: int = ETHERNET
) -> list[SocketEvent]:
    """Return the events of packets."""
    _, events = read_capture(pcap(packets, link_type), limits)
    return [event for event in events if isinstance(event, SocketEvent)]


def run_packets(packets: Sequence[PcapPacket], limits: PacketLimits | None = None) -> list[HttpExchange]:
    """Return the exchanges of packets; a bug in the parsers fails the test."""
    return run_events(socket_events(packets, limits))
