"""What /proc says of a process right now.

Owns the reading of /proc/PID/{exe,cmdline,stat,environ,cgroup} and nothing about time: whether an answer is
still true belongs to `processes`. Contract: a vanished process, a kernel thread and a file of another user
are normal, and yield None or a fact less, never an exception. Every read is bounded, and no link is followed:
what `exe` points at is the name that the kernel prints, and is never opened.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from urllib.parse import unquote

from ebpf.events import ProcessFacts

PROC = Path("/proc")

MAX_COMMAND_LINE_BYTES = 16_384
"""A command line is kept to be read by people; class paths of Java are what makes them long."""
MAX_ENVIRONMENT_BYTES = 262_144
"""Twice what the kernel allows a single variable to be (MAX_ARG_STRLEN, 128 KiB)."""
MAX_STAT_BYTES = 4_096
"""One line of 52 numbers and a name of at most 64 bytes."""

MAX_CGROUP_BYTES = 65_536
"""One line for each hierarchy: at most some 14, each with a path below PATH_MAX (4,096 bytes)."""

MAX_SYSTEM_STAT_BYTES = 1_048_576
"""/proc/stat: a line for each CPU, and one with a number for each interrupt."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Positions in /proc/PID/stat after the name, which proc_pid_stat(5) calls field 2.
_STAT_PARENT = 1
_STAT_FLAGS = 6
_STAT_START_TICKS = 19
_PF_EXITING = 0x4  # include/linux/sched.h
_DELETED = " (deleted)"


def running_processes(proc: Path = PROC) -> list[int]:
    """Return the tgids that /proc lists."""
    with os.scandir(proc) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdecimal()]


def hides_processes(proc: Path = PROC) -> bool:
    """Return whether /proc leaves out processes of other users, by its mount option `hidepid`.

    Process 1 is in every process namespace, so its absence shows the option and all that exempts from it.
    """
    return not (proc / "1").exists()


def executable_path(tgid: int, proc: Path = PROC) -> str | None:
    """Return the path of the program that a process runs, as its own mount namespace names it."""
    try:
        target = (proc / str(tgid) / "exe").readlink()
    except OSError:
        return None
    return os.fsencode(target).decode(errors="replace").removesuffix(_DELETED)


def parent(tgid: int, proc: Path = PROC) -> int | None:
    """Return the tgid of a process's parent, or None when the process is gone."""
    fields = _stat_fields(proc / str(tgid))
    return None if fields is None else int(fields[_STAT_PARENT])


def is_alive(tgid: int, proc: Path = PROC) -> bool:
    """Return whether some thread of a process is not about to end.

    A process that has ended stays listed until its parent has waited for it. The kernel marks a thread
    (PF_EXITING) before it reports the thread's end.
    """
    if not _is_exiting(_stat_fields(proc / str(tgid))):
        return True
    # Other threads may go on without the first one.
    try:
        with os.scandir(proc / str(tgid) / "task") as tasks:
            return not all(_is_exiting(_stat_fields(Path(task.path))) for task in tasks)
    except OSError:
        return False


def start_unix_ns(tgid: int, proc: Path = PROC) -> int | None:
    """Return when a process was started, to a second; None when it is gone. It is a tgid's identity."""
    fields = _stat_fields(proc / str(tgid))
    if fields is None:
        return None
    return _boot_unix_ns(proc) + int(fields[_STAT_START_TICKS]) * 1_000_000_000 // _TICKS_PER_SECOND


def read_process(tgid: int, ktime_ns: int, proc: Path = PROC) -> ProcessFacts | None:
    """Return what is known of a running process, stamped with `ktime_ns`; None when it is gone."""
    start = start_unix_ns(tgid, proc)
    if start is None:
        return None
    directory = proc / str(tgid)
    return ProcessFacts(
        ktime_ns=ktime_ns,
        tgid=tgid,
        start_unix_ns=start,
        executable_path=executable_path(tgid, proc),
        command_line=_split_command_line(_read_bounded(directory / "cmdline", MAX_COMMAND_LINE_BYTES)),
        service_name=declared_service_name(_read_bounded(directory / "environ", MAX_ENVIRONMENT_BYTES)),
        cgroups=cgroup_paths(tgid, proc),
    )


def cgroup_paths(tgid: int, proc: Path = PROC) -> tuple[str, ...]:
    """Return the cgroups of a process as this process's cgroup namespace names them, in the file's order.

    Each path once, and none for hierarchies in whose root it is; () when the process is gone.
    """
    raw = _read_bounded(proc / str(tgid) / "cgroup", MAX_CGROUP_BYTES)
    paths: dict[str, None] = {}
    # What follows the last newline is a line that the bound has cut.
    for line in raw.split(b"\n")[:-1]:
        # hierarchy:controllers:path (cgroups(7)); a path may hold colons
        path = line.split(b":", 2)[-1].decode(errors="replace")
        if path not in ("", "/"):
            paths[path] = None
    return tuple(paths)


def declared_service_name(environment: bytes) -> str | None:
    """Return the service name that a process's environment (NUL-separated) declares to OpenTelemetry.

    OTEL_SERVICE_NAME wins over `service.name` in OTEL_RESOURCE_ATTRIBUTES, whose values are percent-encoded
    (OpenTelemetry specification, SDK environment variables).
    """
    from_attributes = None
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == b"OTEL_SERVICE_NAME" and value.strip():
            return value.decode(errors="replace").strip()
        if name == b"OTEL_RESOURCE_ATTRIBUTES":
            from_attributes = _service_name_attribute(value.decode(errors="replace"))
    return from_attributes


def _service_name_attribute(resource_attributes: str) -> str | None:
    for pair in resource_attributes.split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name":
            return unquote(value.strip()) or None
    return None


def _split_command_line(raw: bytes) -> tuple[str, ...]:
    # A process that rewrote its title (nginx, postgres) leaves padding instead of the one NUL after the last.
    stripped = raw.rstrip(b"\0 ")
    return tuple(part.decode(errors="replace") for part in stripped.split(b"\0")) if stripped else ()


def _read_bounded(path: Path, limit: int) -> bytes:
    """Return the first `limit` bytes of a file, b"" when it can't be read."""
    try:
        with path.open("rb", buffering=0) as file:
            parts = []
            while limit > 0 and (part := file.read(limit)):
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
    except OSError:
        return b""


def _is_exiting(fields: list[bytes] | None) -> bool:
    return fields is None or int(fields[_STAT_FLAGS]) & _PF_EXITING != 0


def _stat_fields(task: Path) -> list[bytes] | None:
    raw = _read_bounded(task / "stat", MAX_STAT_BYTES)
    # The name stands in parentheses and may hold blanks and parentheses itself, so the last one counts.
    fields = raw[raw.rfind(b")") + 1 :].split()
    return fields if len(fields) > _STAT_START_TICKS else None


@functools.cache
def _boot_unix_ns(proc: Path) -> int:
    # The kernel's own figure, in whole seconds: a start time is an identity, on which two agents, or one and
    # its successor, must agree. Read once, since a step of the wall clock moves it.
    for line in _read_bounded(proc / "stat", MAX_SYSTEM_STAT_BYTES).splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1]) * 1_000_000_000
    return 0
