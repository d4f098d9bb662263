"""Conversations as the kernel side would record them at the server, and such records as a recording.

Owns the way from socket calls to records. No other part of the benchmark depends on their layout.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable
from pathlib import Path

from ebpf.events import ClockSample, Direction, EventKind, ProcessFacts, Protocol, SocketEvent
from ebpf.layout import CHUNK_BYTES, SOCKET_FACTS, SOCKET_RECORD
from ebpf.recording import RecordingWriter
from tests.bench.wire import Call
from tests.builders import Conversation

CLOCK = ClockSample(0, 1_795_824_000_000_000_000)
CAPTURE_ID = bytes(range(16))
SERVER = ProcessFacts(0, 100, CLOCK.unix_ns, "/usr/bin/shop", ("shop", "serve"), "shop")


def tell(
    calls: Iterable[Call], *, connection_id: int, start_ktime_ns: int, protocol: Protocol
) -> list[SocketEvent]:
    """Return what the kernel side says of one connection, from its opening to its close."""
    talk = Conversation(connection_id, opened=False, start_ktime_ns=start_ktime_ns, tgid=SERVER.tgid)
    talk.socket = dataclasses.replace(
        talk.socket, remote_port=32_768 + connection_id % 28_000, protocol=protocol
    )
    talk.add(EventKind.OPENED, Direction.INGRESS)
    for call in calls:
        move = talk.request if call.from_client else talk.response
        for start in range(0, len(call.data), CHUNK_BYTES):
            move(call.data[start : start + CHUNK_BYTES])
    talk.close()
    return talk.events


def encode_record(event: SocketEvent) -> bytes:
    """Return the record of an event, the inverse of `RecordDecoder.decode`."""
    info = event.socket
    assert info.family == "ipv4"
    addresses = (socket.inet_aton(str(address)) for address in (info.local_address, info.remote_address))
    facts = SOCKET_FACTS.pack(
        info.cookie,
        info.inode,
        info.network_namespace,
        socket.AF_INET,
        info.local_port,
        info.remote_port,
        info.protocol,
        0,
        *addresses,
    )
    fields = SOCKET_RECORD.pack(
        event.kind,
        event.direction,
        event.role,
        0,
        event.origin.tgid or 0,
        event.ktime_ns,
        event.connection_id,
        event.position,
        event.length,
        event.missing,
        len(event.payload),
        event.origin.tid or 0,
    )
    return fields + facts + event.payload


def write_recording(path: Path, records: Iterable[bytes]) -> None:
    """Write a recording of the records, with what is known of their process."""
    writer = RecordingWriter(path, version="bench", capture_id=CAPTURE_ID)
    writer.append_facts(SERVER)
    writer.append_records(records)
    writer.close({})
