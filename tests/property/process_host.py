"""A host of a few processes, told step by step: what is true of them, what the kernel side says, and /proc.

Numbers of processes are given again at once. The agent is behind: what it is handed was written some steps
ago, while `/proc` shows the present, and a policy that it writes is that of the present process.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ebpf.events import (
    CaptureEvent,
    ClockSample,
    Direction,
    EventKind,
    Missing,
    Origin,
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessForked,
    ProcessPolicy,
    Role,
    SocketEvent,
    SocketInfo,
)
from tests.stand_ins import PoliciesInMemory

STEP_NS = 100_000_000
"""Longer than /proc may show a new program before its execve is told."""
INIT = 1
NUMBERS = range(2, 8)
BOOT_SECONDS = 1_700_000_000
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Program:
    """What runs under a number."""

    tgid: int
    name: str
    parent: int
    start: int
    descends: bool
    """Whether it is, or descends from, the process that is selected by number."""
    is_zombie: bool = False
    lost_execve: bool = False
    """Whether its last execve, or that of what it was forked from, was not told."""
    lost_fork: bool = False
    """Whether its fork was not told, so that only /proc can show what it is until its first execve."""
    said: list[int] = field(default_factory=list)
    """Numbers of its exchanges before its first execve."""


@dataclass(frozen=True)
class Said:
    """One exchange as it truly was."""

    number: int
    tgid: int
    program: str
    descends: bool
    was_captured: bool
    follows_lost_execve: bool


class ProcessHost:
    """The host, and the kernel side's part of the agent on it."""

    def __init__(
        self, proc: Path, *, decides_at_exec: bool, default: Policy, losing: Collection[int]
    ) -> None:
        """Begin with init. `losing` are the ordinals of what is said of processes and never told."""
        self.proc = proc
        self.now = STEP_NS
        self.policies = PoliciesInMemory()
        self.by_tgid: dict[int, Program] = {}
        self.said: list[Said] = []
        self.unknowable: set[int] = set()
        """Exchanges of children whose fork and next execve were both lost: /proc shows what they became
        later, and nothing contradicts it."""
        self.lost = 0
        self._decides_at_exec = decides_at_exec
        self._default = ProcessPolicy(capture=default)
        self._losing = losing
        self._told = 0
        self._ring: list[CaptureEvent] = []
        self._starts = 0
        shutil.rmtree(proc, ignore_errors=True)
        proc.mkdir()
        (proc / "stat").write_text(f"btime {BOOT_SECONDS}\n")
        self._begin(INIT, "init", 0, descends=False)

    def policy(self, tgid: int) -> ProcessPolicy:
        return self.policies.by_tgid.get(tgid, self._default)

    def running(self) -> list[int]:
        return sorted(tgid for tgid, each in self.by_tgid.items() if not each.is_zombie and tgid != INIT)

    def zombies(self) -> list[int]:
        return sorted(tgid for tgid, each in self.by_tgid.items() if each.is_zombie)

    def free_number(self) -> int | None:
        return next((tgid for tgid in NUMBERS if tgid not in self.by_tgid), None)

    def start_unseen(self, name: str, *, parent: int = INIT, is_selected: bool = False) -> int:
        """Start a process of a parent that is not captured."""
        tgid = self.free_number()
        assert tgid is not None
        above = self.by_tgid.get(parent)
        self._begin(tgid, name, parent, descends=is_selected or (above is not None and above.descends))
        return tgid

    def fork(self, parent: int) -> None:
        tgid = self.free_number()
        if tgid is None:
            return
        above, policy = self.by_tgid[parent], self.policy(parent)
        self._begin(tgid, above.name, parent, descends=above.descends)
        self.by_tgid[tgid].lost_execve = above.lost_execve
        if parent in self.policies.by_tgid:
            self.policies.by_tgid[tgid] = policy
        lost = self.lost
        if policy.capture:
            self._tell(ProcessForked(self.now, tgid, parent))
        self.by_tgid[tgid].lost_fork = self.lost > lost

    def execute(self, tgid: int, name: str) -> None:
        self.by_tgid[tgid].name = name
        self._write(self.by_tgid[tgid])
        if self._decides_at_exec:
            self.policies.by_tgid[tgid] = ProcessPolicy(capture=Policy.UNDECIDED)
        lost = self.lost
        if self.policy(tgid).capture:
            self._tell(ProcessExecuted(self.now, tgid, f"/bin/{name}", (name,)))
        program = self.by_tgid[tgid]
        program.lost_execve = self.lost > lost
        if program.lost_execve and program.lost_fork:
            self.unknowable.update(program.said)
        program.lost_fork, program.said = False, []

    def exit(self, tgid: int, *, is_reaped: bool) -> None:
        if self.policy(tgid).capture:
            self._tell(ProcessExited(self.now, tgid))
        self.policies.by_tgid.pop(tgid, None)
        self.by_tgid[tgid].is_zombie = True
        for child in self.by_tgid.values():
            if child.parent == tgid:
                child.parent = INIT
                self._write(child)
        if is_reaped:
            self.reap(tgid)
        else:
            self._write(self.by_tgid[tgid])

    def reap(self, tgid: int) -> None:
        del self.by_tgid[tgid]
        shutil.rmtree(self.proc / str(tgid))

    def talk(self, tgid: int) -> None:
        """Serve one request on a connection of its own."""
        program, policy = self.by_tgid[tgid], self.policy(tgid)
        number = len(self.said) + 1
        program.said.append(number)
        was_captured = bool(policy.capture)
        self.said.append(
            Said(number, tgid, program.name, program.descends, was_captured, program.lost_execve)
        )
        if not was_captured:
            return
        is_provisional = bool(policy.capture & Policy.UNDECIDED)
        socket = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4_000, 1, number, number)
        request = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
        for direction, data in ((Direction.INGRESS, request), (Direction.EGRESS, RESPONSE)):
            event = SocketEvent(
                *(
                    EventKind.DATA,
                    self.now,
                    number,
                    Origin(self.now, tgid),
                    direction,
                    0,
                    len(data),
                    data,
                    Missing(0),
                ),
                *(Role.SERVER, False, socket, is_provisional),
            )
            self._ring.append(event)

    def pass_time(self) -> None:
        self.now += STEP_NS

    def drain(self) -> list[CaptureEvent]:
        drained, self._ring = self._ring, []
        return drained

    def clock(self) -> ClockSample:
        return ClockSample(self.now, BOOT_SECONDS * 1_000_000_000 + self.now)

    def _tell(self, event: CaptureEvent) -> None:
        self._told += 1
        if self._told in self._losing:
            self.lost += 1
        else:
            self._ring.append(event)

    def _begin(self, tgid: int, name: str, parent: int, *, descends: bool) -> None:
        self._starts += 1
        self.by_tgid[tgid] = Program(tgid, name, parent, self._starts * 1_000, descends)
        self._write(self.by_tgid[tgid])

    def _write(self, program: Program) -> None:
        """Let /proc show a process as it is now."""
        folder = self.proc / str(program.tgid)
        folder.mkdir(exist_ok=True)
        flags = 0x4 if program.is_zombie else 0
        fields = ["S", str(program.parent), *["0"] * 4, str(flags), *["0"] * 12, str(program.start)]
        (folder / "stat").write_text(f"{program.tgid} ({program.name}) {' '.join(fields)}\n")
        (folder / "cmdline").write_text("" if program.is_zombie else f"{program.name}\0")
        with contextlib.suppress(FileNotFoundError):
            (folder / "exe").unlink()
        if not program.is_zombie:
            (folder / "exe").symlink_to(f"/bin/{program.name}")
