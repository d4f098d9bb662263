"""Which processes are captured: decided here, enforced by the kernel's policy map.

Owns the rules at work on the processes of this host, at the start, at each execve, and when discovery learns
something. What the rules say is in `selection_rules` and, for pods, in the decisions that discovery brings.

    no rule                every process, by the default policy; nothing is decided here
    --pid alone            the process and its present descendants; the kernel hands the policy on at fork
    --exe, --container,    every process that fits; decided at each execve, and again when what is known of
    --kubernetes,          its container or pod changes
    --tls-exclude

Between an execve and the decision the kernel captures provisionally, also of children that are forked in
that time; so does it while a container's name is not known yet. What it captured of a process that is then
refused is dropped, and counted.

As soon as some processes are selected, one that was not decided on is not accepted: its exchanges wait for
the decision. What is known of a process, and what follows; the first line that holds counts:

    no rule                                        accepted; nothing is decided
    the kernel did it by itself (tgid 0)           UNKNOWN
    its program and its container are known        by the rules, also when it has ended since
    it has ended, and its parent is known          by the rules, as its parent at the fork
    nothing, and it was captured by a policy that  as that policy says: an ancestor was selected, and no
    was decided                                    program was executed since
    nothing, and it was captured provisionally     UNKNOWN
    its container is asked for, in vain so far     PENDING, and UNIDENTIFIED after `processes.PATIENCE_NS`
    /proc was read, the stream is not there yet    its exchanges wait, see `processes`
    it was decided on, and is captured             an execve was lost: what /proc says now is decided on
    provisionally after that

UNKNOWN and UNIDENTIFIED refuse. By descent from a number (`--pid`) "known" means: it was forked by a process
known to descend from it, or has a policy where the kernel side alone hands policies on, or /proc shows its
parents. With an executable as well, a child that has executed a program and ended, and whose parent has never
been captured, is UNKNOWN.

When less is captured from one moment on, what is in flight is let finish: for `FINISHING_NS` the kernel goes
on with connections that it has captured so far; what begins on them after the change is dropped (`accepts`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from agent import procfs
from agent.descent import Descent
from agent.processes import Process, ProcessTable
from agent.selection_rules import SelectionRules
from agent.workloads.cgroups import find_container
from agent.workloads.container_patterns import is_meant
from agent.workloads.workload import (
    Absence,
    CaptureDecision,
    ContainerReference,
    Discovery,
    Finding,
    Workload,
)
from ebpf.events import Policy, ProcessPolicy, Role, SocketEvent, SocketInfo
from parsers.exchange import HttpExchange

MAX_SCANS = 32
"""Passes over /proc. Each but the first finds only what was forked during the one before."""
MAX_CONTAINERS = 4_096
"""Containers whose decision is kept to notice its change: beyond it those without a process are forgotten."""
FINISHING_NS = 5_000_000_000
"""How long what is in flight at a change is let finish; nearly every request is over by then."""

_POLICY_BY_ROLE = {Role.SERVER: Policy.CAPTURE_INGRESS, Role.CLIENT: Policy.CAPTURE_EGRESS}

REFUSED = CaptureDecision(roles=Policy.IGNORE, reason="does not fit the options")
PENDING = CaptureDecision(roles=None, reason="what it runs in is not known yet")
INHERITED = "captured as what it was forked from"
UNKNOWN = CaptureDecision(roles=Policy.IGNORE, reason="what it is could not be found out")
UNIDENTIFIED = CaptureDecision(roles=Policy.IGNORE, reason="what it runs in could not be found out")


class PolicyMap(Protocol):
    """The part of a live capture that selection reads and writes."""

    def set_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Apply a policy to a process; its children inherit it. Raises OSError when there is no room."""

    def change_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Do so for a process that has a policy of its own, which it loses when it ends; else nothing."""

    def remove_policy(self, tgid: int) -> None:
        """Return a process to the default policy."""

    def policy(self, tgid: int) -> ProcessPolicy | None:
        """Return the policy that a process has of its own, inherited or not."""


class Selection:
    """The rules at work on the processes of this host."""

    def __init__(
        self,
        rules: SelectionRules,
        policies: PolicyMap,
        processes: ProcessTable,
        *,
        discovery: Discovery | None = None,
        on_change: Callable[[int], None] | None = None,
        ktime_now: Callable[[], int] = time.monotonic_ns,
        proc: Path = procfs.PROC,
    ) -> None:
        """Make a selection that decides nothing yet.

        `on_change` is called with the tgid of each process that runs already when its policy may have become
        another. Of a process that the caller hands to `decide` the caller knows itself.
        """
        assert discovery is not None or not rules.needs_workload, "who knows containers?"
        self._rules = rules
        self._policies = policies
        self._processes = processes
        self._discovery = discovery
        self._on_change = on_change
        self._ktime_now = ktime_now
        self._proc = proc
        self._version = -1
        self._decisions: dict[ContainerReference, CaptureDecision] = {}
        self._pending: dict[Process, None] = {}
        self._finishing: dict[int, int] = {}
        self._descent = Descent(rules.pids, proc)
        self._counts = {
            "refused_events": 0,
            "unselectable_processes": 0,
            "changed_processes": 0,
            "unknown_processes": 0,
            "missed_executions": 0,
        }

    @property
    def selects(self) -> bool:
        """Whether only some processes are captured."""
        return self._rules.selects

    def apply_to_running(self) -> int:
        """Give the processes that run already their policy; return how many were selected.

        Those whose container is not known yet are captured provisionally.
        """
        if not self._rules.selects:
            return 0
        return self._scan(None)

    def decide(self, process: Process) -> None:
        """Decide on a process by what is known of it now. No-op unless processes are selected.

        That is when it has executed a program, was forked by one that was undecided, is seen for the first
        time, or when more has become known.
        """
        if not self._rules.selects:
            return
        self._processes.complete(process, self._ktime_now())
        decision = self._decision(process)
        if decision.roles is None:
            self._pending[process] = None
        else:
            self._pending.pop(process, None)
        former = process.decision
        if former == decision:
            return
        if decision == UNKNOWN:
            self._counts["unknown_processes"] += 1
        process.deciding_ktime_ns = self._ktime_now()
        # By number alone, and where it has inherited it, the kernel side has the policy already.
        if (
            process.is_running
            and self._rules.decides_at_exec
            and decision.reason != INHERITED
            and not self._has_gone_on(process)
        ):
            tgid = process.facts.tgid
            self._enforce(tgid, decision)
            if decision.roles and self._has_gone_on(process):
                self._change(tgid, ProcessPolicy(capture=Policy.UNDECIDED, tls=decision.tls))
        process.decided_ktime_ns = self._ktime_now()
        process.former_decision = None if former is None or former.roles is None else former
        process.decision = decision

    def sighted(self, process: Process, event: SocketEvent) -> None:
        """Decide on a process at its first sight, which is an event of it."""
        if not event.provisional:
            process.is_attested = True
        self.decide(process)

    def reconsider(self, revised: Collection[Process]) -> None:
        """Decide on processes that are something else than was thought (`ProcessTable.delivered`)."""
        for process in revised:
            self._decide_again(process)

    def forked(self, tgid: int) -> None:
        """Take charge of a child that inherited something that won't last.

        That is no decision, because its parent was undecided, or leave to finish.
        """
        if not self._rules.decides_at_exec:
            return
        inherited = self._policies.policy(tgid)
        if inherited is None:
            return
        if inherited.finishing:
            self._finishing[tgid] = self._ktime_now() + FINISHING_NS
        if inherited.capture & Policy.UNDECIDED:
            self._decide_again(self._processes.observe(tgid, self._ktime_now()))

    def advance(self) -> None:
        """Take note of what discovery has learnt, and of time: call it often."""
        now = self._ktime_now()
        for tgid, due_ktime_ns in list(self._finishing.items()):
            if due_ktime_ns <= now:
                self._end_finishing(tgid)
        for process in list(self._pending):
            self._decide_again(process)
        discovery = self._discovery
        if discovery is None or not self._rules.needs_workload or discovery.version == self._version:
            return
        self._version = discovery.version
        changed: set[ContainerReference | None] = set()
        for reference, decision in self._decisions.items():
            latest = self._workload_decision(reference, discovery.find(reference))
            if latest != decision:
                self._decisions[reference] = latest
                changed.add(reference)
        if changed:
            for process in list(self._processes.running()):
                if process.container in changed:
                    self._decide_again(process)
            self._scan(changed)

    def refuses(self, event: SocketEvent) -> bool:
        """Return whether an event was captured provisionally, and by the decision would not have been."""
        if not event.provisional or not self._rules.decides_at_exec or not event.tgid:
            return False
        process = self._processes.find(event.tgid, event.ktime_ns)
        decision = process.decision
        if (
            decision is not None
            and decision.roles is not None
            and process.is_running
            and (process.is_born_decided or event.ktime_ns > process.decided_ktime_ns)
        ):
            # Since a decision nothing is captured provisionally, unless it has executed a program.
            self._counts["missed_executions"] += 1
            process = self._processes.replace(process, event.ktime_ns)
            decision = None
        if decision is None:
            self._decide_again(process)
            decision = process.decision
        if decision is None or decision.roles is None or _covers(decision, event.role, event.socket):
            return False
        self._counts["refused_events"] += 1
        return True

    def is_pending(self, process: Process) -> bool:
        """Return whether it is still to be decided if the process is captured."""
        return self._rules.selects and (process.decision is None or process.decision.roles is None)

    def is_refused(self, process: Process) -> bool:
        """Return whether nothing of a process is captured, and never was."""
        decision = process.decision
        return decision is not None and decision.roles == Policy.IGNORE and process.former_decision is None

    def accepts(self, process: Process, exchange: HttpExchange) -> bool:
        """Return whether an exchange is one that should be captured, by the decision in force when it began.

        The kernel has decided by connection and call; the rest is what it captured provisionally, or goes on
        with after a change. A process that was not decided on is not accepted.
        """
        if not self._rules.selects:
            return True
        decision, former = process.decision, process.former_decision
        if decision is None:
            return False
        message = exchange.request or exchange.response
        assert message is not None, "an exchange has a request or a response"
        start = message.start_ktime_ns
        # While the kernel's map was being written either may have held.
        role, socket = exchange.role, exchange.socket
        if (former is None or start >= process.deciding_ktime_ns) and _covers(decision, role, socket):
            return True
        return former is not None and start <= process.decided_ktime_ns and _covers(former, role, socket)

    def counters(self) -> dict[str, int]:
        """Return what was refused, missed and changed.

        `refused_events` were captured provisionally and dropped; `unselectable_processes` should be captured
        and are not, since the kernel's policy table is full; `changed_processes` got another policy while
        they ran; `unknown_processes` ended before it was known what they were, and are not captured;
        `missed_executions` are programs whose execution was not seen, only what they did.
        """
        return dict(self._counts)

    def _decide_again(self, process: Process) -> None:
        """Decide on a process of which nobody but this selection knows that it has to be decided on."""
        former = process.decision
        self.decide(process)
        if self._on_change is not None and process.is_running and process.decision != former:
            self._on_change(process.facts.tgid)

    def _decision(self, process: Process) -> CaptureDecision:
        decision = self._decision_without_tls(process)
        if decision.tls and not self._rules.accepts_tls(process.facts.executable_path):
            return dataclasses.replace(decision, tls=False)
        return decision

    def _decision_without_tls(self, process: Process) -> CaptureDecision:
        path, rules = process.facts.executable_path, self._rules
        if path is None and (rules.executables or (rules.needs_workload and process.container is None)):
            return self._inherited(process)
        if not rules.accepts_executable(path):
            return REFUSED
        # By number alone only descendants have a policy, and of no others the kernel side tells anything.
        has_policy = not rules.decides_at_exec and process.facts.tgid != 0
        descends = self._descent.find(process, has_policy=has_policy)
        if not descends:
            return UNKNOWN if descends is None else REFUSED
        if not rules.needs_workload:
            return CaptureDecision(roles=rules.direction.roles, reason="fits the options")
        if process.container is None:
            return REFUSED
        self._note(process.container)
        decision = self._workload_decision(process.container, process.finding or Absence.PENDING)
        if decision.roles is None and not process.awaits_workload:
            return UNIDENTIFIED
        return decision

    def _inherited(self, process: Process) -> CaptureDecision:
        """Return the decision about a process that is not known at all."""
        if not process.is_attested:
            return UNKNOWN
        policy = self._policies.policy(process.facts.tgid)
        if policy is not None and policy.capture and not policy.capture & Policy.UNDECIDED:
            return CaptureDecision(
                roles=policy.capture,
                ports=policy.ports,
                bodies=policy.bodies,
                tls=policy.tls,
                reason=INHERITED,
            )
        # It has ended. An annotation may have asked for no bodies.
        return CaptureDecision(
            roles=self._rules.direction.roles, bodies=not self._rules.pods, reason=INHERITED
        )

    def _workload_decision(self, reference: ContainerReference, finding: Finding) -> CaptureDecision:
        """Return what is decided of a container by what is known of it."""
        if self._rules.containers:
            if not isinstance(finding, Workload):
                finding = Workload(
                    container_id=reference.container_id,
                    names=(),
                    is_resolved=finding is Absence.UNKNOWN,
                )
            if not is_meant(finding, self._rules.containers):
                return REFUSED if finding.is_resolved else PENDING
            if not self._rules.pods:
                return CaptureDecision(roles=self._rules.direction.roles, reason="fits the options")
        if not isinstance(finding, Workload):
            return PENDING if finding is Absence.PENDING else UNIDENTIFIED
        return finding.decision or REFUSED

    def _note(self, reference: ContainerReference) -> None:
        """Remember what is decided of a container, to notice its change."""
        if reference not in self._decisions and len(self._decisions) >= MAX_CONTAINERS:
            alive = {
                find_container(procfs.cgroup_paths(tgid, self._proc))
                for tgid in procfs.running_processes(self._proc)
            }
            self._decisions = {key: kept for key, kept in self._decisions.items() if key in alive}
        assert self._discovery is not None
        self._decisions[reference] = self._workload_decision(reference, self._discovery.find(reference))

    def _enforce(self, tgid: int, decision: CaptureDecision) -> None:
        current = self._policies.policy(tgid)
        if decision.roles is None:
            if current is None:
                self._introduce(tgid, ProcessPolicy(capture=Policy.UNDECIDED, tls=decision.tls))
            elif current.tls and not decision.tls:
                self._change(tgid, dataclasses.replace(current, tls=False))
            return
        wanted = ProcessPolicy(
            capture=decision.roles, ports=decision.ports, bodies=decision.bodies, tls=decision.tls
        )
        if current is None:
            self._introduce(tgid, wanted)
            return
        if not current.capture & Policy.UNDECIDED:
            if dataclasses.replace(current, finishing=Policy.IGNORE) == wanted:
                return
            self._counts["changed_processes"] += 1
            finishing = _let_finish(current, wanted)
            if finishing:
                wanted = dataclasses.replace(wanted, finishing=finishing)
                self._finishing[tgid] = self._ktime_now() + FINISHING_NS
        self._change(tgid, wanted)

    def _has_gone_on(self, process: Process) -> bool:
        """Return whether a process that was read just now is no longer what is decided on.

        It has executed another program, or another process has its number. The kernel side has that undecided
        since, and it stays so until the stream tells of it.
        """
        reading, facts = process.reading, process.facts
        if reading is None:
            return False
        return (
            procfs.executable_path(facts.tgid, self._proc) not in (None, facts.executable_path)
            or procfs.start_unix_ns(facts.tgid, self._proc) != reading.read.start_unix_ns
        )

    def _end_finishing(self, tgid: int) -> None:
        del self._finishing[tgid]
        current = self._policies.policy(tgid)
        if current is not None:
            self._change(tgid, dataclasses.replace(current, finishing=Policy.IGNORE))

    def _change(self, tgid: int, policy: ProcessPolicy) -> None:
        """Write the policy of a process that has one, at least to say that it is undecided."""
        if not policy.capture and not policy.finishing:
            self._policies.remove_policy(tgid)
            return
        try:
            self._policies.change_policy(tgid, policy)
        except OSError:
            self._counts["unselectable_processes"] += 1
            self._policies.remove_policy(tgid)

    def _introduce(self, tgid: int, policy: ProcessPolicy) -> None:
        """Write the policy of a process that has none."""
        if not policy.capture:
            return
        try:
            self._policies.set_policy(tgid, policy)
        except OSError:
            self._counts["unselectable_processes"] += 1
            return
        # The kernel removes an entry when its process exits; one written later would stay for good.
        if not procfs.is_alive(tgid, self._proc):
            self._policies.remove_policy(tgid)

    def _scan(self, containers: Collection[ContainerReference | None] | None) -> int:
        """Judge the processes that run in some containers, or all; return how many are selected."""
        decided: set[int] = set()
        selected = 0
        for _ in range(MAX_SCANS):
            undecided = set(procfs.running_processes(self._proc)) - decided
            if not undecided:
                break
            decided |= undecided
            for tgid in undecided:
                if containers is None or (
                    find_container(procfs.cgroup_paths(tgid, self._proc)) in containers
                ):
                    selected += self._decide_running(tgid)
        return selected

    def _decide_running(self, tgid: int) -> bool:
        """Decide on a process that is running; keep in mind only one that has to wait."""
        if not self._rules.decides_at_exec:
            start = procfs.start_unix_ns(tgid, self._proc)
            is_selected = self._descent.find_running(tgid) is True
            if is_selected:
                self._introduce(tgid, ProcessPolicy(capture=self._rules.direction.roles))
                if procfs.start_unix_ns(tgid, self._proc) != start:
                    self._policies.remove_policy(tgid)
                if self._on_change is not None:
                    self._on_change(tgid)
            return is_selected
        if not self._rules.accepts_executable(procfs.executable_path(tgid, self._proc)):
            return False
        if self._rules.needs_workload and find_container(procfs.cgroup_paths(tgid, self._proc)) is None:
            return False
        process = self._processes.current(tgid, self._ktime_now())
        self._decide_again(process)
        return process.decision is not None and bool(process.decision.roles)


def _covers(decision: CaptureDecision, role: Role, socket: SocketInfo) -> bool:
    """Return whether a connection is captured in a role; one that is not known yet may be any."""
    if not decision.roles or (role in _POLICY_BY_ROLE and not decision.roles & _POLICY_BY_ROLE[role]):
        return False
    if socket.tls is not None and not decision.tls:
        return False
    return not decision.ports or bool(decision.ports & {socket.local_port, socket.remote_port})


def _let_finish(current: ProcessPolicy, wanted: ProcessPolicy) -> Policy:
    """Return the roles of which less is captured from now on."""
    if wanted.ports and not (current.ports and current.ports <= wanted.ports):
        return current.capture
    return (current.capture & ~wanted.capture) | current.finishing
