"""The containers of this moment, as far as discovery has found them.

Owns the bounds of that knowledge. Written by the threads that listen to an engine, read by the main loop,
which never waits for them: a reader looks up one immutable value in a dictionary, and only writers hold the
lock.

Contract: what was learned stays in force until something else is learned. A container that ended keeps its
names, since exchanges may finish late, and gives up its addresses at once, since the next container gets
them. Container ids are never given twice, so neither names nor a denial grow stale.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from agent.workloads.docker.containers import DockerContainer
from agent.workloads.workload import Absence, Finding, Workload

MAX_RUNNING = 8_192
"""Containers known to run, about 2 KiB each; a bridge takes 1,023. Beyond it the one seen first is forgotten,
and asked for anew."""
MAX_ENDED = 2_048
"""Ended containers kept for late exchanges: at one a second, half an hour's worth."""
MAX_DENIED = 8_192
"""Ids that the engine is known not to have, for instance those of another engine."""

_NOBODY: Mapping[str, str] = {}


class ContainerTable:
    """Containers by id and by address."""

    def __init__(
        self, *, max_running: int = MAX_RUNNING, max_ended: int = MAX_ENDED, max_denied: int = MAX_DENIED
    ) -> None:
        self._max_running = max_running
        self._max_ended = max_ended
        self._max_denied = max_denied
        self._writing = threading.Lock()
        self._findings: dict[str, Finding] = {}
        self._peers: dict[str, tuple[str, Mapping[str, str]]] = {}
        # Each in the order of arrival, the oldest first.
        self._running: dict[str, tuple[str, ...] | None] = {}
        self._ended: dict[str, None] = {}
        self._denied: dict[str, None] = {}
        self._version = 0
        self._forgotten = 0
        self._labels_left_out = 0

    @property
    def version(self) -> int:
        """Raised whenever an answer has changed."""
        return self._version

    def find(self, container_id: str) -> Finding | None:
        """Return what is known of a container; None when nothing is."""
        return self._findings.get(container_id)

    def peer(self, address: str) -> Mapping[str, str]:
        """Return the attributes of the running container that has an address; {} when there is none."""
        owner = self._peers.get(address)
        return owner[1] if owner else _NOBODY

    def is_inspected(self, container_id: str) -> bool:
        """Return whether a container runs as far as known, and its addresses were learned."""
        return self._running.get(container_id) is not None

    def introduce(self, container: DockerContainer) -> None:
        """Take what an event says of a container that is not known yet."""
        with self._writing:
            container_id = container.workload.container_id
            if not isinstance(self._findings.get(container_id), Workload):
                self._take(container)
                self._running[container_id] = None
                self._bound()

    def learn(self, container: DockerContainer) -> None:
        """Take what an inspection says of a container."""
        with self._writing:
            container_id = container.workload.container_id
            self._take(container)
            if container.has_ended:
                self._retire(container_id)
                return
            if self._running.get(container_id) != container.addresses:
                self._version += 1
            self._give_up_addresses(container_id)
            self._ended.pop(container_id, None)
            self._running[container_id] = container.addresses
            names = container.workload.names
            attributes = {"wirespan.peer.container.name": names[0]} if names else _NOBODY
            # The engine gives an address to one container at a time: an older claim is out of date.
            self._peers.update((address, (container_id, attributes)) for address in container.addresses)
            self._bound()

    def deny(self, container_id: str) -> None:
        """Take that there is no such container: it ended when it was known, else there never was one."""
        with self._writing:
            if isinstance(self._findings.get(container_id), Workload):
                self._retire(container_id)
            elif container_id not in self._denied:
                self._findings[container_id] = Absence.UNKNOWN
                self._denied[container_id] = None
                self._version += 1
                self._bound()

    def end(self, container_id: str) -> None:
        """Take that a container has ended."""
        with self._writing:
            self._retire(container_id)

    def end_all_but(self, container_ids: Collection[str]) -> None:
        """Take a list of all containers that run: the others have ended."""
        with self._writing:
            for container_id in self._running.keys() - set(container_ids):
                self._retire(container_id)

    def counters(self) -> dict[str, int]:
        """Return `running`, `ended` and `denied` as known now, and what was given up for the bounds.

        `forgotten` counts containers and denials, `labels_left_out` labels.
        """
        with self._writing:
            return {
                "running": len(self._running),
                "ended": len(self._ended),
                "denied": len(self._denied),
                "forgotten": self._forgotten,
                "labels_left_out": self._labels_left_out,
            }

    def _take(self, container: DockerContainer) -> None:
        workload = container.workload
        self._denied.pop(workload.container_id, None)
        if self._findings.get(workload.container_id) != workload:
            self._findings[workload.container_id] = workload
            self._labels_left_out += container.labels_left_out
            self._version += 1

    def _retire(self, container_id: str) -> None:
        if isinstance(self._findings.get(container_id), Workload) and container_id not in self._ended:
            self._give_up_addresses(container_id)
            self._running.pop(container_id, None)
            self._ended[container_id] = None
            self._bound()
            self._version += 1

    def _give_up_addresses(self, container_id: str) -> None:
        for address in self._running.get(container_id) or ():
            if (owner := self._peers.get(address)) and owner[0] == container_id:
                del self._peers[address]

    def _bound(self) -> None:
        for held, most in (
            (self._running, self._max_running),
            (self._ended, self._max_ended),
            (self._denied, self._max_denied),
        ):
            while len(held) > most:
                container_id = next(iter(held))
                self._give_up_addresses(container_id)
                del held[container_id]
                del self._findings[container_id]
                self._forgotten += 1
