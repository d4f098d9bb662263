from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf import layout
from ebpf.events import (
    Direction,
    EventKind,
    FileMapped,
    Missing,
    Origin,
    ProcessExecuted,
    ProcessExited,
    ProcessForked,
    Role,
    SocketEvent,
    TlsHello,
)
from ebpf.layout import (
    Counter,
    LayoutError,
    RecordDecoder,
    add_tid,
    counters_by_name,
    decode_counter,
    record_tgid,
    uncaptured_tail,
)
from ebpf.protocols import JudgedProtocol
from tests.unit.ebpf.tls.client_hellos import build_client_hello


def facts(family: int = 2, local: str = "10.0.0.1", remote: str = "10.0.0.2", tls: int = 0) -> bytes:
    kernel_family = socket.AF_INET6 if family == 10 else socket.AF_INET
    addresses = (
        (socket.inet_pton(kernel_family, address) if family != 1 else b"").ljust(16, b"\0")
        for address in (local, remote)
    )
    return layout.SOCKET_FACTS.pack(0xFFFF_8880_1234_5678, 4711, 99, family, 8080, 50_000, 0, tls, *addresses)


def record(
    payload: bytes = b"GET / HTTP/1.1\r\n\r\n",
    *,
    connection_id: int = 5,
    socket_facts: bytes = b"",
    **fields: int,
) -> bytes:
    values = {
        "kind": 1,
        "direction": 1,
        "role": 2,
        "flags": 0,
        "tgid": 321,
        "ktime_ns": 123_456,
        "connection_id": connection_id,
        "position": 7,
        "length": len(payload),
        "missing": 0,
        "payload_length": len(payload),
        "tid": 322,
        **fields,
    }
    return layout.SOCKET_RECORD.pack(*values.values()) + (socket_facts or facts()) + payload


def without_tid(whole: bytes, missing: int = 0, payload_length: int | None = None) -> bytes:
    """Return a socket record as recordings of formats 1 and 2 have it."""
    counts = layout.SOCKET_RECORD.size - 8
    length = int.from_bytes(whole[counts + 2 : counts + 4], "little")
    earlier = struct.pack("<II", missing, length if payload_length is None else payload_length)
    return whole[:counts] + earlier + whole[layout.SOCKET_RECORD.size :]


def test_a_record_becomes_an_event() -> None:
    event = RecordDecoder().decode(record(missing=3, length=9_000, flags=1))
    assert isinstance(event, SocketEvent)
    assert (event.kind, event.direction, event.role) == (EventKind.DATA, Direction.EGRESS, Role.SERVER)
    assert event.origin == Origin(123_456, 321, 322)
    assert (event.ktime_ns, event.connection_id, event.position) == (123_456, 5, 7)
    assert (event.length, event.payload) == (9_000, b"GET / HTTP/1.1\r\n\r\n")
    assert event.missing == Missing.RING_FULL | Missing.BUDGET
    assert event.joined_late is True
    assert event.provisional is False
    event = RecordDecoder().decode(record(flags=2))
    assert isinstance(event, SocketEvent)
    assert (event.joined_late, event.provisional) == (False, True)
    info = event.socket
    assert (info.family, info.local_address, info.local_port) == ("ipv4", "10.0.0.1", 8080)
    assert (info.remote_address, info.remote_port) == ("10.0.0.2", 50_000)
    assert (info.network_namespace, info.inode, info.cookie) == (99, 4711, 0xFFFF_8880_1234_5678)
    assert record_tgid(record()) == 321


def test_what_is_unknown_of_an_origin_is_none() -> None:
    decode = RecordDecoder().decode
    origins = [
        event.origin
        for fields in ({"tgid": 0, "tid": 0}, {"tid": 0}, {})
        if isinstance(event := decode(record(**fields)), SocketEvent)
    ]
    assert origins == [Origin(123_456), Origin(123_456, 321), Origin(123_456, 321, 322)]
    assert all(type(origin) is Origin for origin in origins)


def test_a_record_without_a_thread_is_brought_into_todays_layout() -> None:
    today = record(missing=3, length=9_000, tid=0)
    assert add_tid(without_tid(today, missing=3)) == today
    executed = layout.PROCESS_RECORD.pack(5, 0, 321, 9, 2, 0) + b"/a"
    assert add_tid(executed) == executed
    assert add_tid(b"") == b""


