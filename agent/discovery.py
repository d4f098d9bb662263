"""Which source a run asks about containers: Kubernetes, the Docker Engine, or none.

Owns that choice and the wait for the first answer. What containers there are belongs to `workloads`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from agent.config import Configuration
from agent.stop import StopRequest
from agent.workloads.docker.engine_socket import find_engine_socket
from agent.workloads.workload import Absence, ContainerReference, Discovery, Finding

FIRST_ANSWER_SECONDS = 5.0
"""How long a start waits for the list of what runs already. Without an answer, containers are captured
provisionally, and their exchanges wait."""
_LOOK_SECONDS = 0.02

log = logging.getLogger(__name__)


class NoDiscovery:
    """Knows no container: where only ids are left to select by."""

    version = 0
    has_answered = True

    def find(self, reference: ContainerReference) -> Finding:  # noqa: ARG002 (there is none)
        """Return that there is no source to ask."""
        return Absence.UNKNOWN

    def peer(self, address: str) -> Mapping[str, str]:  # noqa: ARG002 (there is none)
        """Return {}."""
        return {}

    states: frozenset[str] = frozenset()

    def counters(self) -> dict[str, int]:
        """Return {}."""
        return {}

    def close(self) -> None:
        """Do nothing."""


def open_discovery(configuration: Configuration) -> Discovery | None:
    """Return the source of the containers of this host; None when there is none.

    Raises KubeconfigError for credentials that can't be used.
    """
    if configuration.kubernetes.enabled:
        # Imported late: the client takes a fourth of the agent's memory.
        from agent.workloads.kubernetes.discovery import KubernetesDiscovery

        return KubernetesDiscovery(configuration.kubernetes_options())
    engine = find_engine_socket(configuration.docker.socket, os.environ)
    if engine is None:
        if configuration.capture.containers:
            log.warning("no Docker Engine is found (see `docker.socket`): `--container` selects by id only")
            return NoDiscovery()
        return None
    from agent.workloads.docker.engine import DockerDiscovery

    return DockerDiscovery(engine, labels=configuration.docker.labels)


def await_first_answer(discovery: Discovery, stop: StopRequest) -> bool:
    """Wait until discovery has listed what runs; return whether it has."""
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while not discovery.has_answered:
        if stop.requested or time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
