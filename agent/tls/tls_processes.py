"""Which process uses which TLS library, from events: the processes to look at, and those that are gone.

Owns the processes that use TLS, and the thread that looks at them. What is in a file belongs to `ebpf.tls`,
what is captured to `selection`, the probes to `attachments`.

    ProcessExecuted    the files of the old program are let go; the new one is looked at
    FileMapped         the libraries of the process are looked at
    ProcessForked      the child uses what its parent uses
    ProcessExited      its files are let go
    another policy     looked at, or let go

Processes that are not captured have no entry here. A library that they share with a captured process is
probed, and the kernel side, which has their policy too, takes nothing of them.

Contract: all that is slow (looking into /proc, reading files, attaching, detaching) goes on in one thread.
The methods called by the main loop take a lock for moments and never wait for that thread, but for
`await_attached` and `close`, which are bounded. Nothing here raises: a process that ended before it was
looked at is normal, and what fails is counted, and logged once for each file. A bug costs one look.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path
from typing import Protocol

from agent import procfs
from agent.tls.attachments import Attachments, ProbedStack, ProbeHost
from agent.tls.inspector import FileIdentity, Inspector
from agent.tls.installed import open_libraries, open_programs
from agent.tls.mapped_files import (
    MappedFile,
    UnreadableFileError,
    mapped_code,
    open_executable,
    open_mapped,
    show,
)
from ebpf.events import FileMapped, Policy, ProcessPolicy

MAX_PROGRAMS = 32_768
"""Processes that use TLS or wait to be looked at, some 500 bytes each: as many as can have a policy."""
MAX_COMPLAINTS = 1_024
"""Complaints that are remembered, not to be repeated."""
SWEEP_SECONDS = 60.0
"""How often users are looked for that ended without a word, as they do when the ring was full."""
PROMPT_SWITCH_SECONDS = 0.000_5
"""How long a busy main loop keeps Python's lock while a process waits to be looked at. A look gives the lock
away at some twenty system calls; at the usual 5 ms for each, a new program has sent its first bytes."""
_USUAL_SWITCH_SECONDS = sys.getswitchinterval()
START_SECONDS = 3.0
"""How long a start waits for the files of the processes that run already."""
CLOSE_SECONDS = 5.0
"""How long a stop waits for detaching. What is left then the kernel detaches at the end of the agent."""

log = logging.getLogger(__name__)


class PolicySource(Protocol):
    """The part of a live capture that has the policies of processes."""

    def policy(self, tgid: int) -> ProcessPolicy | None:
        """Return the policy that a process has of its own, inherited or not."""


class _Look(IntFlag):
    NOTHING = 0
    EXECUTABLE = 1
    LIBRARIES = 2
    INSTALLED = 4


_NOBODY = 0
"""No process has this number: what is done for all of them."""
_EVERYTHING = _Look.EXECUTABLE | _Look.LIBRARIES


@dataclass(slots=True, eq=False)
class _Program:
    """What a tgid runs, from one execve to the next."""

    tgid: int
    files: set[FileIdentity] = field(default_factory=set)
    """Those with TLS."""
    looked_at: set[tuple[int, int]] = field(default_factory=set)
    """Device and inode, as /proc/PID/maps has them, of what needs no second look."""
    pending: _Look = _Look.NOTHING
    """What is queued."""


class TlsProcesses:
    """The processes of one capture that use TLS, and the thread that sees to them."""

    states = frozenset({"users", "files", "queued"})
    """Those of the counters that go down as well."""

    def __init__(
        self,
        host: ProbeHost,
        policies: PolicySource,
        inspector: Inspector,
        *,
        default_policy: Policy,
        uretprobe_hazard: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        proc: Path = procfs.PROC,
    ) -> None:
        """Begin with no probe.

        `default_policy` is that of processes that have none of their own; `uretprobe_hazard` why no probe of
        that kind may be attached in this kernel.
        """
        self._policies = policies
        self._inspector = inspector
        self._attachments = Attachments(host, monotonic, uretprobe_hazard)
        self._default = ProcessPolicy(capture=default_policy)
        self._monotonic = monotonic
        self._proc = proc
        self._own_tgid = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._programs: dict[int, _Program] = {}
        self._soon: OrderedDict[_Program, None] = OrderedDict()
        self._later: OrderedDict[_Program, None] = OrderedDict()
        self._current: _Program | None = None
        self._current_look = _Look.NOTHING
        self._complaints: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._next_sweep = monotonic() + SWEEP_SECONDS
        self._is_meant: Callable[[str], bool] | None = None
        self._closing = False
        self._unreadable = 0
        self._bugs = 0
        self._overflows = 0
        self._thread = threading.Thread(target=self._work, name="tls-processes", daemon=True)
        self._thread.start()

    def mapped(self, event: FileMapped) -> None:
        """Take note that a process has mapped a file as code."""
        if self._inspector.may_hold_tls(event.name, is_executable=False) and self._is_wanted(event.tgid):
            self._enqueue(event.tgid, _Look.LIBRARIES, self._soon)

    def executed(self, tgid: int, path: str | None) -> None:
        """Take note that a process has executed a program; None: it is gone."""
        with self._changed:
            self._drop(tgid)
        if path is None:
            return
        name = path.rpartition("/")[2]
        if self._inspector.may_hold_tls(name, is_executable=True) and self._is_wanted(tgid):
            self._enqueue(tgid, _Look.EXECUTABLE, self._soon)

    def forked(self, tgid: int, parent_tgid: int) -> None:
        """Take note of a new process, which has mapped what its parent had, and has its policy."""
        with self._changed:
            self._drop(tgid)
            parent = self._programs.get(parent_tgid)
            child = None if parent is None else self._program(tgid)
            if parent is None or child is None:
                return
            child.looked_at |= parent.looked_at
            for identity in parent.files:
                self._use(child, identity)
            # What the parent is being looked at for may turn out after this.
            looks = parent.pending
            if self._current is parent:
                looks |= self._current_look
        if looks:
            self._enqueue(tgid, looks, self._soon)

    def exited(self, tgid: int) -> None:
        """Take note of the end of a process."""
        with self._changed:
            self._drop(tgid)

    def policy_changed(self, tgid: int) -> None:
        """Take note that something else may be captured of a process that runs already."""
        if self._is_wanted(tgid):
            self._enqueue(tgid, _EVERYTHING, self._later)
        else:
            with self._changed:
                self._drop(tgid)

    def look_at_running(self) -> None:
        """Have the captured processes that run already looked at; what events say goes first."""
        for tgid in procfs.running_processes(self._proc):
            self.policy_changed(tgid)

    def look_at_installed(self, is_meant: Callable[[str], bool] | None = None) -> None:
        """Have the libraries probed that programs of this host will use, and keep those probes.

        With `is_meant` only certain programs are captured, by their path: these are probed as well, and the
        libraries only if there is such a program.
        """
        self._is_meant = is_meant
        self._enqueue(_NOBODY, _Look.INSTALLED, self._soon)

    def await_attached(self, timeout_seconds: float = START_SECONDS) -> bool:
        """Wait until all that was to be looked at was; return whether it was within the time."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout_seconds)

    def stacks(self) -> list[ProbedStack]:
        """Return the files with TLS that captured processes use, those that can't be probed included."""
        return self._attachments.stacks()

    def counters(self) -> dict[str, int]:
        """Return what was counted from the start, and under the names in `states` how things stand now."""
        with self._changed:
            counts = {
                "unreadable_files": self._unreadable,
                "queue_overflows": self._overflows,
                "bugs": self._bugs,
                "users": sum(1 for program in self._programs.values() if program.files),
                "queued": len(self._soon) + len(self._later),
            }
        inspected = {
            "inspected_files": self._inspector.inspected,
            "failed_inspections": self._inspector.failures,
        }
        return {**self._attachments.counters(), **inspected, **counts}

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Detach everything. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            log.warning("probes are still being detached: the kernel does the rest")

    def _is_wanted(self, tgid: int) -> bool:
        if tgid == self._own_tgid:
            return False
        policy = self._policies.policy(tgid) or self._default
        return policy.tls and policy.capture != Policy.IGNORE

    def _enqueue(self, tgid: int, look: _Look, queue: OrderedDict[_Program, None]) -> None:
        with self._changed:
            program = self._program(tgid)
            if program is None:
                return
            program.pending |= look
            if program not in self._soon:
                self._later.pop(program, None)
                queue[program] = None
                if queue is self._soon:
                    sys.setswitchinterval(PROMPT_SWITCH_SECONDS)
                self._changed.notify_all()

    # What follows until _take_next is called with the lock held.

    def _program(self, tgid: int) -> _Program | None:
        program = self._programs.get(tgid)
        if program is None:
            if len(self._programs) >= MAX_PROGRAMS:
                self._overflows += 1
                return None
            program = self._programs[tgid] = _Program(tgid)
        return program

    def _drop(self, tgid: int) -> None:
        program = self._programs.pop(tgid, None)
        if program is not None:
            self._soon.pop(program, None)
            self._later.pop(program, None)
            for identity in program.files:
                self._attachments.release(identity, tgid)

    def _use(self, program: _Program, identity: FileIdentity) -> None:
        program.files.add(identity)
        self._attachments.use(identity, program.tgid)

    def _is_running(self, program: _Program) -> bool:
        return self._programs.get(program.tgid) is program

    def _is_idle(self) -> bool:
        return not self._soon and not self._later and self._current is None

    def _finish_current(self) -> None:
        program, self._current = self._current, None
        if program is not None:
            if not program.files and not program.pending and self._is_running(program):
                del self._programs[program.tgid]
            self._changed.notify_all()

    def _take_next(self) -> _Program | None:
        queue = self._soon or self._later
        if not queue:
            return None
        program, _ = queue.popitem(last=False)
        look, program.pending = program.pending, _Look.NOTHING
        if queue is self._later and look == _EVERYTHING:
            # Few libraries serve most processes; programs are large, and nearly none holds TLS.
            look, program.pending = _Look.LIBRARIES, _Look.EXECUTABLE
            queue[program] = None
        self._current, self._current_look = program, look
        return program

    # What follows runs in the thread, and takes the lock for moments only.

    def _work(self) -> None:
        while True:
            with self._changed:
                self._finish_current()
                if self._closing or not self._soon:
                    sys.setswitchinterval(_USUAL_SWITCH_SECONDS)
                while not self._closing and self._is_idle():
                    left = min(self._next_sweep, self._attachments.next_due() or self._next_sweep)
                    if (left := left - self._monotonic()) <= 0:
                        break
                    self._changed.wait(left)
                if self._closing:
                    break
                program = self._take_next()
            if program is not None:
                self._look(program, self._current_look)
            self._attachments.detach_idle()
            self._sweep()
        self._attachments.close()

    def _look(self, program: _Program, look: _Look) -> None:
        try:
            if look & _Look.INSTALLED:
                self._look_at_installed()
            if look & _Look.LIBRARIES:
                # The smallest first: it is done soonest, and libssl is small beside libcrypto.
                for file in sorted(mapped_code(program.tgid, self._proc), key=_length):
                    self._look_at_library(program, file)
            if look & _Look.EXECUTABLE:
                self._look_at_executable(program)
        except ProcessLookupError:
            with self._changed:
                if self._is_running(program):
                    self._drop(program.tgid)
        except UnreadableFileError as error:
            self._complain(f"process {program.tgid} (others may follow)", str(error), "processes")
        except Exception as error:  # a dead thread would attach to nothing any more
            self._bugs += 1
            if self._bugs == 1:
                log.error("a bug: TLS of a process is not captured: %s: %s", type(error).__name__, error)  # noqa: TRY400 (where is for debugging)
            log.debug("where it happened", exc_info=error)

    def _look_at_installed(self) -> None:
        may_hold_tls = functools.partial(self._inspector.may_hold_tls, is_executable=False)
        if self._is_meant is not None:
            programs = 0
            for program, descriptor in open_programs(self._is_meant, self._proc):
                self._keep(descriptor, show(program.encode(errors="surrogateescape")))
                programs += 1
            if not programs:
                return
        for path, descriptor in open_libraries(may_hold_tls, self._proc):
            self._keep(descriptor, show(path))

    def _keep(self, descriptor: int, path: str) -> None:
        """Attach to a file, if it holds TLS, before a process uses it."""
        try:
            version, found = self._inspector.look(descriptor, path.rpartition("/")[2])
            if found.stack is not None and (
                self._attachments.has(version) or self._attachments.attach(descriptor, version, found, path)
            ):
                self._attachments.keep(version.identity)
        finally:
            os.close(descriptor)

    def _look_at_executable(self, program: _Program) -> None:
        path = procfs.executable_path(program.tgid, self._proc)
        if path is None:
            return
        path = show(path.encode())
        if not self._inspector.may_hold_tls(path.rpartition("/")[2], is_executable=True):
            return
        try:
            descriptor = open_executable(program.tgid, self._proc)
        except UnreadableFileError as error:
            self._complain(path, str(error))
            return
        self._take(program, descriptor, path)

    def _look_at_library(self, program: _Program, file: MappedFile) -> None:
        key = (file.device, file.inode)
        if key in program.looked_at or not self._inspector.may_hold_tls(file.name, is_executable=False):
            return
        path = show(file.path)
        try:
            descriptor = open_mapped(program.tgid, file, self._proc)
        except UnreadableFileError as error:
            self._complain(path, str(error))
            return
        self._take(program, descriptor, path)
        with self._changed:
            program.looked_at.add(key)

    def _take(self, program: _Program, descriptor: int, path: str) -> None:
        """Have a program use a file, if it holds TLS, and attach to it if need be."""
        try:
            version, found = self._inspector.look(descriptor, path.rpartition("/")[2])
            with self._changed:
                # Who is gone, or let alone since, is no reason to attach to anything.
                if found.stack is None or not self._is_running(program):
                    return
            if not self._attachments.has(version) and not self._attachments.attach(
                descriptor, version, found, path
            ):
                return
            with self._changed:
                if self._is_running(program):
                    self._use(program, version.identity)
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Let go of users whose end was lost."""
        if self._monotonic() < self._next_sweep:
            return
        self._next_sweep = self._monotonic() + SWEEP_SECONDS
        with self._changed:
            programs = list(self._programs.values())
        for program in programs:
            if not procfs.is_alive(program.tgid, self._proc):
                with self._changed:
                    if self._is_running(program):
                        self._drop(program.tgid)

    def _complain(self, path: str, reason: str, key: str | None = None) -> None:
        """Count a file or a process that can't be read, and say so once."""
        self._unreadable += 1
        complaint = (key or path, reason)
        if complaint in self._complaints:
            return
        self._complaints[complaint] = None
        if len(self._complaints) > MAX_COMPLAINTS:
            self._complaints.popitem(last=False)
        log.warning("TLS of %s is not captured: %s", path, reason)


def _length(file: MappedFile) -> int:
    return file.end - file.start
