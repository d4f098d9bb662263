"""Processes for the agent's parts to look at."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

WAITING = "import sys; print(flush=True); sys.stdin.read()"
PARENT = (
    "import subprocess, sys\n"
    f"command = [sys.executable, '-c', {WAITING!r}]\n"
    "child = subprocess.Popen(command, stdin=sys.stdin, stdout=subprocess.PIPE)\n"
    "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its child."""
    with contextlib.ExitStack() as closing:
        process = closing.enter_context(
            subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()
