"""Whole captures and recordings for the fuzzing of files: small, and with something of everything.

One set of conversations (HTTP/1, HTTP/2, WebSocket) is told as packets in several forms and link layers, and
as the records of a kernel.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import zstandard

from ebpf import layout
from ebpf.events import ClockSample, ProcessFacts
from ebpf.recording import RecordingWriter
from tests.encapsulations import LINKS, TUNNELS, in_frame
from tests.packets import (
    ETHERNET,
    RAW,
    SLL,
    SLL2,
    START_UNIX_NS,
    PcapPacket,
    Segment,
    Talk,
    block,
    enhanced,
    interface,
    link_packet,
    pcap,
    section,
    to_packets,
)
from tests.property.http2_dialogues import converse
from tests.unit.ebpf.test_layout import facts, record
from tests.unit.ebpf.tls.client_hellos import build_client_hello
from tests.websocket_peers import UPGRADE, accept, frame, masked

KTIME_NS = 5_000_000_000
FACTS = ProcessFacts(
    KTIME_NS,
    321,
    START_UNIX_NS - 1,
    "/usr/bin/python3",
    ("python3", "app.py", "--password=hunter2"),
    "shop",
    ("/docker/0123", "/"),
    {"k8s.pod.name": "shop-1", "k8s.pod.label.app": "shop"},
)

Call = tuple[bool, bytes]
"""Whether the client sends, and what."""


def _http1() -> list[Call]:
    body = gzip.compress(b'{"answer": 42}' * 20, mtime=0)
    return [
        (True, b"GET /1?token=abc HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n"),
        (False, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (True, b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"),
        (False, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (True, b'{"name":"x"}'),
        (
            False,
            b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(body), body),
        ),
        (True, b"HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (False, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 500 No\r\n\r\nthe end"),
    ]


def _websocket() -> list[Call]:
    return [
        (True, UPGRADE),
        (False, accept(b"X-None: 1")),
        (True, masked(1, b"hello") + masked(9, b"?")),
        (False, frame(1, b"world" * 30) + frame(8, b"\x03\xe8bye")),
        (True, masked(8, b"\x03\xe8")),
    ]


@cache
def dialogues() -> tuple[tuple[Call, ...], ...]:
    """Return the conversations, call by call."""
    return tuple(map(tuple, (_http1(), converse(1).calls, _websocket())))


@cache
def segments() -> tuple[Segment, ...]:
    """Return the conversations as segments, one after the other."""
    said: list[Segment] = []
    for number, dialogue in enumerate(dialogues()):
        six = number % 2
        talk = Talk(
            ("2001:db8::7" if six else "192.0.2.7", 40_000 + number),
            ("2001:db8::1" if six else "192.0.2.1", 80),
            client_isn=2**32 - 50 if number == 0 else 77,
            start_unix_ns=START_UNIX_NS + number * 10**9,
        )
        talk.open()
        for from_client, data in dialogue:
            (talk.request if from_client else talk.response)(data)
        talk.close()
        said += talk.segments
    return tuple(said)


def _in_all_layers() -> bytes:
    """Return a pcapng file with an interface for each link layer, and every tunnel."""
    content = section() + b"".join(interface(link_type) for link_type, _ in LINKS.values())
    content += interface(ETHERNET, options=[(9, b"\x09"), (14, struct.pack("<q", 0))])
    links = list(LINKS.values())
    tunnels = list(TUNNELS.values())
    for number, each in enumerate(segments()):
        if number % 2:
            which = number // 2 % len(links)
            content += enhanced(links[which][1](each.ip), each.unix_ns // 1_000, number=which)
        else:
            packet = in_frame(tunnels[number // 2 % len(tunnels)](each.ip))
            content += enhanced(packet, each.unix_ns, number=len(links))
    return content


def _in_sections() -> bytes:
    """Return a pcapng file of several sections, with blocks that are read and others."""
    content = b""
    packets = to_packets(segments(), RAW)
    for start in range(0, len(packets), 20):
        order = "<>"[start // 20 % 2]
        content += section(order) + interface(RAW, order=order, snap=200)
        content += (
            block(10, b"secrets!", order) + block(5, bytes(12), order) + block(0x0BAD, bytes(40), order)
        )
        for number, packet in enumerate(packets[start : start + 20]):
            ticks = packet.unix_ns // 1_000
            if number % 3:
                content += enhanced(packet.data, ticks, order=order)
            elif number % 2:
                content += block(3, struct.pack(order + "I", len(packet.data)) + packet.data, order)
            else:
                size = len(packet.data)
                head = struct.pack(order + "HHIIII", 0, 0, ticks >> 32, ticks & 0xFFFF_FFFF, size, size)
                content += block(2, head + packet.data, order)
    return content


def _fragmented() -> bytes:
    packets = []
    for each in segments():
        ip = each.ip
        if ip[0] >> 4 == 4 and len(ip) > 100:
            for start in range(20, len(ip), 48):
                more = 0x2000 if start + 48 < len(ip) else 0
                head = bytearray(ip[:20])
                head[2:4] = struct.pack("!H", 20 + len(ip[start : start + 48]))
                head[4:8] = struct.pack("!HH", each.sequence & 0xFFFF, more | (start - 20) // 8)
                packets.append(PcapPacket(each.unix_ns, bytes(head) + ip[start : start + 48]))
        else:
            packets.append(PcapPacket(each.unix_ns, ip))
    return pcap(packets, RAW)


def kernel_records() -> list[bytes]:
    """Return the conversations as the records of a kernel, with those of the process that had them."""
    records = [
        layout.PROCESS_RECORD.pack(5, 0, 321, KTIME_NS, 9, 5) + b"/bin/echo" + b"echo\0",
        layout.FORK_RECORD.pack(7, 322, KTIME_NS, 321),
    ]
    hello = build_client_hello("shop.example")
    records.append(layout.HELLO_RECORD.pack(9, 321, KTIME_NS, 4711, len(hello)) + hello)
    kinds = (facts(), facts(10, "2001:db8::1", "::1", tls=1), facts(1))
    for number, dialogue in enumerate(dialogues()):
        positions = [0, 0]
        times = iter(range(KTIME_NS + number * 10**9, 1 << 60, 10**6))

        def build(payload: bytes, kind: int, direction: int, number: int = number) -> bytes:
            return record(
                payload,
                connection_id=number + 1,
                socket_facts=kinds[number],
                kind=kind,
                direction=direction,
                ktime_ns=next(times),  # noqa: B023
                position=positions[direction],  # noqa: B023
                length=len(payload) if kind == 1 else 0,
            )

        records.append(build(b"/run/app.sock" if number == 2 else b"", 2, 0))
        for from_client, data in dialogue:
            for start in range(0, len(data), layout.CHUNK_BYTES):
                part = data[start : start + layout.CHUNK_BYTES]
                records.append(build(part, 1, not from_client))
                positions[not from_client] += len(part)
        records += [build(b"", 3, 0), build(b"", 3, 1), build(b"", 4, 0)]
    return [*records, layout.PROCESS_RECORD.pack(6, 0, 321, KTIME_NS + 10**10, 0, 0)]


def _recording() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        writer = RecordingWriter(path, version="1.2.3", capture_id=bytes(16))
        writer.append_clock(ClockSample(KTIME_NS, START_UNIX_NS))
        writer.append_facts(FACTS)
        writer.append_facts(dataclasses.replace(FACTS, tgid=322, workload=None))
        for number, each in enumerate(kernel_records()):
            writer.append_records([each])
            if number % 20 == 10:
                writer.append_clock(ClockSample(KTIME_NS + number, START_UNIX_NS + number))
        writer.close({"ring_full_bytes": 17})
        return path.read_bytes()


@cache
def samples() -> dict[str, bytes]:
    """Return the files by name."""
    plain = pcap(to_packets(segments()))
    modified = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 262_144, ETHERNET)
    for packet in to_packets(segments()):
        seconds, rest = divmod(packet.unix_ns, 10**9)
        size = len(packet.data)
        modified += struct.pack("<IIIIIHBB", seconds, rest // 1_000, size, size, 1, 0x800, 0, 0) + packet.data
    cooked = [PcapPacket(s.unix_ns, link_packet(SLL2, s.ip, [(0x8100, 7)])).cut(150) for s in segments()]
    recording = _recording()
    return {
        "recording": recording,
        "recording, gzip": gzip.compress(recording),
        "pcap": plain,
        "pcap, microseconds, big-endian": pcap(
            to_packets(segments(), SLL), SLL, order=">", nanoseconds=False
        ),
        "pcap, cut packets": pcap(cooked, SLL2),
        "pcap, modified": modified,
        "pcap, fragments": _fragmented(),
        "pcapng, all layers": _in_all_layers(),
        "pcapng, sections": _in_sections(),
        "pcap, gzip": gzip.compress(plain),
        "pcap, bzip2": bz2.compress(plain),
        "pcap, xz": lzma.compress(plain),
        "pcapng, zstd": zstandard.compress(_in_sections()),
    }


PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.compress,
)
"""The compressions that are read."""
