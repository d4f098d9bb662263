"""What becomes of processes that were not decided on, and of unknown ones."""

import os

import pytest

from agent.decisions import REFUSED, CaptureState
from agent.selection_rules import SelectionRules
from ebpf.events import (
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    ProcessPolicy,
    Role,
)
from tests.stand_ins import ToldDiscovery
from tests.unit.agent.test_selection import NEVER, Host, event, exchange

SELECTING = {
    "exe": SelectionRules(executables=("*",)),
    "pid": SelectionRules(pids=(os.getpid(),)),
    "exe and pid": SelectionRules(executables=("*",), pids=(os.getpid(),)),
    "container": SelectionRules(containers=("*",)),
    "pods": SelectionRules(pods=True),
}


@pytest.mark.parametrize("rules", SELECTING.values(), ids=SELECTING)
def test_what_nothing_has_decided_on_is_pending(rules: SelectionRules) -> None:
    host = Host(rules, known=ToldDiscovery())
    process = host.processes.observe(NEVER, 5)
    assert host.selection.state(process) is CaptureState.PENDING
    assert host.selection.in_force(process) is None
    assert host.selection.consider(process) is not CaptureState.PENDING


@pytest.mark.parametrize(("is_attested", "by_number_alone"), [(True, False), (False, True), (False, False)])
def test_a_policy_of_its_own_is_handed_on_to_descendants_alone(
    *, is_attested: bool, by_number_alone: bool
) -> None:
    """A process that has ended and is captured by a policy descends from one that was selected by number."""
    excluded = () if by_number_alone else ("vault",)
    host = Host(SelectionRules(pids=(os.getpid(),), tls_excluded=excluded))
    process = host.processes.observe(NEVER, 5)
    host.selection.sighted(process, event(NEVER, provisional=not is_attested))
    decision = host.decision(process)
    assert decision is not None
    assert bool(decision.roles) is (is_attested or by_number_alone)


@pytest.mark.parametrize("rules", SELECTING.values(), ids=SELECTING)
def test_the_kernel_by_itself_is_not_accepted(rules: SelectionRules) -> None:
    host = Host(rules, known=ToldDiscovery())
    process = host.processes.find(0, 5)
    host.selection.decide(process)
    assert not host.is_pending(process)
    assert not host.accepts(process, exchange())


@pytest.mark.parametrize("provisional", [True, False])
@pytest.mark.parametrize("rules", SELECTING.values(), ids=SELECTING)
def test_of_an_unknown_process_the_policy_that_captured_it_counts(
    rules: SelectionRules, *, provisional: bool
) -> None:
    host = Host(rules, known=ToldDiscovery())
    process = host.processes.observe(NEVER, 5)
    host.selection.sighted(process, event(NEVER, provisional=provisional))
    assert not host.is_pending(process)
    # by number alone nothing is captured provisionally
    assert host.accepts(process, exchange()) is (not provisional or not rules.decides_at_exec)
    assert host.captured() == {}


def test_of_an_unknown_process_that_runs_its_policy_is_kept(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    inherited = ProcessPolicy(capture=Policy.CAPTURE_INGRESS, ports=frozenset({1}), bodies=False)
    host.policies.by_tgid[family[0]] = inherited
    process = host.processes.observe(family[0], 5)
    host.selection.sighted(process, event(family[0], provisional=False))
    assert host.policies.by_tgid == {family[0]: inherited}
    assert host.accepts(process, exchange())
    assert not host.accepts(process, exchange(Role.CLIENT))
    decision = host.decision(process)
    assert decision is not None
    assert not decision.bodies


def test_children_of_a_selected_family_are_known_when_they_have_ended(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[0],), executables=("curl",)))
    host.execute(family[0], "curl")
    host.processes.fork(ProcessForked(host.now, NEVER, family[0]))
    host.processes.exit(ProcessExited(host.now, family[0]))
    host.processes.fork(ProcessForked(host.now, NEVER - 1, NEVER))
    child = host.processes.observe(NEVER - 1, host.now)
    host.selection.decide(child)
    assert host.accepts(child, exchange())
    host.processes.execute(ProcessExecuted(host.now, NEVER - 1, "wget", ()))
    again = host.processes.execute(ProcessExecuted(host.now, NEVER - 1, "curl", ()))
    host.selection.decide(again)
    assert host.accepts(again, exchange(start=host.now)), "it descends as before"


def test_a_number_that_another_process_has_now_selects_it_not(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[0],), executables=("curl",)))
    host.selection._descent._starts[family[0]] = 7
    process = host.execute(family[1], "curl")
    assert host.decision(process) == REFUSED


def test_what_is_captured_provisionally_after_the_decision_is_another_program(
    family: tuple[int, int],
) -> None:
    """Its execve was not told."""
    host = Host(SelectionRules(executables=("curl",)))
    host.execute(family[0], "curl")
    host.processes._read = lambda tgid, ktime_ns: ProcessFacts(ktime_ns, tgid, 1, "/bin/wget", (), None)
    host.policies.by_tgid[family[0]] = ProcessPolicy(capture=Policy.UNDECIDED)
    assert not host.selection.refuses(event(family[0], ktime_ns=host.now))
    assert host.selection.refuses(event(family[0], ktime_ns=host.now + 1))
    assert host.captured() == {}
    assert host.selection.counters()["missed_executions"] == 1


def test_a_child_of_a_decided_process_is_not_captured_provisionally_either(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(executables=("curl",)))
    host.execute(family[0], "curl")
    host.processes.fork(ProcessForked(host.now + 1, NEVER, family[0]))
    child = host.processes.observe(NEVER, host.now + 2)
    provisional = event(NEVER, ktime_ns=host.now + 2)
    host.now += 10
    host.selection.sighted(child, provisional)
    assert host.selection.refuses(provisional), "it has executed a program that was not told, and ended"
    assert host.selection.counters()["unknown_processes"] == 1
