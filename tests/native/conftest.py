"""Compiling a C text against the kernel side's headers, and running it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ebpf.program import SOURCE_DIRECTORY


@pytest.fixture
def run_c(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that compiles and runs a C text, and returns the lines it prints."""

    def run(text: str, *arguments: str) -> list[str]:
        source = tmp_path / "program.c"
        source.write_text(text)
        program = tmp_path / "program"
        # the unrolling hints are for clang alone
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-D__always_inline=inline"]
        subprocess.run(["cc", *flags, f"-I{SOURCE_DIRECTORY}", "-o", program, source], check=True)
        finished = subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
        return finished.stdout.splitlines()

    return run
