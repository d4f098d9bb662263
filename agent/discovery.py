"""Whom a run asks about containers: Kubernetes, the Docker Engine, or nobody.

Owns that choice and the wait for the first answer; what they know is theirs (`workloads`).
"""

from __future__ import annotations

import os
import time

from agent.config import Configuration
from agent.stop import StopRequest
from agent.workloads.workload import Discovery

FIRST_ANSWER_SECONDS = 5.0
"""How long a start waits to be told of what runs already. Without an answer, containers are captured
provisionally, and their exchanges wait."""
_LOOK_SECONDS = 0.02


def open_discovery(configuration: Configuration) -> Discovery | None:
    """Return who knows the containers of this host; None when there is nobody to be asked.

    Raises ConfigurationError for a setting that can't be used.
    """
    if configuration.kubernetes.enabled:
        # Imported late: the client takes a fourth of the agent's memory.
        from agent.workloads.cluster import open_cluster

        return open_cluster(configuration.kubernetes_options())
    from agent.workloads.docker_engine import open_docker_engine

    is_needed = bool(configuration.capture.containers)
    return open_docker_engine(configuration.docker_options(), os.environ, is_needed=is_needed)


def await_first_answer(discovery: Discovery, stop: StopRequest) -> bool:
    """Wait until discovery knows something; return whether it does."""
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while discovery.version == 0:
        if stop.requested or time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
