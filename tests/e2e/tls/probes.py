"""What the kernel itself says of probes: who holds which, and whose code is changed by them.

Owns reading it. Programs and links are attributed by the descriptors of a process. Changed code is not: where
another agent is at work on the machine, it may be that agent's.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.tls.waiting import wait_until

PAGE = 4096
SETTLING_SECONDS = 0.2
"""Links of one file are made one after the other, within milliseconds."""
NOT_OF_TLS = {"raw_tracepoint", "tracing"}
"""Types of links by which sockets and processes are followed."""


@dataclass(frozen=True)
class Held:
    """What a process holds of the kernel's BPF objects, by id. An id is not given twice."""

    programs: frozenset[int]
    links: frozenset[int]


def _facts_of_descriptors(pid: int) -> Iterator[dict[str, str]]:
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = (line.partition(":") for line in file.read_text().splitlines())
        except FileNotFoundError:
            continue  # closed in the meantime
        yield {name: value.strip() for name, _, value in lines}


def held_by(pid: int) -> Held:
    """Return the programs and links to which a process has descriptors."""
    # A link names its program too, to which the process may have no other descriptor.
    facts = list(_facts_of_descriptors(pid))
    programs = frozenset(int(each["prog_id"]) for each in facts if "prog_id" in each)
    return Held(programs, frozenset(int(each["link_id"]) for each in facts if "link_id" in each))


def files_probed_by(pid: int) -> list[str]:
    """Return the path of each link to probes that a process has, as the kernel tells since 6.16."""
    return [
        each["path"]
        for each in _facts_of_descriptors(pid)
        if each.get("link_type") in ("uprobe_multi", "uretprobe_multi")
    ]


def _listed(what: str) -> list[dict[str, Any]]:
    ran = subprocess.run(["bpftool", "--json", what, "show"], capture_output=True, text=True, check=True)
    listed = json.loads(ran.stdout)
    assert isinstance(listed, list)
    return listed


def still_listed(held: Held) -> Held:
    """Return what of it `bpftool` lists now."""
    programs = {entry["id"] for entry in _listed("prog")}
    links = {entry["id"] for entry in _listed("link")}
    return Held(held.programs & programs, held.links & links)


def count_of_uprobes(pid: int) -> int:
    """Return how many links for user-space probes a process holds, and perf events for such probes."""
    links = {entry["id"]: entry.get("type") for entry in _listed("link")}
    of_links = [link for link in held_by(pid).links if links.get(link) not in NOT_OF_TLS]
    of_perf = [entry for entry in _listed("perf") if entry["pid"] == pid and "uprobe" in entry["fd_type"]]
    return len(of_links) + len(of_perf)


def named_uprobe_events() -> set[str]:
    """Return the lines of tracefs' uprobe_events, which is mounted for that where it is not."""
    folder = "/sys/kernel/tracing"
    script = (
        f"test -e {folder}/uprobe_events || mount -t tracefs tracefs {folder}; cat {folder}/uprobe_events"
    )
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", script], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.splitlines())


def changed_bytes(pid: int, file_name: str) -> int:
    """Return by how many bytes the code that a process has mapped differs from its file: breakpoints.

    Args:
        pid: The process, which has mapped code of such a file.
        file_name: A part of the file's path as the process sees it.
    """
    changed, mappings = 0, 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, permissions, offset, _, _, *path = line.split(maxsplit=5)
        if permissions != "r-xp" or not path or file_name not in path[0]:
            continue
        mappings += 1
        begin, end = (int(address, 16) for address in addresses.split("-"))
        # The file itself, also where it has been replaced or stands in another mount namespace.
        with Path(f"/proc/{pid}/map_files/{begin:x}-{end:x}").open("rb") as file:
            in_file = os.pread(file.fileno(), end - begin, int(offset, 16))
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            in_memory = os.pread(memory.fileno(), end - begin, begin)[: len(in_file)]
        for page in range(0, len(in_file), PAGE):
            ours, theirs = in_file[page : page + PAGE], in_memory[page : page + PAGE]
            if ours != theirs:
                changed += sum(a != b for a, b in zip(ours, theirs, strict=True))
    assert mappings, f"process {pid} has no code of {file_name}"
    return changed


def wait_for_probes(agent: int, path_end: str) -> None:
    """Wait until an agent has all its probes in a file whose path ends so: until no more come."""

    def count() -> int:
        return sum(path.endswith(path_end) for path in files_probed_by(agent))

    def is_settled() -> bool:
        before = count()
        time.sleep(SETTLING_SECONDS)
        return before > 0 and count() == before

    wait_until(is_settled, f"process {agent} has no probes in {path_end}")
