"""Cgroups of processes in real containers, as they are seen from the host and from another container."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent import procfs
from agent.workloads.cgroups import find_container
from agent.workloads.workload import ContainerReference
from tests.containers.conftest import RunServer

pytestmark = pytest.mark.containers

UID = "6d2e0ef7-3f39-4f5a-a8f3-2b0fd5e33d05"


def test_a_process_in_a_container(run_server: RunServer) -> None:
    server = run_server()
    facts = procfs.read_process(server.pid, 0)
    assert facts is not None
    assert find_container(facts.cgroups) == ContainerReference(server.container_id)


def test_a_process_that_was_executed_in_a_running_container(run_server: RunServer) -> None:
    server = run_server()
    script = "import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.read()"
    mark = f"executed-in-{server.container_id}"
    command = server.engine.command(
        "exec", "--interactive", server.container_id, "python3", "-c", script, mark
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        (executed,) = (
            facts
            for tgid in procfs.running_processes()
            if (facts := procfs.read_process(tgid, 0)) is not None
            and facts.executable_path == "/usr/bin/python3"
            and mark in facts.command_line
        )
        assert find_container(executed.cgroups) == ContainerReference(server.container_id)
        process.communicate()


def test_a_container_below_a_cgroup_like_that_of_a_pod(run_server: RunServer) -> None:
    server = run_server(cgroup_parent=f"/kubepods/burstable/pod{UID}")
    reference = find_container(procfs.cgroup_paths(server.pid))
    assert reference == ContainerReference(server.container_id, UID)


def test_a_process_seen_from_a_cgroup_namespace_of_another_container(
    run_server: RunServer, tmp_path: Path
) -> None:
    observer = run_server(options=("--cgroupns", "private"))
    server = run_server()
    seen = subprocess.run(
        ["nsenter", "--cgroup", "--target", str(observer.pid), "cat", f"/proc/{server.pid}/cgroup"],
        capture_output=True,
        check=True,
    )
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cgroup").write_bytes(seen.stdout)
    paths = procfs.cgroup_paths(1, tmp_path)
    assert all(path.startswith("/..") for path in paths)
    assert find_container(paths) == ContainerReference(server.container_id)


def test_a_process_of_the_host_is_in_no_container() -> None:
    assert find_container(procfs.cgroup_paths(1)) is None
