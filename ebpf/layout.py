"""Decoding of what crosses from the kernel: the records of bpf/records.h.

Owns the byte layout, held equal to the header by tests/native. It must not interpret a payload,
the server name in a TLS client's hello aside. Records are
laid out in little-endian order, that of both supported architectures. Contract: every record the kernel side
emits decodes; a record of an unknown kind or one that is cut is a `LayoutError`, for it can only come from a
damaged recording.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from enum import IntEnum

from ebpf.events import (
    CaptureEvent,
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
    SocketInfo,
    TlsHello,
)
from ebpf.protocols import JudgedProtocol
from ebpf.tls.client_hello import read_server_name

CHUNK_BYTES = 8192
"""Largest payload of one record."""
MAX_SERVER_NAMES = 4_096
"""Sockets with a TLS client's hello and without plaintext yet, or ever."""
MAX_CACHED_SOCKETS = 32_768
"""SocketInfo objects kept for sharing: as many as the kernel side has connections."""

SOCKET_RECORD = struct.Struct("<BBBBIQQQQHHI")
"""kind, direction, role, flags, tgid, ktime_ns, connection_id, position, length, missing, payload_length,
tid."""
SOCKET_FACTS = struct.Struct("<QIIHHHBB16s16s")
"""cookie, inode, network_namespace, family, local_port, remote_port, protocol, tls, local_address,
remote_address."""
PROCESS_RECORD = struct.Struct("<BxHIQII")
"""kind, cgroups_length, tgid, ktime_ns, path_length, arguments_length."""
FORK_RECORD = struct.Struct("<B3xIQI4x")
"""kind, tgid, ktime_ns, parent_tgid."""
MAPPING_RECORD = struct.Struct("<B3xIQQ64s")
"""kind, tgid, ktime_ns, inode, name."""
HELLO_RECORD = struct.Struct("<B3xIQII")
"""kind, tgid, ktime_ns, inode, hello_length."""
PROCESS_POLICY = struct.Struct("<QIHBB")
"""since_ktime_ns, turn_budget, port_set, flags, finishing."""
PORT_OF_SET = struct.Struct("<HH")
"""set, port."""
STREAM_STATE = struct.Struct("<QQQQQIHHQHHIII16s")
"""position, reported, lost_end, lost_ktime_ns, held_ktime_ns, spent, missing, held_length, held_thread,
framed, header_length, keep_left, skip_left, kept, held."""
CONNECTION = struct.Struct(f"<QQ10B6xQ{2 * STREAM_STATE.size}s{SOCKET_FACTS.size}s")
"""id, seen_ktime_ns, verdict, role, joined_late, opened, closed, turn, turns, ended, missed, unjudged,
session, streams, socket."""

RECORD_JOINED_LATE, RECORD_PROVISIONAL, RECORD_UNJUDGED = 1, 2, 4
"""Bits of `flags`."""

_HEADER_BYTES = SOCKET_RECORD.size + SOCKET_FACTS.size
_KIND_PROCESS_EXECUTED, _KIND_PROCESS_EXITED, _KIND_PROCESS_FORKED, _KIND_FILE_MAPPED = 5, 6, 7, 8
_KIND_TLS_HELLO = 9
_FAMILY_UNKNOWN, _FAMILY_UNIX, _FAMILY_IPV4, _FAMILY_IPV6 = 0, 1, 2, 10
_TLS_LIBRARIES = (None, "openssl", "gnutls", "go")
"""By `enum tls_library` of bpf/records.h."""

_KINDS = (EventKind.DATA, *EventKind)
"""By `enum record_kind`, from 1 on; 0 is refused before. RECORD_UNJUDGED is the difference between DATA and
UNJUDGED."""
_DIRECTIONS = tuple(Direction)
_ROLES = tuple(Role)
_MISSING = tuple(Missing(bits) for bits in range(64))
# As Origin(...) makes one, in two thirds of the time.
_new_tuple = tuple.__new__

_COUNTS_WITHOUT_TID = struct.Struct("<II")
"""missing and payload_length of a socket record without tid, in place of these two and tid."""
_COUNTS = struct.Struct("<HHI")
_COUNTS_SLICE = slice(SOCKET_RECORD.size - _COUNTS.size, SOCKET_RECORD.size)

COOKIE_SLICE = slice(SOCKET_RECORD.size, SOCKET_RECORD.size + 8)
"""Where a socket record holds the cookie, a kernel address."""


class LayoutError(ValueError):
    """These bytes are no record of this version."""


