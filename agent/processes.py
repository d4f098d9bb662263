"""Which program a tgid stood for at a given time, what it runs in, and the OpenTelemetry resource of it.

A tgid names several programs in turn: a shell forks, the child executes curl, curl ends, and the number is
given to another process. So a tgid has generations, each a `Process` valid from one kernel time to another:

    first sight in the stream    a generation valid from ever, or from the end of the one before
    ProcessForked                ends what the number stood for before; a child is what its parent is
    ProcessExecuted              ends the running generation, starts one with the new program
    ProcessExited                ends the running generation; it is kept for exchanges that finish late
    start time in /proc differs  the exit was lost: the tgid was given away, a new generation starts

Contract: facts come from the stream and, for a live source, from `read`; a replayed source brings its own
`ProcessFacts` and has no `read`. One `Resource` object per generation, until discovery learns more. Times are
CLOCK_MONOTONIC nanoseconds of events or given; no clock is read here.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, KeysView
from dataclasses import dataclass
from typing import TypeAlias

from agent.workloads.cgroups import find_container
from agent.workloads.workload import (
    Absence,
    CaptureDecision,
    ContainerReference,
    Discovery,
    Finding,
    Workload,
)
from ebpf.events import ProcessExecuted, ProcessExited, ProcessFacts, ProcessForked
from otel_bridge.span import Resource

ReadProcess: TypeAlias = Callable[[int, int], ProcessFacts | None]
"""(tgid, ktime_ns) → facts of the process running now, or None when it is gone."""
StartOfProcess: TypeAlias = Callable[[int], int | None]
"""tgid → its start as Unix nanoseconds, or None when it is gone."""

MAX_RUNNING = 8_192
"""Processes known at once, about 2 KiB each; beyond it the one seen first is forgotten, and read anew."""
MAX_ENDED = 2_048
"""Ended generations kept for late exchanges: at 1,000 short processes a second, two seconds' worth."""
ENDED_KEPT_NS = 300_000_000_000
"""How long an ended generation is kept: as long as a quiet connection may hold an exchange back."""
MAX_PARENTS = 8_192
"""Children whose parent is remembered until they say something; most never do, so the oldest goes."""
RECHECK_NS = 10_000_000_000
"""How often the start time of a process in use is compared with /proc, one read of ~10 µs."""
PATIENCE_NS = 10_000_000_000
"""How long an answer about a container is waited for: the kubelet tells the API server of a container that
has started within a second or two."""


_NEVER_KTIME_NS = 2**63 - 1


@dataclass(slots=True, eq=False)
class Process:
    """One program that a tgid stood for."""

    facts: ProcessFacts
    from_ktime_ns: int
    checked_ktime_ns: int
    """When its start was last compared with /proc."""
    container: ContainerReference | None
    until_ktime_ns: int = _NEVER_KTIME_NS
    finding: Finding | None = None
    """What discovery says of the container; None without a container or without discovery."""
    finding_version: int = -1
    """The version of discovery that it is from."""
    is_settled: bool = False
    """Whether nothing more is waited for about its container."""
    resource: Resource | None = None
    decision: CaptureDecision | None = None
    """What selection decided; None where nothing has to be decided."""
    deciding_ktime_ns: int = 0
    """When `decision` was about to be put into force."""
    decided_ktime_ns: int = 0
    """When it was in force."""
    former_decision: CaptureDecision | None = None
    """The one before it."""

    @property
    def is_running(self) -> bool:
        """Whether the tgid still stands for this program, as far as known."""
        return self.until_ktime_ns == _NEVER_KTIME_NS

    def is_now(self, tgid: int, ktime_ns: int) -> bool:
        """Whether it runs, and is what `tgid` stood for at `ktime_ns`."""
        return (
            self.facts.tgid == tgid
            and ktime_ns >= self.from_ktime_ns
            and self.until_ktime_ns == _NEVER_KTIME_NS
        )


