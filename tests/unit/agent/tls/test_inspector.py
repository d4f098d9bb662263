"""What is remembered of files."""

import os
from pathlib import Path

import pytest

from agent.tls import inspector
from agent.tls.inspector import Inspector
from ebpf.tls.probes import TlsStack

STACK = TlsStack(name="openssl", version="3.0.17")


class Asked:
    """Inspects files by what they say, and counts."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def inspect(self, descriptor: int, name: str) -> TlsStack | None:
        self.names.append(name)
        content = os.pread(descriptor, 100, 0)
        if content == b"broken":
            raise IndexError("beyond the end")
        return STACK if content == b"tls" else None


def look(known: Inspector, path: Path) -> TlsStack | None:
    with path.open("rb") as file:
        return known.look(file.fileno(), path.name)[1].stack


def inspector_of(asked: Asked) -> Inspector:
    return Inspector(asked.inspect, lambda name, *, is_executable: is_executable or bool(name))


def test_a_file_is_inspected_once_whatever_its_name_and_outcome(tmp_path: Path) -> None:
    asked = Asked()
    known = inspector_of(asked)
    with_tls, without = tmp_path / "a", tmp_path / "b"
    with_tls.write_text("tls")
    without.write_text("nothing")
    os.link(with_tls, tmp_path / "c")
    for _ in range(2):
        assert look(known, with_tls) is STACK
        assert look(known, tmp_path / "c") is STACK
        assert look(known, without) is None
    assert asked.names == ["a", "b"]
    assert known.inspected == 2


def test_a_file_that_was_written_to_is_another(tmp_path: Path) -> None:
    known = inspector_of(Asked())
    path = tmp_path / "a"
    path.write_text("tls")
    assert look(known, path) is STACK
    path.write_text("tls no more")
    assert look(known, path) is None
    path.write_text("tls")
    os.utime(path, ns=(1, 1))
    assert look(known, path) is STACK
    assert known.inspected == 3


def test_a_file_that_breaks_the_inspection_is_one_without_tls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = inspector_of(Asked())
    path = tmp_path / "a"
    path.write_text("broken")
    assert look(known, path) is None
    assert look(known, path) is None
    assert known.failures == 1
    assert caplog.messages == ["a can't be inspected for TLS: IndexError: beyond the end"]


def test_what_was_not_asked_for_longest_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "MAX_INSPECTED", 2)
    asked = Asked()
    known = inspector_of(asked)
    for name in "abc":
        (tmp_path / name).write_text(name)
    for name in "abacab":
        look(known, tmp_path / name)
    assert asked.names == ["a", "b", "c", "b"]
