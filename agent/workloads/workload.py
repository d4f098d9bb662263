"""The records of discovery: what a process runs in, what that is called, and what was decided about it.

Owns the vocabulary between the sources (Docker Engine, Kubernetes) and the stages that use them (selection,
resources). It must not know where an answer comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

from ebpf.events import Policy


@dataclass(frozen=True, slots=True)
class ContainerReference:
    """What a cgroup path says of the container that a process runs in."""

    container_id: str
    """64 hexadecimal digits, as the runtimes number containers."""
    pod_uid: str | None = None
    """The pod's UID, where the path stands below a pod's (kubelet's cgroups): with dashes, as the API writes
    it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureDecision:
    """What the rules of an orchestrator say of one container."""

    roles: Policy | None
    """The roles that are captured, possibly none; None: it is undecided, since the rules depend on the
    container's name and that is not known so far."""
    ports: frozenset[int] = frozenset()
    """Only connections with one of these ports at either end; empty: every port."""
    bodies: bool = True
    tls: bool = True
    """False: its TLS connections are left alone."""
    reason: str
    """The rule that decided, for people to read: `annotation wirespan.io/capture of the namespace`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A container as far as it is known. Two are equal when nothing about them differs."""

    container_id: str
    names: tuple[str, ...]
    """Names by which a user may mean it, the best one first: that of the container, of its pod; none while
    unknown."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Resource attributes in the terms of the semantic conventions (`container.name`, `k8s.pod.name`, …).
    `service.name` is there only when an annotation names the service."""
    is_resolved: bool = True
    """False while something is still to come (the container's name of a pod that has just started)."""
    decision: CaptureDecision | None = None
    """None where there are no rules beyond the command's own options."""


class Absence(Enum):
    """Why there is no workload."""

    PENDING = "pending"
    """Not known yet: an answer is on its way, or may come."""
    UNKNOWN = "unknown"
    """The container engine or the API has said that there is no such container, or can't be asked."""


Finding: TypeAlias = Workload | Absence


class Discovery(Protocol):
    """A source of containers. Called from the main loop only; its threads are its own affair."""

    @property
    def version(self) -> int:
        """Raised whenever some answer of `find` or `peer` may have changed."""

    @property
    def has_answered(self) -> bool:
        """Whether it has received the list of what runs at least once."""

    def find(self, reference: ContainerReference) -> Finding:
        """Return what is known of a container now; never waits. An unknown one may be asked for meanwhile."""

    def peer(self, address: str) -> Mapping[str, str]:
        """Return the owner of an IP address as attributes below `wirespan.peer.`; {} when none is known."""

    def counters(self) -> dict[str, int]:
        """Return what was counted from the start, and under the names in `states` how things stand now."""

    @property
    def states(self) -> frozenset[str]:
        """Those of the counters that go down as well."""

    def close(self) -> None:
        """Stop looking. Idempotent."""
