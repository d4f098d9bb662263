"""Which program a tgid stood for, and when."""

import dataclasses
from collections.abc import Callable

import pytest

from agent import processes
from agent.processes import ENDED_KEPT_NS, EXECVE_NS, PATIENCE_NS, RECHECK_NS, ProcessTable
from agent.workloads.workload import Absence, ContainerReference, Workload
from ebpf.events import ProcessExecuted, ProcessExited, ProcessFacts, ProcessForked
from otel_bridge.span import Resource
from tests.stand_ins import ToldDiscovery

SECOND = 1_000_000_000
CONTAINER = "c" * 64
CGROUP = f"/docker/{CONTAINER}"


def facts_of(name: str, tgid: int = 10, ktime_ns: int = 0, start: int | None = 1) -> ProcessFacts:
    return ProcessFacts(ktime_ns, tgid, start, f"/bin/{name}", (name,), None)


def resource_of(facts: ProcessFacts) -> Resource:
    return Resource({"service.name": facts.executable_path or "unknown"})


class Host:
    """What runs at the moment, as /proc would say it."""

    def __init__(self) -> None:
        self.running: dict[int, ProcessFacts] = {}
        self.reads = 0

    def read(self, tgid: int, ktime_ns: int) -> ProcessFacts | None:  # noqa: ARG002
        self.reads += 1
        return self.running.get(tgid)

    def start_of(self, tgid: int) -> int | None:
        running = self.running.get(tgid)
        return running.start_unix_ns if running else None


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def table(host: Host) -> ProcessTable:
    return ProcessTable(resource_of, read=host.read, start_of=host.start_of)


def name_at(table: ProcessTable, ktime_ns: int, tgid: int = 10) -> str:
    return table.resource(table.find(tgid, ktime_ns)).service_name


