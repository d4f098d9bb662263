"""The records the kernel side emits: what one socket call moved, and what became of a process.

Owns the vocabulary that every later stage speaks. It must not know how a record travels (`layout`), where it
came from (live kernel, recording, packet capture) or what its bytes mean (`parsers`).

Contract: bytes have positions. Within one connection and direction the stream is numbered from 0 at the first
byte after the connection was first seen; `position` of an event is that of its first byte. Whatever is
missing shows as arithmetic: an event whose payload is shorter than `length`, or a jump between events.
Nothing is zero-filled.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from typing import NamedTuple, TypeAlias


class EventKind(IntEnum):
    """What a socket event says.

    The values are those of `enum record_kind` in bpf/records.h; UNJUDGED is DATA with RECORD_UNJUDGED.
    """

    DATA = 1
    """A call moved `length` bytes; the first `len(payload)` of them are known."""
    OPENED = 2
    """The connection was judged to speak `SocketInfo.protocol`. For a Unix socket the payload is its path,
    empty when unnamed."""
    ENDED = 3
    """`direction` is over at `position`: a read returned 0, shutdown, or this side's FIN."""
    CLOSED = 4
    """The connection reached TCP_CLOSE. Bytes already received may still be read afterwards."""
    UNJUDGED = 5
    """As DATA, of a connection that is not judged yet: it counts as DATA once OPENED follows for the same
    connection, and else not at all."""


class Direction(IntEnum):
    """The socket's view of a byte: received or sent."""

    INGRESS = 0
    EGRESS = 1


class Role(IntEnum):
    """Who opened the connection, as the kernel saw it."""

    UNKNOWN = 0
    CLIENT = 1
    SERVER = 2


class Protocol(IntEnum):
    """What is spoken on a connection, as its source judged; values of `enum protocol` in bpf/records.h."""

    # PROTOCOL: a member.
    HTTP1 = 0
    """HTTP/1, and what a connection may go over to from there."""
    HTTP2 = 1


class Missing(IntFlag):
    """Why bytes of a stream were not captured; values of `enum missing_cause` in bpf/records.h."""

    RING_FULL = 1
    """The ring buffer had no room."""
    BUDGET = 2
    """The direction's budget for this turn was used up."""
    UNREADABLE = 4
    """The user buffer could not be read (paged out or already unmapped)."""
    SENDFILE = 8
    """sendfile or splice: the bytes never were in user memory."""
    IOVEC_BOUND = 16
    """More iovec segments or chunks than one call is followed for."""
    UNWANTED = 32
    """The policy of the process left them out."""


class Policy(IntFlag):
    """What is captured of one process. The values are those of `enum policy` in bpf/records.h."""

    IGNORE = 0
    CAPTURE_INGRESS = 1
    """Connections that it serves."""
    CAPTURE_EGRESS = 2
    """Connections that it opens."""
    UNDECIDED = 4
    """Captured in both roles until the agent has decided on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPolicy:
    """What is captured of one process, and how much of it."""

    capture: Policy
    """The roles that are captured, or `Policy.UNDECIDED`."""
    finishing: Policy = Policy.IGNORE
    """Roles in which connections that are open already are still captured, whatever `capture` and `ports`
    say: what is in flight at a change may finish. The agent takes it back after a while."""
    ports: frozenset[int] = frozenset()
    """Only connections with one of these ports at either end; empty: every port."""
    bodies: bool = True
    """False: of each turn no more is copied than a header block may be long."""
    tls: bool = True
    """False: its TLS connections are left alone."""


@dataclass(slots=True)
class SocketInfo:
    """The socket behind a connection; one object per connection, shared by its events and exchanges.

    Not changed once the family is known: of a TLS session it may become known later than its first plaintext.
    So it has no hash: what is kept by socket is kept by the facts that matter, or by the connection.

    Addresses are textual; IPv4-mapped IPv6 addresses appear as IPv4. None means unknown or not applicable.
    """

    family: str
    """`ipv4`, `ipv6` or `unix`; `unknown` for a TLS session as long as nothing shows which socket carries
    it."""
    local_address: str | None
    local_port: int | None
    remote_address: str | None
    remote_port: int | None
    network_namespace: int
    """Inode number of the network namespace: 127.0.0.1 is not one host."""
    inode: int
    """Inode number of the socket in sockfs, as `ss -e` and /proc/PID/fd show it."""
    cookie: int
    """Opaque key under which the source can still find the live connection; see `EventSource.inspect`."""
    protocol: int = Protocol.HTTP1
    """What is spoken from the first captured byte on: a `Protocol`, or the number of one that this version
    does not read."""
    tls: str | None = None
    """Library whose plaintext this is: `openssl`, `gnutls`, `go`. None: what passes on the socket itself."""
    server_name: str | None = None
    """Of a TLS session: the host that its client asked for (RFC 6066 §3)."""

    def become(self, known: SocketInfo) -> None:
        """Take over what has become known of the same session."""
        for field in fields(self):
            setattr(self, field.name, getattr(known, field.name))


class Origin(NamedTuple):
    """The call that moved bytes: when it returned, and the process and thread that made it.

    A part that is unknown is None. Both ids are, where the kernel acted by itself (TCP close) and in a packet
    capture; the thread alone is in recordings of formats 1 and 2.
    """

    ktime_ns: int
    """CLOCK_MONOTONIC, nanoseconds."""
    tgid: int | None = None
    """Process (thread group)."""
    tid: int | None = None
    """Thread, by its id in the initial PID namespace."""


@dataclass(slots=True)
class SocketEvent:
    """One step of one connection."""

    kind: EventKind
    ktime_ns: int
    """That of `origin`. It stands here too, as in every event, because it is read many times for each."""
    connection_id: int
    """Unique within one capture; never reused, also when the kernel reuses the socket."""
    origin: Origin
    direction: Direction
    position: int
    length: int
    payload: bytes
    missing: Missing
    """Causes of bytes missing from this payload's tail and of those lost since the last event of this
    direction."""
    role: Role
    joined_late: bool
    """The connection was in use before it was first seen, so earlier bytes are unknown."""
    socket: SocketInfo
    provisional: bool = False
    """The process was `Policy.UNDECIDED`: the later decision keeps or drops the event."""


@dataclass(frozen=True, slots=True)
class ProcessExecuted:
    """A process replaced its program (execve)."""

    ktime_ns: int
    tgid: int
    path: str
    """As given to execve: possibly relative."""
    arguments: tuple[str, ...]
    """Possibly cut: the kernel side copies a bounded number of bytes."""
    cgroups: tuple[str, ...] = ()
    """Paths of the cgroups that the process is in, of the unified and of a v1 hierarchy; the innermost
    components only, where they are deep."""


@dataclass(frozen=True, slots=True)
class ProcessForked:
    """A process whose policy is not `Policy.IGNORE` made another, which inherits that policy."""

    ktime_ns: int
    tgid: int
    """The child."""
    parent_tgid: int


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The last thread of a process is gone; its tgid may be reused."""

    ktime_ns: int
    tgid: int


