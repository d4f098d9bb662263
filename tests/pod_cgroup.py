"""Processes in cgroups that look like a container's, as a runtime puts them there before they execute."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HYBRID, UNIFIED = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")
END_SECONDS = 10.0


def hierarchy() -> Path:
    """Return where the unified hierarchy is mounted: alone, or beside those of version 1."""
    return HYBRID if HYBRID.is_dir() else UNIFIED


class PodCgroup:
    """The cgroup of one container."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program that is in the cgroup when it executes."""
        entering = ["/bin/sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh", *command]
        return subprocess.Popen(entering, **options)

    def enter(self, pid: int) -> None:
        """Move a process in."""
        (self.path / "cgroup.procs").write_text(str(pid))


@contextmanager
def pod_cgroup(pod_uid: str | None, container_id: str) -> Iterator[PodCgroup]:
    """Make a container's cgroup as kubelet would call it, or as Docker does for a container without a pod."""
    parts = ("kubepods", "burstable", f"pod{pod_uid}") if pod_uid else ("docker",)
    folder = hierarchy().joinpath(*parts, container_id)
    folder.mkdir(parents=True)
    yield PodCgroup(folder)
    deadline = time.monotonic() + END_SECONDS
    while (folder / "cgroup.procs").read_text().strip():
        assert time.monotonic() < deadline, "processes are left in the cgroup of a test"
        time.sleep(0.01)
    with contextlib.suppress(OSError):  # others may use what is above
        while folder != hierarchy():
            folder.rmdir()
            folder = folder.parent
