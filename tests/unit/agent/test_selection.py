"""Which processes are captured, with real processes of this host."""

import dataclasses
import os
import sys
from collections.abc import Callable

import pytest

from agent.attribution import Attributor
from agent.decisions import PENDING, UNIDENTIFIED, UNKNOWN, CaptureState
from agent.enforcement import FINISHING_NS
from agent.process import Process
from agent.processes import PATIENCE_NS, ProcessTable
from agent.selection import Selection
from agent.selection_rules import SelectionRules
from agent.workloads.workload import Absence, CaptureDecision, Workload
from ebpf.events import (
    Direction,
    EventKind,
    Missing,
    Origin,
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessPolicy,
    Role,
    SocketEvent,
    SocketInfo,
)
from otel_bridge.span import Resource
from parsers.http_exchange import Body, HttpExchange, HttpRequest
from tests.stand_ins import PoliciesInMemory, ToldDiscovery

BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
NEVER = 2**31 - 1
SOCKET = SocketInfo("ipv4", "127.0.0.1", 1, "127.0.0.1", 2, 1, 1, 1)


class Host:
    """A selection over a policy map, and the time."""

    def __init__(
        self,
        rules: SelectionRules,
        *,
        room: int = 1000,
        known: ToldDiscovery | None = None,
        on_change: Callable[[int], None] | None = None,
    ) -> None:
        self.now = 1_000
        self.policies = PoliciesInMemory(room)
        self.known = known
        self.processes = ProcessTable(lambda facts: Resource({"service.name": "any"}), discovery=known)  # noqa: ARG005
        self.selection = Selection(
            rules,
            self.policies,
            self.processes,
            discovery=known,
            on_change=on_change,
            ktime_now=lambda: self.now,
        )

    def execute(self, tgid: int, path: str | None, container: str | None = None) -> Process:
        """Let a process execute a program, as the kernel tells it."""
        self.policies.by_tgid[tgid] = ProcessPolicy(capture=Policy.UNDECIDED)
        cgroups = (f"/docker/{container}",) if container else ()
        process = self.processes.execute(ProcessExecuted(self.now, tgid, path or "", (), cgroups))
        if path is None:
            process.facts = ProcessFacts(self.now, tgid, None, None, (), None)
        self.selection.decide(process)
        return process

    def decision(self, process: Process) -> CaptureDecision | None:
        in_force = self.selection.in_force(process)
        return None if in_force is None else in_force.decision

    def is_pending(self, process: Process) -> bool:
        return self.selection.state(process) is CaptureState.PENDING

    def accepts(self, process: Process, exchange: HttpExchange) -> bool:
        """Return whether an exchange of a process, as the export attributes it, is accepted."""
        attributor = Attributor(self.processes, self.selection, lambda: self.now)
        start = start_of(exchange)
        attribution = attributor.attribute(process.facts.tgid, max(start, process.from_ktime_ns))
        assert attribution.program is process
        if attribution.state is CaptureState.PENDING:
            return False
        return attribution.accepts(exchange.role, exchange.socket, start)

    def captured(self) -> dict[int, Policy]:
        return {tgid: policy.capture for tgid, policy in self.policies.by_tgid.items()}


def start_of(exchange: HttpExchange) -> int:
    assert exchange.request is not None
    return exchange.request.start_ktime_ns


def event(tgid: int, *, provisional: bool = True, ktime_ns: int = 99) -> SocketEvent:
    return SocketEvent(
        EventKind.DATA,
        ktime_ns,
        1,
        Origin(ktime_ns, tgid or None),
        Direction.INGRESS,
        0,
        0,
        b"",
        Missing(0),
        Role.SERVER,
        False,
        SOCKET,
        provisional,
    )


def exchange(
    role: Role = Role.SERVER, start: int = 0, local_port: int = 1, remote_port: int = 2
) -> HttpExchange:
    socket = SocketInfo("ipv4", "127.0.0.1", local_port, "127.0.0.1", remote_port, 1, 1, 1)
    request = HttpRequest(
        method=b"GET",
        target=b"/",
        version="1.1",
        headers=[],
        body=Body(size=0, content=b"", charset=None),
        start_ktime_ns=start,
        end_ktime_ns=start,
    )
    return HttpExchange(1, 0, socket, role, Origin(start, 7), request, None)


def test_without_rules_everything_is_captured_and_nothing_decided() -> None:
    host = Host(SelectionRules())
    assert host.selection.apply_to_running() == 0
    process = host.processes.observe(os.getpid(), 5)
    host.selection.decide(process)
    assert host.policies.by_tgid == {}
    assert host.accepts(process, exchange())
    assert not host.is_pending(process)


def test_a_pid_brings_its_present_descendants(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[0],)))
    assert host.selection.apply_to_running() == 2
    assert host.captured() == dict.fromkeys(family, BOTH)


