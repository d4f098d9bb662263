"""Which processes are captured: decided here, enforced by the kernel's policy map.

Owns the rules of `--pid`, `--exe` and `--direction`; ports are a rule of the kernel side alone. An option
given twice widens (pid 5 or 7), different options narrow (a descendant of 5 that runs nginx).

    no --pid, no --exe   every process, by the default policy; nothing is decided here
    --pid                the process and its present descendants; the kernel hands the policy on at fork
    --exe                every process that runs a matching program; judged again at each execve
    both                 descendants that run a matching program; judged again at each execve

Between an execve and its judgement the kernel captures provisionally, also of children that are forked in
that time. What it captured of a process that is then refused is dropped here, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Protocol

from agent import procfs
from ebpf.events import Policy, ProcessFacts, ProcessPolicy, SocketEvent

MAX_ANCESTORS = 64
"""How far a process's parents are followed: deeper than process trees are, and an end should /proc change."""
MAX_SCANS = 32
"""Passes over /proc at start. Each but the first finds only what was forked during the one before."""
REFUSAL_KEPT_NS = 10_000_000_000
"""How long a refusal is remembered: far longer than a provisional event travels from the kernel to here."""


class CaptureDirection(StrEnum):
    """Which side of a conversation is captured, as the socket of the selected process sees it."""

    INGRESS = "ingress"
    """Requests that arrive: the process is the server."""
    EGRESS = "egress"
    """Requests that leave: the process is the client."""
    BOTH = "both"


_POLICY_BY_DIRECTION = {
    CaptureDirection.INGRESS: Policy.CAPTURE_INGRESS,
    CaptureDirection.EGRESS: Policy.CAPTURE_EGRESS,
    CaptureDirection.BOTH: Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS,
}


class NoSuchProcessError(LookupError):
    """A process asked for by number does not exist. The message names it and says what to do."""


class PolicyMap(Protocol):
    """The part of a live capture that selection writes to."""

    def set_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Apply a policy to a process; its children inherit it."""

    def remove_policy(self, tgid: int) -> None:
        """Return a process to the default policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRules:
    """What the user asked for. Empty means: no restriction by this."""

    pids: tuple[int, ...] = ()
    executables: tuple[str, ...] = ()
    """Shell patterns over the executable's path, or over its name alone; with regard to case."""
    direction: CaptureDirection = CaptureDirection.BOTH

    @property
    def policy(self) -> Policy:
        """The policy of a selected process."""
        return _POLICY_BY_DIRECTION[self.direction]

    @property
    def default_policy(self) -> Policy:
        """The policy of processes that nothing was said about."""
        return Policy(0) if self.pids or self.executables else self.policy

    @property
    def judges_executables(self) -> bool:
        """Whether an execve has to be judged."""
        return bool(self.executables)

    def accepts_executable(self, path: str) -> bool:
        """Return whether a program matches `executables`."""
        if not self.executables:
            return True
        name = PurePosixPath(path).name
        return any(fnmatchcase(path, glob) or fnmatchcase(name, glob) for glob in self.executables)


def require_processes(rules: SelectionRules, proc: Path = procfs.PROC) -> None:
    """Raise NoSuchProcessError when a process that was asked for by number does not exist."""
    for pid in rules.pids:
        if procfs.parent(pid, proc) is None:
            raise NoSuchProcessError(
                f"no process has the number {pid}; `pgrep -a NAME` finds one by its name"
            )


class Selection:
    """The rules at work on the processes of this host."""

    def __init__(
        self,
        rules: SelectionRules,
        policies: PolicyMap,
        *,
        ktime_now: Callable[[], int] = time.monotonic_ns,
        proc: Path = procfs.PROC,
    ) -> None:
        self._rules = rules
        self._policies = policies
        self._ktime_now = ktime_now
        self._proc = proc
        self._refused_at: dict[int, int] = {}
        self._refused_events = 0
        self._unselectable = 0

    def apply_to_running(self) -> int:
        """Give the processes that run already their policy; return how many were selected."""
        if not self._rules.pids and not self._rules.executables:
            return 0
        judged: set[int] = set()
        selected = 0
        for _ in range(MAX_SCANS):
            unjudged = set(procfs.running_processes(self._proc)) - judged
            if not unjudged:
                break
            judged |= unjudged
            for tgid in unjudged:
                path = procfs.executable_path(tgid, self._proc)
                if path and self._rules.accepts_executable(path) and self._descends_from_selected(tgid):
                    self._select(tgid)
                    selected += 1
        return selected

    def judge(self, facts: ProcessFacts) -> None:
        """Decide on a process that has just executed a program, or was forked by one that was undecided.

        No-op unless executables are judged.
        """
        if not self._rules.judges_executables:
            return
        tgid = facts.tgid
        path = facts.executable_path
        self._refused_at.pop(tgid, None)
        if path and self._rules.accepts_executable(path) and self._descends_from_selected(tgid):
            self._select(tgid)
            return
        self._policies.remove_policy(tgid)
        now = self._ktime_now()
        self._refused_at[tgid] = now
        while self._refused_at[oldest := next(iter(self._refused_at))] < now - REFUSAL_KEPT_NS:
            del self._refused_at[oldest]

    def refuses(self, event: SocketEvent) -> bool:
        """Return whether an event was captured provisionally from a process that was then refused."""
        if not event.provisional or event.tgid not in self._refused_at:
            return False
        self._refused_events += 1
        return True

    def counters(self) -> dict[str, int]:
        """Return what was refused and missed.

        `refused_events` were captured provisionally and dropped; `unselectable_processes` should be captured
        and are not, since the kernel's policy table is full.
        """
        return {"refused_events": self._refused_events, "unselectable_processes": self._unselectable}

    def _select(self, tgid: int) -> None:
        try:
            self._policies.set_policy(tgid, ProcessPolicy(capture=self._rules.policy))
        except OSError:
            self._unselectable += 1
            return
        # The kernel removes an entry when its process exits; one written later would stay for good.
        if procfs.parent(tgid, self._proc) is None:
            self._policies.remove_policy(tgid)

    def _descends_from_selected(self, tgid: int) -> bool:
        if not self._rules.pids:
            return True
        # A process whose parent ended is adopted by init: after that its descent can't be told any more.
        ancestor: int | None = tgid
        for _ in range(MAX_ANCESTORS):
            if not ancestor:
                return False
            if ancestor in self._rules.pids:
                return True
            ancestor = procfs.parent(ancestor, self._proc)
        return False