@pytest.mark.parametrize("numbers", [(65_536, 18), (3, 65_536), (2**32 - 1, 2**32 - 1)])
def test_numbers_that_no_earlier_version_wrote_are_refused(numbers: tuple[int, int]) -> None:
    for damaged in (without_tid(record(), *numbers), without_tid(record())[:30]):
        with pytest.raises(LayoutError):
            add_tid(damaged)


def test_ipv6_and_unix_sockets_are_named() -> None:
    decoder = RecordDecoder()
    six = decoder.decode(record(connection_id=1, socket_facts=facts(10, "2001:db8::1", "::1")))
    unix = decoder.decode(record(connection_id=2, socket_facts=facts(1)))
    assert isinstance(six, SocketEvent)
    assert isinstance(unix, SocketEvent)
    assert (six.socket.family, six.socket.local_address, six.socket.remote_address) == (
        "ipv6",
        "2001:db8::1",
        "::1",
    )
    assert (unix.socket.family, unix.socket.local_address, unix.socket.remote_port) == ("unix", None, None)


def test_events_of_one_connection_share_their_socket() -> None:
    decoder = RecordDecoder()
    first, second, other = (decoder.decode(record(connection_id=number)) for number in (1, 1, 2))
    assert isinstance(first, SocketEvent)
    assert isinstance(second, SocketEvent)
    assert isinstance(other, SocketEvent)
    assert first.socket is second.socket
    assert first.socket is not other.socket
    assert first.socket == other.socket


def test_the_sockets_remembered_are_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_CACHED_SOCKETS", 3)
    decoder = RecordDecoder()
    for number in range(10):
        decoder.decode(record(connection_id=number))
    assert list(decoder._sockets) == [7, 8, 9]


def test_processes_are_decoded() -> None:
    path, arguments = b"/bin/echo", b"echo\0a b\0\0"
    raw = layout.PROCESS_RECORD.pack(5, 0, 77, 1_000, len(path), len(arguments)) + path + arguments
    assert RecordDecoder().decode(raw) == ProcessExecuted(1_000, 77, "/bin/echo", ("echo", "a b", ""))
    assert record_tgid(raw) == 77
    assert RecordDecoder().decode(layout.PROCESS_RECORD.pack(6, 0, 77, 2_000, 0, 0)) == ProcessExited(
        2_000, 77
    )
    raw = layout.PROCESS_RECORD.pack(5, 0, 1, 1, 1, 0) + b"x"
    assert RecordDecoder().decode(raw) == ProcessExecuted(1, 1, "x", ())


def test_a_fork_names_both_processes() -> None:
    raw = layout.FORK_RECORD.pack(7, 78, 1_500, 77)
    assert RecordDecoder().decode(raw) == ProcessForked(1_500, 78, 77)
    assert record_tgid(raw) == 78
    assert not layout.is_socket_record(raw)
    with pytest.raises(LayoutError):
        RecordDecoder().decode(raw[:-1])


def test_a_mapping_names_the_file() -> None:
    raw = layout.MAPPING_RECORD.pack(8, 77, 1_500, 4711, b"libssl.so.3\0rest")
    assert RecordDecoder().decode(raw) == FileMapped(1_500, 77, 4711, "libssl.so.3")
    assert not layout.is_socket_record(raw)
    with pytest.raises(LayoutError):
        RecordDecoder().decode(raw[:-1])


def test_a_session_knows_the_name_that_was_asked_for_on_its_socket() -> None:
    hello = build_client_hello("shop.example")
    raw = layout.HELLO_RECORD.pack(9, 77, 1_500, 4711, len(hello)) + hello
    decoder = RecordDecoder()
    assert decoder.decode(raw) == TlsHello(1_500, 77, 4711, "shop.example")
    event = decoder.decode(record(socket_facts=facts(tls=1)))
    assert isinstance(event, SocketEvent)
    assert event.socket.server_name == "shop.example"
    other = decoder.decode(record(socket_facts=facts(tls=1), connection_id=99))
    assert isinstance(other, SocketEvent)
    assert other.socket.server_name is None
    assert not layout.is_socket_record(raw)
    with pytest.raises(LayoutError):
        RecordDecoder().decode(raw[:-1])


def test_a_socket_is_no_key_for_it_may_change() -> None:
    event = RecordDecoder().decode(record())
    assert isinstance(event, SocketEvent)
    with pytest.raises(TypeError, match="unhashable"):
        hash(event.socket)


