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
    "lost_heads": "heads cut off by a gap or the end of the connection",
    "invalid_heads": "heads that are not HTTP/1",
    "oversized_heads": "heads beyond max_header_block",
    "pending_overflows": "times more than max_pending_messages requests awaited their response",
    **{f"incomplete_{cause}": f"exchanges emitted with incomplete = {cause}" for cause in Incomplete},
}
"""Name of each counter, and what it counts."""

INCOMPLETE_COUNTER: dict[Incomplete, str] = {cause: f"incomplete_{cause}" for cause in Incomplete}
"""The counter of exchanges that are not whole, by cause."""


def new_counters() -> dict[str, int]:
    """Return all counters at zero."""
    return dict.fromkeys(COUNTERS, 0)
