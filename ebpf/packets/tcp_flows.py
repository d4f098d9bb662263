"""All TCP connections of a packet capture: which segment belongs to which, and what must go to save memory.

Owns the table of connections. It must not know what is in a stream.

Contract: a connection is known by both its endpoints and the VLAN it is in: two tenants may use the same
addresses, and mixing them would be worse than taking one connection for two where only one way is tagged. The
interface says nothing: a capture on all of them has the same packet several times, which are duplicates. A
SYN with another initial sequence number, or a sequence number far off, begins a new connection.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TypeAlias

from ebpf.events import SocketEvent
from ebpf.packets.connection import PacketConnection
from ebpf.packets.layers import Endpoint, TcpSegment
from ebpf.packets.limits import PacketLimits
from ebpf.packets.tcp_flow import NEVER_NS, TcpFlow

_Key: TypeAlias = tuple[tuple[int, ...], Endpoint, Endpoint]


class TcpFlows:
    """Turns segments into the events of their connections.

    `counts` is added to: `segments_out_of_window`, `flows_evicted`, `hold_bounds_hit`, and by every part.
    """

    def __init__(self, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        # Least recently active first.
        self._flows: OrderedDict[_Key, TcpFlow] = OrderedDict()
        self._alarms: list[tuple[int, _Key]] = []
        self._held_bytes = 0
        self._latest_unix_ns = 0
        self._connections = 0
        self._out: list[SocketEvent] = []

    def take_out(self) -> list[SocketEvent]:
        """Return the events since the last call."""
        out = self._out.copy()
        self._out.clear()
        return out

    def take(self, segment: TcpSegment) -> None:
        """Take the segment that comes next in the capture."""
        if segment.unix_ns > self._latest_unix_ns:
            self._latest_unix_ns = segment.unix_ns
            self._attend()
        source, destination = segment.source, segment.destination
        index = int(source > destination)
        key = (segment.tags, destination, source) if index else (segment.tags, source, destination)
        flow = self._find(key, index, segment)
        if flow is None:
            return
        held = flow.held_bytes
        flow.take(index, segment)
        if self._held_bytes + flow.held_bytes - held > self._limits.max_total_held_bytes:
            self._counts["hold_bounds_hit"] += 1
            flow.finish()
        self._account(key, flow, held)

    def finish(self) -> None:
        """Tell everything that waits: the capture ends."""
        for flow in self._flows.values():
            flow.stop()
        self._flows.clear()
        self._alarms.clear()
        self._held_bytes = 0

    def _find(self, key: _Key, index: int, segment: TcpSegment) -> TcpFlow | None:
        flow = self._flows.get(key)
        if flow is not None and flow.is_forgotten(segment.unix_ns):
            del self._flows[key]
            flow = None
        if flow is not None and not flow.is_foreign(index, segment):
            self._flows.move_to_end(key)
            return flow
        if segment.rst or not (segment.syn or segment.length):
            self._counts["segments_out_of_window"] += flow is not None
            return None
        if flow is not None:
            self._end(key, flow, segment.unix_ns)
        return self._begin(key)

    def _begin(self, key: _Key) -> TcpFlow:
        self._connections += 1
        connection = PacketConnection(
            self._connections, (key[1], key[2]), self._limits, self._counts, self._out
        )
        flow = self._flows[key] = TcpFlow(connection, self._limits, self._counts)
        if len(self._flows) > self._limits.max_flows:
            oldest = next(iter(self._flows))
            evicted = self._flows.pop(oldest)
            if evicted.closed_unix_ns is None:
                self._counts["flows_evicted"] += 1
                self._held_bytes -= evicted.held_bytes
                evicted.stop()
        return flow

    def _end(self, key: _Key, flow: TcpFlow, unix_ns: int) -> None:
        """End a connection whose endpoints begin another one."""
        del self._flows[key]
        self._held_bytes -= flow.held_bytes
        flow.abandon(unix_ns)

    def _attend(self) -> None:
        """Let time pass for those that wait."""
        alarms = self._alarms
        while alarms and alarms[0][0] <= self._latest_unix_ns:
            due, key = heapq.heappop(alarms)
            flow = self._flows.get(key)
            if flow is not None and flow.alarm_unix_ns == due:
                flow.alarm_unix_ns = NEVER_NS
                held = flow.held_bytes
                flow.attend(self._latest_unix_ns)
                self._account(key, flow, held)

    def _account(self, key: _Key, flow: TcpFlow, held: int) -> None:
        """Account for what a flow holds now, and set its alarm."""
        self._held_bytes += flow.held_bytes - held
        due = flow.due_unix_ns
        if due < flow.alarm_unix_ns:
            flow.alarm_unix_ns = due
            heapq.heappush(self._alarms, (due, key))
            if len(self._alarms) > 2 * self._limits.max_flows + 2:
                # Most are outdated, or of flows that are gone.
                self._alarms = [
                    (each.alarm_unix_ns, name)
                    for name, each in self._flows.items()
                    if each.alarm_unix_ns < NEVER_NS
                ]
                heapq.heapify(self._alarms)
