"""Runs inside another kernel: capture a known number of requests there, byte for byte.

Plain Python without pytest, for it runs under emulation, where everything takes thirty times as long. Ends
with 0 when all is as it must be.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

from ebpf import compilation
from ebpf.capture import LiveCapture
from ebpf.compilation import CaptureOptions, Compilation
from ebpf.events import (
    Direction,
    EventKind,
    Policy,
    ProcessExecuted,
    ProcessForked,
    ProcessPolicy,
    SocketEvent,
)
from tests.kernels.tls import check_tls

REQUESTS = 211
OLDER_CONNECTIONS = 3
"""Open before the capture, and speaking HTTP/2."""
RESPONSE_BODY = bytes(range(256)) * 79
REQUEST = b"GET /known HTTP/1.1\r\nHost: guest\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(RESPONSE_BODY)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, 0, 0, b"\0\3\0\0\0\x64")
HTTP2_HEAD = frame(1, 5, 1, b"\x82\x84\x86\x41\5guest")
HTTP2_REQUEST = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS + HTTP2_HEAD
HTTP2_RESPONSE = frame(1, 4, 1, b"\x88") + frame(0, 0, 1, RESPONSE_BODY[:16_384])
HTTP2_BODY = frame(0, 1, 1, RESPONSE_BODY[16_384:])
HTTP1, HTTP2 = (REQUEST, RESPONSE, RESPONSE_BODY), (HTTP2_REQUEST, HTTP2_RESPONSE, HTTP2_BODY)
Messages = tuple[bytes, bytes, bytes]
"""A request, and its response in two segments."""

EXPECTED = {
    # two ends, and for HTTP/1 two families
    REQUEST: 4 * REQUESTS,
    RESPONSE + RESPONSE_BODY: 4 * REQUESTS,
    HTTP2_REQUEST: 2 * REQUESTS,
    HTTP2_HEAD: 2 * OLDER_CONNECTIONS,
    HTTP2_RESPONSE + HTTP2_BODY: 2 * (REQUESTS + OLDER_CONNECTIONS),
}
"""Streams, and how often each is captured."""
QUIET_SECONDS = 1.0
"""Without an event for this long after the traffic, nothing more comes."""


def exchange(client: socket.socket, server: socket.socket, messages: Messages) -> None:
    """Send a request and answer it, its body as a second segment."""
    request, response, body = messages
    client.sendall(request)
    receive(server, len(request))
    server.sendmsg([response, body])
    receive(client, len(response) + len(body))


def end(client: socket.socket, server: socket.socket) -> None:
    """End a connection from the server's side, which either end then sees."""
    with client, server:
        server.shutdown(socket.SHUT_WR)
        client.recv(1)


def receive(endpoint: socket.socket, left: int) -> None:
    """Read this many bytes."""
    while left:
        left -= len(endpoint.recv(min(left, 65_536)))


