"""Every bound of the parsers, in one place: its name, its size and the reason for it.

A bound is never an error of the wire: whatever exceeds it is kept as far as it goes, flagged, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserLimits:
    """Bounds of one tracker. All sizes in bytes, all times in nanoseconds of event time."""

    max_body: int = 131_072
    """Body content kept per message, after decoding. Hypertrace's default, so consumers expect it."""
    capture_bodies: bool = True
    """False keeps sizes only."""
    max_header_block: int = 65_536
    """Start line and fields of one message. Servers accept 8 to 64 KiB; more is an attack or not HTTP."""
    max_chunk_line: int = 8_192
    """A chunk's size line with its extensions. Nobody uses extensions; proxies allow a head's line, 8 KiB."""
    max_interim: int = 16
    """1xx responses noted per exchange. Servers send one or two; the rest is passed over."""
    max_headers: int = 128
    """Fields kept of one message; the rest is counted. Suricata and OTel backends keep about as many."""
    max_pending_messages: int = 100
    """Requests awaiting their response on one connection (pipelining); Zeek's bound."""
    max_stream_buffer: int = 262_144
    """Unparsed bytes held for one direction, out-of-order pieces included."""
    max_reorder_pieces: int = 256
    """Out-of-order pieces held for one direction; more means the missing one is lost."""
    reorder_ns: int = 1_000_000_000
    """How long a jump in position may be a matter of order before it is a gap. CPUs deliver within
    microseconds."""
    max_connections: int = 20_000
    """Connections tracked at once; the least recently active is finished and evicted."""
    max_total_buffer: int = 33_554_432
    """Bytes held by all connections together; beyond it the least recently active are evicted."""
    idle_ns: int = 300_000_000_000
    """A connection without an event for this long is finished: what is pending is emitted flagged."""
    close_grace_ns: int = 1_000_000_000
    """After CLOSED, how long bytes already received may still be read by the application."""
    max_operations: int = 16
    """GraphQL operations or JSON-RPC calls named of one batch; the rest is counted. Clients batch a few."""
