"""Libraries and programs that are installed and not in use yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.tls.attachments import GRACE_SECONDS
from tests.unit.agent.tls.probed_host import Host, another


def test_what_is_installed_is_probed_before_anybody_uses_it_and_stays_so(tmp_path: Path) -> None:
    library = another(tmp_path / "libssl.so.3")
    root = tmp_path / "proc" / "1" / "root"
    (root / "etc").mkdir(parents=True)
    (root / "lib").mkdir()
    os.link(library, root / "lib" / "libssl.so.3")
    another(root / "lib" / "libssl-of-none", "nothing")
    (root / "etc" / "ld.so.cache").write_bytes(b"\0/lib/libssl.so.3\0/lib/libssl-of-none\0")
    host = Host(proc=tmp_path / "proc")
    for _ in range(2):
        host.tls_processes.look_at_installed()
        host.settle()
        assert host.is_attached_to(library)
    host.pass_time(2 * GRACE_SECONDS)
    assert host.is_attached_to(library)
    assert host.tls_processes.stacks() == []
    host.tls_processes.close()
    assert host.is_attached_to()


@pytest.mark.parametrize("name", ["ask", "other"])
def test_what_is_installed_is_probed_for_programs_that_are_meant_only(tmp_path: Path, name: str) -> None:
    library, program = another(tmp_path / "libssl.so.3"), another(tmp_path / "program", "tls program")
    root = tmp_path / "proc" / "1" / "root"
    for folder in ("etc", "lib", "usr/bin"):
        (root / folder).mkdir(parents=True)
    os.link(library, root / "lib" / "libssl.so.3")
    os.link(program, root / "usr" / "bin" / name)
    (root / "etc" / "ld.so.cache").write_bytes(b"\0/lib/libssl.so.3\0")
    host = Host(proc=tmp_path / "proc")
    host.tls_processes.look_at_installed(lambda path: path == "/usr/bin/ask")
    host.settle()
    assert host.is_attached_to(*((program, library) if name == "ask" else ()))
    host.tls_processes.close()
