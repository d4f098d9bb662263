"""From the cgroup paths of a process to the container that it runs in.

Owns what runtimes and kubelet call their cgroups. Pure: the paths are given, and nothing is looked up. It
recognises names by their form alone, wherever in the tree they stand: a parent may be configured, a path seen
from a private cgroup namespace starts with `/..` in place of what is above, and containers run in containers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.workloads.workload import ContainerReference

# A container is its id, alone or as a systemd scope behind the name of its runtime. Podman and CRI-O give
# their monitor a cgroup too (`crio-conmon-ID.scope`): a process of the host. Units of other kinds that are
# named after a container (Podman's health checks: `ID.service`) hold processes of the host as well.
_CONTAINER = re.compile(
    r"(?:(?:docker|cri-containerd|crio|libpod|libpod-payload|nerdctl)-)?([0-9a-f]{64})(?:\.scope)?"
)

# `podUID` (cgroupfs) or `kubepods-burstable-podUID.slice` (systemd, where a dash would mean a level of the
# tree and kubelet writes underscores). The UID of a static pod is a hash: 32 digits without dashes.
_POD = re.compile(
    r"(?:[a-z0-9-]+-)?pod([0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?"
)

# Appended by the kernel to the path of a cgroup that was removed under a process.
_DELETED = " (deleted)"


def find_container(paths: Sequence[str]) -> ContainerReference | None:
    """Return the innermost container that the paths of /proc/PID/cgroup name; None when they name none.

    Hierarchies may differ: an inner runtime doesn't manage each of them. The path through most containers
    counts, among equals one that also names a pod.
    """
    best: ContainerReference | None = None
    best_rank = (0, False)
    for path in paths:
        depth, reference = _innermost(path.removesuffix(_DELETED))
        if reference is not None:
            rank = (depth, reference.pod_uid is not None)
            if rank > best_rank:
                best, best_rank = reference, rank
    return best


def _innermost(path: str) -> tuple[int, ContainerReference | None]:
    """Return how many containers a path goes through, and the last one, with the pod that is next above."""
    depth = 0
    pod_uid = None
    reference = None
    # Where kubelet and containerd disagree about cgroup drivers, the path is `SLICE:cri-containerd:ID`.
    for name in re.split("[/:]", path):
        if pod := _POD.fullmatch(name):
            pod_uid = pod[1].replace("_", "-")
        elif container := _CONTAINER.fullmatch(name):
            depth += 1
            reference = ContainerReference(container[1], pod_uid)
    return depth, reference
