"""Files that real processes have mapped as code, and what their paths lead to."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.tls import mapped_files
from agent.tls.mapped_files import (
    MappedFile,
    UnreadableFileError,
    mapped_code,
    open_executable,
    open_mapped,
    parse_maps,
    show,
)
from tests.unit.agent.tls.conftest import Mapper, Start

NEVER = 2**31 - 1
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def the_file(mapper: Mapper, name: str) -> MappedFile:
    (found,) = (file for file in mapped_code(mapper.pid) if file.name == name)
    return found


def content(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def library(folder: Path, said: str = "a library", name: str = "libssl.so.3") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(said)
    return path


def test_lines_of_maps() -> None:
    files = parse_maps(
        b"55d0-55d1 r--p 00000000 08:01 7                          /usr/bin/program\n"
        b"55d1-55d2 r-xp 00001000 08:01 7                          /usr/bin/program\n"
        b"7f00-7f01 r-xp 00001000 00:2f 18446744073709551615       /a path/lib (x).so (deleted)\n"
        b"7f01-7f02 rwxp 00001000 103:0a 9                         /new\\012line\n"
        b"7f02-7f03 r-xp 00002000 08:01 7                          /usr/bin/program\n"
        b"7f03-7f04 r-xp 00000000 00:00 0 \n"
        b"7f04-7f05 r-xp 00000000 00:00 0                          [vdso]\n"
        b"7f05-7f06 r-xp 00000000 00:01 8                          /memfd:code (deleted)\n"
        b"7f06-7f07 r-xp 00000000 00:01 10                         /cut off"
    )
    assert files == [
        MappedFile(0x55D1, 0x55D2, os.makedev(8, 1), 7, b"/usr/bin/program", False),
        MappedFile(0x7F00, 0x7F01, os.makedev(0, 0x2F), 2**64 - 1, b"/a path/lib (x).so", True),
        MappedFile(0x7F01, 0x7F02, os.makedev(0x103, 10), 9, b"/new\nline", False),
        MappedFile(0x7F05, 0x7F06, os.makedev(0, 1), 8, b"/memfd:code", True),
    ]
    assert files[1].name == "lib (x).so"
    assert parse_maps(b"") == []


def test_a_path_is_shown_without_what_a_terminal_would_obey() -> None:
    assert show(b"/a b/\xc3\xa9") == "/a b/\u00e9"
    assert show(b"/\x1b[2J\n\xff") == "/\\x1b[2J\\x0a\\xff"


def test_a_mapped_file_is_found_and_read(start: Start, tmp_path: Path) -> None:
    mapper = start()
    mapper.do("map", library(tmp_path / "a path\x1b", name="libssl.so.3 (x)"))
    file = the_file(mapper, "libssl.so.3 (x)")
    assert (file.is_deleted, file.inode) == (False, Path(os.fsdecode(file.path)).stat().st_ino)
    assert content(open_mapped(mapper.pid, file)) == b"a library"
    descriptor = open_mapped(mapper.pid, file)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_the_executable_is_found_whatever_its_path_leads_to(start: Start) -> None:
    mapper = start()
    mapper.do("wait until it runs")
    descriptor = open_executable(mapper.pid)
    assert os.path.samestat(os.fstat(descriptor), Path(sys.executable).stat())
    os.close(descriptor)
    assert Path(sys.executable).resolve().name in {file.name for file in mapped_code(mapper.pid)}


def test_what_is_read_of_maps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = mapped_code(os.getpid())
    monkeypatch.setattr(mapped_files, "MAX_MAPS_BYTES", 2_000)
    assert len(mapped_code(os.getpid())) < len(everything)


def test_a_process_that_is_gone_is_normal(start: Start, tmp_path: Path) -> None:
    mapper = start()
    mapper.do("map", library(tmp_path))
    file = the_file(mapper, "libssl.so.3")
    mapper.kill()
    with pytest.raises(ProcessLookupError):
        open_mapped(mapper.pid, file)
    mapper.end()
    for look in (
        lambda: mapped_code(NEVER),
        lambda: open_executable(NEVER),
        lambda: open_mapped(mapper.pid, file),
    ):
        with pytest.raises(ProcessLookupError):
            look()


@needs_root
@pytest.mark.parametrize("replaced_by", ["nothing", "another", "link", "fifo", "file in place of folder"])
def test_a_file_that_is_replaced_is_read_all_the_same(start: Start, tmp_path: Path, replaced_by: str) -> None:
    path = library(tmp_path / "folder")
    mapper = start()
    mapper.do("map", path)
    before = the_file(mapper, "libssl.so.3")
    path.unlink()
    if replaced_by == "another":
        library(tmp_path / "folder", "not this one")
    elif replaced_by == "link":
        path.symlink_to(library(tmp_path / "elsewhere", "not this one"))
    elif replaced_by == "fifo":
        os.mkfifo(path)
    elif replaced_by != "nothing":
        path.parent.rmdir()
        path.parent.touch()
    after = the_file(mapper, "libssl.so.3")
    assert after.is_deleted
    # before and after the kernel has said that it was deleted
    assert content(open_mapped(mapper.pid, before)) == b"a library"
    assert content(open_mapped(mapper.pid, after)) == b"a library"


def test_what_is_no_regular_file_is_never_opened(start: Start, tmp_path: Path) -> None:
    mapper = start()
    fifo = tmp_path / "libssl.so.3"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/null"), tmp_path):
        file = MappedFile(0, 1, 0, path.stat().st_ino, os.fsencode(path), False)
        with pytest.raises(UnreadableFileError, match="leads to another file, or nowhere"):
            open_mapped(mapper.pid, file)


def test_links_of_proc_are_not_followed(start: Start, tmp_path: Path) -> None:
    path = library(tmp_path)
    mapper = start()
    mapper.do("map", path)
    descriptor = os.open(path, os.O_RDONLY)
    through_proc = f"/proc/{os.getpid()}/fd/{descriptor}".encode()
    file = MappedFile(0, 1, 0, path.stat().st_ino, through_proc, False)
    with pytest.raises(UnreadableFileError, match="too many levels"):
        open_mapped(mapper.pid, file)
    os.close(descriptor)


@needs_root
def test_a_path_in_a_chroot_is_that_of_the_chroot(start: Start, tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    path = library(jail / "lib")
    mapper = start()
    mapper.do("chroot", jail)
    mapper.do("map", "/lib/libssl.so.3")
    file = the_file(mapper, "libssl.so.3")
    assert content(mapped_files._open_below_root(Path(f"/proc/{mapper.pid}"), file)) == b"a library"

    # An absolute link in the jail leads to the jail's own folder of that name, never to ours, not even when
    # the very file lies there too.
    outside = tmp_path / "outside"
    outside.mkdir()
    os.link(path, outside / "libssl.so.3")
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(outside)
    with pytest.raises(UnreadableFileError, match="nowhere"):
        mapped_files._open_below_root(Path(f"/proc/{mapper.pid}"), file)
    with contextlib.closing(os.fdopen(open_mapped(mapper.pid, file), "rb")) as opened:
        assert opened.read() == b"a library"


@needs_root
def test_a_file_of_another_mount_namespace(start: Start, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    library(tmp_path / "inside", "ours")
    script = (
        f"mount -t tmpfs none {tmp_path}/inside && printf theirs > {tmp_path}/inside/libssl.so.3"
        ' && exec "$0" "$@"'
    )
    mapper = start("unshare", "--mount", "sh", "-c", script)
    mapper.do("map", tmp_path / "inside" / "libssl.so.3")
    file = the_file(mapper, "libssl.so.3")
    assert content(mapped_files._open_below_root(Path(f"/proc/{mapper.pid}"), file)) == b"theirs"


NO_PERMISSION = "no permission: processes of other users take CAP_SYS_PTRACE"
GONE = "[Errno 3] No such process"


@needs_root
@pytest.mark.parametrize(
    ("hidepid", "said", "hides"),
    [
        (
            "0",
            (NO_PERMISSION, NO_PERMISSION, "it was deleted or replaced; reading it nevertheless takes"),
            False,
        ),
        ("1", (NO_PERMISSION, NO_PERMISSION, GONE), False),
        ("2", (GONE, GONE, GONE), True),
    ],
    ids=["shown", "noaccess", "invisible"],
)
def test_without_permission_the_reason_is_said(hidepid: str, said: tuple[str, ...], *, hides: bool) -> None:
    program = (
        "from agent.tls.mapped_files import *\n"
        "from agent.procfs import hides_processes\n"
        "file = MappedFile(1, 2, 3, 4, b'/x', True)\n"
        "for look in mapped_code, open_executable, lambda tgid: open_mapped(tgid, file):\n"
        "    try:\n"
        "        look(1)\n"
        "    except (UnreadableFileError, ProcessLookupError) as error:\n"
        "        print(error)\n"
        "print(hides_processes())\n"
    )
    # Process 1 of a namespace of its own is the other user's, and /proc is mounted for the test alone.
    script = f'mount -t proc -o hidepid={hidepid} proc /proc; "$0" "$@"; exit $?'
    unprivileged = ("setpriv", "--bounding-set=-all", "--reuid=65534", "--regid=65534", "--clear-groups")
    *reasons, hidden = subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "sh", "-c", script),
            *(*unprivileged, "/usr/bin/python3", "-c", program),
        ],
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert hidden == str(hides)
    assert [reason[: len(start)] for reason, start in zip(reasons, said, strict=True)] == list(said)