class ProcessTable:
    """All processes of the stream, by tgid and time."""

    def __init__(
        self,
        build_resource: Callable[[ProcessFacts], Resource],
        *,
        read: ReadProcess | None = None,
        start_of: StartOfProcess | None = None,
        discovery: Discovery | None = None,
    ) -> None:
        self._build_resource = build_resource
        self._read = read
        self._start_of = start_of
        self._discovery = discovery
        self._running: OrderedDict[int, Process] = OrderedDict()
        self._ended_by_tgid: dict[int, list[Process]] = {}
        self._ended: deque[Process] = deque()
        self._parents: OrderedDict[int, int] = OrderedDict()
        self._vanished = 0
        self._forgotten = 0
        self._unidentified = 0

    def running_tgids(self) -> KeysView[int]:
        """Return a view of the processes that were seen before and run, as far as known."""
        return self._running.keys()

    def running(self) -> Iterable[Process]:
        """Return the processes that run, as far as known."""
        return self._running.values()

    def observe(self, tgid: int, ktime_ns: int) -> Process:
        """Take note of a process at its first sight, when it may be about to end.

        One that is gone already, and was forked by a process that is known or still there, is described as
        that: until an execve a child is what its parent is.
        """
        facts = self._read(tgid, ktime_ns) if self._read else None
        if facts is None:
            facts = self._facts_by_parent(tgid, ktime_ns)
        if facts is None:
            if self._read:
                self._vanished += 1
            facts = ProcessFacts(ktime_ns, tgid, None, None, (), None)
        return self._start(facts, self._last_end(tgid))

    def current(self, tgid: int, ktime_ns: int) -> Process:
        """Return the program that `tgid` stands for now, which runs; it is observed if it is not known."""
        return self._running.get(tgid) or self.observe(tgid, ktime_ns)

    def learn(self, facts: ProcessFacts) -> None:
        """Take the facts that a recording carries."""
        running = self._running.get(facts.tgid)
        if running is None:
            self._start(facts, self._last_end(facts.tgid))
        elif running.facts != facts:
            running.facts = facts
            running.resource = None

    def fork(self, event: ProcessForked) -> None:
        """Note a new process, which is not read before it says something."""
        self._end(event.tgid, event.ktime_ns)
        self._parents[event.tgid] = event.parent_tgid
        if len(self._parents) > MAX_PARENTS:
            self._parents.popitem(last=False)

    def execute(self, event: ProcessExecuted) -> Process:
        """Start the generation of the new program.

        /proc knows more than the event (the resolved path, the environment); the event is what remains when
        the process is already gone.
        """
        self._end(event.tgid, event.ktime_ns)
        self._parents.pop(event.tgid, None)
        facts = self._read(event.tgid, event.ktime_ns) if self._read else None
        if facts is None or facts.executable_path is None:
            facts = ProcessFacts(
                event.ktime_ns, event.tgid, None, event.path, event.arguments, None, event.cgroups
            )
        return self._start(facts, event.ktime_ns)

    def exit(self, event: ProcessExited) -> None:
        """End the running generation."""
        self._end(event.tgid, event.ktime_ns)
        self._parents.pop(event.tgid, None)

    def find(self, tgid: int, ktime_ns: int) -> Process:
        """Return the program that `tgid` stood for at `ktime_ns`; it is observed if it is not known."""
        running = self._running.get(tgid)
        if running is not None and ktime_ns >= running.from_ktime_ns:
            if ktime_ns - running.checked_ktime_ns < RECHECK_NS or not self._was_given_away(
                running, ktime_ns
            ):
                return running
            self._end(tgid, ktime_ns)
            running = None
        elif ended := self._ended_by_tgid.get(tgid):
            for process in reversed(ended):
                if ktime_ns >= process.from_ktime_ns:
                    return process
            return ended[0]
        return running or self.observe(tgid, ktime_ns)

    def settle(self, process: Process, ktime_ns: int) -> bool:
        """Ask discovery about a process, unless its last answer still stands.

        Return whether nothing more is to be waited for, `ktime_ns` being now: everything is known, or
        `PATIENCE_NS` are over.
        """
        discovery = self._discovery
        if discovery is None or process.container is None:
            process.is_settled = True
        elif process.finding_version != discovery.version:
            process.finding_version = discovery.version
            self._apply(process, discovery.find(process.container))
        if not process.is_settled and ktime_ns - process.facts.ktime_ns >= PATIENCE_NS:
            process.is_settled = True
            self._unidentified += 1
        return process.is_settled

    def resource(self, process: Process) -> Resource:
        """Return the resource of a process as far as it is known now."""
        if process.resource is None:
            process.resource = self._build_resource(process.facts)
        return process.resource

    def counters(self) -> dict[str, int]:
        """Return `running` and `ended` as they stand, and since the start the others.

        `vanished` counts processes gone before /proc could be read, `forgotten` those given up for
        `MAX_RUNNING`, `unidentified` those whose container was asked for in vain.
        """
        return {
            "running": len(self._running),
            "ended": len(self._ended),
            "vanished": self._vanished,
            "forgotten": self._forgotten,
            "unidentified": self._unidentified,
        }

    def _apply(self, process: Process, finding: Finding) -> None:
        if not isinstance(finding, Workload):
            if isinstance(process.finding, Workload):
                return  # the container is gone, and the process was in it all the same
            process.is_settled = finding is Absence.UNKNOWN
        else:
            process.is_settled = finding.is_settled
            if process.facts.workload != finding.attributes:
                process.facts = dataclasses.replace(process.facts, workload=finding.attributes)
                process.resource = None
        process.finding = finding

    def _facts_by_parent(self, tgid: int, ktime_ns: int) -> ProcessFacts | None:
        parent = self._parents.get(tgid)
        if parent is None:
            return None
        known = self._running.get(parent)
        if known is None and (ended := self._ended_by_tgid.get(parent)):
            known = ended[-1]
        facts = known.facts if known is not None else self._read(parent, ktime_ns) if self._read else None
        if facts is None:
            return None
        return dataclasses.replace(facts, ktime_ns=ktime_ns, tgid=tgid, start_unix_ns=None)

    def _last_end(self, tgid: int) -> int:
        ended = self._ended_by_tgid.get(tgid)
        return ended[-1].until_ktime_ns if ended else 0

    def _was_given_away(self, process: Process, ktime_ns: int) -> bool:
        process.checked_ktime_ns = ktime_ns
        known = process.facts.start_unix_ns
        if self._start_of is None or known is None:
            return False
        now = self._start_of(process.facts.tgid)
        return now is not None and now != known

    def _start(self, facts: ProcessFacts, from_ktime_ns: int) -> Process:
        process = Process(facts, from_ktime_ns, facts.ktime_ns, find_container(facts.cgroups))
        self._running[facts.tgid] = process
        if len(self._running) > MAX_RUNNING:
            self._running.popitem(last=False)
            self._forgotten += 1
        return process

    def _end(self, tgid: int, ktime_ns: int) -> None:
        process = self._running.pop(tgid, None)
        if process is None:
            return
        process.until_ktime_ns = ktime_ns
        self._ended.append(process)
        self._ended_by_tgid.setdefault(tgid, []).append(process)
        while len(self._ended) > MAX_ENDED or self._ended[0].until_ktime_ns < ktime_ns - ENDED_KEPT_NS:
            oldest = self._ended.popleft()
            processes = self._ended_by_tgid[oldest.facts.tgid]
            processes.remove(oldest)
            if not processes:
                del self._ended_by_tgid[oldest.facts.tgid]
