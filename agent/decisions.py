"""Decisions about one process: those that are always the same, what each covers, and since when it holds.

Owns the arithmetic of roles, ports, TLS and times. It must not decide: that is `selection`, and for pods
`workloads`. Contract: immutable values, so a decision that was handed on stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy, Role, SocketInfo

_POLICY_BY_ROLE = {Role.SERVER: Policy.CAPTURE_INGRESS, Role.CLIENT: Policy.CAPTURE_EGRESS}

FITTING = "fits the options"
"""The reason of a decision that the command's own options make."""
REFUSED = CaptureDecision(roles=Policy.IGNORE, reason="does not fit the options")
PENDING = CaptureDecision(roles=None, reason="what it runs in is not known yet")
INHERITED = "captured as what it was forked from"
"""The reason of a decision that repeats the policy which the kernel side has handed on."""
UNKNOWN = CaptureDecision(roles=Policy.IGNORE, reason="what it is could not be found out")
UNIDENTIFIED = CaptureDecision(roles=Policy.IGNORE, reason="what it runs in could not be found out")


class CaptureState(Enum):
    """Whether a process is captured."""

    ACCEPTED = "accepted"
    """In some roles at least, or it was until a change."""
    PENDING = "pending"
    """Undecided: nothing of the process is accepted before the decision."""
    REFUSED = "refused"
    """In no role, and it never was."""


@dataclass(frozen=True, slots=True)
class DecisionInForce:
    """The decision about one process, since when it holds, and the one that held before."""

    decision: CaptureDecision
    begun_ktime_ns: int
    """When writing the kernel's policy map began. Until `done_ktime_ns` either decision may have held."""
    done_ktime_ns: int
    former: CaptureDecision | None
    """The decision before; None when there was none, or it was pending."""

    @property
    def state(self) -> CaptureState:
        """What the decision means for the process as a whole."""
        roles = self.decision.roles
        if roles is None:
            return CaptureState.PENDING
        return CaptureState.REFUSED if not roles and self.former is None else CaptureState.ACCEPTED

    def accepts(self, role: Role, socket: SocketInfo, start_ktime_ns: int) -> bool:
        """Return whether an exchange is to be captured, by the decision that held when the exchange began."""
        decision, former = self.decision, self.former
        if (former is None or start_ktime_ns >= self.begun_ktime_ns) and covers(decision, role, socket):
            return True
        return former is not None and start_ktime_ns <= self.done_ktime_ns and covers(former, role, socket)


def covers(decision: CaptureDecision, role: Role, socket: SocketInfo) -> bool:
    """Return whether a decision captures a connection in a role; `Role.UNKNOWN` may be either role."""
    if not decision.roles or (role in _POLICY_BY_ROLE and not decision.roles & _POLICY_BY_ROLE[role]):
        return False
    if socket.tls is not None and not decision.tls:
        return False
    return not decision.ports or bool(decision.ports & {socket.local_port, socket.remote_port})
