"""One program that a tgid stood for: what is known of it, from when to when it ran, and on what authority.

Owns the record. Contract: `processes` alone writes it, and only facts stand here. What the selection makes
of them is its own (`standings`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.readings import Reading
from agent.workloads.workload import ContainerReference, Finding
from ebpf.events import ProcessFacts
from otel_bridge.span import Resource

END_OF_TIME_NS = 2**63 - 1


@dataclass(slots=True, eq=False, weakref_slot=True)
class Process:
    """One program that a tgid stood for."""

    facts: ProcessFacts
    from_ktime_ns: int
    checked_ktime_ns: int
    """When its start was last compared with /proc."""
    container: ContainerReference | None
    until_ktime_ns: int = END_OF_TIME_NS
    finding: Finding | None = None
    """What discovery says of the container; None without a container or without discovery."""
    finding_version: int = -1
    """The version of discovery that `finding` is from."""
    awaits_workload: bool = True
    """Whether discovery may still say more of the container, and patience has not ended."""
    resource: Resource | None = None
    """The resource of `facts`, once it was built."""
    reading: Reading | None = None
    """What /proc said, as long as that is not confirmed."""
    heir_of: Process | None = None
    """The parent, as long as what was inherited from it is not confirmed either."""
    heirs: list[Process] = field(default_factory=list)
    """The children that have inherited what is not confirmed."""

    @property
    def is_running(self) -> bool:
        """Whether the tgid still stands for this program, as far as known."""
        return self.until_ktime_ns == END_OF_TIME_NS

    def is_confirmed(self) -> bool:
        """Return whether what is known of the process will stay so."""
        ancestor: Process | None = self
        while ancestor is not None:
            if ancestor.reading is not None:
                return False
            ancestor = ancestor.heir_of
        self.heir_of = None
        return True
