"""Which processes are captured: decided here, enforced by the kernel's policy map (`enforcement`).

Owns the decisions about the processes of this host: at the start, at each execve, and when discovery learns
something. What the options mean is in `selection_rules`, and for pods in the decisions that discovery brings.
What is decided is kept by process in `standings`; `processes` owns the facts.

    no rule                every process, by the default policy; nothing is decided here
    --pid alone            the process and its present descendants; the kernel hands the policy on at fork
    --exe, --container,    every process that fits; decided at each execve, and again when more becomes known
    --kubernetes,          of its container or pod
    --tls-exclude

Between an execve and the decision the kernel captures provisionally, also of children that are forked in
that time; so does it while a container's name is not known yet. What it captured of a process that is then
refused is dropped, and counted.

As soon as some processes are selected, an undecided process is pending: its exchanges wait for the decision,
and none is accepted before. What is known of a process, and what follows; the first line that holds counts:

    no rule                                        accepted; nothing is decided
    the kernel did it by itself (no tgid)          UNKNOWN
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
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from pathlib import Path

from agent import procfs
from agent.decisions import (
    FITTING,
    INHERITED,
    PENDING,
    REFUSED,
    UNIDENTIFIED,
    UNKNOWN,
    CaptureState,
    DecisionInForce,
    covers,
)
from agent.descent import Descent
from agent.enforcement import Enforcement, PolicyMap
from agent.process import Process
from agent.processes import ProcessTable
from agent.selection_rules import SelectionRules
from agent.standings import Standing, Standings
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
from ebpf.events import Policy, ProcessPolicy, SocketEvent

MAX_SCANS = 32
"""Passes over /proc. Each but the first finds only what was forked during the one before."""
MAX_CONTAINERS = 4_096
"""Containers whose decision is kept to notice its change: beyond it those without a process are forgotten."""


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
        """Make a selection that has decided nothing yet.

        `on_change` is called with the tgid of each running process whose decision this selection has changed
        on its own initiative; a caller of `decide` has the change as its result.
        """
        assert discovery is not None or not rules.needs_workload, "containers are known by discovery only"
        self._rules = rules
        self._processes = processes
        self._discovery = discovery
        self._on_change = on_change
        self._ktime_now = ktime_now
        self._proc = proc
        self._version = -1
        self._decisions: dict[ContainerReference, CaptureDecision] = {}
        self._pending: dict[Process, None] = {}
        self._descent = Descent(rules.pids, proc)
        self._standings = Standings()
        if rules.selects:
            processes.heritage = self._standings
        self._enforcement = Enforcement(policies, ktime_now, proc)
        self._refused_events = 0
        self._unknown_processes = 0
        self._missed_executions = 0

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

    def in_force(self, process: Process) -> DecisionInForce | None:
        """Return the decision about a process; None: undecided, or nothing has to be decided."""
        return self._standings.of(process).in_force if self._rules.selects else None

    def state(self, process: Process) -> CaptureState:
        """Return whether a process is captured; an undecided one is pending."""
        return self._standings.of(process).state if self._rules.selects else CaptureState.ACCEPTED

    def consider(self, process: Process) -> CaptureState:
        """Decide on a process if it is undecided, and return whether it is captured."""
        if self._rules.selects and self._standings.of(process).in_force is None:
            self.decide(process)
        return self.state(process)

    def decide(self, process: Process) -> None:
        """Decide on a process by what is known of it now. No-op unless processes are selected.

        Call it when the process has executed a program, was forked by an undecided one, is seen for the first
        time, or when more has become known.
        """
        if not self._rules.selects:
            return
        self._processes.complete(process, self._ktime_now())
        standing = self._standings.of(process)
        decision = self._decision(process, standing)
        if decision.roles is None:
            self._pending[process] = None
        else:
            self._pending.pop(process, None)
        former = None if standing.in_force is None else standing.in_force.decision
        if former == decision:
            return
        if decision == UNKNOWN:
            self._unknown_processes += 1
        begun_ktime_ns = self._ktime_now()
        # By number alone, and where it has inherited it, the kernel side has the policy already.
        if (
            process.is_running
            and self._rules.decides_at_exec
            and decision.reason != INHERITED
            and not self._has_gone_on(process)
        ):
            self._enforcement.enforce(process.facts.tgid, decision)
            if decision.roles and self._has_gone_on(process):
                self._enforcement.return_to_undecided(process.facts.tgid, decision)
        standing.in_force = DecisionInForce(
            decision,
            begun_ktime_ns,
            self._ktime_now(),
            None if former is None or former.roles is None else former,
        )

    def sighted(self, process: Process, event: SocketEvent) -> None:
        """Decide on a process at its first sight, which is an event of it."""
        if not event.provisional and self._rules.selects:
            self._standings.of(process).is_attested = True
        self.decide(process)

    def reconsider(self, revised: Collection[Process]) -> None:
        """Decide on processes that are something else than was thought (`ProcessTable.delivered`)."""
        for process in revised:
            self._decide_again(process)

    def forked(self, tgid: int) -> None:
        """Take note of a fork: a child whose inherited policy won't last is decided on, or let finish.

        Such a policy is that of an undecided parent, or of one that is let finish.
        """
        if not self._rules.decides_at_exec:
            return
        inherited = self._enforcement.policy(tgid)
        if inherited is None:
            return
        if inherited.finishing:
            self._enforcement.note_finishing(tgid)
        if inherited.capture & Policy.UNDECIDED:
            self._decide_again(self._processes.observe(tgid, self._ktime_now()))

    def advance(self) -> None:
        """Take note of what discovery has learnt, and of time: call it often."""
        self._enforcement.end_finishing()
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
        if not event.provisional or not self._rules.decides_at_exec or event.origin.tgid is None:
            return False
        process = self._processes.find(event.origin.tgid, event.ktime_ns)
        standing = self._standings.of(process)
        in_force = standing.in_force
        if (
            in_force is not None
            and in_force.decision.roles is not None
            and process.is_running
            and (standing.is_born_decided or event.ktime_ns > in_force.done_ktime_ns)
        ):
            # Since a decision nothing is captured provisionally, unless it has executed a program.
            self._missed_executions += 1
            process = self._processes.replace(process, event.ktime_ns)
            standing = self._standings.of(process)
            in_force = None
        if in_force is None:
            self._decide_again(process)
            in_force = standing.in_force
        if (
            in_force is None
            or in_force.decision.roles is None
            or covers(in_force.decision, event.role, event.socket)
        ):
            return False
        self._refused_events += 1
        return True

    def counters(self) -> dict[str, int]:
        """Return what was refused, missed and changed.

        `refused_events` were captured provisionally and dropped; `unselectable_processes` should be captured
        and are not, since the kernel's policy table is full; `changed_processes` got another policy while
        they ran; `unknown_processes` ended before it was known what they were, and are not captured;
        `missed_executions` are programs whose execution was not seen, only what they did.
        """
        return {
            "refused_events": self._refused_events,
            "unknown_processes": self._unknown_processes,
            "missed_executions": self._missed_executions,
            **self._enforcement.counters(),
        }

    def _decide_again(self, process: Process) -> None:
        """Decide on a process on this selection's own initiative, and report a change through `on_change`."""
        former = self.in_force(process)
        self.decide(process)
        if self._on_change is None or not process.is_running:
            return
        latest = self.in_force(process)
        if (latest and latest.decision) != (former and former.decision):
            self._on_change(process.facts.tgid)

    def _decision(self, process: Process, standing: Standing) -> CaptureDecision:
        decision = self._decision_without_tls(process, standing)
        if decision.tls and not self._rules.accepts_tls(process.facts.executable_path):
            return dataclasses.replace(decision, tls=False)
        return decision

    def _decision_without_tls(self, process: Process, standing: Standing) -> CaptureDecision:
        path, rules = process.facts.executable_path, self._rules
        if path is None and (rules.executables or (rules.needs_workload and process.container is None)):
            return self._inherited_decision(process, standing)
        if not rules.accepts_executable(path):
            return REFUSED
        descends = self._descends(process, standing)
        if not descends:
            return UNKNOWN if descends is None else REFUSED
        if not rules.needs_workload:
            return CaptureDecision(roles=rules.direction.roles, reason=FITTING)
        if process.container is None:
            return REFUSED
        self._note(process.container)
        decision = self._workload_decision(process.container, process.finding or Absence.PENDING)
        if decision.roles is None and not process.awaits_workload:
            return UNIDENTIFIED
        return decision

    def _descends(self, process: Process, standing: Standing) -> bool | None:
        """Return whether a process descends from one selected by number, and note it."""
        if standing.is_descendant is None:
            # By number alone the kernel side reports only what has a policy, and that is descendants.
            has_policy = not self._rules.decides_at_exec and process.facts.tgid != 0
            known = True if standing.is_attested or has_policy else self._descent.find(process)
            standing.is_descendant = known
        return standing.is_descendant

    def _inherited_decision(self, process: Process, standing: Standing) -> CaptureDecision:
        """Return the decision about a process whose program and container are not known."""
        if not standing.is_attested:
            return UNKNOWN
        policy = self._enforcement.policy(process.facts.tgid)
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
        """Return the decision about a container by what is known of it."""
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
                return CaptureDecision(roles=self._rules.direction.roles, reason=FITTING)
        if not isinstance(finding, Workload):
            return PENDING if finding is Absence.PENDING else UNIDENTIFIED
        return finding.decision or REFUSED

    def _note(self, reference: ContainerReference) -> None:
        """Remember the decision about a container, to notice its change."""
        if reference not in self._decisions and len(self._decisions) >= MAX_CONTAINERS:
            alive = {
                find_container(procfs.cgroup_paths(tgid, self._proc))
                for tgid in procfs.running_processes(self._proc)
            }
            self._decisions = {key: kept for key, kept in self._decisions.items() if key in alive}
        assert self._discovery is not None
        self._decisions[reference] = self._workload_decision(reference, self._discovery.find(reference))

    def _has_gone_on(self, process: Process) -> bool:
        """Return whether a process that was read just now is no longer what is decided on.

        It has executed another program, or another process has its number. The kernel side has that undecided
        since, and it stays so until the stream reports it.
        """
        reading, facts = process.reading, process.facts
        if reading is None:
            return False
        return (
            procfs.executable_path(facts.tgid, self._proc) not in (None, facts.executable_path)
            or procfs.start_unix_ns(facts.tgid, self._proc) != reading.read.start_unix_ns
        )

    def _scan(self, containers: Collection[ContainerReference | None] | None) -> int:
        """Decide on the processes that run in some containers, or all; return how many are selected."""
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
        """Decide on a process that runs; return whether it is selected."""
        if not self._rules.decides_at_exec:
            start = procfs.start_unix_ns(tgid, self._proc)
            is_selected = self._descent.find_running(tgid) is True
            if is_selected:
                self._enforcement.introduce(tgid, ProcessPolicy(capture=self._rules.direction.roles))
                if procfs.start_unix_ns(tgid, self._proc) != start:
                    self._enforcement.remove(tgid)
                if self._on_change is not None:
                    self._on_change(tgid)
            return is_selected
        if not self._rules.accepts_executable(procfs.executable_path(tgid, self._proc)):
            return False
        if self._rules.needs_workload and find_container(procfs.cgroup_paths(tgid, self._proc)) is None:
            return False
        process = self._processes.current(tgid, self._ktime_now())
        self._decide_again(process)
        in_force = self.in_force(process)
        return in_force is not None and bool(in_force.decision.roles)
