"""What `wirespan check` says of the TLS implementations of real processes."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from agent.selection_rules import SelectionRules
from agent.tls import report
from agent.tls.inspector import Inspector
from agent.tls.mapped_files import UnreadableFileError
from agent.tls.report import StackLine, TlsSurvey, kernel_tls
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack
from tests.unit.agent.tls.conftest import Start

STACK = TlsStack(name="openssl", version="3", points=(ProbePoint(TlsProgram.OPENSSL_READ, 64),))
NO_RULES = SelectionRules()


def inspect(descriptor: int, name: str) -> TlsStack | None:
    if os.pread(descriptor, 3, 0) == b"tls":
        return STACK
    if name == "libjvm.so":
        return TlsStack(name="java", obstacle="no function to probe")
    return TlsStack(name="go") if name == "a program" else None


def inspector(folder: Path) -> Inspector:
    """Return one that looks at files of a folder only, and at no program."""
    names = {path.name for path in folder.iterdir()}
    return Inspector(inspect, lambda name, *, is_executable: name in names and not is_executable)


def line(path: Path, problem: str | None, *, files: int = 1, processes: int = 1) -> StackLine:
    return StackLine(
        name="openssl", version="3", path=str(path), problem=problem, files=files, processes=processes
    )


def test_processes_share_the_line_of_a_file(start: Start, own_proc: Path, tmp_path: Path) -> None:
    library, jvm = tmp_path / "libssl.so.3.test", tmp_path / "libjvm.so"
    library.write_text("tls")
    jvm.write_text("java")
    for path in (library, library, jvm):
        start().do("map", path)
    found = TlsSurvey(inspector(tmp_path), NO_RULES, proc=own_proc).run()
    assert found.stacks == (
        StackLine(
            name="java", version=None, path=str(jvm), problem="no function to probe", files=1, processes=1
        ),
        line(library, None, processes=2),
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="reads a deleted file")
def test_a_replaced_file_stands_beside_the_new_one(start: Start, own_proc: Path, tmp_path: Path) -> None:
    library = tmp_path / "libssl.so.3.test"
    library.write_text("tls")
    start().do("map", library)
    library.unlink()
    library.write_text("tls of another version")
    start().do("map", library)
    assert TlsSurvey(inspector(tmp_path), NO_RULES, proc=own_proc).run().stacks == (
        line(library, None, files=2, processes=2),
    )


@pytest.mark.parametrize(
    ("rules", "enabled", "problem"),
    [
        (SelectionRules(tls_excluded=("python*",)), True, "excluded by `tls.exclude_executables`"),
        (SelectionRules(tls_excluded=("java",)), True, None),
        (NO_RULES, False, "`tls.enabled` is false"),
    ],
)
def test_what_the_configuration_leaves_alone(
    start: Start, own_proc: Path, tmp_path: Path, rules: SelectionRules, *, enabled: bool, problem: str | None
) -> None:
    library = tmp_path / "libssl.so.3.test"
    library.write_text("tls")
    start().do("map", library)
    found = TlsSurvey(inspector(tmp_path), rules, proc=own_proc, enabled=enabled).run()
    assert found.stacks == (line(library, problem),)


def test_a_program_may_be_what_holds_tls(start: Start, own_proc: Path) -> None:
    mapper = start()
    program = Path(f"/proc/{mapper.pid}/exe").readlink()
    known = Inspector(lambda *_: TlsStack(name="go"), lambda _, *, is_executable: is_executable)
    found = TlsSurvey(known, NO_RULES, proc=own_proc).run()
    (mine,) = (each for each in found.stacks if each.path == str(program))
    assert (mine.name, mine.problem) == ("go", "nothing in it can be probed")


def test_what_can_not_be_read_is_said(
    start: Start, own_proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libssl.so.3.test"
    library.write_text("tls")
    mapper = start()
    mapper.do("map", library)

    def refuse(*_: object) -> int:
        raise UnreadableFileError("no permission")

    with monkeypatch.context() as patch:
        patch.setattr(report, "open_mapped", refuse)
        (found,) = TlsSurvey(inspector(tmp_path), NO_RULES, proc=own_proc).run().stacks
        assert (found.name, found.path, found.problem) == (None, str(library), "no permission")
    (own_proc / str(os.getpid())).symlink_to("/proc/self")  # the agent does not look at itself

    def refuse_but_one(tgid: int, _: Path) -> int:
        if tgid == 1:
            raise ProcessLookupError
        return refuse()

    monkeypatch.setattr(report, "mapped_code", refuse_but_one)
    assert (
        "1 process could not be looked at: no permission"
        in TlsSurvey(inspector(tmp_path), NO_RULES, proc=own_proc).run().notes
    )


def test_processes_that_proc_hides_are_mentioned(start: Start, own_proc: Path, tmp_path: Path) -> None:
    start()
    survey = TlsSurvey(inspector(tmp_path), NO_RULES, proc=own_proc)
    assert not any("hides them" in note for note in survey.run().notes)
    (own_proc / "1").rmdir()
    survey = TlsSurvey(inspector(tmp_path), NO_RULES, proc=own_proc)
    assert any("hides them (mount option hidepid)" in note for note in survey.run().notes)


def test_the_time_is_bounded(start: Start, own_proc: Path, tmp_path: Path) -> None:
    library = tmp_path / "libssl.so.3.test"
    library.write_text("tls")
    start().do("map", library)
    go_on = threading.Event()

    def hang(descriptor: int, name: str) -> TlsStack | None:
        go_on.wait(30)
        return STACK

    found = TlsSurvey(Inspector(hang, inspector(tmp_path).may_hold_tls), NO_RULES, proc=own_proc).run(0.01)
    go_on.set()
    assert found.stacks == ()
    assert "not every process was looked at: the time was up" in found.notes


def test_a_file_that_breaks_the_inspection_says_nothing(
    start: Start, own_proc: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = tmp_path / "libssl.so.3.test"
    library.write_text("tls")
    start().do("map", library)

    def break_down(descriptor: int, name: str) -> TlsStack | None:
        raise IndexError(f"{name} {descriptor}")

    assert (
        TlsSurvey(Inspector(break_down, inspector(tmp_path).may_hold_tls), NO_RULES, proc=own_proc)
        .run()
        .stacks
        == ()
    )
    assert caplog.messages == []
    assert logging.getLogger("agent.tls").level == logging.NOTSET


def test_tls_in_the_kernel_is_mentioned(tmp_path: Path) -> None:
    statistics = tmp_path / "tls_stat"
    assert kernel_tls(str(statistics)) is None
    statistics.write_text("TlsCurrTxSw                     \t0\nTlsTxSw                         \t7\n")
    assert kernel_tls(str(statistics)) is None
    statistics.write_text("TlsCurrTxSw                     \t2\nTlsCurrRxDevice                 \t1\n")
    assert "at work 3 times" in str(kernel_tls(str(statistics)))
