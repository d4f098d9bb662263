"""The running capture: the kernel side as a source of events, its policies and its loss counters.

Owns the descriptors that the compiler child hands over, the ring buffer's consumer, and the maps that steer
the kernel side. It must not compile (`compiler_child`), know a record's layout (`layout`), or decide which
process is captured (agent).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from ebpf import uprobes
from ebpf.bpf_syscalls import Map, possible_processors
from ebpf.capture_ids import new_capture_id
from ebpf.clocks import read_clocks
from ebpf.compilation import Compilation
from ebpf.compiler_child import PROBE
from ebpf.events import CaptureEvent, ProcessPolicy, SocketEvent
from ebpf.layout import (
    CONNECTION,
    LOSSES,
    PORT_OF_SET,
    PROCESS_POLICY,
    RecordDecoder,
    counters_by_name,
    decode_counter,
    uncaptured_tail,
)
from ebpf.policies import PolicyTable
from ebpf.ring_buffer import RingBuffer
from ebpf.tls.probes import ProbePoint, TlsProgram
from ebpf.uprobes import ProbeAttachment

DRAIN_SECONDS = 0.05
"""How often the ring is emptied. Records wait this long at most; the kernel side wakes the agent when the
ring is half full."""
CLOCK_SECONDS = 10.0
"""How often both clocks are read: their offset moves by milliseconds in that time at worst (NTP slews 500
ppm)."""


class LiveCapture:
    """The kernel of this host as an `EventSource`.

    Raises CaptureUnavailable when it can't be started; once started it is attached until `close`. Not
    thread-safe, but policies may be set from another thread than the one that polls.
    """

    def __init__(self, kernel_side: Compilation, *, capture_id: bytes | None = None) -> None:
        """Wait until the kernel side is attached; its options are those of the capture.

        `capture_id` is drawn unless it is given.
        """
        self.capture_id = capture_id or new_capture_id()
        options = kernel_side.options
        descriptors = kernel_side.finish()
        self.tls_obstacle = kernel_side.tls_obstacle
        """Why `attach_probes` can't be used although TLS was asked for; None when it can be used."""
        with contextlib.ExitStack() as undo:
            for descriptor in descriptors.values():
                undo.callback(os.close, descriptor)
            self._connections = Map(descriptors["connections"], 8, CONNECTION.size)
            self._policies = PolicyTable(
                Map(descriptors["policy_by_tgid"], 4, PROCESS_POLICY.size),
                Map(descriptors["port_sets"], PORT_OF_SET.size, 1),
                default=options.default_policy,
                header_budget=min(options.header_budget, options.turn_budget),
            )
            self._counters = Map(descriptors["counters"], 4, 8 * possible_processors())
            self._counter_by_name = counters_by_name(options.protocols)
            self._probes = {
                TlsProgram(name.removeprefix(PROBE)): descriptor
                for name, descriptor in descriptors.items()
                if name.startswith(PROBE)
            }
            self._ring = RingBuffer(descriptors["records"], options.ring_bytes)
            undo.callback(self._ring.close)
            self._release = undo.pop_all()
        self._decoder = RecordDecoder()
        self._next_clock = 0.0
        self._next_drain = 0.0
        self._ring_records = 0
        self._ring_bytes = 0
        self._last_counters: dict[str, int] | None = None

    @property
    def exhausted(self) -> bool:
        """False: a kernel goes on for ever."""
        return False

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:
        """Return the events that arrived; [] when none did within `timeout_seconds`."""
        events: list[CaptureEvent] = []
        now = time.monotonic()
        if now >= self._next_clock:
            self._next_clock = now + CLOCK_SECONDS
            events.append(read_clocks())
            timeout_seconds = 0
        decode = self._decoder.decode
        events.extend([decode(record) for record in self.poll_raw(timeout_seconds)])
        return events

    def poll_raw(self, timeout_seconds: float) -> list[bytes]:
        """Return kernel records as they are, for a recording; `poll` is this and `RecordDecoder.decode`."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            # Records gather until the drain is due, unless the kernel side wakes the agent: one pass over
            # many costs less than many passes over few.
            now = time.monotonic()
            records = self._ring.wait(max(0.0, min(self._next_drain, deadline) - now))
            self._next_drain = time.monotonic() + DRAIN_SECONDS
            if records or self._next_drain - DRAIN_SECONDS >= deadline:
                break
        self._ring_records += len(records)
        self._ring_bytes += sum(map(len, records))
        return records

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:
        """Return what passed uncaptured at the end of each direction since its last event.

        Positions are absolute, and the same bytes may be reported again by a later event: overlap is
        harmless.
        """
        entry = self._connections.lookup(cookie.to_bytes(8, "little"))
        return [] if entry is None else uncaptured_tail(entry, connection_id)

    def losses(self) -> dict[str, int]:
        """Return what should have been captured and was not, by cause (`layout.LOSSES`), from the start."""
        counters = self._read_counters()
        return {loss.name.lower(): counters[loss.name.lower()] for loss in LOSSES}

    def observations(self) -> dict[str, int]:
        """Return the other counters of `layout.counters_by_name`, `ring_records` and `ring_bytes`."""
        counters = self._read_counters()
        losses = {loss.name.lower() for loss in LOSSES}
        others = {name: count for name, count in counters.items() if name not in losses}
        return {**others, "ring_records": self._ring_records, "ring_bytes": self._ring_bytes}

    def _read_counters(self) -> dict[str, int]:
        if self._last_counters is not None:
            return self._last_counters
        return {
            name: decode_counter(self._counters.lookup(index.to_bytes(4, "little")) or b"")
            for name, index in self._counter_by_name.items()
        }

    def set_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Set what is captured of a process and of the children it will have.

        Raises OSError when a table is full: of 32,768 processes, or of the 8,192 ports of all port sets.
        """
        self._policies.set(tgid, policy)

    def change_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Set the policy of a process that has one of its own, unless it ends at this moment.

        Raises OSError when the table of port sets is full.
        """
        self._policies.change(tgid, policy)

    def remove_policy(self, tgid: int) -> None:
        """Return a process to the default policy."""
        self._policies.remove(tgid)

    def policy(self, tgid: int) -> ProcessPolicy | None:
        """Return the policy that a process has of its own, inherited or not."""
        return self._policies.find(tgid)

    def policies(self) -> dict[int, ProcessPolicy]:
        """Return the processes that have a policy of their own, inherited ones included."""
        return self._policies.read()

    def attach_probes(self, file: int, points: Sequence[ProbePoint]) -> ProbeAttachment:
        """Attach TLS probes to an open file, in every process that maps it; they stay until they are closed.

        May be called from any thread. Raises OSError.
        """
        return uprobes.attach(file, points, self._probes)

    def close(self) -> None:
        """Detach and release everything; the counters stay as they were then. Idempotent."""
        if self._last_counters is None:
            self._last_counters = self._read_counters()
            self._release.close()