def test_several_pids_widen(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[1], os.getpid())))
    host.selection.apply_to_running()
    assert {*family, os.getpid()} <= set(host.captured())


def test_pid_and_executable_narrow(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[0],), executables=("no-such-program",)))
    assert host.selection.apply_to_running() == 0
    host = Host(SelectionRules(pids=(family[1],), executables=("*python*",)))
    host.processes._read = lambda tgid, ktime_ns: ProcessFacts(ktime_ns, tgid, 1, sys.executable, (), None)
    assert host.selection.apply_to_running() == 1
    assert set(host.captured()) == {family[1]}


def test_executables_are_found_among_all_processes(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(executables=("python3*",)))
    host.processes._read = lambda tgid, ktime_ns: ProcessFacts(ktime_ns, tgid, 1, "/bin/python3.11", (), None)
    host.selection.apply_to_running()
    assert set(family) <= set(host.captured())


def test_an_execve_is_decided_on(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(executables=("curl",)))
    host.execute(family[0], "/usr/bin/curl")
    assert host.captured() == {family[0]: BOTH}
    host.execute(family[0], "/usr/bin/wget")
    assert host.captured() == {}


def test_an_execve_in_a_selected_family_is_decided_on(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[0],), executables=("curl",)))
    host.execute(family[1], "curl")
    host.execute(os.getpid(), "curl")
    assert host.captured() == {family[1]: BOTH}


def test_a_process_that_ended_meanwhile_leaves_no_policy_behind() -> None:
    host = Host(SelectionRules(executables=("curl",)))
    host.selection.decide(host.processes.execute(ProcessExecuted(host.now, NEVER, "curl", ())))
    assert host.captured() == {}


def test_a_program_whose_name_is_unknown_is_refused(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(executables=("*",)))
    process = host.processes.observe(family[0], 5)
    host.selection.decide(process)
    assert host.decision(process) == UNKNOWN
    assert host.captured() == {}
    assert host.selection.counters()["unknown_processes"] == 1


def test_only_what_was_captured_provisionally_is_refused(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(executables=("curl",)))
    host.execute(family[0], "wget")
    assert host.selection.refuses(event(family[0], ktime_ns=host.now))
    assert not host.selection.refuses(event(family[0], provisional=False))
    host.now += 10
    host.execute(family[0], "curl")
    assert not host.selection.refuses(event(family[0], ktime_ns=host.now))
    assert host.selection.refuses(event(family[0], ktime_ns=host.now - 5)), "it was wget then"
    assert host.selection.counters()["refused_events"] == 2


def test_what_was_captured_provisionally_goes_by_role_and_port(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    assert host.known is not None
    ingress_at_1 = CaptureDecision(roles=Policy.CAPTURE_INGRESS, ports=frozenset({1}), reason="a rule")
    host.known.tell(CONTAINER, workload(decision=ingress_at_1))
    host.execute(family[0], "/bin/a", CONTAINER)
    served = event(family[0], ktime_ns=host.now)
    elsewhere = dataclasses.replace(SOCKET, local_port=3, remote_port=4)
    assert not host.selection.refuses(served)
    assert host.selection.refuses(dataclasses.replace(served, role=Role.CLIENT))
    assert not host.selection.refuses(dataclasses.replace(served, role=Role.UNKNOWN))
    assert host.selection.refuses(dataclasses.replace(served, socket=elsewhere))


def test_a_full_policy_table_is_counted(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pids=(family[0],)), room=1)
    host.selection.apply_to_running()
    assert host.selection.counters()["unselectable_processes"] == 1


def test_a_child_of_an_undecided_process_is_decided_on(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(executables=("curl",)))
    host.policies.by_tgid[family[0]] = ProcessPolicy(capture=Policy.UNDECIDED)
    host.policies.by_tgid[family[1]] = ProcessPolicy(capture=BOTH)
    host.selection.forked(family[0])
    host.selection.forked(family[1])
    host.selection.forked(NEVER)
    assert host.captured() == {family[1]: BOTH}


def test_tls_of_excluded_programs_is_left_alone_and_the_rest_of_them_captured(
    family: tuple[int, int],
) -> None:
    host = Host(SelectionRules(tls_excluded=("vault", "/opt/*")))
    host.execute(family[0], "/usr/bin/vault")
    host.execute(family[1], "/usr/bin/curl")
    assert host.policies.by_tgid == {
        family[0]: ProcessPolicy(capture=BOTH, tls=False),
        family[1]: ProcessPolicy(capture=BOTH),
    }
    plain, secret = event(family[0]), event(family[0])
    secret.socket = dataclasses.replace(SOCKET, tls="openssl")
    assert not host.selection.refuses(plain)
    assert host.selection.refuses(secret)


