"""What stands at the edges of the agent in unit tests: discovery, kernel, a sink."""

import os
import threading
from collections.abc import Mapping, Sequence

from agent.workloads.workload import Absence, ContainerReference, Finding
from ebpf.events import ProcessPolicy
from ebpf.tls.probes import ProbePoint
from otel_bridge.span import Span


class ToldDiscovery:
    """Knows of containers and peers what it is told."""

    def __init__(self) -> None:
        self.version = 1
        self.has_answered = True
        self.peers: dict[str, Mapping[str, str]] = {}
        self._by_id: dict[str, Finding] = {}

    def tell(self, container_id: str, finding: Finding) -> None:
        self._by_id[container_id] = finding
        self.version += 1

    def find(self, reference: ContainerReference) -> Finding:
        return self._by_id.get(reference.container_id, Absence.PENDING)

    def peer(self, address: str) -> Mapping[str, str]:
        return self.peers.get(address, {})

    states = frozenset({"containers"})

    def counters(self) -> dict[str, int]:
        return {"containers": len(self._by_id), "questions": 3}

    def close(self) -> None:
        pass


class PoliciesInMemory:
    """A policy map with the kernel's bound."""

    def __init__(self, room: int = 1000) -> None:
        self.by_tgid: dict[int, ProcessPolicy] = {}
        self.room = room

    def set_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        if len(self.by_tgid) >= self.room and tgid not in self.by_tgid:
            raise OSError(28, "no space")
        self.by_tgid[tgid] = policy

    def change_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        if tgid in self.by_tgid:
            self.by_tgid[tgid] = policy

    def remove_policy(self, tgid: int) -> None:
        self.by_tgid.pop(tgid, None)

    def policy(self, tgid: int) -> ProcessPolicy | None:
        return self.by_tgid.get(tgid)


class ProbesInMemory:
    """Attaches to nothing, and says to what it would have."""

    def __init__(self) -> None:
        self.attached: list[int] = []
        """Inodes of the files that have probes now, in the order of attaching."""
        self.detached: list[int] = []
        self.refuses: set[int] = set()
        """Inodes of files that can't be probed."""
        self.may_attach = threading.Event()
        self.may_attach.set()

    def attach_probes(self, descriptor: int, points: Sequence[ProbePoint]) -> "AttachmentInMemory":
        assert points
        inode = os.fstat(descriptor).st_ino
        assert self.may_attach.wait(30)
        if inode in self.refuses:
            raise OSError(95, "Operation not supported")
        assert inode not in self.attached, "one probe fires for all"
        self.attached.append(inode)
        return AttachmentInMemory(self, inode)


class AttachmentInMemory:
    """Probes that are not there."""

    def __init__(self, host: ProbesInMemory, inode: int) -> None:
        self._host = host
        self._inode = inode

    def close(self) -> None:
        self._host.attached.remove(self._inode)
        self._host.detached.append(self._inode)


class CollectingSink:
    """A sink that keeps its spans."""

    name = "collected"

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def submit(self, span: Span) -> None:
        self.spans.append(span)

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002
        return True

    def counters(self) -> dict[str, int]:
        return {"submitted": len(self.spans), "exported": len(self.spans), "queued": 0, "refused": 0}

    def close(self, timeout_seconds: float) -> None:
        pass