class Counter(IntEnum):
    """Index of a counter, as in `enum counter` of bpf/records.h; its name in lower case is public.

    Bytes where the name says so, else occurrences.
    """

    RING_FULL_RECORDS = 0
    RING_FULL_BYTES = 1
    BUDGET_BYTES = 2
    UNREADABLE_BYTES = 3
    SENDFILE_BYTES = 4
    IOVEC_BOUND_BYTES = 5
    CONNECTIONS_HTTP = 6
    CONNECTIONS_NOT_HTTP = 7
    CONNECTIONS_TLS = 8
    CONNECTIONS_HTTP2 = 9
    CONNECTIONS_EXCLUDED = 10
    CONNECTION_TABLE_FULL = 11
    POLICY_TABLE_FULL = 12
    REJOINED_CONNECTIONS = 13
    UNWANTED_BYTES = 14


LOSSES = (
    Counter.RING_FULL_RECORDS,
    Counter.RING_FULL_BYTES,
    Counter.UNREADABLE_BYTES,
    Counter.IOVEC_BOUND_BYTES,
    Counter.CONNECTION_TABLE_FULL,
    Counter.POLICY_TABLE_FULL,
)
"""What should have been captured and was not. The other counters say what was left alone on purpose."""


def is_socket_record(record: bytes) -> bool:
    """Whether a record is about a connection rather than a process."""
    return record[0] < _KIND_PROCESS_EXECUTED


def record_tgid(record: bytes) -> int:
    """Return the process of any record, 0 when the kernel acted by itself."""
    return int.from_bytes(record[4:8], "little")


def add_tid(record: bytes) -> bytes:
    """Return a record of recording formats 1 and 2, whose socket records name no thread, in today's layout.

    Raises LayoutError.
    """
    if not record or not is_socket_record(record):
        return record
    try:
        counts = _COUNTS.pack(*_COUNTS_WITHOUT_TID.unpack(record[_COUNTS_SLICE]), 0)
    except struct.error as error:
        raise LayoutError("not a socket record") from error
    return record[: _COUNTS_SLICE.start] + counts + record[_COUNTS_SLICE.stop :]


def _decode_socket(facts: bytes, offset: int) -> SocketInfo:
    cookie, inode, namespace, family, local_port, remote_port, protocol, library, local, remote = (
        SOCKET_FACTS.unpack_from(facts, offset)
    )
    tls = _TLS_LIBRARIES[library]
    if family == _FAMILY_UNIX:
        return SocketInfo("unix", None, None, None, None, namespace, inode, cookie, protocol, tls)
    if family == _FAMILY_UNKNOWN and tls is not None:
        return SocketInfo("unknown", None, None, None, None, namespace, inode, cookie, protocol, tls)
    if family == _FAMILY_IPV4:
        name, kernel_family, size = "ipv4", socket.AF_INET, 4
    elif family == _FAMILY_IPV6:
        name, kernel_family, size = "ipv6", socket.AF_INET6, 16
    else:
        raise LayoutError(f"unknown socket family {family}")
    return SocketInfo(
        name,
        socket.inet_ntop(kernel_family, local[:size]),
        local_port,
        socket.inet_ntop(kernel_family, remote[:size]),
        remote_port,
        namespace,
        inode,
        cookie,
        protocol,
        tls,
    )


def _decode_cgroups(text: bytes) -> tuple[str, ...]:
    """Return the paths of cgroups whose names are given from the innermost one to the root."""
    paths: list[str] = []
    names: list[str] = []
    for name in text.split(b"\0"):
        if name:
            names.append(name.decode(errors="replace"))
            continue
        path = "".join(f"/{name}" for name in reversed(names))
        if path and path not in paths:
            paths.append(path)
        names.clear()
    return tuple(paths)


def _decode_process(record: bytes) -> ProcessExecuted | ProcessForked | ProcessExited | FileMapped:
    try:
        if record and record[0] == _KIND_FILE_MAPPED:
            _kind, tgid, ktime_ns, inode, name = MAPPING_RECORD.unpack_from(record)
            return FileMapped(ktime_ns, tgid, inode, name.partition(b"\0")[0].decode(errors="replace"))
        if record and record[0] == _KIND_PROCESS_FORKED:
            _kind, tgid, ktime_ns, parent_tgid = FORK_RECORD.unpack_from(record)
            return ProcessForked(ktime_ns, tgid, parent_tgid)
        kind, cgroups_length, tgid, ktime_ns, path_length, arguments_length = PROCESS_RECORD.unpack_from(
            record
        )
    except struct.error as error:
        raise LayoutError("cut process record") from error
    if kind == _KIND_PROCESS_EXITED:
        return ProcessExited(ktime_ns, tgid)
    if kind != _KIND_PROCESS_EXECUTED:
        raise LayoutError(f"unknown record kind {kind}")
    path_end = PROCESS_RECORD.size + path_length
    arguments_end = path_end + arguments_length
    end = arguments_end + cgroups_length
    if len(record) < end:
        raise LayoutError("cut process record")
    arguments = record[path_end:arguments_end].decode(errors="replace")
    return ProcessExecuted(
        ktime_ns,
        tgid,
        record[PROCESS_RECORD.size : path_end].decode(errors="replace"),
        tuple(arguments.removesuffix("\0").split("\0")) if arguments else (),
        _decode_cgroups(record[arguments_end:end]),
    )


