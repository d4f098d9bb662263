"""What a process has in the kernel's BPF, by number, and whether it is still there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TypeAlias

KINDS = ("prog", "link", "map")
Probes: TypeAlias = dict[str, set[int]]


def probes_of(pid: int) -> Probes:
    """Return the numbers of the objects that a process holds, by kind."""
    found: Probes = {kind: set() for kind in KINDS}
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        for kind, number in re.findall(r"^(prog|link|map)_id:\s*(\d+)$", entry.read_text(), re.MULTILINE):
            found[kind].add(int(number))
    return found


def remaining(probes: Probes) -> Probes:
    """Return those of them that the kernel still has."""
    return {kind: numbers & _present(kind) for kind, numbers in probes.items()}


def _present(kind: str) -> set[int]:
    shown = subprocess.run(["bpftool", "--json", kind, "show"], capture_output=True, check=True).stdout
    return {entry["id"] for entry in json.loads(shown)}
