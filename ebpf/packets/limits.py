"""Every bound of packet captures, in one place: its name, its size and the reason for it.

A bound is never an error: whatever exceeds it is counted, and what it makes unknown shows as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketLimits:
    """Bounds of one packet capture. Sizes in bytes, times in nanoseconds of capture time."""

    max_packet: int = 1_048_576
    """One packet or one block that has to be read. tcpdump keeps 262,144 at most; more is damage."""
    max_interfaces: int = 4_096
    """Interfaces of one pcapng section. A host with more is not known; packets of the rest are counted."""
    max_tags: int = 4
    """VLAN tags of one frame. Networks stack two."""
    max_labels: int = 16
    """MPLS labels of one packet. Networks stack up to eight."""
    max_link_layers: int = 16
    """Link layers of one packet, those in its tunnels included. Ethernet over MPLS over Ethernet is three."""
    max_tunnels: int = 4
    """Tunnels in tunnels. A mirror of a cluster's overlay is two."""
    max_unopened_kinds: int = 32
    """Kinds of packets that are named as not opened; further ones are counted together."""
    max_extension_headers: int = 16
    """IPv6 extension headers followed. Real packets have one or two."""
    max_datagrams: int = 512
    """Fragmented datagrams being put together at once, 64 KiB each at most; the oldest goes."""
    fragment_ns: int = 30_000_000_000
    """How long a datagram waits for its fragments: as long as Linux does."""
    max_flows: int = 20_000
    """TCP connections followed at once, as many as the parsers track; the least recently active goes."""
    max_held_pieces: int = 1_024
    """Segments of one direction that wait for their turn; at 1,460 bytes a window of 1.5 MB."""
    max_held_bytes: int = 2_097_152
    """Bytes of one direction that wait."""
    max_total_held_bytes: int = 67_108_864
    """Bytes of all connections that wait."""
    max_jump: int = 1_073_741_824
    """Farthest that a segment or an acknowledgement may be ahead: the largest window (RFC 7323)."""
    max_behind: int = 16_777_216
    """Farthest that a repeated segment may be behind. Hosts use windows of a few MB; more is another
    connection with the same ports."""
    order_ns: int = 100_000_000
    """How long bytes that their receiver has acknowledged may still turn up: packets of several queues or
    interfaces are written in bunches."""
    one_sided_ns: int = 1_000_000_000
    """How long bytes wait for the first packet of their receiver, which answers within 500 ms (RFC 9293
    section 3.8.6.3): a capture may have one direction alone."""
    hole_ns: int = 30_000_000_000
    """How long unacknowledged bytes may still be repeated: five retransmissions, backed off."""
    stray_ns: int = 120_000_000_000
    """How long after its end packets are still a connection's own (twice the maximum segment lifetime)."""
    max_undecided_turns: int = 16
    """Changes of direction that a connection may take to show a message start, as in the kernel side."""
    max_unjudged: int = 8_192
    """Payload handed on of a direction before the answer decides what it is, as in the kernel side."""
