"""Discovery that knows what a test tells it."""

from collections.abc import Mapping

from agent.workloads.workload import Absence, ContainerReference, Finding


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

    def counters(self) -> dict[str, int]:
        return {"containers": len(self._by_id)}

    def close(self) -> None:
        pass
