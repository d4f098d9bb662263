"""Processes that have files mapped as code."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

PROGRAM = """
import mmap, os, sys
mappings = []
for line in sys.stdin:
    command, _, path = line.rstrip("\\n").partition(" ")
    if command == "chroot":
        os.chroot(path)
        os.chdir("/")
    elif command == "map":
        descriptor = os.open(path, os.O_RDONLY)
        mappings.append(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ | mmap.PROT_EXEC))
        os.close(descriptor)
    elif command == "fork":
        child = os.fork()
        if not child:
            sys.stdin.read()
            os._exit(0)
        print(child, end=" ")
    elif command == "exec":
        print(flush=True)
        os.execv(path, [path, "600"])
    print(flush=True)
"""


class Mapper:
    """A process that does as it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def do(self, command: str, path: Path | str = "") -> str:
        """Have it do one thing; return what it says when that is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command} {path}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it, and leave it listed."""
        self._process.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        self._process.wait()


Start: TypeAlias = Callable[..., Mapper]


@pytest.fixture
def own_proc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A /proc that lists the processes of `start` only, whatever else this host runs."""
    folder = tmp_path_factory.mktemp("proc")
    # Process 1 is in every process namespace; this one has nothing to look at.
    (folder / "1").mkdir()
    return folder


@pytest.fixture
def start(own_proc: Path) -> Iterator[Start]:
    """Start such a process; its arguments are a command that runs it."""
    with contextlib.ExitStack() as closing:

        def begin(*command: str) -> Mapper:
            process = closing.enter_context(
                subprocess.Popen(
                    [*command, sys.executable, "-c", PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            closing.callback(process.kill)
            (own_proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")
            return Mapper(process)

        yield begin
