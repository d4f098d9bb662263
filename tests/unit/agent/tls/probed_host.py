"""Taps on this host, with probes and policies that a test can look at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agent import procfs
from agent.tls.inspector import Inspector
from agent.tls.tls_processes import TlsProcesses
from ebpf.events import FileMapped, Policy, ProcessPolicy
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack
from tests.stand_ins import PoliciesInMemory, ProbesInMemory
from tests.unit.agent.tls.conftest import Mapper

BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
CAPTURED = ProcessPolicy(capture=BOTH)
POINTS = (ProbePoint(TlsProgram.OPENSSL_READ, 64),)
NEVER = 2**31 - 1
WAIT_SECONDS = 30.0


def inspect(descriptor: int, name: str) -> TlsStack | None:
    said = os.pread(descriptor, 100, 0)
    if said.startswith(b"java"):
        return TlsStack(name="java", obstacle="no function to probe")
    return TlsStack(name="openssl", version="3", points=POINTS) if said.startswith(b"tls") else None


def may_hold_tls(name: str, *, is_executable: bool) -> bool:
    assert "/" not in name
    return name.startswith("sleep" if is_executable else ("libssl", "libjvm", "libx"))


class Host:
    """Taps on this host."""

    def __init__(
        self, default: Policy = BOTH, uretprobe_hazard: str | None = None, proc: Path = procfs.PROC
    ) -> None:
        self.probes = ProbesInMemory()
        self.policies = PoliciesInMemory()
        self.now = 0.0
        self.inspect: Callable[[int, str], TlsStack | None] = inspect
        inspector = Inspector(lambda *file: self.inspect(*file), may_hold_tls)
        self.tls_processes = TlsProcesses(
            self.probes,
            self.policies,
            inspector,
            default_policy=default,
            uretprobe_hazard=uretprobe_hazard,
            monotonic=lambda: self.now,
            proc=proc,
        )

    def tell_mapped(self, mapper: Mapper, path: Path) -> None:
        """Have a process map a file, and say so as the kernel does."""
        mapper.do("map", path)
        self.tls_processes.mapped(FileMapped(0, mapper.pid, path.stat().st_ino, path.name))
        self.settle()

    def settle(self) -> None:
        assert self.tls_processes.await_attached(WAIT_SECONDS)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the thread notice."""
        self.now += seconds
        self.policies.by_tgid[NEVER] = CAPTURED
        self.tls_processes.mapped(FileMapped(0, NEVER, 1, "libx-of-no-process"))
        self.settle()

    def is_attached_to(self, *paths: Path) -> bool:
        return self.probes.attached == [path.stat().st_ino for path in paths]

    def count(self, name: str) -> int:
        return self.tls_processes.counters()[name]


def another(path: Path, said: str = "tls") -> Path:
    path.write_text(said)
    return path
