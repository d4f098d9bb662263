"""What /proc showed of a process, beside what the stream says of it.

/proc shows the moment of reading; the stream says what was true before. Owns how both are put together for
one process. Which of them counts, and from when on, is decided in `processes`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import PurePosixPath

from ebpf.events import ProcessFacts


@dataclass(frozen=True, slots=True)
class Reading:
    """A look into /proc that is ahead of the stream."""

    ktime_ns: int
    """When it was over."""
    read: ProcessFacts
    """The facts if no execve came before the reading."""
    streamed: ProcessFacts
    """The facts if one came, by the stream alone: those of the parent at the fork, the path and the arguments
    of an execve, or nothing."""
    is_of_next: bool = False
    """Whether it contradicts the streamed execve, so that it shows a program after that one."""


def add_own(streamed: ProcessFacts, read: ProcessFacts | None) -> ProcessFacts:
    """Return what a child has inherited, with what /proc shows of the child itself."""
    if read is None:
        return streamed
    if read.executable_path is None:  # it has ended, and its parent has not waited for it yet
        return dataclasses.replace(streamed, start_unix_ns=read.start_unix_ns)
    # What a process writes over its command line may reach into its environment.
    return dataclasses.replace(
        read,
        command_line=read.command_line or streamed.command_line,
        service_name=read.service_name or streamed.service_name,
        workload=streamed.workload if read.cgroups == streamed.cgroups else None,
    )


def shows_another_program(streamed: ProcessFacts, read: ProcessFacts) -> bool:
    """Return whether /proc shows a program that a child has not inherited."""
    return (
        streamed.executable_path is not None
        and read.executable_path is not None
        and streamed.executable_path != read.executable_path
    )


def contradicts(streamed: ProcessFacts, read: ProcessFacts) -> bool:
    """Return whether /proc shows another program than the streamed execve.

    A link or a script is executed under another name than /proc has, and a program may write over its
    arguments. So it is the same program if one of both agrees.
    """
    assert streamed.executable_path is not None, "an execve has a path"
    assert read.executable_path is not None, "only the reading of a program is compared"
    if PurePosixPath(streamed.executable_path).name == PurePosixPath(read.executable_path).name:
        return False
    *whole, last = streamed.command_line or ("",)  # the last one may be cut
    count = len(whole)
    return list(read.command_line[:count]) != whole or not "".join(
        read.command_line[count : count + 1]
    ).startswith(last)
