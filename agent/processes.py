"""Which program a tgid stood for at a given time, what that ran in, and its OpenTelemetry resource.

A tgid names several programs in turn: a shell forks, the child executes curl, curl ends, and the number is
given to another process. So a tgid has generations, each a `Process` valid from one kernel time to another:

    first sight in the stream    begins a generation, valid from ever or from the end of the one before
    ProcessForked                ends what the number stood for before; a child is what its parent is
    ProcessExecuted              ends the running generation, begins one with the new program
    ProcessExited                ends the running generation; it is kept for exchanges that finish late
    start time in /proc differs  the exit was lost: the tgid was given away, a new generation begins
    `replace`                    an execve was lost: what /proc says begins a generation

/proc is read later than the stream was written. What it shows of a process is believed once the stream has
been delivered up to the moment of reading (`delivered`), and is corrected when the stream contradicts it:

    an execve came before the reading        /proc has shown the next program: what the stream says counts
    the exit came before the reading         the number was given away: what the stream says counts
    neither came, and /proc shows a program  its execve or that of its parent was lost: what /proc says
    that a child has not inherited           counts

Owns the facts of every `Process`, and no decision: what is kept by process beside facts is informed of forks,
execves and corrections as a `Heritage`. Contract: facts come from the stream and, for a live source, from
`read`; a replayed source brings its own `ProcessFacts` and has no `read`. One `Resource` object per
generation, until discovery learns more. Times are CLOCK_MONOTONIC nanoseconds; the clock is the caller's.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, KeysView
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from agent.process import Process
from agent.readings import Reading, add_own, contradicts, shows_another_program
from agent.workloads.cgroups import find_container
from agent.workloads.workload import Absence, Discovery, Finding, Workload
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
"""Children whose parent is remembered until their first event; most never have one, so the oldest goes."""
MAX_UNCONFIRMED = 8_192
"""Processes whose reading is to be confirmed at once, half a second of the most forks that a host can do;
beyond it the oldest reading is believed."""
EXECVE_NS = 50_000_000
"""How long /proc may show a new program before the stream has its execve: loading takes a millisecond, and
ten on a busy host."""
RECHECK_NS = 10_000_000_000
"""How often the start time of a process in use is compared with /proc, one read of ~10 µs."""
PATIENCE_NS = 10_000_000_000
"""How long an answer about a container is waited for: the kubelet reports a container to the API server
within a second or two of its start."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a process was forked from: its parent, or the nearest ancestor that has had an event."""

    parent: Process
    ktime_ns: int
    """When `parent` forked."""


class Heritage(Protocol):
    """What is kept by process beside its facts, and passes from one process to the next.

    Each method is called when the table learns of the event, before its caller goes on.
    """

    def hand_to_child(self, parent: Process, child: Process, forked_ktime_ns: int) -> None:
        """Take note of the first sight of a child, which `parent` forked at that time."""

    def hand_to_successor(self, former: Process, successor: Process, *, is_sure: bool) -> None:
        """Take note that a process has executed another program.

        When `is_sure` is False, the number may have been given to another process in between.
        """

    def revise(self, process: Process) -> None:
        """Take note that the facts of a process have turned out to be others."""

    def withdraw_reading(self, process: Process) -> None:
        """Take note that what /proc showed was another process."""


