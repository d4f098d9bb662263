"""What the kernel captures of each process, as bpftool reads it out of the map of a running agent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import procfs
from ebpf.events import Policy
from ebpf.layout import PROCESS_POLICY

BPFTOOL = shutil.which("bpftool") or "/usr/sbin/bpftool"
MAP_NAME = "policy_by_tgid"
WAIT_SECONDS = 30.0
MAX_SHOWN = 8
NO_TLS = 8
"""POLICY_NO_TLS of bpf/records.h, which is no role."""


@dataclass(frozen=True)
class KernelPolicy:
    """A value of the map."""

    roles: Policy
    finishing: Policy
    has_ports: bool


def policies_of(agent_pid: int) -> dict[int, KernelPolicy]:
    """Return the processes in the policy map of a running agent.

    A process that runs and is undecided has executed its program this very moment: other programs of this
    host do so at any time, bpftool for one. Those are left out; none that has ended is.
    """
    command = [BPFTOOL, "--json", "map", "dump", "id", _map_id(agent_pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bpftool:
        dumped, _ = bpftool.communicate()
    assert bpftool.returncode == 0, dumped
    found = {}
    for entry in json.loads(dumped):
        if isinstance(entry["value"], dict):  # an error: it was removed while it was read
            continue
        tgid = int.from_bytes(_bytes(entry["key"]), "little")
        _since, _budget, port_set, flags, finishing = PROCESS_POLICY.unpack(_bytes(entry["value"]))
        policy = KernelPolicy(Policy(flags & ~NO_TLS), Policy(finishing), bool(port_set))
        if not (policy.roles & Policy.UNDECIDED and (tgid == bpftool.pid or procfs.is_alive(tgid))):
            found[tgid] = policy
    return found


def wait_for_policies(agent_pid: int, holds: Callable[[dict[int, KernelPolicy]], bool]) -> None:
    """Wait until something holds for the map."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds(found := policies_of(agent_pid)):
        shown = dict(list(found.items())[:MAX_SHOWN])
        assert time.monotonic() < deadline, (
            f"{len(found)} policies, not those expected; the first are {shown}"
        )
        time.sleep(0.05)


def _map_id(agent_pid: int) -> str:
    for descriptor in Path(f"/proc/{agent_pid}/fdinfo").iterdir():
        match = re.search(r"^map_id:\s+(\d+)$", descriptor.read_text(), re.MULTILINE)
        if match and _name(match[1]) == MAP_NAME:
            return match[1]
    raise AssertionError("the agent holds no policy map")


def _name(map_id: str) -> str:
    shown = subprocess.run(
        [BPFTOOL, "--json", "map", "show", "id", map_id], capture_output=True, check=True, text=True
    )
    return str(json.loads(shown.stdout).get("name", ""))


def _bytes(hexadecimal: list[str]) -> bytes:
    return bytes(int(each, 16) for each in hexadecimal)