def test_a_process_is_read_once_and_has_one_resource(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("server")
    assert 10 not in table.running_tgids()
    table.observe(10, 5)
    assert 10 in table.running_tgids()
    assert table.find(10, 5) is table.find(10, 6)
    assert name_at(table, 4) == "/bin/server", "its events may be older than its first sight"
    assert host.reads == 1


def test_a_shell_that_executes_curl_becomes_curl(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("sh")
    table.observe(10, 5)
    host.running[10] = facts_of("curl")
    table.execute(ProcessExecuted(20, 10, "curl", ("curl", "-s")))
    assert name_at(table, 19) == "/bin/sh"
    assert name_at(table, 20) == "/bin/curl"


def test_a_process_gone_before_proc_is_read_is_known_by_its_execve(table: ProcessTable) -> None:
    facts = table.execute(ProcessExecuted(20, 10, "./curl", ("curl", "-s"))).facts
    assert facts.executable_path == "./curl"
    assert facts.command_line == ("curl", "-s")
    assert name_at(table, 21) == "./curl"


def test_a_process_gone_before_its_first_sight_is_unknown_and_counted(table: ProcessTable) -> None:
    assert name_at(table, 21) == "unknown"
    assert table.counters()["vanished"] == 1


def test_an_exchange_that_finishes_after_the_exit_keeps_its_process(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("curl")
    table.observe(10, 5)
    del host.running[10]
    table.exit(ProcessExited(30, 10))
    assert 10 not in table.running_tgids()
    assert name_at(table, 29) == "/bin/curl"
    assert name_at(table, 31) == "/bin/curl", "the kernel closes its sockets a moment later"
    assert table.counters() == {"running": 0, "ended": 1, "vanished": 0, "forgotten": 0, "unidentified": 0}


def test_a_reused_number_is_another_process(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("first", start=1)
    table.observe(10, 5)
    table.exit(ProcessExited(30, 10))
    host.running[10] = facts_of("second", start=2)
    table.observe(10, 40)
    assert name_at(table, 29) == "/bin/first"
    assert name_at(table, 40) == "/bin/second"


def test_a_lost_exit_is_noticed_by_the_start_time(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("first", start=1)
    table.observe(10, 0)
    host.running[10] = facts_of("second", start=2)
    assert name_at(table, RECHECK_NS - 1) == "/bin/first"
    assert name_at(table, RECHECK_NS) == "/bin/second"
    assert name_at(table, 1) == "/bin/first"


def test_the_same_process_is_kept_when_checked_again(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("server")
    process = table.find(10, 0)
    assert table.find(10, RECHECK_NS) is process
    assert table.find(10, RECHECK_NS + 1) is process
    assert host.reads == 1


def test_what_a_number_stood_for_before_all_that_is_known_is_unknown(host: Host, table: ProcessTable) -> None:
    for ktime_ns, name in ((20, "a"), (30, "b"), (40, "c")):
        host.running[10] = facts_of(name)
        table.execute(ProcessExecuted(ktime_ns, 10, name, ()))
    assert [name_at(table, ktime_ns) for ktime_ns in (10, 25, 35, 45)] == [
        "unknown",
        "/bin/a",
        "/bin/b",
        "/bin/c",
    ]


def test_an_exit_of_an_unknown_process_is_ignored(table: ProcessTable) -> None:
    table.exit(ProcessExited(30, 99))
    assert table.counters()["ended"] == 0


def test_facts_of_a_recording_are_taken_without_proc() -> None:
    table = ProcessTable(resource_of)
    table.learn(facts_of("sh", ktime_ns=5))
    assert name_at(table, 6) == "/bin/sh"
    table.execute(ProcessExecuted(20, 10, "curl", ("curl",)))
    table.learn(facts_of("curl", ktime_ns=20))
    assert name_at(table, 19) == "/bin/sh"
    assert name_at(table, 20) == "/bin/curl"
    resource = table.resource(table.find(10, 21))
    table.learn(facts_of("curl", ktime_ns=20))
    assert table.resource(table.find(10, 21)) is resource
    table.exit(ProcessExited(30, 10))
    table.learn(facts_of("other", ktime_ns=40))
    assert [name_at(table, ktime_ns) for ktime_ns in (29, 40)] == ["/bin/curl", "/bin/other"]
    assert table.counters()["vanished"] == 0


def test_a_child_that_is_gone_before_it_is_read_is_what_its_parent_is(
    host: Host, table: ProcessTable
) -> None:
    host.running[10] = dataclasses.replace(facts_of("server"), cgroups=(CGROUP,))
    table.observe(10, 5)
    for child in (11, 12):
        table.fork(ProcessForked(20, child, 10))
    process = table.observe(11, 21)
    assert process.facts.executable_path == "/bin/server"
    assert process.facts.start_unix_ns is None, "that is its parent's"
    assert process.facts.tgid == 11
    assert process.container == ContainerReference(CONTAINER)
    del host.running[10]
    table.exit(ProcessExited(30, 10))
    assert name_at(table, 31, tgid=12) == "/bin/server", "a parent that has ended since is known, too"
    assert table.counters()["vanished"] == 0


def test_a_parent_that_said_nothing_is_read_at_the_fork(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("inetd")
    table.fork(ProcessForked(20, 11, 10))
    table.fork(ProcessForked(20, 13, 12))
    host.running.clear()
    assert name_at(table, 21, tgid=11) == "/bin/inetd"
    assert name_at(table, 21, tgid=13) == "unknown"


def test_a_number_that_is_forked_anew_is_another_process(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("old")
    table.observe(10, 5)
    table.fork(ProcessForked(20, 10, 9))
    assert 10 not in table.running_tgids()
    host.running[10] = facts_of("new")
    assert table.current(10, 21).facts.executable_path == "/bin/new"
    assert table.current(10, 22) is table.current(10, 23)
    assert name_at(table, 19) == "/bin/old"


def test_children_that_say_nothing_are_bounded(
    host: Host, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_PARENTS", 1)
    host.running[10] = facts_of("server")
    for child in (11, 12):
        table.fork(ProcessForked(20, child, 10))
    assert [name_at(table, 21, tgid=child) for child in (11, 12)] == ["unknown", "/bin/server"]


def test_a_container_is_named_when_discovery_has_learnt_of_it(host: Host) -> None:
    told = ToldDiscovery()
    table = ProcessTable(resource_of, read=host.read, discovery=told)
    host.running[10] = dataclasses.replace(facts_of("server", ktime_ns=5), cgroups=(CGROUP,))
    process = table.observe(10, 5)
    assert not table.complete(process, 6)
    early = table.resource(process)
    told.tell(CONTAINER, workload("shop", resolved=False))
    assert not table.complete(process, 7)
    told.tell(CONTAINER, workload("shop"))
    assert table.complete(process, 8)
    assert table.resource(process) is not early
    assert process.facts.workload == {"container.name": "shop"}
    named = table.resource(process)
    told.tell("other", Absence.UNKNOWN)
    assert table.complete(process, 9)
    assert table.resource(process) is named, "nothing about it has changed"
    told.tell(CONTAINER, workload("renamed"))
    assert table.complete(process, 10)
    assert process.facts.workload == {"container.name": "renamed"}
    told.tell(CONTAINER, Absence.UNKNOWN)
    assert table.complete(process, 11)
    assert process.facts.workload == {"container.name": "renamed"}, "the process was in it all the same"
    assert table.counters()["unidentified"] == 0


def test_a_container_that_nobody_knows_is_not_waited_for(host: Host) -> None:
    told = ToldDiscovery()
    table = ProcessTable(resource_of, read=host.read, discovery=told)
    host.running[10] = dataclasses.replace(facts_of("server"), cgroups=(CGROUP,))
    host.running[11] = facts_of("daemon", 11)
    told.tell(CONTAINER, Absence.UNKNOWN)
    assert table.complete(table.observe(10, 5), 6)
    assert table.complete(table.observe(11, 5), 6), "it runs in no container"


def test_a_container_is_waited_for_no_longer_than_patience_lasts(host: Host) -> None:
    table = ProcessTable(resource_of, read=host.read, discovery=ToldDiscovery())
    host.running[10] = dataclasses.replace(facts_of("server", ktime_ns=5), cgroups=(CGROUP,))
    process = table.observe(10, 5)
    assert not table.complete(process, PATIENCE_NS + 4)
    assert table.complete(process, PATIENCE_NS + 5)
    assert table.complete(process, PATIENCE_NS + 6)
    assert table.counters()["unidentified"] == 1


def test_a_child_that_waits_to_be_reaped_is_what_its_parent_is(host: Host, table: ProcessTable) -> None:
    """/proc has an entry of it, with its start, its cgroup, and no program."""
    host.running[10] = dataclasses.replace(facts_of("server"), service_name="shop", cgroups=(CGROUP,))
    table.observe(10, 5)
    table.fork(ProcessForked(20, 11, 10))
    host.running[11] = ProcessFacts(0, 11, 7, None, (), None)
    facts = table.observe(11, 21).facts
    assert facts == dataclasses.replace(host.running[10], ktime_ns=21, tgid=11, start_unix_ns=7)
    assert table.counters()["vanished"] == 0


@pytest.mark.parametrize("ends", [True, False])
def test_a_child_of_children_that_say_nothing_is_what_the_first_of_them_is(
    host: Host, table: ProcessTable, *, ends: bool
) -> None:
    host.running[10] = facts_of("server")
    table.observe(10, 5)
    for ktime_ns, parent in ((20, 10), (21, 11), (22, 12)):
        table.fork(ProcessForked(ktime_ns, parent + 1, parent))
        if ends:
            table.exit(ProcessExited(ktime_ns, parent))
    host.running.clear()
    assert name_at(table, 23, tgid=13) == "/bin/server"


def test_a_child_keeps_what_its_parent_was_at_the_fork(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("server")
    table.observe(10, 5)
    table.fork(ProcessForked(20, 11, 10))
    host.running[10] = facts_of("other")
    table.execute(ProcessExecuted(30, 10, "other", ()))
    assert name_at(table, 31, tgid=11) == "/bin/server"
    table.fork(ProcessForked(25, 12, 10))
    assert name_at(table, 31, tgid=12) == "/bin/server", "the fork was told late"


def test_a_fork_that_is_told_late_does_not_end_the_child(host: Host, table: ProcessTable) -> None:
    host.running[11] = facts_of("server", 11, ktime_ns=25)
    child = table.observe(11, 25)
    table.fork(ProcessForked(20, 11, 10))
    assert table.find(11, 30) is child


def test_a_container_that_is_gone_is_still_that_of_its_children(host: Host) -> None:
    told = ToldDiscovery()
    table = ProcessTable(resource_of, read=host.read, discovery=told)
    told.tell(CONTAINER, workload("shop"))
    host.running[10] = dataclasses.replace(facts_of("server"), cgroups=(CGROUP,))
    table.complete(table.observe(10, 5), 6)
    told.tell(CONTAINER, Absence.UNKNOWN)
    table.fork(ProcessForked(20, 11, 10))
    host.running.clear()
    child = table.observe(11, 21)
    assert table.complete(child, 22)
    assert isinstance(child.finding, Workload)
    assert child.facts.workload == {"container.name": "shop"}


def test_the_kernel_by_itself_is_no_process(host: Host, table: ProcessTable) -> None:
    assert name_at(table, 5, tgid=0) == "unknown"
    assert host.reads == 0
    assert table.counters()["vanished"] == 0


class Late:
    """A table that reads /proc at `now`, which is later than what it is told."""

    def __init__(self, host: Host) -> None:
        self.now = SECOND
        self.table = ProcessTable(
            resource_of, read=host.read, start_of=host.start_of, ktime_now=lambda: self.now
        )


def test_what_was_read_after_the_next_execve_is_not_believed(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("next")
    process = late.table.execute(ProcessExecuted(20, 10, "/usr/bin/first", ("first",)))
    assert process.facts.executable_path == "/usr/bin/first", "neither name nor arguments are as told"
    assert not late.table.complete(process, 25)
    late.table.execute(ProcessExecuted(30, 10, "/bin/next", ("next",)))
    assert [name_at(late.table, ktime_ns) for ktime_ns in (25, 35)] == ["/usr/bin/first", "/bin/next"]


def test_what_was_read_before_the_next_execve_is_believed(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("python3.11")
    process = late.table.execute(ProcessExecuted(20, 10, "/usr/bin/tool.py", ("python3.11",)))
    assert not late.table.complete(process, 25)
    assert late.table.delivered(late.now) == []
    assert not late.table.complete(process, 25), "its execve may be told a moment after /proc shows it"
    assert late.table.delivered(late.now + EXECVE_NS) == []
    assert late.table.complete(process, 25)
    late.table.execute(ProcessExecuted(2 * SECOND, 10, "/bin/next", ("next",)))
    assert name_at(late.table, 25) == "/bin/python3.11"


def test_an_execve_that_is_on_its_way_leaves_a_child_what_it_was(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("server")
    late.table.observe(10, 5)
    late.table.fork(ProcessForked(20, 11, 10))
    host.running[11] = facts_of("curl", 11)
    child = late.table.observe(11, 21)
    assert name_at(late.table, 21, tgid=11) == "/bin/server"
    assert not late.table.complete(child, 21)
    late.table.execute(ProcessExecuted(30, 11, "/bin/curl", ("curl",)))
    assert [name_at(late.table, ktime_ns, tgid=11) for ktime_ns in (22, 31)] == ["/bin/server", "/bin/curl"]


def test_an_execve_that_never_comes_was_lost(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("server")
    late.table.observe(10, 5)
    late.table.fork(ProcessForked(20, 11, 10))
    host.running[11] = facts_of("curl", 11)
    child = late.table.observe(11, 21)
    assert late.table.delivered(late.now + EXECVE_NS) == [child]
    assert late.table.complete(child, 22)
    assert name_at(late.table, 21, tgid=11) == "/bin/curl"


def test_a_program_whose_next_execve_was_lost_is_unknown(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("next")
    process = late.table.execute(ProcessExecuted(20, 10, "/usr/bin/first", ("first",)))
    (following,) = late.table.delivered(late.now + EXECVE_NS)
    assert process.facts.executable_path is None, "when it became the next one is not known"
    assert following.facts.executable_path == "/bin/next"
    assert late.table.find(10, late.now) is following


def test_a_number_given_away_before_it_was_read_is_not_mistaken(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("newcomer", start=9)
    late.table.observe(10, 5)
    late.table.exit(ProcessExited(30, 10))
    process = late.table.find(10, 6)
    assert process.facts.executable_path is None
    assert process.facts.start_unix_ns is None


def test_a_correction_reaches_those_who_have_inherited(host: Host) -> None:
    late = Late(host)
    host.running[10] = facts_of("next")
    late.table.execute(ProcessExecuted(20, 10, "/usr/bin/next", ("next",)))
    for ktime_ns, parent in ((21, 10), (22, 11)):
        late.table.fork(ProcessForked(ktime_ns, parent + 1, parent))
        child = late.table.observe(parent + 1, ktime_ns)
        assert child.facts.executable_path == "/bin/next"
        assert not late.table.complete(child, 23)
    late.table.execute(ProcessExecuted(30, 10, "/bin/next", ("next",)))
    assert [name_at(late.table, 23, tgid=tgid) for tgid in (11, 12)] == ["/usr/bin/next"] * 2
    assert len(late.table.delivered(late.now)) == 2, "they are to be decided on anew"


def test_readings_to_be_confirmed_are_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_UNCONFIRMED", 2)
    late = Late(host)
    for tgid in (1, 2, 3):
        host.running[tgid] = facts_of(f"p{tgid}", tgid)
        late.table.observe(tgid, tgid)
    assert [late.table.complete(late.table.find(tgid, tgid), 5) for tgid in (1, 2, 3)] == [True, False, False]


def workload(name: str, *, resolved: bool = True) -> Workload:
    return Workload(
        container_id=CONTAINER, names=(name,), attributes={"container.name": name}, is_resolved=resolved
    )


def test_ended_programs_are_bounded_by_number(
    host: Host, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_ENDED", 3)
    run_and_exit(table, host, range(1, 8), lambda tgid: tgid)
    assert table.counters()["ended"] == 3
    assert name_at(table, 7, tgid=7) == "/bin/p7"
    host.running.clear()
    assert name_at(table, 1, tgid=1) == "unknown"


def test_ended_programs_are_bounded_by_age(host: Host, table: ProcessTable) -> None:
    run_and_exit(table, host, (1, 2), lambda _: SECOND)
    run_and_exit(table, host, (3,), lambda _: 2 * SECOND + ENDED_KEPT_NS)
    assert table.counters()["ended"] == 1


def test_running_processes_are_bounded_and_read_anew(
    host: Host, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_RUNNING", 2)
    for tgid in (1, 2, 3):
        host.running[tgid] = facts_of(f"p{tgid}", tgid)
        table.observe(tgid, tgid)
    assert table.counters()["forgotten"] == 1
    assert table.counters()["running"] == 2
    assert name_at(table, 4, tgid=1) == "/bin/p1"


def run_and_exit(
    table: ProcessTable, host: Host, tgids: range | tuple[int, ...], exit_at: Callable[[int], int]
) -> None:
    for tgid in tgids:
        host.running[tgid] = facts_of(f"p{tgid}", tgid)
        table.observe(tgid, tgid)
        table.exit(ProcessExited(exit_at(tgid), tgid))
