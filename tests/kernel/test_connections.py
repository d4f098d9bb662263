"""What a connection is: identity, ends, roles, verdicts, budget, loss."""

from __future__ import annotations

import array
import bisect
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ebpf.events import Direction, EventKind, Missing, Origin, Role, SocketEvent
from tests.kernel.conftest import REQUEST, Tap, connect_pair, inode_of, receive_exactly

pytestmark = pytest.mark.kernel

Pair = tuple[socket.socket, socket.socket]
OpenTap = Callable[..., Tap]

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def exchange(client: socket.socket, server: socket.socket, request: bytes = REQUEST) -> None:
    client.sendall(request)
    receive_exactly(server, len(request))
    server.sendall(RESPONSE)
    receive_exactly(client, len(RESPONSE))


@pytest.mark.parametrize(
    ("family", "host", "name", "address"),
    [
        (socket.AF_INET, "127.0.0.1", "ipv4", "127.0.0.1"),
        (socket.AF_INET6, "::1", "ipv6", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "ipv4", "127.0.0.1"),
    ],
)
def test_both_ends_agree_on_addresses(
    tap: Tap, family: socket.AddressFamily, host: str, name: str, address: str
) -> None:
    client, server = connect_pair(family, host)
    with client, server:
        exchange(client, server)
        (of_client,) = tap.of(inode_of(client), EventKind.OPENED)
        (of_server,) = tap.of(inode_of(server), EventKind.OPENED)
        ours, theirs = of_client.socket, of_server.socket
        assert (ours.family, ours.local_address, ours.remote_address) == (name, address, address)
        assert (ours.local_port, ours.remote_port) == (client.getsockname()[1], server.getsockname()[1])
        assert (ours.local_port, ours.remote_port) == (theirs.remote_port, theirs.local_port)
        namespace = Path("/proc/self/ns/net").stat().st_ino
        assert ours.network_namespace == theirs.network_namespace == namespace


@pytest.mark.parametrize("named", ["path", "abstract"])
def test_a_unix_socket_is_known_by_its_path(tap: Tap, tmp_path: Path, named: str) -> None:
    path = str(tmp_path / "http.sock") if named == "path" else "\0wirespan-test"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        server = listener.accept()[0]
        with server:
            exchange(client, server)
            inodes = inode_of(client), inode_of(server)
            server.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    for inode, role in zip(inodes, (Role.CLIENT, Role.SERVER), strict=True):
        (opened,) = tap.of(inode, EventKind.OPENED)
        assert opened.payload.rstrip(b"\0") == path.encode()
        assert (opened.role, opened.joined_late, opened.socket.family) == (role, False, "unix")
    (over,) = tap.of(inodes[0], EventKind.ENDED)
    assert (over.direction, over.position) == (Direction.INGRESS, len(RESPONSE))
    (over,) = tap.of(inodes[1], EventKind.ENDED)
    assert (over.direction, over.position) == (Direction.EGRESS, len(RESPONSE))


def test_a_unix_peer_that_went_away_is_closed(tap: Tap) -> None:
    client, server = socket.socketpair()
    with client:
        exchange(client, server)
        inode = inode_of(server)
        server.close()
        assert client.recv(1) == b""
    assert [event.kind for event in tap.of(inode)][-2:] == [EventKind.ENDED, EventKind.CLOSED]
    assert not tap.of(inode)[0].joined_late


def test_a_tcp_connection_ends_in_both_directions_and_is_closed(tap: Tap, pair: Pair) -> None:
    client, server = pair
    exchange(client, server)
    inodes = inode_of(client), inode_of(server)
    client.close()
    assert server.recv(1) == b""
    server.close()
    tap.until(lambda: all(tap.of(inode, EventKind.CLOSED) for inode in inodes))
    ends = {event.direction: event.position for event in tap.of(inodes[1], EventKind.ENDED)}
    assert ends == {Direction.INGRESS: len(REQUEST), Direction.EGRESS: len(RESPONSE)}
    (over,) = tap.of(inodes[0], EventKind.ENDED)
    assert (over.direction, over.position) == (Direction.EGRESS, len(REQUEST))


def test_bytes_read_after_the_connection_closed_belong_to_it(tap: Tap, pair: Pair) -> None:
    client, server = pair
    exchange(client, server)
    server.shutdown(socket.SHUT_RD)
    client.sendall(REQUEST * 3)
    client.close()
    inode = inode_of(server)
    server.shutdown(socket.SHUT_WR)
    tap.until(lambda: bool(tap.of(inode, EventKind.CLOSED)))
    received = receive_exactly(server, 3 * len(REQUEST))
    assert tap.stream(inode, Direction.INGRESS) == REQUEST + received
    assert len({event.connection_id for event in tap.of(inode)}) == 1