def connect(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new connection."""
    client = socket.socket(listener.family)
    client.connect(listener.getsockname())
    return client, listener.accept()[0]


def converse(family: socket.AddressFamily, address: object, messages: Messages) -> None:
    """Make all requests of one family, each on a connection of its own."""
    with socket.socket(family) as listener:
        listener.bind(address)  # type: ignore[arg-type]  # of either family
        listener.listen()
        for _ in range(REQUESTS):
            client, server = connect(listener)
            exchange(client, server, messages)
            end(client, server)


def converse_in_all_ways(older: list[tuple[socket.socket, socket.socket]]) -> None:
    """Make all requests over TCP, then over a Unix socket, then on the connections that are older."""
    with tempfile.TemporaryDirectory() as directory:
        converse(socket.AF_INET, ("127.0.0.1", 0), HTTP1)
        converse(socket.AF_UNIX, str(Path(directory) / "socket"), HTTP1)
        converse(socket.AF_INET, ("127.0.0.1", 0), HTTP2)
    for client, server in older:
        exchange(client, server, (HTTP2_HEAD, HTTP2_RESPONSE, HTTP2_BODY))
        end(client, server)


def open_older_connections() -> list[tuple[socket.socket, socket.socket]]:
    """Return connections on which HTTP/2 was spoken already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        older = [connect(listener) for _ in range(OLDER_CONNECTIONS)]
    for client, server in older:
        exchange(client, server, HTTP2)
    return older


def check_processes(capture: LiveCapture) -> list[str]:
    """Run a short process in a cgroup of its own; return what was not told of it."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "cgroup2", "none", name], check=True)
        pod = Path(name) / "wirespan-pod"
        container = pod / "wirespan-container"
        try:
            container.mkdir(parents=True)
            script = f"echo $$ >{container}/cgroup.procs && exec /bin/true"
            with subprocess.Popen(["/bin/sh", "-c", script]) as process:
                pass
            container.rmdir()
            pod.rmdir()
        finally:
            subprocess.run(["umount", name], check=True)
    events = capture.poll(QUIET_SECONDS)
    forked = [e for e in events if isinstance(e, ProcessForked) and e.tgid == process.pid]
    executed = [e for e in events if isinstance(e, ProcessExecuted) and e.tgid == process.pid]
    problems = []
    if [fork.parent_tgid for fork in forked] != [os.getpid()]:
        problems.append(f"forks told: {forked}")
    if [e.path for e in executed] != ["/bin/sh", "/bin/true"]:
        problems.append(f"executions told: {executed}")
    elif "/wirespan-pod/wirespan-container" not in executed[1].cgroups:
        problems.append(f"cgroups told: {executed[1].cgroups}")
    return problems


def check(capture: LiveCapture, older: list[tuple[socket.socket, socket.socket]]) -> list[str]:
    """Return what is not as it must be."""
    streams: dict[tuple[int, Direction], bytes] = defaultdict(bytes)
    ended: set[tuple[int, Direction]] = set()
    traffic = threading.Thread(target=converse_in_all_ways, args=(older,))
    traffic.start()
    while (busy := traffic.is_alive()) or (events := capture.poll(QUIET_SECONDS)):
        if busy:
            events = capture.poll(0.1)
        for event in events:
            if isinstance(event, SocketEvent):
                key = (event.connection_id, event.direction)
                if event.kind is EventKind.DATA:
                    streams[key] += event.payload
                elif event.kind is EventKind.ENDED:
                    ended.add(key)
    losses = capture.losses()
    problems = [f"{cause}: {count}" for cause, count in losses.items() if count]
    seen = Counter(streams.values())
    if seen != EXPECTED:
        problems.append(
            f"streams seen, by length: { {len(stream): count for stream, count in seen.items()} }"
        )
    if len(ended) < sum(EXPECTED.values()) // 2:  # at least one way of each connection at each end
        problems.append(f"{len(ended)} ends seen")
    return problems


def main() -> int:
    """Capture, compare, report."""
    kernel = f"Linux {platform.release()}"
    older = open_older_connections()
    started = time.monotonic()
    # emulation is some thirty times slower
    compilation.COMPILE_TIMEOUT_SECONDS = 600.0
    # this process alone is captured, although it also is the agent
    capture = LiveCapture(Compilation(CaptureOptions(agent_tgid=0x7FFF_FFFF, default_policy=Policy.IGNORE)))
    both = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
    capture.set_policy(os.getpid(), ProcessPolicy(capture=both))
    lines = [f"loaded and attached in {time.monotonic() - started:.1f} s"]
    problems = check(capture, older) + check_processes(capture) + check_tls(capture)
    capture.close()
    lines += problems
    lines.append(
        f"{3 * REQUESTS + OLDER_CONNECTIONS} requests at both ends, and over TLS: "
        f"{'FAILED' if problems else 'passed'}"
    )
    sys.stdout.writelines(f"{kernel}: {line}\n" for line in lines)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
