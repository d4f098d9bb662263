"""Whose calls are captured: processes, their children, ports, and never the agent itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from ebpf.events import (
    Direction,
    EventKind,
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessPolicy,
    SocketEvent,
)
from tests.kernel.conftest import BOTH, PREFACE, REQUEST, Tap, connect_pair, inode_of, receive_exactly

pytestmark = pytest.mark.kernel

OpenTap = Callable[..., Tap]

UNDECIDED = ProcessPolicy(capture=Policy.UNDECIDED)


def converse(client: socket.socket, server: socket.socket) -> None:
    client.sendall(REQUEST)
    receive_exactly(server, len(REQUEST))


@pytest.mark.parametrize(
    ("policy", "client_seen", "server_seen"),
    [
        (Policy.IGNORE, False, False),
        (Policy.CAPTURE_INGRESS, False, True),
        (Policy.CAPTURE_EGRESS, True, False),
        (BOTH, True, True),
        (Policy.UNDECIDED, True, True),
    ],
)
def test_a_policy_selects_by_role(tap: Tap, policy: Policy, *, client_seen: bool, server_seen: bool) -> None:
    tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=policy))
    try:
        assert tap.capture.policies()[os.getpid()] == ProcessPolicy(capture=policy)
        client, server = connect_pair()
        with client, server:
            converse(client, server)
            assert bool(tap.of(inode_of(client))) == client_seen
            assert bool(tap.of(inode_of(server))) == server_seen
        tap.capture.remove_policy(os.getpid())
        assert os.getpid() not in tap.capture.policies()
    finally:
        tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=BOTH))


CHILDREN = 2_003
FORKER = f"""
import os, sys
for number in range({CHILDREN}):
    child = os.fork()
    if child == 0:
        os.write(int(sys.argv[1]), b"GET /%d HTTP/1.1\\r\\n\\r\\n" % number)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_children_inherit_and_the_dead_leave_nothing(open_tap: OpenTap) -> None:
    tap = open_tap()
    client, server = connect_pair()
    with client, server:
        # of an interpreter of its own: forking this one is slow
        arguments = [sys.executable, "-c", FORKER, str(client.fileno())]
        with subprocess.Popen(arguments, pass_fds=[client.fileno()]) as forker:
            pass
        assert forker.returncode == 0
        written = tap.data(inode_of(client), Direction.EGRESS)
    assert len({event.origin.tgid for event in written}) == len(written) == CHILDREN
    # sched_process_exit comes before the parent can have waited
    assert list(tap.capture.policies()) == [os.getpid()]
    exited = {event.tgid for event in tap.events if isinstance(event, ProcessExited)}
    assert {event.origin.tgid for event in written} | {forker.pid} <= exited