def test_tls_is_left_alone_while_a_container_is_not_known_too(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(containers=("shop",), tls_excluded=("vault",)), known=ToldDiscovery())
    host.execute(family[0], "/usr/bin/vault", CONTAINER)
    undecided = ProcessPolicy(capture=Policy.UNDECIDED, tls=False)
    assert host.policies.by_tgid == {family[0]: undecided}
    host.policies.by_tgid.clear()
    host.selection.apply_to_running()
    process = host.processes.execute(
        ProcessExecuted(host.now, family[1], "/vault", (), (f"/docker/{OTHER}",))
    )
    host.selection.decide(process)
    assert host.policies.by_tgid == {family[1]: undecided}


def test_who_watches_hears_of_changes_that_come_with_time_only(family: tuple[int, int]) -> None:
    heard: list[int] = []
    host = Host(SelectionRules(containers=("shop",)), known=ToldDiscovery(), on_change=heard.append)
    host.execute(family[0], "/bin/a", CONTAINER)
    host.selection.advance()
    assert heard == []
    assert host.known is not None
    host.known.tell(CONTAINER, workload())
    host.selection.advance()
    assert heard == [family[0]]
    host.selection.advance()
    assert heard == [family[0]]


def test_who_watches_hears_of_processes_selected_by_number(family: tuple[int, int]) -> None:
    heard: list[int] = []
    host = Host(SelectionRules(pids=(family[0],)), on_change=heard.append)
    host.selection.apply_to_running()
    assert sorted(heard) == sorted(family)


CONTAINER, OTHER = "a" * 64, "b" * 64
INGRESS_ONLY = CaptureDecision(roles=Policy.CAPTURE_INGRESS, reason="a rule")
EGRESS_ONLY = CaptureDecision(roles=Policy.CAPTURE_EGRESS, reason="another rule")
NOTHING = CaptureDecision(roles=Policy.IGNORE, reason="yet another")


def workload(
    name: str | None = "shop", *, resolved: bool = True, decision: CaptureDecision | None = None
) -> Workload:
    names = () if name is None else (name,)
    return Workload(container_id=CONTAINER, names=names, is_resolved=resolved, decision=decision)


def test_a_container_is_selected_by_its_name(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(containers=("sh*",)), known=ToldDiscovery())
    assert host.known is not None
    host.known.tell(CONTAINER, workload())
    host.known.tell(OTHER, Workload(container_id=OTHER, names=("till",)))
    host.execute(family[0], "/bin/a", CONTAINER)
    host.execute(family[1], "/bin/a", OTHER)
    host.execute(os.getpid(), "/bin/a")
    assert host.captured() == {family[0]: BOTH}


def test_a_container_whose_name_is_to_come_is_captured_provisionally(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(containers=("shop",)), known=ToldDiscovery())
    assert host.known is not None
    selected, refused = host.execute(family[0], "/bin/a", CONTAINER), host.execute(family[1], "/bin/a", OTHER)
    assert host.captured() == dict.fromkeys(family, Policy.UNDECIDED)
    assert host.is_pending(selected)
    assert host.decision(selected) == PENDING
    host.known.tell(CONTAINER, workload())
    host.known.tell(OTHER, Absence.UNKNOWN)
    host.selection.advance()
    assert host.captured() == {family[0]: BOTH}
    assert not host.is_pending(selected)
    assert host.accepts(selected, exchange(start=1))
    assert not host.accepts(refused, exchange(start=1))


def test_an_id_selects_a_container_that_nobody_knows(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(containers=(CONTAINER[:12],)), known=ToldDiscovery())
    host.execute(family[0], "/bin/a", CONTAINER)
    assert host.captured() == {family[0]: BOTH}


def test_patience_ends(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(containers=("shop",)), known=ToldDiscovery())
    process = host.execute(family[0], "/bin/a", CONTAINER)
    host.now += PATIENCE_NS
    host.selection.advance()
    assert host.decision(process) == UNIDENTIFIED
    assert host.captured() == {}
    assert host.known is not None
    host.known.tell(CONTAINER, workload())
    host.selection.advance()
    assert host.captured() == {family[0]: BOTH}, "it is never too late to learn"


def test_a_process_that_ended_undecided_gets_a_decision_and_no_policy(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(containers=("shop",)), known=ToldDiscovery())
    process = host.execute(family[0], "/bin/a", CONTAINER)
    host.processes.exit(ProcessExited(host.now, family[0]))
    host.policies.by_tgid.clear()
    assert host.known is not None
    host.known.tell(CONTAINER, workload())
    host.selection.advance()
    assert host.captured() == {}
    assert host.accepts(process, exchange())


