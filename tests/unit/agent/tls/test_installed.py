"""TLS libraries that the dynamic loader of a host knows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.tls import installed
from agent.tls.installed import open_libraries, open_programs


def host(folder: Path, *libraries: str) -> tuple[Path, Path]:
    """Return the root of a host whose loader knows some paths, and a /proc that shows it."""
    root = folder / "host"
    (root / "etc").mkdir(parents=True)
    (root / "lib").mkdir()
    strings = b"".join(path.encode() + b"\0" for path in libraries)
    (root / "etc" / "ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1\3\0\0\0" + bytes(48) + strings)
    (folder / "proc" / "1").mkdir(parents=True)
    (folder / "proc" / "1" / "root").symlink_to(root)
    return root, folder / "proc"


def found(proc: Path) -> dict[Path, bytes]:
    opened = {}
    for path, descriptor in open_libraries(lambda name: name.startswith("libssl"), proc):
        opened[Path(os.fsdecode(path))] = os.read(descriptor, 100)
        os.close(descriptor)
    return opened


def test_libraries_are_found_by_name_below_the_root_of_the_host(tmp_path: Path) -> None:
    names = ("libm.so.6", "libssl.so", "libssl.so.3", "libssl.so.gone", "libssl.so.out", "libssl.so.fifo")
    root, proc = host(tmp_path, *(f"/lib/{name}" for name in names))
    library = root / "lib" / "libssl.so.3"
    library.write_bytes(b"tls")
    (root / "lib" / "libm.so.6").write_bytes(b"none")
    (root / "lib" / "libssl.so").symlink_to("/lib/libssl.so.3")
    (root / "lib" / "libssl.so.out").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_bytes(b"not of the host")
    os.mkfifo(root / "lib" / "libssl.so.fifo")
    assert found(proc) == {library: b"tls"}


def test_what_is_looked_at_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"libssl.so.{number}" for number in range(3)]
    root, proc = host(tmp_path, *(f"/lib/{name}" for name in names))
    for name in names:
        (root / "lib" / name).write_bytes(b"tls")
    monkeypatch.setattr(installed, "MAX_LIBRARIES", 2)
    assert len(found(proc)) == 2
    monkeypatch.setattr(installed, "MAX_CACHE_BYTES", 30)
    assert found(proc) == {}


def test_a_host_without_a_cache_has_none(tmp_path: Path) -> None:
    root, proc = host(tmp_path)
    (root / "etc" / "ld.so.cache").unlink()
    assert found(proc) == {}


def test_where_the_first_process_does_not_show_its_root_it_is_ours(tmp_path: Path) -> None:
    assert all(path.is_absolute() and content for path, content in found(tmp_path).items())


def programs(proc: Path) -> dict[str, bytes]:
    opened = {}
    for path, descriptor in open_programs(lambda path: path.rpartition("/")[2].startswith("ask"), proc):
        opened[path] = os.read(descriptor, 100)
        os.close(descriptor)
    return opened


def test_programs_are_found_by_path_where_programs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, proc = host(tmp_path)
    for folder in ("usr/bin", "usr/local/bin", "opt"):
        (root / folder).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/ask").write_bytes(b"asks")
    (root / "usr/bin/answer").write_bytes(b"answers")
    (root / "usr/local/bin/asking").symlink_to("/usr/bin/ask")
    (root / "usr/local/bin/ask-out").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_bytes(b"not of the host")
    (root / "opt/ask").write_bytes(b"elsewhere")
    assert programs(proc) == {"/usr/bin/ask": b"asks", "/bin/ask": b"asks", "/usr/local/bin/asking": b"asks"}
    monkeypatch.setattr(installed, "MAX_PROGRAMS", 1)
    assert len(programs(proc)) == 1
