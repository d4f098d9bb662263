"""Which program a tgid stood for at a given time, and the OpenTelemetry resource of it.

A tgid names several programs in turn: a shell forks, the child executes curl, curl ends, and the number is
given to another process. So a tgid has generations, each valid from one kernel time to another:

    first sight in the stream    a generation valid from ever, or from the end of the one before
    ProcessExecuted              ends the running generation, starts one with the new program
    ProcessExited                ends the running generation; it is kept for exchanges that finish late
    start time in /proc differs  the exit was lost: the tgid was given away, a new generation starts

Contract: facts come from the stream and, for a live source, from `read`; a replayed source brings its own
`ProcessFacts` and has no `read`. One `Resource` object per generation. Times are CLOCK_MONOTONIC
nanoseconds of events; no clock is read here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ebpf.events import ProcessExecuted, ProcessExited, ProcessFacts
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
RECHECK_NS = 10_000_000_000
"""How often the start time of a process in use is compared with /proc, one read of ~10 µs."""


_NEVER_KTIME_NS = 2**63 - 1


@dataclass(slots=True, eq=False)
class _Generation:
    facts: ProcessFacts
    from_ktime_ns: int
    checked_ktime_ns: int
    until_ktime_ns: int = _NEVER_KTIME_NS
    resource: Resource | None = None


class ProcessTable:
    """All processes of the stream, by tgid and time."""

    def __init__(
        self,
        build_resource: Callable[[ProcessFacts], Resource],
        *,
        read: ReadProcess | None = None,
        start_of: StartOfProcess | None = None,
    ) -> None:
        self._build_resource = build_resource
        self._read = read
        self._start_of = start_of
        self._running: OrderedDict[int, _Generation] = OrderedDict()
        self._ended_by_tgid: dict[int, list[_Generation]] = {}
        self._ended: deque[_Generation] = deque()
        self._vanished = 0
        self._forgotten = 0

    def __contains__(self, tgid: int) -> bool:
        """Return whether the process was seen before and is still running, as far as known."""
        return tgid in self._running

    def observe(self, tgid: int, ktime_ns: int) -> ProcessFacts:
        """Take note of a process at its first sight, when it may be about to end, and return its facts."""
        facts = self._read(tgid, ktime_ns) if self._read else None
        if facts is None:
            if self._read:
                self._vanished += 1
            facts = ProcessFacts(ktime_ns, tgid, None, None, (), None)
        self._start(facts, self._last_end(tgid))
        return facts

    def learn(self, facts: ProcessFacts) -> None:
        """Take the facts that a recording carries."""
        running = self._running.get(facts.tgid)
        if running is None:
            self._start(facts, self._last_end(facts.tgid))
        elif running.facts != facts:
            running.facts = facts
            running.resource = None

    def execute(self, event: ProcessExecuted) -> ProcessFacts:
        """Start the generation of the new program and return its facts.

        /proc knows more than the event (the resolved path, the environment); the event is what remains when
        the process is already gone.
        """
        self._end(event.tgid, event.ktime_ns)
        facts = self._read(event.tgid, event.ktime_ns) if self._read else None
        if facts is None or facts.executable_path is None:
            facts = ProcessFacts(event.ktime_ns, event.tgid, None, event.path, event.arguments, None)
        self._start(facts, event.ktime_ns)
        return facts

    def exit(self, event: ProcessExited) -> None:
        """End the running generation."""
        self._end(event.tgid, event.ktime_ns)

    def resource(self, tgid: int, ktime_ns: int) -> Resource:
        """Return the resource of the program that `tgid` stood for at `ktime_ns`."""
        generation = self._generation(tgid, ktime_ns)
        if generation.resource is None:
            generation.resource = self._build_resource(generation.facts)
        return generation.resource

    def counters(self) -> dict[str, int]:
        """Return `running` and `ended` as they stand, and since the start `vanished` and `forgotten`.

        `vanished` counts processes gone before /proc could be read, `forgotten` those given up for
        `MAX_RUNNING`.
        """
        return {
            "running": len(self._running),
            "ended": len(self._ended),
            "vanished": self._vanished,
            "forgotten": self._forgotten,
        }

    def _generation(self, tgid: int, ktime_ns: int) -> _Generation:
        running = self._running.get(tgid)
        if running is not None and ktime_ns >= running.from_ktime_ns:
            if ktime_ns - running.checked_ktime_ns < RECHECK_NS or not self._was_given_away(
                running, ktime_ns
            ):
                return running
            self._end(tgid, ktime_ns)
            running = None
        elif ended := self._ended_by_tgid.get(tgid):
            for generation in reversed(ended):
                if ktime_ns >= generation.from_ktime_ns:
                    return generation
            return ended[0]
        if running is None:
            self.observe(tgid, ktime_ns)
            running = self._running[tgid]
        return running

    def _last_end(self, tgid: int) -> int:
        ended = self._ended_by_tgid.get(tgid)
        return ended[-1].until_ktime_ns if ended else 0

    def _was_given_away(self, generation: _Generation, ktime_ns: int) -> bool:
        generation.checked_ktime_ns = ktime_ns
        known = generation.facts.start_unix_ns
        if self._start_of is None or known is None:
            return False
        now = self._start_of(generation.facts.tgid)
        return now is not None and now != known

    def _start(self, facts: ProcessFacts, from_ktime_ns: int) -> None:
        self._running[facts.tgid] = _Generation(facts, from_ktime_ns, facts.ktime_ns)
        if len(self._running) > MAX_RUNNING:
            self._running.popitem(last=False)
            self._forgotten += 1

    def _end(self, tgid: int, ktime_ns: int) -> None:
        generation = self._running.pop(tgid, None)
        if generation is None:
            return
        generation.until_ktime_ns = ktime_ns
        self._ended.append(generation)
        self._ended_by_tgid.setdefault(tgid, []).append(generation)
        while len(self._ended) > MAX_ENDED or self._ended[0].until_ktime_ns < ktime_ns - ENDED_KEPT_NS:
            oldest = self._ended.popleft()
            generations = self._ended_by_tgid[oldest.facts.tgid]
            generations.remove(oldest)
            if not generations:
                del self._ended_by_tgid[oldest.facts.tgid]