def test_a_connection_older_than_the_capture_is_captured_from_its_next_message(
    open_tap: OpenTap, pair: Pair
) -> None:
    client, server = pair
    exchange(client, server)
    client.sendall(REQUEST + b"the first half of a body, ")
    receive_exactly(server, len(REQUEST) + 26)
    tap = open_tap()
    client.sendall(b"the second half")
    receive_exactly(server, 15)
    server.sendall(RESPONSE)
    receive_exactly(client, len(RESPONSE))
    exchange(client, server)
    assert tap.stream(inode_of(client), Direction.EGRESS) == REQUEST
    assert tap.stream(inode_of(client), Direction.INGRESS) == RESPONSE * 2
    (opened,) = tap.of(inode_of(client), EventKind.OPENED)
    assert (opened.role, opened.joined_late) == (Role.CLIENT, True)
    (opened,) = tap.of(inode_of(server), EventKind.OPENED)
    assert (opened.role, opened.joined_late) == (Role.SERVER, True)


def test_an_old_connection_that_never_shows_a_message_is_given_up(open_tap: OpenTap, pair: Pair) -> None:
    client, server = pair
    tap = open_tap()
    before = tap.lost("connections_not_http")
    for _ in range(17):
        client.sendall(b"ping")
        server.recv(4)
        server.sendall(b"pong")
        client.recv(4)
    exchange(client, server)
    assert not tap.of(inode_of(client))
    assert tap.lost("connections_not_http") == before + 2


@pytest.mark.parametrize("first", [b"G", b"GE", b"POST", b"\r\n", b"\r\nP", b"OPTIONS"])
def test_a_request_line_in_pieces_is_recognised_and_whole(tap: Tap, pair: Pair, first: bytes) -> None:
    client, server = pair
    request = {b"G": b"GET", b"O": b"OPTIONS"}.get(first[:1], b"POST") + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
    request = b"\r\n" + request if first[:1] == b"\r" else request
    client.sendall(first)
    server.recv(1)
    client.sendall(request[len(first) :])
    receive_exactly(server, len(request) - 1)
    assert tap.stream(inode_of(client), Direction.EGRESS) == request
    assert tap.stream(inode_of(server), Direction.INGRESS) == request


def test_a_duplicated_descriptor_is_the_same_connection(tap: Tap, pair: Pair) -> None:
    client, _server = pair
    client.sendall(REQUEST)
    with client.dup() as twin:
        twin.sendall(REQUEST)
    assert tap.stream(inode_of(client), Direction.EGRESS) == 2 * REQUEST


def test_a_descriptor_inherited_by_fork_is_the_same_connection(tap: Tap, pair: Pair) -> None:
    client, _server = pair
    client.sendall(REQUEST)
    script = "import os,sys; os.write(int(sys.argv[1]), os.read(0, 65536))"
    subprocess.run(
        [sys.executable, "-c", script, str(client.fileno())],
        pass_fds=[client.fileno()],
        input=REQUEST,
        check=True,
    )
    assert tap.stream(inode_of(client), Direction.EGRESS) == 2 * REQUEST
    tgids = {event.origin.tgid for event in tap.data(inode_of(client), Direction.EGRESS)}
    assert len(tgids) == 2
    assert os.getpid() in tgids


def test_each_record_names_the_thread_that_made_the_call(tap: Tap, pair: Pair) -> None:
    client, server = pair
    parts = [REQUEST[:3], REQUEST[3:], REQUEST, REQUEST * 2_000]
    writers: list[int] = []

    def write(part: bytes) -> None:
        writers.append(threading.get_native_id())
        client.sendall(part)
        receive_exactly(server, len(part))

    for part in parts:
        thread = threading.Thread(target=write, args=(part,))
        thread.start()
        thread.join()
    assert len(set(writers)) == len(parts)
    ends = list(itertools.accumulate(map(len, parts)))
    for direction, end in ((Direction.EGRESS, client), (Direction.INGRESS, server)):
        events = tap.data(inode_of(end), direction)
        assert sum(event.length for event in events) == ends[-1]
        for event in events:
            of_part = bisect.bisect_right(ends, event.position)
            assert event.origin == Origin(event.ktime_ns, os.getpid(), writers[of_part])


