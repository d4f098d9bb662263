"""What stands at the edges of the agent in unit tests: discovery, the kernel's policy map, a sink."""

from collections.abc import Mapping

from agent.workloads.workload import Absence, ContainerReference, Finding
from ebpf.events import ProcessPolicy
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
