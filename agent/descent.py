"""Which processes descend from those that were selected by number (`--pid`).

Owns the identity of those numbers and the way up through parents. `standings` keeps what was found out of a
process, and passes it to children. Contract: True and False are known; None means that the answer can't be
had any more, because the process has ended and nothing was noted while it ran.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from agent import procfs
from agent.process import Process

MAX_ANCESTORS = 64
"""How far a process's parents are followed: deeper than process trees are, and an end should /proc change."""


class Descent:
    """The processes selected by number, as they ran at the start."""

    def __init__(self, pids: Collection[int], proc: Path = procfs.PROC) -> None:
        self._proc = proc
        # The number of a process that has ended may be given to another.
        self._starts = {pid: procfs.start_unix_ns(pid, proc) for pid in pids}

    def find(self, process: Process) -> bool | None:
        """Return whether a process descends from a selected one, as far as /proc shows it."""
        return self.find_running(process.facts.tgid) if process.is_running or not self._starts else None

    def find_running(self, tgid: int) -> bool | None:
        """Return whether the process that has a number now descends from a selected one."""
        if not self._starts:
            return True
        # A process whose parent ended is adopted by init: after that its descent can't be seen any more.
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
