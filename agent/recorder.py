"""The loop of `record`: the kernel's records into a file, with the facts of the processes they are about.

Owns their order in the file: facts of a process stand before its records, since the process will be gone when
the file is replayed. So a record holds back what came after it, within bounds, until enough is known of its
process. This module must not parse.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from agent.decisions import CaptureState
from agent.pipeline import POLL_SECONDS
from agent.process import END_OF_TIME_NS, Process
from agent.process_feed import ProcessFeed
from agent.processes import ProcessTable
from agent.selection import Selection
from agent.stop import StopRequest
from agent.tls.tls_processes import TlsProcesses
from ebpf.capture import LiveCapture
from ebpf.clocks import read_clocks
from ebpf.events import CaptureEvent, FileMapped, ProcessExecuted, SocketEvent
from ebpf.layout import RecordDecoder
from ebpf.recording import RecordingWriter

CLOCK_SECONDS = 10.0
"""How often a recording notes both clocks, as a live source does."""
MAX_HELD_BYTES = 33_554_432
"""Records held back at once; beyond it the oldest is written with what is known, or dropped."""
MAX_DESCRIBED = 16_384
"""Processes whose facts stand in the file already; beyond it those that have ended are forgotten."""


class Recorder:
    """One recording while it is made."""

    def __init__(
        self,
        source: LiveCapture,
        writer: RecordingWriter,
        processes: ProcessTable,
        selection: Selection,
        tls_processes: TlsProcesses | None = None,
    ) -> None:
        self._source = source
        self._writer = writer
        self._processes = processes
        self._selection = selection
        self._process_feed = ProcessFeed(processes, selection, tls_processes)
        self._decoder = RecordDecoder()
        self._held: deque[tuple[bytes, CaptureEvent, Process | None]] = deque()
        self._held_bytes = 0
        self._described: set[Process] = set()

    def run(self, stop: StopRequest) -> None:
        """Record until a stop is requested. Raises OSError when the file can't be written any further."""
        clock_due = 0.0
        while True:
            stopping = stop.grace_is_over
            if time.monotonic() >= clock_due:
                clock_due = time.monotonic() + CLOCK_SECONDS
                self._writer.append_clock(read_clocks())
            # Taken before the poll: what happened until then has been delivered after it.
            ktime_ns = time.monotonic_ns()
            self.take(self._source.poll_raw(0 if stopping else POLL_SECONDS))
            self._process_feed.note_delivered(ktime_ns)
            if stopping and self._process_feed.awaits_delivery:
                self.take(self._source.poll_raw(0))
                self._process_feed.note_delivered(END_OF_TIME_NS)
            self._process_feed.advance()
            self.write(is_last=stopping)
            if stopping:
                return

    def take(self, records: Iterable[bytes]) -> None:
        """Take records in, and read their processes while those are there."""
        for record in records:
            event = self._decoder.decode(record)
            process = None
            if not isinstance(event, SocketEvent):
                process = self._process_feed.take(event)
                if isinstance(event, FileMapped):
                    continue  # it says to look at a process that runs, and means nothing in a replay
            elif event.origin.tgid is not None:
                process = self._process_feed.sight(event)
                if process is None:
                    process = self._processes.find(event.origin.tgid, event.ktime_ns)
            self._held.append((record, event, process))
            self._held_bytes += len(record)

    def write(self, *, is_last: bool) -> None:
        """Write the records of processes that are decided on and known; `is_last`: all that is left."""
        now = time.monotonic_ns()
        while self._held:
            record, event, process = self._held[0]
            if process is not None and not is_last and self._held_bytes <= MAX_HELD_BYTES:
                is_complete = self._processes.complete(process, now)
                state = self._selection.consider(process)
                if not is_complete or state is CaptureState.PENDING:
                    return
            self._held.popleft()
            self._held_bytes -= len(record)
            if isinstance(event, SocketEvent) and self._is_unwanted(event, process):
                continue
            if isinstance(event, ProcessExecuted):
                self._writer.append_records((record,))
                self._describe(process)
            else:
                self._describe(process)
                self._writer.append_records((record,))

    def _is_unwanted(self, event: SocketEvent, process: Process | None) -> bool:
        """Return whether an event stays out of the file: its process is refused, or pending to the end."""
        if process is None:  # the kernel did it by itself
            return False
        state = self._selection.consider(process)
        return state is not CaptureState.ACCEPTED or self._process_feed.refuses(event)

    def _describe(self, process: Process | None) -> None:
        if process is None or process in self._described:
            return
        self._writer.append_facts(process.facts)
        if len(self._described) >= MAX_DESCRIBED:
            self._described = {each for each in self._described if each.is_running}
        self._described.add(process)