class RecordDecoder:
    """Decodes records in their order; events of one connection share one SocketInfo."""

    def __init__(self) -> None:
        self._sockets: dict[int, SocketInfo] = {}
        self._server_names: dict[int, str] = {}

    def decode(self, record: bytes) -> CaptureEvent:
        """Return the event of one record. Raises LayoutError."""
        if record and record[0] == _KIND_TLS_HELLO:
            return self._decode_hello(record)
        if not record or record[0] >= _KIND_PROCESS_EXECUTED or record[0] == 0:
            return _decode_process(record)
        try:
            (
                kind,
                direction,
                role,
                flags,
                tgid,
                ktime_ns,
                connection_id,
                position,
                length,
                missing,
                payload_length,
                tid,
            ) = SOCKET_RECORD.unpack_from(record)
            payload = record[_HEADER_BYTES : _HEADER_BYTES + payload_length]
            if len(payload) != payload_length:
                raise LayoutError("cut socket record")
            info = self._sockets.get(connection_id)
            if info is None and flags & RECORD_UNJUDGED:
                info = _decode_socket(record, SOCKET_RECORD.size)  # judging adds to what is known of it
            elif info is None:
                info = self._remember(connection_id, self._decode_socket(record))
            elif info.family == "unknown":
                info.become(self._decode_socket(record))
            return SocketEvent(
                _KINDS[kind | flags & RECORD_UNJUDGED],
                ktime_ns,
                connection_id,
                _new_tuple(Origin, (ktime_ns, tgid or None, tid or None)),
                _DIRECTIONS[direction],
                position,
                length,
                payload,
                _MISSING[missing],
                _ROLES[role],
                flags & RECORD_JOINED_LATE != 0,
                info,
                flags & RECORD_PROVISIONAL != 0,
            )
        except (struct.error, IndexError) as error:
            raise LayoutError("not a socket record") from error

    def _decode_socket(self, record: bytes) -> SocketInfo:
        info = _decode_socket(record, SOCKET_RECORD.size)
        if info.tls is not None:
            info.server_name = self._server_names.pop(info.inode, None)
        return info

    def _decode_hello(self, record: bytes) -> TlsHello:
        try:
            _kind, tgid, ktime_ns, inode, length = HELLO_RECORD.unpack_from(record)
        except struct.error as error:
            raise LayoutError("cut hello record") from error
        hello = record[HELLO_RECORD.size : HELLO_RECORD.size + length]
        if len(hello) != length:
            raise LayoutError("cut hello record")
        name = read_server_name(hello)
        names = self._server_names
        names.pop(inode, None)
        if name is not None:
            if len(names) >= MAX_SERVER_NAMES:
                del names[next(iter(names))]
            names[inode] = name
        return TlsHello(ktime_ns, tgid, inode, name)

    def _remember(self, connection_id: int, info: SocketInfo) -> SocketInfo:
        sockets = self._sockets
        if len(sockets) >= MAX_CACHED_SOCKETS:
            # the oldest connection; should it still speak, it gets an equal object
            del sockets[next(iter(sockets))]
        sockets[connection_id] = info
        return info


def uncaptured_tail(connection: bytes, connection_id: int) -> list[SocketEvent]:
    """Return what a connection's map entry has of bytes that no record covers yet, one event per direction.

    [] when the entry meanwhile belongs to another connection.
    """
    identity, _seen, _verdict, role, joined_late, opened, *_states, streams, facts = CONNECTION.unpack(
        connection
    )
    if identity != connection_id or not opened:
        return []
    info = _decode_socket(facts, 0)
    events = []
    for direction in Direction:
        _position, reported, lost_end, lost_ktime_ns, _held_ktime, _spent, missing, *_held = (
            STREAM_STATE.unpack_from(streams, direction * STREAM_STATE.size)
        )
        if lost_end > reported:
            events.append(
                SocketEvent(
                    EventKind.DATA,
                    lost_ktime_ns,
                    connection_id,
                    Origin(lost_ktime_ns),
                    direction,
                    reported,
                    lost_end - reported,
                    b"",
                    _MISSING[missing & 63],
                    _ROLES[role],
                    joined_late != 0,
                    info,
                )
            )
    return events


def counters_by_name(protocols: Sequence[JudgedProtocol]) -> dict[str, int]:
    """Return the index of each counter by its public name; of each protocol its connections are counted."""
    counters = {counter.name.lower(): int(counter) for counter in Counter}
    return counters | {
        f"connections_{protocol.name}": len(Counter) + protocol.number for protocol in protocols
    }


def decode_counter(slots: bytes) -> int:
    """Return a counter: the sum of the CPUs' 8-byte slots."""
    return sum(struct.unpack(f"<{len(slots) // 8}Q", slots))
