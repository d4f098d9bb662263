"""What the user asked to be captured, by pid, executable, container, pod and direction.

Owns what the options mean for one process; the processes that there are belong to `selection`. An option
given twice widens (pid 5 or 7), different options narrow (a descendant of 5 that runs nginx). Ports are a
rule of the kernel side alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from agent import procfs
from ebpf.events import Policy


class CaptureDirection(StrEnum):
    """Which side of a conversation is captured, as the socket of the selected process sees it."""

    INGRESS = "ingress"
    """Requests that arrive: the process is the server."""
    EGRESS = "egress"
    """Requests that leave: the process is the client."""
    BOTH = "both"

    @property
    def roles(self) -> Policy:
        """The direction as roles of the kernel's policy."""
        return _ROLES_BY_DIRECTION[self]


_ROLES_BY_DIRECTION = {
    CaptureDirection.INGRESS: Policy.CAPTURE_INGRESS,
    CaptureDirection.EGRESS: Policy.CAPTURE_EGRESS,
    CaptureDirection.BOTH: Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS,
}


class NoSuchProcessError(LookupError):
    """A process asked for by number does not exist. The message names it and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRules:
    """What the user asked for. An empty rule restricts nothing."""

    pids: tuple[int, ...] = ()
    executables: tuple[str, ...] = ()
    """Shell patterns over the executable's path, or over its name alone; case matters."""
    containers: tuple[str, ...] = ()
    """Names, ids or shell patterns of containers."""
    pods: bool = False
    """Whether only pods are captured, as Kubernetes' annotations and rules say."""
    direction: CaptureDirection = CaptureDirection.BOTH
    tls_excluded: tuple[str, ...] = ()
    """As `executables`: programs whose TLS connections are left alone, whatever the other rules say."""

    @property
    def default_policy(self) -> Policy:
        """The policy of processes that have none of their own."""
        return Policy.IGNORE if self.selects else self.direction.roles

    @property
    def needs_workload(self) -> bool:
        """Whether a decision depends on the container that a process runs in."""
        return bool(self.containers) or self.pods

    @property
    def selects(self) -> bool:
        """Whether only some processes are captured, so that each has to be decided on."""
        return bool(self.pids) or self.decides_at_exec

    @property
    def decides_at_exec(self) -> bool:
        """Whether each process that executes a program has to be decided on."""
        return bool(self.executables or self.tls_excluded) or self.needs_workload

    def accepts_executable(self, path: str | None) -> bool:
        """Return whether a program matches `executables`; one whose path is unknown matches none."""
        return not self.executables or _matches(path, self.executables)

    def accepts_tls(self, path: str | None) -> bool:
        """Return whether a program's TLS connections are wanted; an unknown path may be an excluded one."""
        return not self.tls_excluded or (path is not None and not _matches(path, self.tls_excluded))


def _matches(path: str | None, globs: tuple[str, ...]) -> bool:
    if path is None:
        return False
    name = PurePosixPath(path).name
    return any(fnmatchcase(path, glob) or fnmatchcase(name, glob) for glob in globs)


def require_processes(rules: SelectionRules, proc: Path = procfs.PROC) -> None:
    """Raise NoSuchProcessError when a process that was asked for by number does not exist."""
    for pid in rules.pids:
        if procfs.parent(pid, proc) is None:
            raise NoSuchProcessError(
                f"no process has the number {pid}; `pgrep -a NAME` finds one by its name"
            )