def test_a_descriptor_passed_over_a_socket_is_the_same_connection(tap: Tap, pair: Pair) -> None:
    client, _server = pair
    client.sendall(REQUEST)
    left, right = socket.socketpair()
    with left, right:
        left.sendmsg([b"-"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
        _, descriptors, *_ = socket.recv_fds(right, 1, 1)
    os.write(descriptors[0], REQUEST)
    os.close(descriptors[0])
    assert tap.stream(inode_of(client), Direction.EGRESS) == 2 * REQUEST


def test_ten_thousand_short_connections_are_never_mixed_up(tap: Tap) -> None:
    connections = 10_007
    seen: dict[int, list[bytes]] = {}
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        address = listener.getsockname()
        # an odd number of bytes to tell them apart; a reset keeps ports from piling up in TIME_WAIT
        for number in range(connections):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.connect(address)
                with listener.accept()[0] as server:
                    request = b"GET /%d HTTP/1.1\r\n\r\n" % number
                    client.sendall(request)
                    assert server.recv(100) == request
            if number % 1000 == 0:
                tap.drain()
    tap.until(lambda: sum(is_kind(event, EventKind.CLOSED) for event in tap.events) >= 2 * connections)
    for event in tap.events:
        if isinstance(event, SocketEvent) and event.kind is EventKind.DATA:
            seen.setdefault(event.connection_id, []).append(event.payload)
            assert event.position == 0
            assert not event.joined_late
    assert len(seen) == 2 * connections
    assert all(len(payloads) == 1 for payloads in seen.values())


def is_kind(event: object, kind: EventKind) -> bool:
    return isinstance(event, SocketEvent) and event.kind is kind


def test_four_threads_on_one_socket_lose_no_position(tap: Tap, pair: Pair) -> None:
    client, server = pair
    calls, size = 5_003, 16
    client.sendall(REQUEST)

    def write() -> None:
        for _ in range(calls):
            client.send(b"t" * size)

    reader = threading.Thread(target=receive_exactly, args=(server, len(REQUEST) + 4 * calls * size))
    writers = [threading.Thread(target=write) for _ in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in (*writers, reader):
        thread.join()
    *_, last = tap.data(inode_of(client), Direction.EGRESS)
    server.sendall(RESPONSE)
    client.recv(100)
    client.sendall(REQUEST)
    *_, after = tap.data(inode_of(client), Direction.EGRESS)
    assert last.position <= after.position == len(REQUEST) + 4 * calls * size


def test_a_huge_download_costs_its_beginning_only(tap: Tap, pair: Pair) -> None:
    client, server = pair
    total = 300_000_007
    client.sendall(REQUEST)
    server.recv(65_536)
    reader = threading.Thread(target=receive_exactly, args=(client, total))
    reader.start()
    server.sendall(RESPONSE)
    block = bytes(1 << 20)
    left = total - len(RESPONSE)
    while left:
        left -= server.send(block[:left])
    reader.join()
    moved = 0
    while records := tap.capture.poll_raw(0):
        moved += sum(len(record) for record in records)
    assert moved < 1_000_000
    budget_before = tap.lost("budget_bytes")
    assert budget_before > 2 * (total - 200_000)

    # the rest is known at once to who asks, and reported when the turn changes
    exchange(client, server)
    last = [event for event in tap.data(inode_of(server), Direction.EGRESS) if event.missing & Missing.BUDGET]
    assert [(event.payload, event.position + event.length) for event in last] == [(b"", total)]


def test_an_uncaptured_tail_can_be_inspected(tap: Tap, pair: Pair) -> None:
    client, server = pair
    client.sendall(REQUEST)
    receive_exactly(server, len(REQUEST))
    reader = threading.Thread(target=receive_exactly, args=(client, len(RESPONSE) + 400_009))
    reader.start()
    server.sendall(RESPONSE)
    server.sendall(b"i" * 400_009)
    reader.join()
    *_, last = tap.data(inode_of(server), Direction.EGRESS)
    assert last.position + last.length == 131_072 + 65_536
    (tail,) = tap.capture.inspect(last.socket.cookie, last.connection_id)
    assert (tail.position, tail.position + tail.length) == (131_072 + 65_536, len(RESPONSE) + 400_009)
    assert (tail.direction, tail.missing, tail.payload) == (Direction.EGRESS, Missing.BUDGET, b"")
    assert tail.ktime_ns >= last.ktime_ns
    assert tap.capture.inspect(last.socket.cookie, last.connection_id + 1) == []


def test_what_a_full_ring_loses_is_a_jump_and_is_counted(open_tap: OpenTap, pair: Pair) -> None:
    tap = open_tap(ring_bytes=65_536, turn_budget=1 << 30)
    client, server = connect_pair()
    with client, server:
        client.sendall(REQUEST)
        receive_exactly(server, len(REQUEST))
        for _ in range(100):
            client.sendall(b"r" * 1_009)
            receive_exactly(server, 1_009)
        tap.drain()
        client.sendall(b"after")
        lost, expected = 0, 0
        for event in tap.data(inode_of(client), Direction.EGRESS):
            lost += event.position - expected
            assert (event.position > expected) == bool(event.missing & Missing.RING_FULL)
            expected = event.position + event.length
        assert expected == len(REQUEST) + 100 * 1_009 + len(b"after")
        (tail,) = tap.capture.inspect(
            tap.of(inode_of(server))[0].socket.cookie, tap.of(inode_of(server))[0].connection_id
        )
        assert tail.missing == Missing.RING_FULL
        assert lost > 0
        assert tap.lost("ring_full_bytes") == lost + tail.length