def test_a_process_that_executes_becomes_undecided_when_told_so(open_tap: OpenTap) -> None:
    tap = open_tap(undecided_at_exec=True)
    with subprocess.Popen(
        ["/bin/cat", "-", "an argument"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as cat:
        tap.until(lambda: tap.capture.policies().get(cat.pid) == UNDECIDED)
        (executed,) = [
            event for event in tap.drain() if isinstance(event, ProcessExecuted) and event.tgid == cat.pid
        ]
        assert (executed.path, executed.arguments) == ("/bin/cat", ("/bin/cat", "-", "an argument"))
        cat.communicate()
    tap.until(lambda: any(isinstance(event, ProcessExited) and event.tgid == cat.pid for event in tap.events))
    assert cat.pid not in tap.capture.policies()


def test_a_policy_survives_exec_when_not_told_so(tap: Tap) -> None:
    script = f"import os; os.execv({sys.executable!r}, ['python', '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        tap.capture.set_policy(child.pid, ProcessPolicy(capture=Policy.CAPTURE_EGRESS))
        executions = [child.pid, child.pid]
        tap.until(
            lambda: (
                [e.tgid for e in tap.events if isinstance(e, ProcessExecuted) and e.tgid == child.pid]
                == executions
            )
        )
        assert tap.capture.policies()[child.pid] == ProcessPolicy(capture=Policy.CAPTURE_EGRESS)
        child.communicate(b"\n")


def test_a_long_command_line_is_cut(tap: Tap) -> None:
    subprocess.run(["/bin/true", "x" * 1_000, "y"], check=True)
    (executed,) = [
        event for event in tap.drain() if isinstance(event, ProcessExecuted) and event.path == "/bin/true"
    ]
    assert executed.arguments == ("/bin/true", "x" * (512 - len("/bin/true\0")))


def test_only_connections_at_the_ports_asked_for_are_captured(open_tap: OpenTap) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        tap = open_tap(ports=frozenset({port}))
        with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as server:
            converse(client, server)
            assert tap.stream(inode_of(client), Direction.EGRESS) == REQUEST
            assert tap.stream(inode_of(server), Direction.INGRESS) == REQUEST
    client, server = connect_pair()
    with client, server:
        converse(client, server)
        assert not tap.of(inode_of(client))
        assert not tap.of(inode_of(server))


COLLECTOR = """
import socket, sys
family = socket.AF_UNIX if "/" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as listener:
    listener.bind(sys.argv[1] if family == socket.AF_UNIX else (sys.argv[1], 0))
    listener.listen()
    print(listener.getsockname() if family == socket.AF_UNIX else listener.getsockname()[1], flush=True)
    connection = listener.accept()[0]
    with connection:
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


@pytest.mark.parametrize(
    ("way", "first"),
    [("tcp", REQUEST), ("tcp", PREFACE), ("tcp-nonblocking", REQUEST), ("unix", REQUEST), ("unix", PREFACE)],
    ids=["tcp", "tcp-http2", "tcp-nonblocking", "unix", "unix-http2"],
)
def test_the_agent_and_the_other_end_of_its_export_are_never_captured(
    open_tap: OpenTap, tmp_path: os.PathLike[str], way: str, first: bytes
) -> None:
    tap = open_tap(agent_tgid=os.getpid())
    host = f"{tmp_path}/collector.sock" if way == "unix" else "127.0.0.1"
    with subprocess.Popen(
        [sys.executable, "-c", COLLECTOR, host], stdout=subprocess.PIPE, text=True
    ) as collector:
        assert collector.stdout is not None
        place = collector.stdout.readline().strip()
        with socket.socket(socket.AF_UNIX if way == "unix" else socket.AF_INET) as export:
            export.setblocking(way != "tcp-nonblocking")
            export.connect_ex(place if way == "unix" else (host, int(place)))
            export.setblocking(True)
            for _ in range(3):
                export.sendall(first)
                assert export.recv(65_536).startswith(b"HTTP/1.1 200")
        collector.wait()
    assert [event for event in tap.drain() if isinstance(event, SocketEvent)] == []
    assert tap.lost("connections_excluded") == 1


def test_equal_addresses_in_two_network_namespaces_are_two_connections(tap: Tap) -> None:
    script = """
import socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with socket.create_server(("127.0.0.1", 18080)) as listener:
    client = socket.create_connection(("127.0.0.1", 18080), source_address=("127.0.0.1", 28080))
    server = listener.accept()[0]
    client.sendall(b"GET /namespace HTTP/1.1\\r\\n\\r\\n")
    server.recv(1000)
"""
    for _ in range(2):
        subprocess.run(["unshare", "--net", sys.executable, "-c", script], check=True)
    opened = [
        event
        for event in tap.drain()
        if isinstance(event, SocketEvent)
        and event.kind is EventKind.OPENED
        and event.socket.local_port == 18080
    ]
    assert len(opened) == 2
    assert len({event.connection_id for event in opened}) == 2
    own = opened[0].socket.network_namespace, opened[1].socket.network_namespace
    assert all(namespace not in (0, os.stat("/proc/self/ns/net").st_ino) for namespace in own)  # noqa: PTH116
