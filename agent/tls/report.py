"""The TLS implementations that are in use now, for `wirespan check`: whose plaintext a run would capture.

Owns looking once, within a bound of time, and the form of the answer. It attaches to nothing, and needs no
privileges: what can't be looked at is in the answer.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import procfs
from agent.selection_rules import SelectionRules
from agent.tls.attachments import find_problem
from agent.tls.inspector import FileIdentity, Inspector
from agent.tls.mapped_files import (
    UnreadableFileError,
    mapped_code,
    open_executable,
    open_mapped,
    show,
)
from ebpf.tls.probes import TlsStack

SURVEY_SECONDS = 3.0
"""How long processes are looked at. Those that are left then are said to be."""
MAX_STAT_BYTES = 65_536
"""/proc/net/tls_stat: a line for each of a dozen counters."""

_KERNEL_TLS = "/proc/net/tls_stat"
_HIDDEN = (
    "processes of other users were not looked at: /proc hides them (mount option hidepid) from a process"
    " without CAP_SYS_PTRACE"
)
_EXCLUDED = "excluded by `tls.exclude_executables`"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLine:
    """An implementation at one path; in several containers it may be several files."""

    name: str | None
    """None: the file could not be read."""
    version: str | None
    path: str
    problem: str | None
    """Why its plaintext would not be captured; None: it would."""
    files: int
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReport:
    """What was found."""

    stacks: tuple[StackLine, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not looked at, and what else there is to know."""


class TlsSurvey:
    """One look at the processes of this host."""

    def __init__(
        self,
        inspector: Inspector,
        rules: SelectionRules,
        *,
        enabled: bool = True,
        uretprobe_hazard: str | None = None,
        proc: Path = procfs.PROC,
    ) -> None:
        """Begin; `enabled` is whether a run would attach to anything, the rest as for `TlsProcesses`."""
        self._inspector = inspector
        self._rules = rules
        self._enabled = enabled
        self._uretprobe_hazard = uretprobe_hazard
        self._proc = proc
        self._lock = threading.Lock()
        self._processes: Counter[tuple[str | None, str | None, str, str | None]] = Counter()
        self._files: dict[tuple[str | None, str | None, str, str | None], set[FileIdentity]] = {}
        self._refused: dict[str, set[int]] = {}
        self._is_complete = False
        self._stopped = False

    def run(self, timeout_seconds: float = SURVEY_SECONDS) -> TlsReport:
        """Look, and return what was found within the time."""
        complaints = logging.getLogger("agent.tls")
        level = complaints.level
        # What goes wrong is in the report, or is a file without TLS.
        complaints.setLevel(logging.CRITICAL)
        # A file may be on a file system that doesn't answer, and no reading of it can be called off.
        looking = threading.Thread(target=self._look, name="tls-survey", daemon=True)
        looking.start()
        looking.join(timeout_seconds)
        with self._lock:
            self._stopped = True
            report = self._report()
        complaints.setLevel(level)
        return report

    def _look(self) -> None:
        tgids = [tgid for tgid in procfs.running_processes(self._proc) if tgid != os.getpid()]
        # Few libraries serve most processes; programs are large, and nearly none holds TLS.
        for look in (self._libraries, self._program):
            for tgid in tgids:
                if self._stopped:
                    return
                try:
                    self._note(tgid, look(tgid))
                except ProcessLookupError:
                    pass
                except UnreadableFileError as error:
                    with self._lock:
                        self._refused.setdefault(str(error), set()).add(tgid)
        self._is_complete = True

    def _libraries(self, tgid: int) -> Iterator[tuple[str, int | str]]:
        for file in mapped_code(tgid, self._proc):
            if self._inspector.may_hold_tls(file.name, is_executable=False):
                try:
                    yield show(file.path), open_mapped(tgid, file, self._proc)
                except UnreadableFileError as error:
                    yield show(file.path), str(error)

    def _program(self, tgid: int) -> Iterator[tuple[str, int | str]]:
        path = procfs.executable_path(tgid, self._proc)
        if path is None:
            return
        path = show(path.encode())
        if self._inspector.may_hold_tls(path.rpartition("/")[2], is_executable=True):
            yield path, open_executable(tgid, self._proc)

    def _note(self, tgid: int, files: Iterable[tuple[str, int | str]]) -> None:
        """Take note of files of a process: each its path, and a descriptor or why there is none."""
        for path, opened in files:
            if isinstance(opened, str):
                self._add(None, path, opened, FileIdentity(0, 0))
                continue
            try:
                version, found = self._inspector.look(opened, path.rpartition("/")[2])
            finally:
                os.close(opened)
            if found.stack is not None:
                problem = self._problem(found.stack, tgid)
                self._add(found.stack, path, problem, version.identity)

    def _problem(self, stack: TlsStack, tgid: int) -> str | None:
        if problem := find_problem(stack, self._uretprobe_hazard):
            return problem
        if not self._enabled:
            return "`tls.enabled` is false"
        if self._rules.tls_excluded and not self._rules.accepts_tls(procfs.executable_path(tgid, self._proc)):
            return _EXCLUDED
        return None

    def _add(self, stack: TlsStack | None, path: str, problem: str | None, identity: FileIdentity) -> None:
        name, version = (None, None) if stack is None else (stack.name, stack.version)
        key = (name, version, path, problem)
        with self._lock:
            if not self._stopped:
                self._processes[key] += 1
                self._files.setdefault(key, set()).add(identity)

    def _report(self) -> TlsReport:
        lines = [
            StackLine(
                name=name,
                version=version,
                path=path,
                problem=problem,
                files=len(self._files[name, version, path, problem]),
                processes=processes,
            )
            for (name, version, path, problem), processes in self._processes.items()
        ]
        lines.sort(key=lambda line: (line.name or "~", line.version or "", line.path, line.problem or ""))
        notes = [
            f"{_processes(len(tgids))} could not be looked at: {reason}"
            for reason, tgids in sorted(self._refused.items())
        ]
        if procfs.hides_processes(self._proc):
            notes.append(_HIDDEN)
        if not self._is_complete:
            notes.append("not every process was looked at: the time was up")
        if note := kernel_tls():
            notes.append(note)
        return TlsReport(stacks=tuple(lines), notes=tuple(notes))


def format_lines(report: TlsReport) -> list[str]:
    """Return the report as lines for people."""
    if not report.stacks:
        lines = ["no TLS implementation is in use by the processes that were looked at"]
    else:
        lines = ["TLS implementations in use:"]
        rows = [
            (
                f"{line.name or 'unknown'} {line.version or ''}".rstrip(),
                line.path + (f" ({line.files} files)" if line.files > 1 else ""),
                _processes(line.processes),
                "captured" if line.problem is None else f"not captured: {line.problem}",
            )
            for line in report.stacks
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines.extend(
            "  "
            + "  ".join((*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]))
            for row in rows
        )
    return [*lines, *report.notes]


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"


def kernel_tls(path: str = _KERNEL_TLS) -> str | None:
    """Return what there is to know when connections of this network namespace use TLS in the kernel."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            raw = file.read(MAX_STAT_BYTES)
    except OSError:
        return None
    now = 0
    for line in raw.splitlines():
        match line.split():
            case [name, count] if name.startswith(b"TlsCurr") and count.isdigit():
                now += int(count)
    if not now:
        return None
    return f"TLS in the kernel (kTLS) is at work {now} times: what passes over it by sendfile stays unseen"