@dataclass(frozen=True, slots=True)
class FileMapped:
    """A process that is captured, or may be, has mapped a file as code: a library, mostly."""

    ktime_ns: int
    tgid: int
    inode: int
    name: str
    """Last component of its path; possibly cut."""


@dataclass(frozen=True, slots=True)
class TlsHello:
    """A TLS client has begun a handshake, seen at either end. Sessions on the socket know the name too."""

    ktime_ns: int
    tgid: int
    inode: int
    """Of the socket, as in `SocketInfo`."""
    server_name: str | None
    """The host that is asked for; None when the hello says none."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What /proc said of a process when it was first seen; recordings carry it, a live source does not."""

    ktime_ns: int
    tgid: int
    start_unix_ns: int | None
    executable_path: str | None
    command_line: tuple[str, ...]
    service_name: str | None
    """OTEL_SERVICE_NAME of its environment, or service.name of its OTEL_RESOURCE_ATTRIBUTES."""
    cgroups: tuple[str, ...] = ()
    """Paths as /proc/PID/cgroup has them, each once."""
    workload: Mapping[str, str] | None = None
    """What discovery found out of the container and pod that it runs in, by attribute name. None: it runs in
    none, or nothing was found out (yet)."""


@dataclass(frozen=True, slots=True)
class ClockSample:
    """One reading of both clocks: `ktime_ns` and `unix_ns` are the same moment."""

    ktime_ns: int
    unix_ns: int


CaptureEvent: TypeAlias = (
    SocketEvent
    | ProcessExecuted
    | ProcessForked
    | ProcessExited
    | FileMapped
    | TlsHello
    | ProcessFacts
    | ClockSample
)


class EventSource(typing.Protocol):
    """A stream of capture events: a live kernel, a recording, a packet capture."""

    @property
    def capture_id(self) -> bytes:
        """16 bytes that identify this capture (`capture_ids`); b"" before the first event."""

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:
        """Return the events that arrived, waiting at most `timeout_seconds` for the first; [] when none did.

        The first event of any source is a `ClockSample`.
        """

    @property
    def exhausted(self) -> bool:
        """Whether no further event can come (never true of a live kernel)."""

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:
        """Return what the source holds of a connection beyond the events already delivered.

        One DATA event with empty payload per direction that has uncaptured bytes at its end, its `ktime_ns`
        that of the last such byte. [] when the connection is gone or the source is not live.
        """

    def losses(self) -> dict[str, int]:
        """Return what should have been captured and was not, by cause, counted from the start."""

    def observations(self) -> dict[str, int]:
        """Return what else was counted: verdicts on connections, bytes left alone, use of the ring."""

    def close(self) -> None:
        """Detach and release everything. Idempotent."""
