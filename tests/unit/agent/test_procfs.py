"""What /proc says of real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import procfs

NEVER = 2**31 - 1
"""A process number beyond any pid_max."""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "OTEL_SERVICE_NAME": "shop"}
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "an argument", ""],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_facts_of_a_running_process(child: subprocess.Popen[bytes]) -> None:
    facts = procfs.read_process(child.pid, 7)
    assert facts is not None
    assert (facts.ktime_ns, facts.tgid) == (7, child.pid)
    assert facts.executable_path == str(Path(sys.executable).resolve())
    assert facts.command_line[0] == sys.executable
    assert facts.command_line[3] == "an argument"
    assert facts.service_name == "shop"
    parent_start_unix_ns = procfs.start_unix_ns(os.getpid())
    assert facts.start_unix_ns is not None
    assert parent_start_unix_ns is not None
    # The kernel gives the time of boot in whole seconds.
    assert parent_start_unix_ns <= facts.start_unix_ns <= time.time_ns() + 1_000_000_000


def test_start_and_parent_identify_a_process(child: subprocess.Popen[bytes]) -> None:
    assert procfs.start_unix_ns(child.pid) == procfs.start_unix_ns(child.pid)
    assert procfs.parent(child.pid) == os.getpid()
    assert child.pid in procfs.running_processes()


def test_a_process_is_alive_until_it_begins_to_end(child: subprocess.Popen[bytes]) -> None:
    assert procfs.is_alive(child.pid)
    child.kill()
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) is not None
    assert procfs.parent(child.pid) == os.getpid(), "it is still listed"
    assert not procfs.is_alive(child.pid)
    assert not procfs.is_alive(NEVER)


def test_a_process_is_alive_while_some_thread_of_it_is() -> None:
    program = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 10
        while b"Z" not in Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2][:3]:
            assert time.monotonic() < deadline
        assert procfs.is_alive(process.pid)
        process.kill()


def test_a_process_that_is_gone_is_normal() -> None:
    assert procfs.read_process(NEVER, 0) is None
    assert procfs.executable_path(NEVER) is None
    assert procfs.parent(NEVER) is None
    assert procfs.start_unix_ns(NEVER) is None


def test_a_kernel_thread_has_no_executable_and_no_command_line(tmp_path: Path) -> None:
    write_process(tmp_path, 2, stat=b"2 (kthreadd) S 0 0 0 " + b"0 " * 40, cmdline=b"", environ=b"")
    facts = procfs.read_process(2, 0, tmp_path)
    assert facts is not None
    assert (facts.executable_path, facts.command_line, facts.service_name) == (None, (), None)


def test_a_name_with_blanks_and_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    write_process(tmp_path, 5, stat=b"5 (a) S (b ) R 41 " + b"0 " * 17 + b"250 " + b"0 " * 30)
    assert procfs.parent(5, tmp_path) == 41


def test_a_rewritten_title_is_one_argument(tmp_path: Path) -> None:
    write_process(tmp_path, 6, cmdline=b"nginx: worker process" + b"\0" * 300)
    facts = procfs.read_process(6, 0, tmp_path)
    assert facts is not None
    assert facts.command_line == ("nginx: worker process",)


def test_long_files_are_read_up_to_their_bound(tmp_path: Path) -> None:
    write_process(
        tmp_path,
        8,
        cmdline=b"x" * 3 * procfs.MAX_COMMAND_LINE_BYTES,
        environ=b"A=" + b"x" * procfs.MAX_ENVIRONMENT_BYTES + b"\0OTEL_SERVICE_NAME=late\0",
    )
    facts = procfs.read_process(8, 0, tmp_path)
    assert facts is not None
    assert len(facts.command_line[0]) == procfs.MAX_COMMAND_LINE_BYTES
    assert facts.service_name is None


def test_the_executable_of_a_deleted_file_keeps_its_name(tmp_path: Path) -> None:
    write_process(tmp_path, 9)
    (tmp_path / "9" / "exe").symlink_to("/opt/server (deleted)")
    assert procfs.executable_path(9, tmp_path) == "/opt/server"


def test_cgroups_are_each_named_once_and_the_root_never(tmp_path: Path) -> None:
    write_process(tmp_path, 10)
    (tmp_path / "10" / "cgroup").write_bytes(
        b"9:name=systemd:/docker/a\n4:cpu,cpuacct:/a:b\n3:cpuset:/\n2:pids:/docker/a\n1:odd:\n0::/../\xff\n"
    )
    assert procfs.cgroup_paths(10, tmp_path) == ("/docker/a", "/a:b", "/../\ufffd")
    facts = procfs.read_process(10, 0, tmp_path)
    assert facts is not None
    assert facts.cgroups == ("/docker/a", "/a:b", "/../\ufffd")
    assert procfs.cgroup_paths(NEVER, tmp_path) == ()


def test_a_cgroup_path_that_the_bound_cuts_is_left_out(tmp_path: Path) -> None:
    write_process(tmp_path, 11)
    (tmp_path / "11" / "cgroup").write_bytes(b"1:cpu:/a\n0::/" + b"x" * procfs.MAX_CGROUP_BYTES)
    assert procfs.cgroup_paths(11, tmp_path) == ("/a",)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (b"", None),
        (b"OTEL_SERVICE_NAME=shop\0", "shop"),
        (b"OTEL_SERVICE_NAME= \0", None),
        (b"OTEL_RESOURCE_ATTRIBUTES=service.name=cart,k=v\0", "cart"),
        (b"OTEL_RESOURCE_ATTRIBUTES=k=v, service.name = my%20cart\0", "my cart"),
        (b"OTEL_RESOURCE_ATTRIBUTES=service.name=\0", None),
        (b"OTEL_RESOURCE_ATTRIBUTES=service.name=cart\0OTEL_SERVICE_NAME=shop\0", "shop"),
        (b"OTEL_SERVICE_NAME=caf\xc3\xa9\0", "caf\u00e9"),
        (b"OTEL_SERVICE_NAME=\xff\0", "\ufffd"),
        (b"XOTEL_SERVICE_NAME=no\0", None),
    ],
)
def test_declared_service_names(environment: bytes, name: str | None) -> None:
    assert procfs.declared_service_name(environment) == name


def write_process(
    proc: Path, tgid: int, *, stat: bytes | None = None, cmdline: bytes = b"", environ: bytes = b""
) -> None:
    directory = proc / str(tgid)
    directory.mkdir()
    (directory / "stat").write_bytes(stat or b"%d (x) S 1 " % tgid + b"0 " * 48)
    (directory / "cmdline").write_bytes(cmdline)
    (directory / "environ").write_bytes(environ)
