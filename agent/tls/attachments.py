"""The files that are probed: each once, counted by the processes that use it.

Owns attaching, how long an unused file keeps its probes, and the message about a file that can't be
probed. Here processes are numbers; which ones use a file belongs to `tls_processes`. A file is
known by device and inode of the opened file, since one probe fires in every process that has it mapped.

Contract: `attach`, `detach_idle` and `close` are slow, and called by one thread only; the other methods take
a lock for moments and may be called by any. Nothing raises.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.tls.inspector import FileIdentity, FileVersion, Inspection
from ebpf.tls.probes import ProbePoint, TlsStack

MAX_FILES = 1_024
"""Files with TLS at once: a node's images share most of theirs, and each takes descriptors."""
GRACE_SECONDS = 90.0
"""How long an unused file keeps its probes: a program such as curl is run again soon, cron runs its own each
minute, and detaching is dear."""

log = logging.getLogger(__name__)


class ProbeAttachment(Protocol):
    """Probes in one file."""

    def close(self) -> None:
        """Detach."""


class ProbeHost(Protocol):
    """The part of a live capture that attaches probes."""

    def attach_probes(self, descriptor: int, points: Sequence[ProbePoint]) -> ProbeAttachment:
        """Attach to an open file for all processes. Called by another thread than polls. Raises OSError."""


@dataclass(frozen=True, slots=True)
class ProbedStack:
    """A file with TLS that captured processes use, for reports."""

    stack: TlsStack
    path: str
    """As one of its users names it, printable."""
    processes: int
    problem: str | None
    """Why it is not probed; None when it is."""


def find_problem(stack: TlsStack, uretprobe_hazard: str | None) -> str | None:
    """Return why an implementation must not or can't be probed; None when it can."""
    if stack.obstacle is not None or not stack.points:
        return stack.obstacle or "nothing in it can be probed"
    if any(point.program.is_uretprobe for point in stack.points):
        return uretprobe_hazard
    return None


@dataclass(slots=True, eq=False)
class _File:
    version: FileVersion
    stack: TlsStack
    path: str
    probes: ProbeAttachment | None = None
    problem: str | None = None
    users: set[int] = field(default_factory=set)
    idle_since: float = 0.0
    is_kept: bool = False

    @property
    def is_idle(self) -> bool:
        return not self.users and not self.is_kept


class Attachments:
    """The files with TLS that are in use, or were until lately."""

    def __init__(
        self, host: ProbeHost, monotonic: Callable[[], float], uretprobe_hazard: str | None = None
    ) -> None:
        """Begin with no probe. `uretprobe_hazard` is why none of that kind may be attached here."""
        self._host = host
        self._uretprobe_hazard = uretprobe_hazard
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._files: dict[FileIdentity, _File] = {}
        self._counts = dict.fromkeys(
            ("attached_files", "detached_files", "attach_failures", "refused_files", "changed_files"), 0
        )

    def has(self, version: FileVersion) -> bool:
        """Return whether a file is there as it is now."""
        file = self._files.get(version.identity)
        return file is not None and file.version == version

    def use(self, identity: FileIdentity, tgid: int) -> None:
        """Note that a process uses a file that is there."""
        with self._lock:
            file = self._files.get(identity)
            if file is not None:
                file.users.add(tgid)

    def keep(self, identity: FileIdentity) -> None:
        """Keep the probes of a file that is there, whether it is used or not."""
        with self._lock:
            file = self._files.get(identity)
            if file is not None:
                file.is_kept = True

    def release(self, identity: FileIdentity, tgid: int) -> None:
        """Note that a process doesn't use it any more."""
        with self._lock:
            file = self._files.get(identity)
            if file is not None:
                file.users.discard(tgid)
                file.idle_since = self._monotonic()

    def attach(self, descriptor: int, version: FileVersion, found: Inspection, path: str) -> bool:
        """Attach to a file that holds TLS; return whether it is there now, be it without probes."""
        assert found.stack is not None, "only what holds TLS is attached to"
        file = _File(version, found.stack, path, idle_since=self._monotonic())
        former = self._files.get(version.identity)
        if former is not None:
            # Written to since: what was an instruction may be the middle of one now.
            self._count("changed_files")
            self._detach(former)
        elif not self._make_room():
            self._count("refused_files")
            return False
        self._probe(descriptor, file, found)
        with self._lock:
            if former is not None:
                file.users, file.is_kept = former.users, former.is_kept
            self._files[version.identity] = file
        return True

    def next_due(self) -> float | None:
        """Return when the next file is to be detached, by the clock given; None when none is."""
        with self._lock:
            idle = [file.idle_since for file in self._files.values() if file.is_idle]
        return min(idle) + GRACE_SECONDS if idle else None

    def detach_idle(self) -> None:
        """Detach from files that have been unused for `GRACE_SECONDS`."""
        due = self._monotonic() - GRACE_SECONDS
        self._remove(lambda file: file.is_idle and file.idle_since <= due)

    def close(self) -> None:
        """Detach from everything."""
        self._remove(lambda _: True)

    def stacks(self) -> list[ProbedStack]:
        """Return the files that are in use, those that can't be probed included."""
        with self._lock:
            return [
                ProbedStack(file.stack, file.path, len(file.users), file.problem)
                for file in self._files.values()
                if file.users
            ]

    def counters(self) -> dict[str, int]:
        """Return what was counted from the start, and `files`, those that have probes now."""
        with self._lock:
            probed = sum(1 for file in self._files.values() if file.probes is not None)
            return {**self._counts, "files": probed}

    def _probe(self, descriptor: int, file: _File, found: Inspection) -> None:
        stack = file.stack
        file.problem = find_problem(stack, self._uretprobe_hazard)
        if file.problem is not None:
            return
        try:
            file.probes = self._host.attach_probes(descriptor, stack.points)
        except OSError as error:
            file.problem = f"the kernel refuses the probes: {os.strerror(error.errno or 0)}"
            self._count("attach_failures")
            if not found.has_complained:
                found.has_complained = True
                log.warning("TLS of %s is not captured: %s", file.path, file.problem)
            return
        self._count("attached_files")
        log.debug("attached to %s: %s %s", file.path, stack.name, stack.version or "")

    def _make_room(self) -> bool:
        """Let go of the file that has been unused for longest, if there is no room for another."""
        if len(self._files) < MAX_FILES:
            return True
        with self._lock:
            idle = [file for file in self._files.values() if file.is_idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda file: file.idle_since)
        self._remove(lambda file: file is oldest)
        return True

    def _remove(self, is_due: Callable[[_File], bool]) -> None:
        with self._lock:
            due = [file for file in self._files.values() if is_due(file)]
            for file in due:
                del self._files[file.version.identity]
        for file in due:
            self._detach(file)

    def _detach(self, file: _File) -> None:
        probes, file.probes = file.probes, None
        if probes is None:
            return
        try:
            probes.close()
        except OSError as error:
            log.warning("detaching from %s: %s", file.path, error)
        self._count("detached_files")

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1
