"""Process events on their way to the process table, the selection and the TLS processes."""

from __future__ import annotations

import pytest

from agent.decisions import CaptureState
from agent.process_feed import ProcessFeed
from agent.processes import EXECVE_NS, ProcessTable
from agent.selection import Selection
from agent.selection_rules import SelectionRules
from ebpf.events import (
    ClockSample,
    Direction,
    EventKind,
    FileMapped,
    Missing,
    Origin,
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    ProcessPolicy,
    Role,
    SocketEvent,
    SocketInfo,
)
from otel_bridge.span import Resource
from tests.stand_ins import PoliciesInMemory

TGID = 42
SOCKET = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4_000, 1, 2, 3)


class SeenTls:
    """Writes down what is called, and the policy of the process at that moment."""

    def __init__(self, policies: PoliciesInMemory) -> None:
        self._policies = policies
        self.seen: list[tuple[object, ...]] = []

    def mapped(self, event: FileMapped) -> None:
        self.seen.append(("mapped", event.name))

    def executed(self, tgid: int, path: str | None) -> None:
        policy = self._policies.policy(tgid)
        self.seen.append(("executed", path, policy is not None and policy.capture))

    def forked(self, tgid: int, parent_tgid: int) -> None:
        self.seen.append(("forked", tgid, parent_tgid))

    def exited(self, tgid: int) -> None:
        self.seen.append(("exited", tgid))


class Host:
    def __init__(self, *executables: str) -> None:
        self.policies = PoliciesInMemory()
        self.shown: dict[int, ProcessFacts] = {}
        self.now = 1_000
        self.processes = ProcessTable(
            lambda facts: Resource({"service.name": str(facts.tgid)}),
            read=lambda tgid, _: self.shown.get(tgid),
            ktime_now=lambda: self.now,
        )
        self.selection = Selection(
            SelectionRules(executables=executables),
            self.policies,
            self.processes,
            ktime_now=lambda: self.now,
        )
        self.tls = SeenTls(self.policies)
        self.feed = ProcessFeed(self.processes, self.selection, self.tls)  # type: ignore[arg-type]


def event(kind: EventKind = EventKind.DATA, tgid: int = TGID, *, provisional: bool = True) -> SocketEvent:
    return SocketEvent(
        *(kind, 20, 1, Origin(20, tgid or None), Direction.INGRESS, 0, 0, b"", Missing(0)),
        *(Role.SERVER, False, SOCKET, provisional),
    )


def test_tls_is_looked_for_by_the_policy_that_was_decided() -> None:
    host = Host("curl")
    host.policies.by_tgid[TGID] = ProcessPolicy(capture=Policy.UNDECIDED)
    for path in ("/bin/curl", "/bin/wget"):
        process = host.feed.take(ProcessExecuted(10, TGID, path, ()))
        assert process is not None
        assert process.facts.executable_path == path
    assert host.tls.seen == [
        ("executed", "/bin/curl", Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS),
        ("executed", "/bin/wget", False),
    ]


def test_each_kind_of_event_reaches_all_that_keeps_something_by_process() -> None:
    host = Host()
    assert host.feed.take(ProcessFacts(5, 7, 1, "/bin/server", (), None)) is None
    assert host.feed.take(ProcessForked(10, TGID, 7)) is None
    assert host.feed.sight(event()) is not None
    assert host.processes.find(TGID, 20).facts.executable_path == "/bin/server"
    assert host.feed.take(FileMapped(21, TGID, 1, "libssl.so.3")) is None
    assert host.feed.take(ProcessExited(22, TGID)) is None
    assert host.feed.take(ClockSample(23, 23)) is None
    assert TGID not in host.feed.seen_tgids
    assert host.tls.seen == [("forked", TGID, 7), ("mapped", "libssl.so.3"), ("exited", TGID)]


def test_a_replayed_source_has_a_process_table_alone() -> None:
    processes = ProcessTable(lambda facts: Resource({"service.name": str(facts.tgid)}))
    feed = ProcessFeed(processes)
    for each in (
        ProcessFacts(5, 7, 1, "/bin/server", (), None),
        ProcessForked(10, TGID, 7),
        ProcessExecuted(11, TGID, "/bin/curl", ()),
        FileMapped(12, TGID, 1, "libssl.so.3"),
    ):
        feed.take(each)
    assert not feed.refuses(event())
    feed.note_delivered(20)
    feed.advance()
    assert processes.find(TGID, 20).facts.executable_path == "/bin/curl"


@pytest.mark.parametrize("kind", [EventKind.OPENED, EventKind.DATA])
def test_a_process_is_sighted_once_and_decided_on(kind: EventKind) -> None:
    host = Host("curl")
    process = host.feed.sight(event(kind))
    assert process is not None
    assert host.selection.state(process) is CaptureState.REFUSED
    assert host.feed.refuses(event(kind))
    assert host.feed.sight(event(kind)) is None
    assert TGID in host.feed.seen_tgids


@pytest.mark.parametrize(("kind", "tgid"), [(EventKind.ENDED, TGID), (EventKind.DATA, 0)])
def test_what_no_running_process_does_is_no_sight(kind: EventKind, tgid: int) -> None:
    host = Host("curl")
    assert host.feed.sight(event(kind, tgid)) is None
    assert not host.feed.seen_tgids


def test_what_turns_out_otherwise_is_decided_on_anew() -> None:
    host = Host("curl")
    host.feed.take(ProcessExecuted(10, 7, "/bin/curl", ()))
    host.feed.take(ProcessForked(11, TGID, 7))
    host.shown[TGID] = ProcessFacts(20, TGID, 1, "/bin/wget", ("wget",), None)
    child = host.feed.sight(event(provisional=False))
    assert child is not None
    assert host.selection.state(child) is CaptureState.ACCEPTED
    assert host.feed.awaits_delivery
    host.feed.note_delivered(host.now + EXECVE_NS)
    assert host.selection.state(child) is CaptureState.REFUSED
    assert not host.feed.awaits_delivery
