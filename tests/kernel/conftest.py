"""The real kernel side, and a tap that collects what it says of the sockets a test uses."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from ebpf.capture import LiveCapture
from ebpf.compilation import CaptureOptions, Compilation
from ebpf.events import CaptureEvent, Direction, EventKind, Policy, ProcessPolicy, SocketEvent

NO_TGID = 0x7FFF_FFFF
"""No process has it: the tests themselves are captured, instead of being excluded as the agent."""

BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
WAIT_SECONDS = 20.0
FOREVER_SECONDS = 3_600.0
"""Of a wait that something has to end: longer than any test may take."""
REQUEST = b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 999999999\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Tap:
    """What a capture said since the tap was opened."""

    def __init__(self, capture: LiveCapture) -> None:
        self.capture = capture
        self.events: list[CaptureEvent] = []
        while capture.poll_raw(0):
            pass
        self._counters_before = {**capture.losses(), **capture.observations()}

    def drain(self) -> list[CaptureEvent]:
        """Take everything that is in the ring. A call's records are there once the call has returned."""
        while events := self.capture.poll(0):
            self.events.extend(events)
        return self.events

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self.drain()
            if condition():
                return
            assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s; {len(self.events)} events"
            self.events.extend(self.capture.poll(0.05))

    def of(self, inode: int, *kinds: EventKind) -> list[SocketEvent]:
        """Socket events of one socket, by its inode number."""
        return [
            event
            for event in self.drain()
            if isinstance(event, SocketEvent)
            and event.socket.inode == inode
            and (not kinds or event.kind in kinds)
        ]

    def data(self, inode: int, direction: Direction) -> list[SocketEvent]:
        """DATA events of one direction of a socket."""
        return [event for event in self.of(inode, EventKind.DATA) if event.direction is direction]

    def stream(self, inode: int, direction: Direction) -> bytes:
        """The bytes of one direction, which must be whole and in order.

        Those that were delivered before the connection was judged are among them.
        """
        stream = b""
        opened = {event.connection_id for event in self.of(inode, EventKind.OPENED)}
        events = self.of(inode, EventKind.DATA, EventKind.UNJUDGED)
        for event in events:
            if event.direction is not direction or event.connection_id not in opened:
                continue
            assert event.position == len(stream)
            assert event.length == len(event.payload)
            assert not event.missing
            stream += event.payload
        return stream

    def lost(self, cause: str) -> int:
        """How much a counter grew since the tap was opened."""
        counters = {**self.capture.losses(), **self.capture.observations()}
        return counters[cause] - self._counters_before[cause]


def start_capture(**options: object) -> LiveCapture:
    """Capture this process and its children alone: nothing else must show in a count."""
    defaults = {"agent_tgid": NO_TGID, "default_policy": Policy.IGNORE}
    chosen = CaptureOptions(**{**defaults, **options})  # type: ignore[arg-type]  # checked there
    capture = LiveCapture(Compilation(chosen))
    capture.set_policy(os.getpid(), ProcessPolicy(capture=BOTH))
    return capture


@pytest.fixture(scope="session")
def shared_capture() -> Iterator[LiveCapture]:
    capture = start_capture()
    yield capture
    capture.close()


@pytest.fixture
def tap(shared_capture: LiveCapture) -> Tap:
    return Tap(shared_capture)


@pytest.fixture
def open_tap() -> Iterator[Callable[..., Tap]]:
    """Return a function that starts a capture of its own, with these options."""
    captures = []

    def open_with(**options: object) -> Tap:
        capture = start_capture(**options)
        captures.append(capture)
        return Tap(capture)

    yield open_with
    for capture in captures:
        capture.close()


def inode_of(endpoint: socket.socket | int) -> int:
    return os.fstat(endpoint if isinstance(endpoint, int) else endpoint.fileno()).st_ino


def connect_pair(
    family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1"
) -> tuple[socket.socket, socket.socket]:
    """Return a connected client and server socket."""
    mapped = family == socket.AF_INET6 and "." in host
    with socket.create_server((host, 0), family=family, dualstack_ipv6=mapped) as listener:
        client = socket.socket(family)
        client.connect(listener.getsockname())
        return client, listener.accept()[0]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = connect_pair()
    with client, server:
        yield client, server


def receive_exactly(endpoint: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        received += endpoint.recv(min(count - len(received), 1 << 20))
    return bytes(received)
