"""Whose an exchange is, and whether it is captured, as the export sees it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from agent.attribution import Attribution, Attributor
from agent.decisions import CaptureState
from agent.process import END_OF_TIME_NS
from agent.processes import EXECVE_NS, ProcessTable
from agent.selection import Selection
from agent.selection_rules import SelectionRules
from agent.workloads.workload import CaptureDecision, Workload
from ebpf.events import (
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    Role,
    SocketInfo,
)
from otel_bridge.resources import ResourceBuilder
from otel_bridge.span import Resource
from tests.stand_ins import PoliciesInMemory, ToldDiscovery

CONTAINER = "c" * 64
TGID = 42
SOCKET = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4_000, 1, 2, 3)
EXE = SelectionRules(executables=("curl",))


class Host:
    """A process table that reads /proc, a selection over it if there are rules, and the time."""

    def __init__(
        self, proc: Path, rules: SelectionRules | None = None, known: ToldDiscovery | None = None
    ) -> None:
        self.now = 1_000
        self.shown: dict[int, ProcessFacts] = {}
        self.processes = ProcessTable(
            ResourceBuilder({}).build,
            read=lambda tgid, _: self.shown.get(tgid),
            discovery=known,
            ktime_now=lambda: self.now,
        )
        self.selection = None
        if rules is not None:
            self.selection = Selection(
                rules,
                PoliciesInMemory(),
                self.processes,
                discovery=known,
                ktime_now=lambda: self.now,
                proc=proc,
            )
        self.attributor = Attributor(self.processes, self.selection, lambda: self.now)

    def show(self, name: str, tgid: int = TGID) -> None:
        self.shown[tgid] = ProcessFacts(
            self.now, tgid, 1, f"/bin/{name}", (name,), None, (f"/docker/{CONTAINER}",)
        )

    def deliver(self) -> None:
        """Let the stream catch up with what /proc said."""
        self.processes.delivered(self.now + EXECVE_NS)


def states(host: Host, first: Attribution) -> list[CaptureState]:
    return [each.state for each in (first, host.attributor.renew(first), host.attributor.conclude(first))]


def test_what_nothing_has_decided_on_is_pending_then_refused_and_never_accepted(tmp_path: Path) -> None:
    """`--exe` with a process that no execve, no fork and no first sight has brought to the selection."""
    host = Host(tmp_path, EXE)
    assert host.selection is not None
    process = host.processes.observe(TGID, 5)
    seen = [host.selection.state(process)]
    assert host.selection.in_force(process) is None
    first = host.attributor.attribute(TGID, 6)
    assert first.program is process
    seen += states(host, first)
    assert seen == [CaptureState.PENDING, *[CaptureState.REFUSED] * 3]
    assert not first.accepts(Role.SERVER, SOCKET, 6)
    assert first.resource is None


@pytest.mark.parametrize(("name", "then"), [("curl", CaptureState.ACCEPTED), ("wget", CaptureState.REFUSED)])
def test_what_proc_says_is_pending_until_the_stream_is_there(
    tmp_path: Path, name: str, then: CaptureState
) -> None:
    host = Host(tmp_path, EXE)
    host.show(name)
    first = host.attributor.attribute(TGID, 5)
    assert states(host, first) == [CaptureState.PENDING, CaptureState.PENDING, then]
    assert not first.accepts(Role.SERVER, SOCKET, 5)
    host.deliver()
    assert host.attributor.renew(first).state is then
    assert first.state is CaptureState.PENDING, "an attribution stays what it was"


def test_a_decision_that_was_withdrawn_is_undecided_again(tmp_path: Path) -> None:
    """The child of a selected program turns out to have executed another one."""
    host = Host(tmp_path, EXE)
    host.show("curl")
    host.processes.execute(ProcessExecuted(5, TGID, "/bin/curl", ("curl",)))
    host.processes.fork(ProcessForked(6, TGID + 1, TGID))
    host.show("wget", TGID + 1)
    first = host.attributor.attribute(TGID + 1, 7)
    assert first.state is CaptureState.PENDING
    host.deliver()
    assert host.attributor.renew(first).state is CaptureState.REFUSED


def test_without_rules_all_is_accepted_as_soon_as_it_is_known(tmp_path: Path) -> None:
    known = ToldDiscovery()
    host = Host(tmp_path, known=known)
    host.show("curl")
    first = host.attributor.attribute(TGID, 5)
    host.deliver()
    assert host.attributor.renew(first).state is CaptureState.PENDING, "its container may get a name"
    nameless = host.attributor.conclude(first)
    assert nameless.state is CaptureState.ACCEPTED
    assert nameless.resource is not None
    assert "container.name" not in nameless.resource.attributes
    known.tell(CONTAINER, Workload(container_id=CONTAINER, names=(), attributes={"container.name": "shop"}))
    named = host.attributor.renew(first)
    assert named.state is CaptureState.ACCEPTED
    assert named.resource is not None
    assert named.resource.attributes["container.name"] == "shop"
    assert named.accepts(Role.CLIENT, SOCKET, 5)
    assert named.bodies


def test_an_accepted_program_is_accepted_in_its_role_and_at_its_ports(tmp_path: Path) -> None:
    known = ToldDiscovery()
    decision = CaptureDecision(
        roles=Policy.CAPTURE_INGRESS, ports=frozenset({80}), bodies=False, reason="a rule"
    )
    known.tell(CONTAINER, Workload(container_id=CONTAINER, names=("shop",), decision=decision))
    host = Host(tmp_path, SelectionRules(pods=True), known)
    host.show("curl")
    first = host.attributor.attribute(TGID, 5)
    host.deliver()
    accepted = host.attributor.renew(first)
    assert accepted.state is CaptureState.ACCEPTED
    assert not accepted.bodies
    assert accepted.accepts(Role.SERVER, SOCKET, 5)
    assert not accepted.accepts(Role.CLIENT, SOCKET, 5)
    assert not accepted.accepts(Role.SERVER, dataclasses.replace(SOCKET, local_port=81), 5)


def test_a_former_decision_counts_when_the_next_one_can_not_be_waited_for(tmp_path: Path) -> None:
    known = ToldDiscovery()
    ingress = CaptureDecision(roles=Policy.CAPTURE_INGRESS, reason="a rule")
    known.tell(CONTAINER, Workload(container_id=CONTAINER, names=("shop",), decision=ingress))
    host = Host(tmp_path, SelectionRules(pods=True), known)
    assert host.selection is not None
    host.show("curl")
    first = host.attributor.attribute(TGID, 5)
    host.deliver()
    host.now = 2_000
    later = CaptureDecision(roles=None, reason="depends on a name that is to come")
    known.tell(CONTAINER, Workload(container_id=CONTAINER, names=(), is_resolved=False, decision=later))
    host.selection.advance()
    assert host.attributor.renew(first).state is CaptureState.PENDING
    concluded = host.attributor.conclude(first)
    assert concluded.accepts(Role.SERVER, SOCKET, 1_500)
    assert not concluded.accepts(Role.SERVER, SOCKET, 2_500)


def test_an_attribution_holds_for_later_exchanges_while_its_program_runs(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.show("curl")
    process = host.processes.execute(ProcessExecuted(50, TGID, "/bin/curl", ("curl",)))
    running = host.attributor.attribute(TGID, 60)
    assert running.program is process
    assert running.tgid == TGID
    assert running.holds_from_ktime_ns == 50
    host.processes.exit(ProcessExited(70, TGID))
    assert host.attributor.attribute(TGID, 60).holds_from_ktime_ns == END_OF_TIME_NS


def test_a_bug_in_a_resource_is_told_and_not_raised(tmp_path: Path) -> None:
    def broken(facts: ProcessFacts) -> Resource:
        raise ValueError(f"no resource for {facts.tgid}")

    host = Host(tmp_path)
    host.processes._build_resource = broken
    attribution = host.attributor.attribute(TGID, 5)
    assert attribution.state is CaptureState.ACCEPTED
    assert attribution.resource is None
    assert isinstance(attribution.bug, ValueError)
