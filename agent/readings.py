"""What /proc said of a process, beside what the stream says of it.

/proc shows the moment of reading, the stream what was true before. Owns what of both counts for one process;
when it counts belongs to `processes`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import PurePosixPath

from ebpf.events import ProcessFacts


@dataclass(frozen=True, slots=True)
class Reading:
    """A look into /proc, which the stream has not caught up with yet."""

    ktime_ns: int
    """When it was over."""
    read: ProcessFacts
    """What counts if the process has executed nothing before."""
    told: ProcessFacts
    """What counts otherwise, from the stream alone: the facts of the parent at the fork, the path and the
    arguments of an execve, or nothing."""
    is_of_next: bool = False
    """Whether it contradicts the execve that was told, so that it can only be of a program after that."""


def add_own(told: ProcessFacts, read: ProcessFacts | None) -> ProcessFacts:
    """Return what a child has inherited, with what /proc says of itself."""
    if read is None:
        return told
    if read.executable_path is None:  # it has ended, and its parent has not waited for it yet
        return dataclasses.replace(told, start_unix_ns=read.start_unix_ns)
    # What a process writes over its command line may reach into its environment.
    return dataclasses.replace(
        read,
        command_line=read.command_line or told.command_line,
        service_name=read.service_name or told.service_name,
        workload=told.workload if read.cgroups == told.cgroups else None,
    )


def shows_another_program(told: ProcessFacts, read: ProcessFacts) -> bool:
    """Return whether /proc shows a program that a child has not inherited."""
    return (
        told.executable_path is not None
        and read.executable_path is not None
        and told.executable_path != read.executable_path
    )


def contradicts(told: ProcessFacts, read: ProcessFacts) -> bool:
    """Return whether /proc can't be of the execve that was told.

    A link or a script is executed under another name than /proc has, and a program may write over its
    arguments: one of both should be as told.
    """
    assert told.executable_path is not None, "an execve is told with its path"
    assert read.executable_path is not None, "it is asked of programs"
    if PurePosixPath(told.executable_path).name == PurePosixPath(read.executable_path).name:
        return False
    *whole, last = told.command_line or ("",)  # the last one may be cut
    count = len(whole)
    return list(read.command_line[:count]) != whole or not "".join(
        read.command_line[count : count + 1]
    ).startswith(last)
