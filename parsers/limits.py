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
    """A chunk's size line with its extensions. Extensions are unused; proxies allow a head's line, 8 KiB."""
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
    max_unjudged_connections: int = 1_024
    """Connections whose bytes wait until the answer shows whether they are HTTP; the oldest is given up.
    An answer takes milliseconds, so this many requests of unlisted methods may be in flight."""
    max_unjudged_buffer: int = 4_194_304
    """Bytes that wait so, of all connections together: 4 KiB for each."""
    idle_ns: int = 300_000_000_000
    """A connection without an event for this long is finished: what is pending is emitted flagged."""
    close_grace_ns: int = 1_000_000_000
    """After CLOSED, how long bytes already received may still be read by the application."""
    doubt_quiet_ns: int = 5_000_000_000
    """How long nothing passes, no request being open, until no response counts as due any more whose request
    was lost. Only a client that had several requests in flight when one was lost waits for such a response,
    and it would have come unless the server took longer."""
    tail_quiet_ns: int = 65_000_000_000
    """How long nothing passes until a chunked body whose end was not captured counts as over, no further
    request being open; not one of server-sent events. Common proxies and balancers give up a response that
    pauses for 60 seconds. A connection without traffic is often kept for longer."""
    max_operations: int = 16
    """GraphQL operations or JSON-RPC calls named of one batch; the rest is counted. Clients batch a few."""
    max_framed_messages: int = 4_096
    """Messages read of one body that holds several (event streams, lines, parts); the rest is counted. A body
    that is kept has 131072 bytes, and a message of progress 100."""
    max_document: int = 16_384
    """Characters of GraphQL documents read of one request; beyond, a document counts as cut. Generated ones
    reach 10 to 30 KiB with the operation first; reading this much takes a few milliseconds."""
    max_websocket_messages: int = 128
    """Messages and control frames kept of one WebSocket; the rest is counted. As many events as a span has by
    default (OTEL_SPAN_EVENT_COUNT_LIMIT)."""
    max_http2_streams: int = 1_024
    """Streams in flight on one HTTP/2 connection; the oldest is given up. Servers allow 100 to 256, gRPC any
    number."""
    max_ended_streams: int = 1_024
    """Ended streams remembered per connection, so that what still comes of them begins no new one."""
    max_header_table: int = 65_536
    """HPACK table kept per direction, as RFC 7541 §4.1 counts. Peers use 4 KiB, browsers and nginx up to 64;
    entries beyond it are unknown."""
    max_header_list: int = 131_072
    """Fields of one decoded block, as RFC 9113 §6.5.2 counts: an index of one byte may stand for a table's
    worth."""
    max_http2_content: int = 8_388_608
    """Body content, and messages in it, held for all streams of one connection; beyond it bodies are cut, and
    messages just counted. 64 whole bodies."""
    max_proxy_header: int = 16_384
    """A header of the PROXY protocol, version 2. HAProxy reads one buffer, 16 KiB; nginx 4 KiB."""
    max_tunnel_start: int = 16_384
    """Bytes held of the beginning of a tunnel, both directions together, until it is known what is spoken in
    it. Servers take request lines of 8 to 16 KiB."""
    max_tunnels: int = 4
    """Tunnels inside one another that are looked into. Chains of two proxies are seen, of three hardly."""
    max_grpc_messages: int = 64
    """Messages kept of one direction of a gRPC call; the rest is counted. Empty ones cost no body content,
    and a stream may bring any number."""
