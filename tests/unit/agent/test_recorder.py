"""The order in which a recording takes records and the facts of their processes."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from agent import recorder
from agent.processes import ProcessTable
from agent.recorder import Recorder
from agent.selection import Selection
from agent.selection_rules import SelectionRules
from agent.stop import GRACE_SECONDS, StopRequest
from agent.workloads.workload import Absence, Workload
from ebpf import layout
from ebpf.events import (
    CaptureEvent,
    ClockSample,
    FileMapped,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    SocketEvent,
)
from ebpf.input_stream import InputStream
from ebpf.recording import RecordedCapture, RecordingWriter
from otel_bridge.span import Resource
from tests.stand_ins import PoliciesInMemory, ToldDiscovery

CONTAINER, OTHER = "a" * 64, "b" * 64
SHOP = Workload(container_id=CONTAINER, names=("shop",), attributes={"container.name": "shop"})


class Source:
    """Batches of kernel records."""

    def __init__(self, *batches: list[bytes]) -> None:
        self._batches = list(batches)

    def poll_raw(self, timeout_seconds: float) -> list[bytes]:  # noqa: ARG002
        return self._batches.pop(0) if self._batches else []


def data(tgid: int, number: int, *, provisional: bool = True) -> bytes:
    flags = layout.RECORD_PROVISIONAL if provisional else 0
    address = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    values = (1, 0, 2, flags, tgid, now() + number, number, 0, 1, 0, 1, tgid)
    facts = layout.SOCKET_FACTS.pack(1, number, 1, 2, 80, 4000, 0, 0, address, address)
    return layout.SOCKET_RECORD.pack(*values) + facts + b"x"


def executed(tgid: int, container: str) -> bytes:
    cgroups = f"{container}\0docker\0\0".encode()
    return layout.PROCESS_RECORD.pack(5, len(cgroups), tgid, now(), 2, 0) + b"/a" + cgroups


def exited(tgid: int) -> bytes:
    return layout.PROCESS_RECORD.pack(6, 0, tgid, now(), 0, 0)


def forked(tgid: int, parent: int) -> bytes:
    return layout.FORK_RECORD.pack(7, tgid, now(), parent)


def now() -> int:
    return time.monotonic_ns()


class Recording:
    """A recording that is being made, and what it holds in the end."""

    def __init__(
        self,
        folder: Path,
        rules: SelectionRules,
        told: ToldDiscovery | None,
        *batches: list[bytes],
        tls_processes: object = None,
    ):
        self._file = folder / "traffic.wsr"
        self._writer = RecordingWriter(self._file, version="1", capture_id=bytes(16))
        processes = ProcessTable(lambda facts: Resource({"service.name": "any"}), discovery=told)  # noqa: ARG005
        selection = Selection(rules, PoliciesInMemory(), processes, discovery=told)
        source = Source(*batches)
        self.recorder = Recorder(source, self._writer, processes, selection, tls_processes)  # type: ignore[arg-type]
        self.selection = selection

    def read(self) -> list[CaptureEvent]:
        self._writer.close({})
        source = RecordedCapture(InputStream.open(self._file))
        events = source.poll(0)
        source.close()
        return [event for event in events if not isinstance(event, ClockSample)]


def outline(events: list[CaptureEvent]) -> list[tuple[str, int]]:
    names = {
        SocketEvent: "data",
        ProcessExecuted: "exec",
        ProcessExited: "exit",
        ProcessForked: "fork",
        ProcessFacts: "facts",
    }
    return [
        (names[type(event)], event.origin.tgid if isinstance(event, SocketEvent) else event.tgid)  # type: ignore[index, union-attr]
        for event in events
    ]


def test_facts_stand_before_what_a_process_did_and_once(tmp_path: Path) -> None:
    recording = Recording(
        tmp_path,
        SelectionRules(),
        None,
        [data(7, 1, provisional=False), executed(8, OTHER), data(8, 2), forked(9, 8), data(7, 3), exited(7)],
    )
    stop = StopRequest()
    stop.requested_at = time.monotonic() - GRACE_SECONDS
    recording.recorder.run(stop)
    assert outline(recording.read()) == [
        ("facts", 7),
        ("data", 7),
        ("exec", 8),
        ("facts", 8),
        ("data", 8),
        ("fork", 9),
        ("data", 7),
        ("exit", 7),
    ]


class NotedTls:
    """Writes down what is called, and for which process."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def mapped(self, event: FileMapped) -> None:
        self.told.append(("mapped", event.tgid))

    def executed(self, tgid: int, path: str | None) -> None:
        assert path == "/a"
        self.told.append(("executed", tgid))

    def forked(self, tgid: int, parent_tgid: int) -> None:
        self.told.append(("forked", tgid))
        assert parent_tgid == 7

    def exited(self, tgid: int) -> None:
        self.told.append(("exited", tgid))