class ProcessTable:
    """All processes of the stream, by tgid and time."""

    def __init__(
        self,
        build_resource: Callable[[ProcessFacts], Resource],
        *,
        read: ReadProcess | None = None,
        start_of: StartOfProcess | None = None,
        discovery: Discovery | None = None,
        ktime_now: Callable[[], int] | None = None,
    ) -> None:
        """Make an empty table.

        `ktime_now` is CLOCK_MONOTONIC in nanoseconds, for a source that calls `delivered`; without it what
        `read` says is believed at once.
        """
        self._build_resource = build_resource
        self._read = read
        self._start_of = start_of
        self._discovery = discovery
        self._running: OrderedDict[int, Process] = OrderedDict()
        self._ended_by_tgid: dict[int, list[Process]] = {}
        self._ended: deque[Process] = deque()
        self._ktime_now = ktime_now
        self._origins: OrderedDict[int, _Origin] = OrderedDict()
        self._unconfirmed: OrderedDict[Process, None] = OrderedDict()
        self._revised: list[Process] = []
        self._kernel = Process(ProcessFacts(0, 0, None, None, (), None), 0, 0, None)
        self._vanished = 0
        self._forgotten = 0
        self._unidentified = 0
        self.heritage: Heritage | None = None
        """What is kept by process beside its facts; set by its owner."""

    def running_tgids(self) -> KeysView[int]:
        """Return a view of the processes that were seen before and run, as far as known."""
        return self._running.keys()

    def running(self) -> Iterable[Process]:
        """Return the processes that run, as far as known."""
        return self._running.values()

    def observe(self, tgid: int, ktime_ns: int) -> Process:
        """Begin the generation of a process at its first sight, when it may be about to end.

        Until an execve a child is what its parent was at the fork; /proc adds the child's own start, and what
        it wrote over its command line.
        """
        read = self._read(tgid, ktime_ns) if self._read else None
        origin = self._origins.get(tgid)
        if origin is None:
            if read is None and self._read:
                self._vanished += 1
            streamed = ProcessFacts(ktime_ns, tgid, None, None, (), None)
            return self._start(read or streamed, self._last_end(tgid), streamed)
        parent = origin.parent
        streamed = _inherit(parent, ktime_ns, tgid)
        process = self._start(add_own(streamed, read), self._last_end(tgid), streamed)
        if not parent.is_confirmed():
            process.heir_of = parent
            parent.heirs.append(process)
        if self.heritage is not None:
            self.heritage.hand_to_child(parent, process, origin.ktime_ns)
        if process.container == parent.container:
            # The container may be gone, and the child was in it all the same.
            process.finding, process.awaits_workload = parent.finding, parent.awaits_workload
        if read is not None and shows_another_program(streamed, read):
            # An execve is on its way, or was lost.
            self._revise(process, streamed, read.start_unix_ns)
        return process

    def replace(self, process: Process, ktime_ns: int) -> Process:
        """Begin a generation in place of a running one whose next execve was lost."""
        tgid = process.facts.tgid
        self._end(tgid, ktime_ns)
        self._origins.pop(tgid, None)
        replacement = self.observe(tgid, ktime_ns)
        if self.heritage is not None:
            self.heritage.hand_to_successor(process, replacement, is_sure=True)
        return replacement

    def current(self, tgid: int, ktime_ns: int) -> Process:
        """Return the program that runs as `tgid` now, and observe it if it is not known."""
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
        """Note a new process, which is read at its first event.

        A parent that is not known is observed now: it may end before the first event of the child.
        """
        origin = self._origins.get(event.parent_tgid)
        parent = self._known_at(event.parent_tgid, event.ktime_ns)
        if parent is not None or origin is None:
            parent = parent or self.observe(event.parent_tgid, event.ktime_ns)
            origin = _Origin(parent, event.ktime_ns)
        running = self._running.get(event.tgid)
        if running is not None and running.facts.ktime_ns > event.ktime_ns:
            return  # it has had an event already, and is known by that
        self._end(event.tgid, event.ktime_ns, is_given_away=True)
        self._origins[event.tgid] = origin
        self._origins.move_to_end(event.tgid)
        if len(self._origins) > MAX_PARENTS:
            self._origins.popitem(last=False)

    def execute(self, event: ProcessExecuted) -> Process:
        """Start the generation of the new program.

        /proc holds more than the event (the resolved path, the environment); the event is what remains when
        the process is already gone.
        """
        origin = self._origins.pop(event.tgid, None)
        former = self._running.get(event.tgid) or (origin.parent if origin else None)
        self._end(event.tgid, event.ktime_ns)
        read = self._read(event.tgid, event.ktime_ns) if self._read else None
        streamed = ProcessFacts(
            event.ktime_ns, event.tgid, None, event.path, event.arguments, None, event.cgroups
        )
        if read is None or read.executable_path is None:
            process = self._start(streamed, event.ktime_ns)
        else:
            process = self._start(read, event.ktime_ns, streamed)
            if process.reading is not None and contradicts(streamed, read):
                process.reading = dataclasses.replace(process.reading, is_of_next=True)
                self._revise(process, streamed, read.start_unix_ns)
        if former is not None and self.heritage is not None:
            is_same = True if origin is not None else _is_same(former, read)
            if is_same is not False:
                self.heritage.hand_to_successor(former, process, is_sure=bool(is_same))
        return process

    def exit(self, event: ProcessExited) -> None:
        """End the running generation."""
        self._end(event.tgid, event.ktime_ns, is_given_away=True)
        self._origins.pop(event.tgid, None)

    def find(self, tgid: int | None, ktime_ns: int) -> Process:
        """Return the program that `tgid` stood for at `ktime_ns`, and observe it if nothing is known of it.

        An unknown program is returned for a time before all known generations, and for what the kernel did by
        itself (no tgid).
        """
        if not tgid:
            return self._kernel
        running = self._running.get(tgid)
        if running is not None and ktime_ns >= running.from_ktime_ns:
            if ktime_ns - running.checked_ktime_ns < RECHECK_NS or not self._was_given_away(
                running, ktime_ns
            ):
                return running
            self._end(tgid, ktime_ns)
            return self.observe(tgid, ktime_ns)
        ended = self._ended_by_tgid.get(tgid, ())
        for process in reversed(ended):
            if ktime_ns >= process.from_ktime_ns:
                return process
        earliest = ended[0] if ended else running
        if earliest is None:
            return self.observe(tgid, ktime_ns)
        unknown = ProcessFacts(ktime_ns, tgid, None, None, (), None)
        return Process(unknown, 0, ktime_ns, None, until_ktime_ns=earliest.from_ktime_ns)

    def delivered(self, ktime_ns: int) -> list[Process]:
        """Confirm the readings up to a time, up to which the stream has been delivered.

        Return the processes whose facts have turned out to be others.
        """
        while self._unconfirmed:
            process = next(iter(self._unconfirmed))
            reading = process.reading
            if reading is not None and reading.ktime_ns + EXECVE_NS > ktime_ns:
                break
            del self._unconfirmed[process]
            self._confirm(process)
        revised, self._revised = self._revised, []
        return revised

    @property
    def awaits_delivery(self) -> bool:
        """Whether there are readings to be confirmed."""
        return bool(self._unconfirmed)

    def complete(self, process: Process, ktime_ns: int) -> bool:
        """Add what discovery has learnt of a process, and return whether its facts are complete now.

        Facts are complete when what /proc showed is confirmed and the workload is resolved, is known to be
        none, or was waited for in vain for `PATIENCE_NS`. `ktime_ns` is the present time.
        """
        discovery = self._discovery
        if discovery is None or process.container is None:
            process.awaits_workload = False
        elif process.finding_version != discovery.version:
            process.finding_version = discovery.version
            self._apply(process, discovery.find(process.container))
        if process.awaits_workload and ktime_ns - process.facts.ktime_ns >= PATIENCE_NS:
            process.awaits_workload = False
            self._unidentified += 1
        return not process.awaits_workload and process.is_confirmed()

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
            process.awaits_workload = finding is Absence.PENDING
        else:
            process.awaits_workload = not finding.is_resolved
            if process.facts.workload != finding.attributes:
                process.facts = dataclasses.replace(process.facts, workload=finding.attributes)
                process.resource = None
        process.finding = finding

    def _known_at(self, tgid: int, ktime_ns: int) -> Process | None:
        """Return the generation that ran at a time, if it is known."""
        running = self._running.get(tgid)
        if running is not None and ktime_ns >= running.from_ktime_ns:
            return running
        for process in reversed(self._ended_by_tgid.get(tgid, ())):
            if process.from_ktime_ns <= ktime_ns <= process.until_ktime_ns:
                return process
        return None

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

    def _start(
        self, facts: ProcessFacts, from_ktime_ns: int, streamed: ProcessFacts | None = None
    ) -> Process:
        """Begin a generation. `streamed` is what is known by the stream alone; `facts` may be more."""
        process = Process(facts, from_ktime_ns, facts.ktime_ns, find_container(facts.cgroups))
        self._running[facts.tgid] = process
        if len(self._running) > MAX_RUNNING:
            self._running.popitem(last=False)
            self._forgotten += 1
        if streamed is not None and facts.executable_path is not None and self._ktime_now is not None:
            process.reading = Reading(self._ktime_now(), facts, streamed)
            self._unconfirmed[process] = None
            if len(self._unconfirmed) > MAX_UNCONFIRMED:
                self._confirm(self._unconfirmed.popitem(last=False)[0])
        return process

    def _confirm(self, process: Process) -> None:
        """Believe what /proc said."""
        reading, process.reading, process.heir_of = process.reading, None, None
        if reading is not None and reading.is_of_next:
            self._forget_program(process)
            if process.is_running:
                self._end(process.facts.tgid, reading.ktime_ns)
                self._revised.append(self._start(reading.read, reading.ktime_ns))
        elif reading is not None and process.facts.executable_path != reading.read.executable_path:
            self._revise(process, reading.read, reading.read.start_unix_ns)
            self._revised.append(process)
        process.heirs.clear()

    def _revise(self, process: Process, facts: ProcessFacts, start_unix_ns: int | None) -> None:
        """Correct the facts of a process, and of those that have inherited from it."""
        process.facts = dataclasses.replace(facts, start_unix_ns=start_unix_ns)
        process.container = find_container(facts.cgroups)
        process.finding_version = -1
        process.awaits_workload = True
        process.resource = None
        if self.heritage is not None:
            self.heritage.revise(process)
        for heir in process.heirs:
            if heir.heir_of is not process:
                continue  # it has turned out to be what /proc said of it
            streamed = _inherit(process, heir.facts.ktime_ns, heir.facts.tgid)
            if heir.reading is not None:
                heir.reading = dataclasses.replace(heir.reading, streamed=streamed)
                if not shows_another_program(streamed, heir.reading.read):
                    streamed = add_own(streamed, heir.reading.read)
            self._revise(heir, streamed, heir.facts.start_unix_ns)
            self._revised.append(heir)

    def _forget_program(self, process: Process) -> None:
        """Make the program of a process unknown, because an execve was lost at an unknown time."""
        facts = process.facts
        unknown = ProcessFacts(facts.ktime_ns, facts.tgid, None, None, (), None, facts.cgroups)
        self._revise(process, unknown, facts.start_unix_ns)

    def _end(self, tgid: int, ktime_ns: int, *, is_given_away: bool = False) -> None:
        process = self._running.pop(tgid, None)
        if process is None:
            return
        reading, process.reading = process.reading, None
        if reading is not None:
            self._unconfirmed.pop(process, None)
            if reading.ktime_ns + (0 if is_given_away else EXECVE_NS) > ktime_ns:
                start = None if is_given_away else reading.read.start_unix_ns
                self._revise(process, reading.streamed, start)
                if self.heritage is not None:
                    self.heritage.withdraw_reading(process)
            else:
                process.heir_of = None
                if reading.is_of_next:
                    self._forget_program(process)
            process.heirs.clear()
        process.until_ktime_ns = ktime_ns
        self._ended.append(process)
        self._ended_by_tgid.setdefault(tgid, []).append(process)
        while len(self._ended) > MAX_ENDED or self._ended[0].until_ktime_ns < ktime_ns - ENDED_KEPT_NS:
            oldest = self._ended.popleft()
            processes = self._ended_by_tgid[oldest.facts.tgid]
            processes.remove(oldest)
            if not processes:
                del self._ended_by_tgid[oldest.facts.tgid]


def _inherit(parent: Process, ktime_ns: int, tgid: int) -> ProcessFacts:
    return dataclasses.replace(parent.facts, ktime_ns=ktime_ns, tgid=tgid, start_unix_ns=None)


def _is_same(former: Process, read: ProcessFacts | None) -> bool | None:
    """Return whether the process that was read has executed `former` before; None: it is not known."""
    start = read.start_unix_ns if read is not None else None
    if start is None:
        return None
    # A process whose start is unknown had ended before /proc was read, so the number was given away.
    return former.facts.start_unix_ns == start
