"""Process events, from a source to all that keeps something by process: table, selection, TLS.

Owns that dispatch and its order: the table first, then the decision, then the look for TLS libraries, which
goes by the policy that the decision has written. Contract: `run` and `record` take every event through here,
in the order of the source.
"""

from __future__ import annotations

from collections.abc import KeysView

from agent.process import Process
from agent.processes import ProcessTable
from agent.selection import Selection
from agent.tls.tls_processes import TlsProcesses
from ebpf.events import (
    CaptureEvent,
    EventKind,
    FileMapped,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    SocketEvent,
)

_BY_PROCESS = frozenset({EventKind.OPENED, EventKind.DATA})
"""What only a process does that runs. A connection may end on behalf of one that has ended already."""


class ProcessFeed:
    """The way of process events into the agent."""

    def __init__(
        self,
        processes: ProcessTable,
        selection: Selection | None = None,
        tls_processes: TlsProcesses | None = None,
    ) -> None:
        """Wire it; a replayed source has no selection, and TLS may be left alone."""
        self._processes = processes
        self._selection = selection
        self._tls_processes = tls_processes

    @property
    def seen_tgids(self) -> KeysView[int]:
        """A view of the processes that were seen and run: no socket event of these is a first sight."""
        return self._processes.running_tgids()

    @property
    def awaits_delivery(self) -> bool:
        """Whether the stream has to be delivered further before all facts are sure."""
        return self._processes.awaits_delivery

    def take(self, event: CaptureEvent) -> Process | None:
        """Take an event about a process, and return the program that began with it; others mean nothing."""
        processes, selection, tls_processes = self._processes, self._selection, self._tls_processes
        if isinstance(event, ProcessExecuted):
            process = processes.execute(event)
            if selection:
                selection.decide(process)
            if tls_processes:
                tls_processes.executed(event.tgid, process.facts.executable_path)
            return process
        if isinstance(event, ProcessForked):
            processes.fork(event)
            if selection:
                selection.forked(event.tgid)
            if tls_processes:
                tls_processes.forked(event.tgid, event.parent_tgid)
        elif isinstance(event, ProcessExited):
            processes.exit(event)
            if tls_processes:
                tls_processes.exited(event.tgid)
        elif isinstance(event, FileMapped):
            if tls_processes:
                tls_processes.mapped(event)
        elif isinstance(event, ProcessFacts):
            processes.learn(event)
        return None

    def sight(self, event: SocketEvent) -> Process | None:
        """Observe the process of a socket event at its first sight; None when this is none."""
        tgid = event.origin.tgid
        if tgid is None or event.kind not in _BY_PROCESS or tgid in self.seen_tgids:
            return None
        process = self._processes.observe(tgid, event.ktime_ns)
        if self._selection:
            self._selection.sighted(process, event)
        return process

    def refuses(self, event: SocketEvent) -> bool:
        """Return whether a socket event was captured provisionally, of a process that is then refused."""
        return self._selection is not None and self._selection.refuses(event)

    def note_delivered(self, ktime_ns: int) -> None:
        """Take note that every event up to a time has been taken."""
        revised = self._processes.delivered(ktime_ns)
        if self._selection:
            self._selection.reconsider(revised)

    def advance(self) -> None:
        """Take note of the time, and of what discovery has learnt: call it often."""
        if self._selection:
            self._selection.advance()