def test_processes_that_run_already_are_captured_provisionally_until_they_are_known(
    family: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before the first answer of an API server."""
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    paths = dict.fromkeys(family, (f"/docker/{CONTAINER}",))
    monkeypatch.setattr("agent.procfs.cgroup_paths", lambda tgid, proc: paths.get(tgid, ()))  # noqa: ARG005
    host.processes._read = lambda tgid, ktime_ns: ProcessFacts(
        ktime_ns, tgid, 1, "/bin/a", (), None, paths.get(tgid, ())
    )
    assert host.selection.apply_to_running() == 0
    assert host.captured() == dict.fromkeys(family, Policy.UNDECIDED)
    assert host.known is not None
    host.known.tell(CONTAINER, workload(decision=INGRESS_ONLY))
    host.selection.advance()
    assert host.captured() == dict.fromkeys(family, Policy.CAPTURE_INGRESS)


def test_a_change_lets_finish_what_is_in_flight(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    assert host.known is not None
    host.known.tell(CONTAINER, workload(decision=INGRESS_ONLY))
    process = host.execute(family[0], "/bin/a", CONTAINER)
    assert host.policies.by_tgid[family[0]] == ProcessPolicy(capture=Policy.CAPTURE_INGRESS)
    host.now = 50_000
    host.known.tell(CONTAINER, workload(decision=EGRESS_ONLY))
    host.selection.advance()
    assert host.policies.by_tgid[family[0]] == ProcessPolicy(
        capture=Policy.CAPTURE_EGRESS, finishing=Policy.CAPTURE_INGRESS
    )
    assert host.accepts(process, exchange(Role.SERVER, start=49_999))
    assert not host.accepts(process, exchange(Role.SERVER, start=50_001))
    assert not host.accepts(process, exchange(Role.CLIENT, start=49_999))
    assert host.accepts(process, exchange(Role.CLIENT, start=50_001))
    assert host.selection.counters()["changed_processes"] == 1
    host.now += FINISHING_NS
    host.selection.advance()
    assert host.policies.by_tgid[family[0]] == ProcessPolicy(capture=Policy.CAPTURE_EGRESS)


def test_what_is_not_captured_any_more_leaves_the_map_when_it_has_finished(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    assert host.known is not None
    host.known.tell(CONTAINER, workload(decision=INGRESS_ONLY))
    host.execute(family[0], "/bin/a", CONTAINER)
    host.known.tell(CONTAINER, workload(decision=NOTHING))
    host.selection.advance()
    assert host.policies.by_tgid[family[0]] == ProcessPolicy(
        capture=Policy.IGNORE, finishing=Policy.CAPTURE_INGRESS
    )
    host.policies.by_tgid[family[1]] = host.policies.by_tgid[family[0]]
    host.selection.forked(family[1])
    host.now += FINISHING_NS
    host.selection.advance()
    assert host.policies.by_tgid == {}, "a child that inherited the leave to finish included"


def test_other_ports_let_finish_too(family: tuple[int, int]) -> None:
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    assert host.known is not None
    at_80 = CaptureDecision(roles=BOTH, ports=frozenset({80}), bodies=False, reason="ports")
    at_90 = CaptureDecision(roles=BOTH, ports=frozenset({90}), reason="ports")
    host.known.tell(CONTAINER, workload(decision=at_80))
    process = host.execute(family[0], "/bin/a", CONTAINER)
    assert host.policies.by_tgid[family[0]] == ProcessPolicy(
        capture=BOTH, ports=frozenset({80}), bodies=False
    )
    assert host.accepts(process, exchange(local_port=80))
    assert host.accepts(process, exchange(remote_port=80))
    assert not host.accepts(process, exchange(local_port=90))
    host.known.tell(CONTAINER, workload(decision=at_90))
    host.selection.advance()
    assert host.policies.by_tgid[family[0]].finishing == BOTH


def test_a_decision_that_stays_costs_no_pass_over_the_processes(
    family: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    assert host.known is not None
    host.known.tell(CONTAINER, workload(decision=INGRESS_ONLY))
    host.execute(family[0], "/bin/a", CONTAINER)

    def no_pass(proc: object) -> list[int]:
        raise AssertionError(f"{proc} was listed")

    monkeypatch.setattr("agent.procfs.running_processes", no_pass)
    host.known.tell(CONTAINER, workload("renamed", decision=INGRESS_ONLY))
    host.known.tell(OTHER, workload(decision=NOTHING))
    host.selection.advance()


def test_containers_without_a_process_are_forgotten(
    family: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.selection.MAX_CONTAINERS", 1)
    host = Host(SelectionRules(pods=True), known=ToldDiscovery())
    host.execute(family[0], "/bin/a", CONTAINER)
    host.execute(family[1], "/bin/a", OTHER)
    assert [reference.container_id for reference in host.selection._decisions] == [OTHER]
