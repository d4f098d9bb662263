"""Which process uses which TLS library: real processes and files, probes that are not there."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tls import attachments, tls_processes
from agent.tls.attachments import GRACE_SECONDS
from agent.tls.tls_processes import SWEEP_SECONDS
from ebpf.events import FileMapped, Policy, ProcessPolicy
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack
from tests.unit.agent.tls.conftest import Start
from tests.unit.agent.tls.probed_host import BOTH, CAPTURED, NEVER, POINTS, WAIT_SECONDS, Host, another


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.tls_processes.close(WAIT_SECONDS)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libssl.so.3"
    path.write_text("tls")
    return path


def test_a_file_is_attached_to_once_for_all_and_let_go_after_a_grace(
    host: Host, start: Start, library: Path, tmp_path: Path
) -> None:
    other = tmp_path / "libx-of-the-same"
    os.link(library, other)
    first, second = start(), start()
    host.tell_mapped(first, library)
    host.tell_mapped(first, library)
    host.tell_mapped(second, other)
    assert host.is_attached_to(library)
    assert (host.count("users"), host.count("files"), host.count("inspected_files")) == (2, 1, 1)
    (probed,) = host.tls_processes.stacks()
    assert (probed.stack.name, probed.path, probed.processes, probed.problem) == (
        "openssl",
        str(library),
        2,
        None,
    )

    host.tls_processes.exited(first.pid)
    host.pass_time(2 * GRACE_SECONDS)
    assert host.is_attached_to(library)
    host.tls_processes.exited(second.pid)
    host.pass_time(GRACE_SECONDS - 1)
    assert host.is_attached_to(library), "another process may come"
    host.pass_time(1)
    assert host.is_attached_to()
    assert host.probes.detached == [library.stat().st_ino]
    assert host.tls_processes.stacks() == []
    host.tell_mapped(second, library)
    assert host.is_attached_to(library)


def test_who_comes_back_within_the_grace_finds_the_probes_in_place(
    host: Host, start: Start, library: Path
) -> None:
    for _ in range(20):
        short = start()
        host.tell_mapped(short, library)
        short.end()
        host.tls_processes.exited(short.pid)
        host.pass_time(GRACE_SECONDS - 1)
    assert host.is_attached_to(library)
    assert host.count("attached_files") == 1


def test_names_of_no_interest_cost_no_look(host: Host, start: Start, tmp_path: Path) -> None:
    mapper = start()
    host.tell_mapped(mapper, another(tmp_path / "font.ttf"))
    host.tls_processes.executed(mapper.pid, "/usr/bin/python3")
    assert (host.count("inspected_files"), host.count("queued"), host.count("users")) == (0, 0, 0)
    host.tell_mapped(mapper, another(tmp_path / "libx.so", "no such thing"))
    assert (host.count("inspected_files"), host.count("users")) == (1, 0)


def test_a_child_uses_what_its_parent_uses(host: Host, start: Start, library: Path) -> None:
    parent = start()
    host.tell_mapped(parent, library)
    child = int(parent.do("fork"))
    host.tls_processes.forked(child, parent.pid)
    host.tls_processes.exited(parent.pid)
    host.pass_time(2 * GRACE_SECONDS)
    assert host.is_attached_to(library)
    host.tls_processes.forked(NEVER - 1, NEVER)
    assert host.count("users") == 1
    host.tls_processes.executed(child, "/bin/true")
    host.pass_time(GRACE_SECONDS)
    assert host.is_attached_to()


def test_a_child_of_a_process_that_is_being_looked_at_is_looked_at_too(
    host: Host, start: Start, library: Path
) -> None:
    parent = start()
    parent.do("map", library)
    host.probes.may_attach.clear()
    host.tls_processes.mapped(FileMapped(0, parent.pid, 1, library.name))
    wait_until(lambda: host.count("inspected_files") == 1)
    child = int(parent.do("fork"))
    host.tls_processes.forked(child, parent.pid)
    host.tls_processes.exited(parent.pid)
    host.probes.may_attach.set()
    host.settle()
    assert host.is_attached_to(library)
    assert host.count("users") == 1


def test_a_program_is_looked_at_when_it_is_executed(host: Host, start: Start, tmp_path: Path) -> None:
    library, program = another(tmp_path / "libssl"), tmp_path / "sleep-go"
    program.write_bytes(b"#!/bin/sh\n")
    mapper = start()
    host.tell_mapped(mapper, library)
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    host.inspect = lambda *_: TlsStack(name="go", points=POINTS)
    mapper.do("exec", program)
    wait_until(lambda: Path(f"/proc/{mapper.pid}/exe").readlink() == program)
    host.tls_processes.executed(mapper.pid, str(program))
    host.settle()
    assert host.is_attached_to(library, program)
    host.pass_time(GRACE_SECONDS)
    assert host.is_attached_to(program), "the new program has not mapped that library"
    host.tls_processes.executed(mapper.pid, None)
    host.pass_time(GRACE_SECONDS)
    assert host.is_attached_to()


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (None, False),
        (ProcessPolicy(capture=Policy.IGNORE, finishing=BOTH), False),
        (ProcessPolicy(capture=BOTH, tls=False), False),
        (ProcessPolicy(capture=Policy.UNDECIDED), True),
        (ProcessPolicy(capture=Policy.CAPTURE_EGRESS), True),
    ],
)
def test_only_processes_of_which_tls_is_captured_are_users(
    start: Start, library: Path, policy: ProcessPolicy | None, *, wanted: bool
) -> None:
    host = Host(Policy.IGNORE)
    mapper = start()
    if policy is not None:
        host.policies.by_tgid[mapper.pid] = policy
    host.tell_mapped(mapper, library)
    host.tls_processes.executed(mapper.pid, "/bin/sleep")
    host.tell_mapped(mapper, library)
    assert host.count("inspected_files") == (1 if wanted else 0)
    assert host.is_attached_to(*[library] * wanted)
    host.tls_processes.close()
    assert host.is_attached_to()


def test_users_come_and_go_with_their_policy(start: Start, library: Path) -> None:
    host = Host(Policy.IGNORE)
    mapper = start()
    host.tell_mapped(mapper, library)
    host.policies.by_tgid[mapper.pid] = CAPTURED
    host.tls_processes.policy_changed(mapper.pid)
    host.settle()
    assert host.is_attached_to(library)
    host.policies.by_tgid[mapper.pid] = ProcessPolicy(capture=BOTH, tls=False)
    host.tls_processes.policy_changed(mapper.pid)
    assert host.count("users") == 0
    host.pass_time(GRACE_SECONDS)
    assert host.is_attached_to()
    host.tls_processes.close()


def test_processes_that_run_already_are_looked_at(start: Start, library: Path) -> None:
    host = Host(Policy.IGNORE)
    captured, let_alone = start(), start()
    for mapper in (captured, let_alone):
        mapper.do("map", library)
    host.policies.by_tgid[captured.pid] = CAPTURED
    host.tls_processes.look_at_running()
    host.settle()
    assert host.is_attached_to(library)
    assert host.count("users") == 1
    host.tls_processes.close()


def test_the_agent_is_no_user_of_its_own(host: Host) -> None:
    host.tls_processes.mapped(FileMapped(0, os.getpid(), 1, "libssl.so.3"))
    assert host.count("queued") == 0


def test_events_go_before_the_processes_that_run_already(host: Host, start: Start, tmp_path: Path) -> None:
    mappers = [start() for _ in range(3)]
    files = [another(tmp_path / f"libx{number}", f"tls{number}") for number in range(3)]
    for mapper, path in zip(mappers, files, strict=True):
        mapper.do("map", path)
    host.probes.may_attach.clear()
    host.tls_processes.policy_changed(mappers[0].pid)
    wait_until(lambda: host.count("inspected_files") == 1)
    host.tls_processes.policy_changed(mappers[1].pid)
    host.tls_processes.mapped(FileMapped(0, mappers[2].pid, 1, "libx2"))
    assert not host.tls_processes.await_attached(0)
    host.probes.may_attach.set()
    host.settle()
    assert host.is_attached_to(files[0], files[2], files[1])


def test_whoever_waits_for_a_look_waits_less_for_pythons_lock(
    host: Host, start: Start, library: Path
) -> None:
    usual = sys.getswitchinterval()
    mapper = start()
    mapper.do("map", library)
    host.probes.may_attach.clear()
    host.tls_processes.policy_changed(mapper.pid)
    assert sys.getswitchinterval() == usual
    host.tls_processes.mapped(FileMapped(0, mapper.pid, 1, library.name))
    assert sys.getswitchinterval() == pytest.approx(tls_processes.PROMPT_SWITCH_SECONDS)
    host.probes.may_attach.set()
    host.settle()
    wait_until(lambda: sys.getswitchinterval() == usual)


def test_a_process_that_ended_before_it_was_looked_at_is_normal(
    host: Host, start: Start, library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mapper = start()
    host.probes.may_attach.clear()
    mapper.do("map", library)
    blocker = start()
    blocker.do("map", another(library.parent / "libx-first", "tls first"))
    host.tls_processes.mapped(FileMapped(0, blocker.pid, 1, "libx-first"))
    host.tls_processes.mapped(FileMapped(0, mapper.pid, 1, library.name))
    mapper.end()
    host.probes.may_attach.set()
    host.settle()
    assert (host.count("users"), host.count("unreadable_files"), host.count("bugs")) == (1, 0, 0)
    assert caplog.messages == []


def test_one_that_ended_while_it_was_attached_leaves_the_probes_to_the_next(
    host: Host, start: Start, library: Path
) -> None:
    mapper = start()
    host.probes.may_attach.clear()
    mapper.do("map", library)
    host.tls_processes.mapped(FileMapped(0, mapper.pid, 1, library.name))
    wait_until(lambda: host.count("inspected_files") == 1)
    host.tls_processes.exited(mapper.pid)
    host.probes.may_attach.set()
    host.settle()
    assert host.count("users") == 0
    host.pass_time(GRACE_SECONDS)
    assert host.is_attached_to()


def test_a_file_that_can_not_be_probed_is_told_once_and_counted(
    host: Host, start: Start, library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.probes.refuses.add(library.stat().st_ino)
    for _ in range(3):
        mapper = start()
        host.tell_mapped(mapper, library)
        (probed,) = host.tls_processes.stacks()
        assert probed.problem == "the kernel refuses the probes: Operation not supported"
        host.tls_processes.exited(mapper.pid)
        host.pass_time(GRACE_SECONDS)
    assert host.count("attach_failures") == 3
    assert caplog.messages == [
        f"TLS of {library} is not captured: the kernel refuses the probes: Operation not supported"
    ]


def test_what_has_nothing_to_probe_is_reported(
    host: Host, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.tell_mapped(start(), another(tmp_path / "libjvm.so", "java"))
    (probed,) = host.tls_processes.stacks()
    assert (probed.stack.name, probed.problem) == ("java", "no function to probe")
    assert (host.count("attach_failures"), host.count("files")) == (0, 0)
    assert caplog.messages == []


def test_where_uretprobes_are_a_hazard_only_what_needs_none_is_attached_to(
    start: Start, tmp_path: Path
) -> None:
    host = Host(uretprobe_hazard="they bite")
    go, openssl = another(tmp_path / "libx-go"), another(tmp_path / "libssl")
    host.inspect = lambda _, name: TlsStack(
        name="any", points=POINTS if name == "libx-go" else (ProbePoint(TlsProgram.CALL_RETURN, 64),)
    )
    for path in (go, openssl):
        host.tell_mapped(start(), path)
    assert host.is_attached_to(go)
    assert {probed.path: probed.problem for probed in host.tls_processes.stacks()} == {
        str(go): None,
        str(openssl): "they bite",
    }
    host.tls_processes.close()


def test_a_file_that_is_written_to_is_attached_to_anew(host: Host, start: Start, library: Path) -> None:
    first, second = start(), start()
    host.tell_mapped(first, library)
    library.write_text("tls of another version")
    host.tell_mapped(second, library)
    assert host.is_attached_to(library)
    assert host.probes.detached == [library.stat().st_ino]
    assert host.count("changed_files") == 1
    assert host.tls_processes.stacks()[0].processes == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="reads a deleted file")
def test_a_library_that_an_upgrade_replaced_is_attached_to_beside_the_new_one(
    host: Host, start: Start, library: Path
) -> None:
    old, new = start(), start()
    old.do("map", library)
    inode = library.stat().st_ino
    another(library.parent / "libssl.so.3.dpkg-new", "tls of another version").rename(library)
    host.tls_processes.mapped(FileMapped(0, old.pid, inode, library.name))
    host.settle()
    host.tell_mapped(new, library)
    assert host.probes.attached == [inode, library.stat().st_ino]


def test_a_lost_end_is_noticed(host: Host, start: Start, library: Path) -> None:
    mapper = start()
    host.tell_mapped(mapper, library)
    mapper.end()
    host.pass_time(SWEEP_SECONDS)
    assert host.count("users") == 0


def test_a_bug_costs_one_look(
    host: Host, start: Start, library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mapper = start()
    attach, host.probes.attach_probes = host.probes.attach_probes, None  # type: ignore[method-assign,assignment]
    host.tell_mapped(mapper, library)
    host.tell_mapped(mapper, library)
    assert host.count("bugs") == 2
    assert len(caplog.messages) == 1
    host.probes.attach_probes = attach  # type: ignore[method-assign]
    host.tell_mapped(mapper, library)
    assert host.is_attached_to(library)


def test_tables_are_bounded(
    host: Host, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "MAX_FILES", 2)
    monkeypatch.setattr(tls_processes, "MAX_PROGRAMS", 3)
    files = [another(tmp_path / f"libx{number}", f"tls{number}") for number in range(4)]
    mappers = [start() for _ in range(4)]
    for mapper, path in zip(mappers[:3], files, strict=False):
        host.tell_mapped(mapper, path)
    assert host.is_attached_to(*files[:2])
    assert host.count("refused_files") == 1
    host.tls_processes.exited(mappers[0].pid)
    host.tell_mapped(mappers[1], files[3])
    assert host.is_attached_to(files[1], files[3]), "an unused one makes room"
    host.tell_mapped(mappers[0], files[1])
    host.tell_mapped(mappers[2], files[1])
    host.tell_mapped(mappers[3], files[1])
    host.tls_processes.forked(NEVER, mappers[0].pid)
    assert host.count("queue_overflows") == 2
    assert host.count("users") == 3


def test_complaints_are_bounded_and_not_repeated(
    host: Host,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tls_processes, "MAX_COMPLAINTS", 1)

    def refuse(*_: object) -> int:
        raise tls_processes.UnreadableFileError("no permission")

    monkeypatch.setattr(tls_processes, "open_mapped", refuse)
    mapper = start()
    first, second = (another(tmp_path / name) for name in ("libx1", "libx2"))
    host.tell_mapped(mapper, first)
    host.tell_mapped(mapper, first)
    assert caplog.messages == [f"TLS of {first} is not captured: no permission"]
    host.tell_mapped(mapper, second)
    assert host.count("unreadable_files") == 4
    monkeypatch.setattr(tls_processes, "mapped_code", refuse)
    host.tell_mapped(mapper, first)
    assert caplog.messages[-1].startswith(f"TLS of process {mapper.pid} (others may follow) is not captured")


def test_closing_waits_for_no_longer_than_it_is_told(
    start: Start, library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host()
    mapper = start()
    mapper.do("map", library)
    host.probes.may_attach.clear()
    host.tls_processes.mapped(FileMapped(0, mapper.pid, 1, library.name))
    wait_until(lambda: host.count("inspected_files") == 1)
    host.tls_processes.close(0)
    assert "still being detached" in caplog.messages[0]
    host.tls_processes.forked(NEVER, mapper.pid)
    host.probes.may_attach.set()
    host.tls_processes.close(WAIT_SECONDS)
    assert host.is_attached_to()
    assert "tls-processes" not in {thread.name for thread in threading.enumerate()}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
