"""Which processes descend from those that were selected by number.

Owns the identity of those numbers and the way up through parents. Contract: True and False are known; None
means that it can't be known, because the process has ended and nothing was noted while it ran.

A child is noted as a descendant with its fork (`ProcessTable`). Otherwise the answer is found where it still
can be: a process that is captured by a policy that was decided has it from a selected one; and /proc shows
the parents of one that runs, or was not waited for yet.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from agent import procfs
from agent.processes import Process

MAX_ANCESTORS = 64
"""How far a process's parents are followed: deeper than process trees are, and an end should /proc change."""


class Descent:
    """The processes selected by number, as they ran at the start."""

    def __init__(self, pids: Collection[int], proc: Path = procfs.PROC) -> None:
        self._proc = proc
        # The number of a process that has ended may be given to another.
        self._starts = {pid: procfs.start_unix_ns(pid, proc) for pid in pids}

    def find(self, process: Process, *, has_policy: bool) -> bool | None:
        """Return whether a process descends from a selected one, and note it.

        `has_policy` says that it has a policy which only descendants have.
        """
        if not self._starts:
            return True
        if process.is_descendant is None:
            if process.is_attested or has_policy:
                process.is_descendant = True
            elif process.is_running:
                process.is_descendant = self.find_running(process.facts.tgid)
        return process.is_descendant

    def find_running(self, tgid: int) -> bool | None:
        """Return whether the process that has a number now descends from a selected one."""
        if not self._starts:
            return True
        # A process whose parent ended is adopted by init: after that its descent can't be told any more.
        ancestor: int | None = tgid
        for _ in range(MAX_ANCESTORS):
            if not ancestor:
                return None if ancestor is None else False
            if ancestor in self._starts and (
                procfs.start_unix_ns(ancestor, self._proc) == self._starts[ancestor]
            ):
                return True
            ancestor = procfs.parent(ancestor, self._proc)
        return False
