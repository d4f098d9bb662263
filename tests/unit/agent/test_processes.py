"""Which program a tgid stood for, and when."""

from collections.abc import Callable

import pytest

from agent import processes
from agent.processes import ENDED_KEPT_NS, RECHECK_NS, ProcessTable
from ebpf.events import ProcessExecuted, ProcessExited, ProcessFacts
from otel_bridge.span import Resource

SECOND = 1_000_000_000


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
    return table.resource(tgid, ktime_ns).service_name


def test_a_process_is_read_once_and_has_one_resource(host: Host, table: ProcessTable) -> None:
    host.running[10] = facts_of("server")
    assert 10 not in table
    table.observe(10, 5)
    assert 10 in table
    assert table.resource(10, 5) is table.resource(10, 6)
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
    facts = table.execute(ProcessExecuted(20, 10, "./curl", ("curl", "-s")))
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
    assert 10 not in table
    assert name_at(table, 29) == "/bin/curl"
    assert name_at(table, 31) == "/bin/curl", "the kernel closes its sockets a moment later"
    assert table.counters() == {"running": 0, "ended": 1, "vanished": 0, "forgotten": 0}


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
    resource = table.resource(10, 0)
    assert table.resource(10, RECHECK_NS) is resource
    assert table.resource(10, RECHECK_NS + 1) is resource
    assert host.reads == 1


def test_exchanges_before_every_known_program_get_the_earliest(host: Host, table: ProcessTable) -> None:
    for ktime_ns, name in ((20, "a"), (30, "b"), (40, "c")):
        host.running[10] = facts_of(name)
        table.execute(ProcessExecuted(ktime_ns, 10, name, ()))
    assert [name_at(table, ktime_ns) for ktime_ns in (10, 25, 35, 45)] == [
        "/bin/a",
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
    resource = table.resource(10, 21)
    table.learn(facts_of("curl", ktime_ns=20))
    assert table.resource(10, 21) is resource
    table.exit(ProcessExited(30, 10))
    table.learn(facts_of("other", ktime_ns=40))
    assert [name_at(table, ktime_ns) for ktime_ns in (29, 40)] == ["/bin/curl", "/bin/other"]
    assert table.counters()["vanished"] == 0


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
