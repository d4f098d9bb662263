"""The counters of packet captures: one name per thing that happened, shared by all their stages.

Owns the names and what they count.
"""

from __future__ import annotations

LOSSES: dict[str, str] = {
    "damaged_packets": "packets whose headers are cut or contradict each other",
    "packets_of_unknown_link": "packets of a link type that is not known",
    "undated_packets": "packets without a time; they got that of the packet before them",
    "lost_fragments": "IP fragments of datagrams that never became whole",
    "missing_bytes": "bytes that no packet has, although their receiver got them or later ones came",
    "uncaptured_bytes": "bytes of a packet that was captured without them (snapshot length)",
    "conflicting_bytes": "bytes sent twice with different content: which the receiver took is unknown",
    "flows_evicted": "connections given up to stay within max_flows",
}
"""What should have been captured and was not."""

OBSERVATIONS: dict[str, str] = {
    "packets": "packets read",
    "packets_not_tcp": "packets of other protocols than TCP",
    "packets_not_opened": "packets with a layer that was left alone, encrypted or not known; some held TCP",
    "packets_in_tunnels": "packets that held another one, which was opened",
    "secrets_unused": "TLS secrets in the capture, which are not used",
    "fragments": "IP fragments of TCP segments",
    "segments": "TCP segments read",
    "segments_out_of_window": "segments that can't belong to their connection",
    "duplicate_bytes": "bytes that came again with the same content, or after their acknowledgement",
    "hold_bounds_hit": "times that segments went on before their acknowledgement, the room being used up",
    "bytes_left_alone": "bytes of connections that carry no HTTP",
    "connections_http": "connections that speak HTTP/1",
    "connections_http2": "connections that speak HTTP/2",
    "connections_tls": "connections that are encrypted",
    "connections_not_http": "connections that speak something else",
}
"""What else happened."""


def new_packet_counters() -> dict[str, int]:
    """Return all counters at zero."""
    return dict.fromkeys((*LOSSES, *OBSERVATIONS), 0)
