"""What passes from a process to its children and to its next program, beside facts."""

from __future__ import annotations

import gc

import pytest

from agent.decisions import PENDING, REFUSED, CaptureState, DecisionInForce
from agent.process import Process
from agent.processes import ProcessTable
from agent.standings import Standings
from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy, ProcessExecuted, ProcessExited, ProcessFacts, ProcessForked
from otel_bridge.span import Resource

ACCEPTED = CaptureDecision(roles=Policy.CAPTURE_INGRESS, reason="a rule")


def process(tgid: int) -> Process:
    return Process(ProcessFacts(0, tgid, None, None, (), None), 0, 0, None)


def in_force(decision: CaptureDecision, done_ktime_ns: int = 20) -> DecisionInForce:
    return DecisionInForce(decision, 10, done_ktime_ns, None)


def test_a_new_process_is_undecided_and_pending() -> None:
    standing = Standings().of(process(1))
    assert standing.in_force is None
    assert standing.state is CaptureState.PENDING


@pytest.mark.parametrize(
    ("decision", "forked_ktime_ns", "is_born_decided"),
    [
        (ACCEPTED, 21, True),
        (ACCEPTED, 20, False),
        (REFUSED, 21, True),
        (PENDING, 21, False),
        (None, 21, False),
    ],
)
def test_a_child_is_born_decided_when_its_parent_was(
    *, decision: CaptureDecision | None, forked_ktime_ns: int, is_born_decided: bool
) -> None:
    standings, parent, child = Standings(), process(1), process(2)
    former = standings.of(parent)
    former.in_force = None if decision is None else in_force(decision)
    former.is_attested = former.is_descendant = True
    standings.hand_to_child(parent, child, forked_ktime_ns)
    standing = standings.of(child)
    assert standing.is_born_decided is is_born_decided
    assert standing.is_attested
    assert standing.is_descendant
    assert standing.in_force is None, "a decision is never inherited"


@pytest.mark.parametrize("is_sure", [True, False])
@pytest.mark.parametrize("decision", [ACCEPTED, REFUSED, None])
def test_the_end_of_a_refused_process_is_not_reported(
    decision: CaptureDecision | None, *, is_sure: bool
) -> None:
    standings, former, successor = Standings(), process(1), process(1)
    standings.of(former).is_descendant = True
    standings.of(former).in_force = None if decision is None else in_force(decision)
    standings.hand_to_successor(former, successor, is_sure=is_sure)
    is_inherited = is_sure or decision is not REFUSED
    assert standings.of(successor).is_descendant is (True if is_inherited else None)


def test_what_proc_showed_of_another_process_is_forgotten() -> None:
    standings, each = Standings(), process(1)
    standings.of(each).inherits_descent, standings.of(each).is_descendant = False, True
    standings.withdraw_reading(each)
    assert standings.of(each).is_descendant is False


def test_a_revised_process_is_undecided_again() -> None:
    standings, each = Standings(), process(1)
    standings.of(each).in_force = in_force(ACCEPTED)
    standings.revise(each)
    assert standings.of(each).state is CaptureState.PENDING


def test_an_entry_lives_as_long_as_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.processes.MAX_ENDED", 2)
    standings = Standings()
    table = ProcessTable(lambda facts: Resource({"service.name": str(facts.tgid)}))
    table.heritage = standings
    table.execute(ProcessExecuted(1, 7, "/bin/server", ()))
    for child in range(100, 150):
        table.fork(ProcessForked(child, child, 7))
        standings.of(table.observe(child, child))
        table.exit(ProcessExited(child, child))
    gc.collect()
    assert len(standings) == 3, "the server, and the two that ended last"
