"""Decisions in the policy map."""

from __future__ import annotations

import dataclasses
import os

import pytest

from agent.decisions import PENDING, REFUSED
from agent.enforcement import FINISHING_NS, Enforcement
from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy, ProcessPolicy
from tests.stand_ins import PoliciesInMemory

TGID = os.getpid()
GONE = 2**31 - 1
BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
DECIDED = CaptureDecision(roles=BOTH, reason="a rule")


class Host:
    def __init__(self, room: int = 10, **policies: ProcessPolicy) -> None:
        self.now = 1_000
        self.policies = PoliciesInMemory(room)
        if "own" in policies:
            self.policies.by_tgid[TGID] = policies["own"]
        self.enforcement = Enforcement(self.policies, lambda: self.now)

    @property
    def policy(self) -> ProcessPolicy | None:
        return self.enforcement.policy(TGID)


def test_a_decision_becomes_the_policy_of_a_process() -> None:
    host = Host()
    host.enforcement.enforce(TGID, REFUSED)
    assert host.policy is None, "the default policy does it"
    host.enforcement.enforce(TGID, DECIDED)
    assert host.policy == ProcessPolicy(capture=BOTH)
    host.enforcement.enforce(TGID, DECIDED)
    assert host.enforcement.counters() == {"unselectable_processes": 0, "changed_processes": 0}


def test_a_pending_process_is_captured_provisionally() -> None:
    host = Host()
    host.enforcement.enforce(TGID, PENDING)
    assert host.policy == ProcessPolicy(capture=Policy.UNDECIDED)
    host.enforcement.enforce(TGID, dataclasses.replace(PENDING, tls=False))
    assert host.policy == ProcessPolicy(capture=Policy.UNDECIDED, tls=False)
    host.enforcement.enforce(TGID, DECIDED)
    assert host.policy == ProcessPolicy(capture=BOTH)
    assert host.enforcement.counters()["changed_processes"] == 0
    host.enforcement.return_to_undecided(TGID, DECIDED)
    assert host.policy == ProcessPolicy(capture=Policy.UNDECIDED)


def test_a_process_that_has_ended_leaves_no_policy_behind() -> None:
    host = Host()
    host.enforcement.enforce(GONE, DECIDED)
    assert host.policies.by_tgid == {}


def test_a_full_policy_table_is_counted() -> None:
    host = Host(room=0)
    host.enforcement.enforce(TGID, DECIDED)
    assert host.enforcement.counters()["unselectable_processes"] == 1


def test_a_full_table_of_ports_is_counted_and_captures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(own=ProcessPolicy(capture=Policy.UNDECIDED))

    def refuse(tgid: int, policy: ProcessPolicy) -> None:
        raise OSError(28, f"no space for {policy} of {tgid}")

    monkeypatch.setattr(host.policies, "change_policy", refuse)
    host.enforcement.enforce(TGID, dataclasses.replace(DECIDED, ports=frozenset({80})))
    assert host.policies.by_tgid == {}
    assert host.enforcement.counters()["unselectable_processes"] == 1


@pytest.mark.parametrize(
    ("before", "after", "finishing"),
    [
        (DECIDED, REFUSED, BOTH),
        (DECIDED, dataclasses.replace(DECIDED, roles=Policy.CAPTURE_EGRESS), Policy.CAPTURE_INGRESS),
        (dataclasses.replace(DECIDED, roles=Policy.CAPTURE_EGRESS), DECIDED, Policy.IGNORE),
        (DECIDED, dataclasses.replace(DECIDED, ports=frozenset({80})), BOTH),
        (dataclasses.replace(DECIDED, ports=frozenset({80})), DECIDED, Policy.IGNORE),
        (
            dataclasses.replace(DECIDED, ports=frozenset({80})),
            dataclasses.replace(DECIDED, ports=frozenset({80, 81})),
            Policy.IGNORE,
        ),
        (DECIDED, dataclasses.replace(DECIDED, bodies=False), Policy.IGNORE),
    ],
    ids=["nothing", "fewer roles", "more roles", "ports", "every port", "more ports", "no bodies"],
)
def test_what_is_in_flight_is_let_finish_when_less_is_captured(
    before: CaptureDecision, after: CaptureDecision, finishing: Policy
) -> None:
    host = Host()
    host.enforcement.enforce(TGID, before)
    host.enforcement.enforce(TGID, after)
    assert host.policy is not None
    assert host.policy.finishing == finishing
    assert host.enforcement.counters()["changed_processes"] == 1
    host.now += FINISHING_NS - 1
    host.enforcement.end_finishing()
    assert host.policy.finishing == finishing
    host.now += 1
    host.enforcement.end_finishing()
    assert host.policy is None or not host.policy.finishing
    assert (host.policy is None) is (after is REFUSED)
