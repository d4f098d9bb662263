"""Runs inside another kernel: capture a known number of requests there, byte for byte.

Plain Python without pytest, for it runs under emulation, where everything takes thirty times as long. Ends
with 0 when all is as it must be.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from ebpf.capture import CaptureOptions, LiveCapture
from ebpf.events import Direction, EventKind, Policy, SocketEvent

REQUESTS = 211
RESPONSE_BODY = bytes(range(256)) * 79
REQUEST = b"GET /known HTTP/1.1\r\nHost: guest\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(RESPONSE_BODY)
QUIET_SECONDS = 1.0
"""Without an event for this long after the traffic, nothing more comes."""


def answer(listener: socket.socket, connections: int) -> None:
    """Answer one request on each connection, its body as a second segment."""
    for _ in range(connections):
        endpoint, _address = listener.accept()
        with endpoint:
            received = b""
            while len(received) < len(REQUEST):
                received += endpoint.recv(65_536)
            endpoint.sendmsg([RESPONSE, RESPONSE_BODY])


def ask(family: socket.AddressFamily, address: object) -> None:
    """Make one request and read until the end."""
    with socket.socket(family) as endpoint:
        endpoint.connect(address)  # type: ignore[arg-type]  # whatever the listener said
        endpoint.sendall(REQUEST)
        while endpoint.recv(65_536):
            pass


def converse(family: socket.AddressFamily, address: object) -> None:
    """Make all requests of one family."""
    with socket.socket(family) as listener:
        listener.bind(address)  # type: ignore[arg-type]  # as above
        listener.listen()
        server = threading.Thread(target=answer, args=(listener, REQUESTS))
        server.start()
        for _ in range(REQUESTS):
            ask(family, listener.getsockname())
        server.join()


def converse_over_both() -> None:
    """Make all requests over TCP, then over a Unix socket."""
    with tempfile.TemporaryDirectory() as directory:
        converse(socket.AF_INET, ("127.0.0.1", 0))
        converse(socket.AF_UNIX, str(Path(directory) / "socket"))


def check(capture: LiveCapture) -> list[str]:
    """Return what is not as it must be."""
    streams: dict[tuple[int, Direction], bytes] = defaultdict(bytes)
    ended: set[tuple[int, Direction]] = set()
    traffic = threading.Thread(target=converse_over_both)
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
    whole = {REQUEST: 0, RESPONSE + RESPONSE_BODY: 0}
    for stream in streams.values():
        whole[stream] = whole.get(stream, 0) + 1
    expected = 4 * REQUESTS  # two families, two ends
    if list(whole.values()) != [expected, expected]:
        problems.append(
            f"streams seen, by length: { {len(stream): count for stream, count in whole.items()} }"
        )
    if len(ended) < expected:
        problems.append(f"{len(ended)} ends seen")
    return problems


def main() -> int:
    """Capture, compare, report."""
    kernel = f"Linux {platform.release()}"
    started = time.monotonic()
    # this process alone is captured, although it also is the agent
    capture = LiveCapture(CaptureOptions(agent_tgid=0x7FFF_FFFF, default_policy=Policy.IGNORE))
    capture.set_policy(os.getpid(), Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS)
    lines = [f"loaded and attached in {time.monotonic() - started:.1f} s"]
    problems = check(capture)
    capture.close()
    lines += problems
    lines.append(f"{2 * REQUESTS} requests at both ends, {'FAILED' if problems else 'passed'}")
    sys.stdout.writelines(f"{kernel}: {line}\n" for line in lines)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
