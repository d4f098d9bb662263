"""The counters of the parsers: one name per thing that happened, shared by all stages down to the tracker.

Owns the names and what they count. Counting is adding to a plain dict, because it happens on the hot path.
"""

from __future__ import annotations

from parsers.exchange import Incomplete

COUNTERS: dict[str, str] = {
    "connections": "connections seen",
    "connections_evicted": "connections given up to stay within max_connections or max_total_buffer",
    "connections_http2": "connections that turned out to speak HTTP/2",
    "connections_quarantined": "connections given up because of a bug in the parsers",
    "connections_upgraded": "connections that left HTTP after 101 or CONNECT",
    "unjudged_evicted": "connections whose first bytes were given up before an answer showed what they are",
    "unread_protocol_events": "events of connections that speak a protocol without a reader",
    "requests": "request heads read",
    "responses": "final response heads read",
    "exchanges": "exchanges emitted",
    "requests_unpaired": "exchanges emitted without a response",
    "responses_unpaired": "exchanges emitted without a request",
    "gaps": "stretches of missing bytes",
    "gap_bytes": "missing bytes",
    "duplicate_bytes": "bytes that came again",
    "discarded_bytes": "bytes passed over: after a loss, before the first message, after HTTP ended",
    "lost_places": "times a direction lost its place: a gap or bytes that could not be stepped over",
    "resynchronised": "times a direction found the next message again",
    "unseen_tails": "chunked bodies whose rest was left out by the byte budget, or sent by sendfile",
    "unseen_tails_timed_out": "those that counted as over because nothing passed for tail_quiet_ns",
    "lost_heads": "heads cut off by a gap or the end of the connection",
    "invalid_heads": "heads that are not HTTP/1",
    "unfinished_heads": "heads of requests that were answered before they ended",
    "oversized_heads": "heads beyond max_header_block",
    "pending_overflows": "times more than max_pending_messages requests awaited their response",
    "proxy_headers": "headers of the PROXY protocol read",
    "proxy_headers_invalid": "beginnings of one that are none, not whole, or go beyond max_proxy_header",
    "tunnels_http": "tunnels, by CONNECT or a 101, in which HTTP is spoken",
    "tunnels_other": "tunnels in which anything else is spoken, or too little of it passed to tell",
    "tunnels_unjudged": "tunnels given up: a gap in their beginning, beyond max_tunnel_start or max_tunnels",
    "websockets": "WebSockets opened",
    "websocket_messages": "messages and control frames of WebSockets",
    "websocket_messages_dropped": "those beyond max_websocket_messages or max_http2_content, not kept",
    "websocket_messages_cut": "those kept without all of their content",
    "websocket_invalid_frames": "frames that no endpoint accepts; the direction is not read any further",
    "unrecognised": "exchanges whose content was not read because of a bug in the parsers",
    "graphql_requests": "exchanges that carry GraphQL",
    "json_rpc_requests": "exchanges that carry JSON-RPC",
    "operations_unnamed": "GraphQL operations and JSON-RPC calls of a batch beyond max_operations",
    "documents_cut": "GraphQL documents beyond max_document: only the beginning was read",
    "framed_messages_unread": "messages of one body (events, lines, parts) beyond max_framed_messages",
    "json_cut": "JSON bodies read only in part for their nesting, or for the digits of a number",
    "grpc_calls": "exchanges that are gRPC calls",
    "grpc_messages_dropped": "gRPC messages not kept, for max_grpc_messages, max_body or max_http2_content",
    "grpc_messages_cut": "those kept without all of their content",
    "grpc_places_lost": "times the messages of a direction could not be told apart any more, for a gap",
    "grpc_invalid_messages": "gRPC messages with a prefix or a coding that no peer accepts",
    "grpc_trailers_lost": "trailers of gRPC-Web that are not whole",
    "grpc_invalid_statuses": "values of grpc-status that mean nothing or contradict each other",
    "http2_invalid_frames": "frames that no receiver accepts",
    "http2_invalid_blocks": "field blocks that are no HPACK, or refer to what never was in the table",
    "http2_unknown_fields": "fields whose name or value refers to a table entry that was not seen",
    "http2_dropped_fields": "fields beyond max_headers or max_header_list",
    "http2_forgotten_entries": "table entries given up beyond max_header_table while the peer may have them",
    "http2_streams_evicted": "streams given up to stay within max_http2_streams",
    "http2_forgotten_streams": "ended streams beyond max_ended_streams; only the greatest id is kept",
    "http2_refused_content": "pieces of content not kept to stay within max_http2_content",
    "http2_stray_frames": "frames, or parts of one, of streams that have ended or never began",
    "http2_headless_streams": "streams without a head or trailers that were seen; no exchange",
    "http2_unattributed_streams": "streams that do not show which end is the client; no exchange",
    **{f"incomplete_{cause}": f"exchanges emitted with incomplete = {cause}" for cause in Incomplete},
}
"""Name of each counter, and what it counts."""

INCOMPLETE_COUNTER: dict[Incomplete, str] = {cause: f"incomplete_{cause}" for cause in Incomplete}
"""The counter of exchanges that are not whole, by cause."""


def new_counters() -> dict[str, int]:
    """Return all counters at zero."""
    return dict.fromkeys(COUNTERS, 0)