def test_what_carries_a_tls_session_may_become_known_later() -> None:
    decoder = RecordDecoder()
    first = decoder.decode(record(socket_facts=facts(0, tls=1)))
    assert isinstance(first, SocketEvent)
    assert (first.socket.family, first.socket.local_address, first.socket.tls) == ("unknown", None, "openssl")
    second = decoder.decode(record(socket_facts=facts(tls=1)))
    assert isinstance(second, SocketEvent)
    assert second.socket is first.socket
    assert (first.socket.family, first.socket.local_address) == ("ipv4", "10.0.0.1")
    with pytest.raises(LayoutError, match="family"):
        RecordDecoder().decode(record(socket_facts=facts(0)))
    with pytest.raises(LayoutError):
        RecordDecoder().decode(record(socket_facts=facts(tls=9)))


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (b"", ()),
        (b"\0\0", ()),
        (b"inner\0outer\0\0\0", ("/outer/inner",)),
        (b"\0inner\0outer\0\0", ("/outer/inner",)),
        (b"a\0\0a\0\0", ("/a",)),
        (b"b\0a\0\0c\0a\0\0", ("/a/b", "/a/c")),
        (b"caf\xc3\xa9\0\xff\0\0", ("/\ufffd/caf\u00e9",)),
    ],
)
def test_cgroups_are_paths_from_the_root_on(text: bytes, paths: tuple[str, ...]) -> None:
    raw = layout.PROCESS_RECORD.pack(5, len(text), 77, 1_000, 1, 2) + b"x" + b"y\0" + text
    assert RecordDecoder().decode(raw) == ProcessExecuted(1_000, 77, "x", ("y",), paths)
    if text:
        with pytest.raises(LayoutError):
            RecordDecoder().decode(raw[:-1])


@given(st.binary(max_size=400))
def test_damage_is_a_layout_error_and_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(LayoutError):
        RecordDecoder().decode(raw)


@given(st.integers(min_value=0, max_value=len(record()) - 1))
def test_a_cut_record_is_refused(end: int) -> None:
    with pytest.raises(LayoutError):
        RecordDecoder().decode(record()[:end])


@pytest.mark.parametrize(
    "fields", [{"kind": 0}, {"kind": 10}, {"direction": 2}, {"role": 3}, {"missing": 64}]
)
def test_numbers_of_another_version_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(LayoutError):
        RecordDecoder().decode(record(**fields))
    with pytest.raises(LayoutError, match="family"):
        RecordDecoder().decode(record(socket_facts=facts(17, "1.1.1.1", "1.1.1.1")))


def connection(
    *, opened: int = 1, ingress: tuple[int, int] = (0, 0), egress: tuple[int, int] = (0, 0)
) -> bytes:
    streams = b"".join(
        layout.STREAM_STATE.pack(
            lost_end + 1_000, reported, lost_end, 555, 0, 0, Missing.BUDGET, *[0] * 7, b""
        )
        for lost_end, reported in (ingress, egress)
    )
    return layout.CONNECTION.pack(9, 444, 1, 2, 1, opened, 0, 1, 0, 0, 0, 0, 0, streams, facts())


def test_an_uncaptured_tail_is_reported_per_direction() -> None:
    assert uncaptured_tail(connection(ingress=(10, 10), egress=(5, 5)), 9) == []
    (event,) = uncaptured_tail(connection(ingress=(10, 10), egress=(500, 300)), 9)
    assert (event.direction, event.position, event.length, event.payload) == (Direction.EGRESS, 300, 200, b"")
    assert (event.missing, event.ktime_ns, event.role, event.joined_late) == (
        Missing.BUDGET,
        555,
        Role.SERVER,
        True,
    )
    assert len(uncaptured_tail(connection(ingress=(1, 0), egress=(1, 0)), 9)) == 2
    assert uncaptured_tail(connection(egress=(500, 300)), 8) == []
    assert uncaptured_tail(connection(egress=(500, 300), opened=0), 9) == []


def test_counters_are_summed_over_processors() -> None:
    assert decode_counter((3).to_bytes(8, "little") + (4).to_bytes(8, "little")) == 7
    assert counters_by_name([]) == {counter.name.lower(): counter for counter in Counter}


def test_a_protocol_beside_http_has_a_counter_behind_the_others() -> None:
    toy = JudgedProtocol("toy", 5, Path("toy.h"))
    assert counters_by_name([toy])["connections_toy"] == len(Counter) + 5
