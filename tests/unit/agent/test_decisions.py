"""What a decision covers, and since when."""

from __future__ import annotations

import dataclasses

import pytest

from agent.decisions import PENDING, REFUSED, UNKNOWN, CaptureState, DecisionInForce, covers
from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy, Role, SocketInfo

SOCKET = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4_000, 1, 2, 3)
INGRESS = CaptureDecision(roles=Policy.CAPTURE_INGRESS, reason="a rule")
EGRESS = CaptureDecision(roles=Policy.CAPTURE_EGRESS, reason="another")


@pytest.mark.parametrize(
    ("decision", "former", "state"),
    [
        (INGRESS, None, CaptureState.ACCEPTED),
        (PENDING, None, CaptureState.PENDING),
        (PENDING, INGRESS, CaptureState.PENDING),
        (REFUSED, None, CaptureState.REFUSED),
        (UNKNOWN, None, CaptureState.REFUSED),
        (REFUSED, INGRESS, CaptureState.ACCEPTED),
    ],
)
def test_the_state_of_a_process(
    decision: CaptureDecision, former: CaptureDecision | None, state: CaptureState
) -> None:
    assert DecisionInForce(decision, 10, 20, former).state is state


def test_a_decision_covers_its_roles_and_ports_and_tls() -> None:
    assert covers(INGRESS, Role.SERVER, SOCKET)
    assert not covers(INGRESS, Role.CLIENT, SOCKET)
    assert covers(INGRESS, Role.UNKNOWN, SOCKET)
    assert not covers(REFUSED, Role.UNKNOWN, SOCKET)
    assert not covers(PENDING, Role.UNKNOWN, SOCKET)
    for port, is_covered in ((80, True), (4_000, True), (81, False)):
        at_port = dataclasses.replace(INGRESS, ports=frozenset({port}))
        assert covers(at_port, Role.SERVER, SOCKET) is is_covered
    without_tls = dataclasses.replace(INGRESS, tls=False)
    assert covers(without_tls, Role.SERVER, SOCKET)
    assert not covers(without_tls, Role.SERVER, dataclasses.replace(SOCKET, tls="openssl"))


@pytest.mark.parametrize(
    ("start_ktime_ns", "ingress", "egress"),
    [(9, True, False), (10, True, True), (20, True, True), (21, False, True)],
    ids=["before", "while the map is written", "at its end", "after"],
)
def test_an_exchange_goes_by_the_decision_that_held_when_it_began(
    *, start_ktime_ns: int, ingress: bool, egress: bool
) -> None:
    changed = DecisionInForce(EGRESS, 10, 20, INGRESS)
    assert changed.accepts(Role.SERVER, SOCKET, start_ktime_ns) is ingress
    assert changed.accepts(Role.CLIENT, SOCKET, start_ktime_ns) is egress


def test_the_first_decision_is_also_about_what_was_captured_provisionally() -> None:
    assert DecisionInForce(INGRESS, 10, 20, None).accepts(Role.SERVER, SOCKET, 1)