def test_files_are_looked_at_and_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls_processes = NotedTls()
    decode = layout.RecordDecoder.decode

    def decode_mapped(decoder: layout.RecordDecoder, record: bytes) -> CaptureEvent:
        return FileMapped(now(), 7, 1, "libssl.so.3") if record == b"mapped" else decode(decoder, record)

    with monkeypatch.context() as patch:
        patch.setattr(layout.RecordDecoder, "decode", decode_mapped)
        recording = Recording(tmp_path, SelectionRules(), None, tls_processes=tls_processes)
        recording.recorder.take([executed(7, OTHER), b"mapped", forked(8, 7), exited(7)])
        recording.recorder.write(is_last=True)
    assert tls_processes.told == [("executed", 7), ("mapped", 7), ("forked", 8), ("exited", 7)]
    assert outline(recording.read()) == [("exec", 7), ("facts", 7), ("fork", 8), ("exit", 7)]


def test_what_is_not_decided_holds_back_what_came_after_it(tmp_path: Path) -> None:
    told = ToldDiscovery()
    recording = Recording(tmp_path, SelectionRules(containers=("shop",)), told)
    recording.recorder.take([executed(7, CONTAINER), data(7, 1), executed(8, OTHER), data(8, 2), data(7, 3)])
    recording.recorder.write(is_last=False)
    told.tell(CONTAINER, SHOP)
    recording.selection.advance()
    recording.recorder.write(is_last=False)
    told.tell(OTHER, Absence.UNKNOWN)
    recording.selection.advance()
    recording.recorder.write(is_last=False)
    events = recording.read()
    assert outline(events) == [
        ("exec", 7),
        ("facts", 7),
        ("data", 7),
        ("exec", 8),
        ("facts", 8),
        ("data", 7),
    ], "the bytes of the one that was refused are left out"
    facts = next(event for event in events if isinstance(event, ProcessFacts))
    assert facts.workload == {"container.name": "shop"}


@pytest.mark.parametrize("end", ["the run", "the room"])
def test_what_stays_undecided_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    recording = Recording(tmp_path, SelectionRules(containers=("shop",)), ToldDiscovery())
    recording.recorder.take([executed(7, CONTAINER), data(7, 1)])
    if end == "the room":
        monkeypatch.setattr(recorder, "MAX_HELD_BYTES", 0)
    recording.recorder.write(is_last=end == "the run")
    assert outline(recording.read()) == [("exec", 7), ("facts", 7)]


def test_those_described_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_DESCRIBED", 2)
    recording = Recording(tmp_path, SelectionRules(), None)
    for tgid in (1, 2, 3):
        recording.recorder.take([data(tgid, tgid), exited(tgid)])
    recording.recorder.write(is_last=True)
    assert len(recording.recorder._described) <= 2
    assert [tgid for kind, tgid in outline(recording.read()) if kind == "facts"] == [1, 2, 3]


def test_a_recording_holds_a_child_that_has_ended_as_its_parent(tmp_path: Path) -> None:
    recording = Recording(tmp_path, SelectionRules(executables=("a",)), None)
    recording.recorder.take(
        [executed(7, OTHER), forked(8, 7), exited(7), data(8, 1, provisional=False), exited(8)]
    )
    recording.recorder.write(is_last=True)
    events = recording.read()
    assert outline(events) == [
        *(("exec", 7), ("facts", 7), ("fork", 8), ("exit", 7)),
        *(("facts", 8), ("data", 8), ("exit", 8)),
    ]
    facts = [event for event in events if isinstance(event, ProcessFacts)]
    assert [each.executable_path for each in facts] == ["/a", "/a"]


def test_what_was_never_decided_on_is_not_recorded(tmp_path: Path) -> None:
    recording = Recording(tmp_path, SelectionRules(executables=("a",)), None)
    recording.recorder.take([data(7, 1), exited(7)])
    recording.recorder.write(is_last=True)
    assert [kind for kind, _ in outline(recording.read())] == ["exit"]
