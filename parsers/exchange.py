"""What the parsers emit, whatever the protocol is: one request and its answer, and why it is not whole.

Owns the part of an exchange that every stage behind the parsers may use. It must not hold anything of one
protocol: each has a kind of its own (`http_exchange`).

Contract: an exchange that is not whole says so and why; what was seen of it is kept. None means unknown,
never 0 or an empty value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum

from ebpf.events import Origin, Role, SocketInfo


class Incomplete(StrEnum):
    """Why an exchange is not whole (attribute `wirespan.incomplete`)."""

    JOINED_LATE = "joined_late"
    """Its beginning, or its counterpart, was before the capture of this connection."""
    LOST_BYTES = "lost_bytes"
    """A gap swallowed a part that frames the message, or made the pairing uncertain."""
    ONE_SIDE = "one_side"
    """Only one direction of the connection carried anything that could be its counterpart."""
    CLOSED = "closed"
    """The connection ended before the message did."""
    TIMED_OUT = "timed_out"
    """Nothing more came within the idle bound."""
    EVICTED = "evicted"
    """Given up to keep within a memory bound."""
    STOPPED = "stopped"
    """The capture ended first."""
    INVALID = "invalid"
    """Bytes that no server would take for HTTP, or whose framing is ambiguous (request smuggling)."""
    UNKNOWN_HEADERS = "unknown_headers"
    """A head refers to compression state (HPACK) that was not seen: what it refers to is unknown."""
    RESET = "reset"
    """One end gave the HTTP/2 stream up (RST_STREAM, or GOAWAY before it was processed)."""
    UNSOLICITED = "unsolicited"
    """A response that no request asked for: a server says why it closes an idle connection."""


@dataclass(slots=True)
class Exchange(ABC):
    """One request and its answer, as one socket saw them, whatever the protocol is.

    What every stage behind the parsers may use without a look at the protocol; each protocol adds its kind.
    """

    connection_id: int
    ordinal: int
    """Number of the exchange, unique on its connection (`numbering`). Over HTTP/2 the stream id, behind the
    exchanges that preceded HTTP/2 on the connection."""
    socket: SocketInfo
    role: Role
    """This socket's part: CLIENT sent the request, SERVER received it. Never UNKNOWN: messages show it."""
    origin: Origin
    """The call that moved the first byte of the exchange: of the request, where one was seen."""
    incomplete: Incomplete | None = field(default=None, kw_only=True)
    """None only when request and answer are whole and surely belong together."""
    anomalies: tuple[str, ...] = field(default=(), kw_only=True)
    """What a strict parser would refuse although the other end took it, e.g. `bare_lf`, `obs_fold`."""

    @property
    @abstractmethod
    def start_ktime_ns(self) -> int:
        """When the call that moved the first byte seen of the exchange returned."""

    @property
    @abstractmethod
    def end_ktime_ns(self) -> int:
        """When the call that moved the last byte seen returned; never before `start_ktime_ns`."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Bytes of content that are kept: nearly all memory that the exchange takes."""
