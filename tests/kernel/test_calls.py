"""Every system call that moves bytes: they arrive, all of them, once."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import tempfile
import threading
from collections.abc import Callable

import pytest

from ebpf.events import Direction, EventKind, Missing, Role
from tests.kernel.conftest import REQUEST, Tap, inode_of, receive_exactly

pytestmark = pytest.mark.kernel

Pair = tuple[socket.socket, socket.socket]

LIBC = ctypes.CDLL(None, use_errno=True)


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class MsgHdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(IoVec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class MMsgHdr(ctypes.Structure):
    _fields_ = [("header", MsgHdr), ("length", ctypes.c_uint)]


def multiple_messages(buffers: list[ctypes.Array[ctypes.c_char]]) -> ctypes.Array[MMsgHdr]:
    """Return the messages; the caller keeps the buffers, to which they only point."""
    messages = (MMsgHdr * len(buffers))()
    for message, buffer in zip(messages, buffers, strict=True):
        # a message of two segments, so that both levels are walked
        half = len(buffer) // 2
        segments = (IoVec * 2)(
            IoVec(ctypes.addressof(buffer), half), IoVec(ctypes.addressof(buffer) + half, len(buffer) - half)
        )
        message.header.iov = segments
        message.header.iov_count = 2
    return messages


def send_mmsg(endpoint: socket.socket, content: bytes) -> None:
    third = len(content) // 3
    parts = [content[:third], content[third : 2 * third], content[2 * third :]]
    buffers = [ctypes.create_string_buffer(part, len(part)) for part in parts]
    messages = multiple_messages(buffers)
    assert LIBC.sendmmsg(endpoint.fileno(), messages, len(messages), 0) == len(messages)


def receive_mmsg(endpoint: socket.socket, count: int) -> bytes:
    third = count // 3
    buffers = [ctypes.create_string_buffer(size) for size in (third, third, count - 2 * third)]
    messages = multiple_messages(buffers)
    assert LIBC.recvmmsg(endpoint.fileno(), messages, len(messages), 0, None) == len(messages)
    return b"".join(buffer.raw for buffer in buffers)


def read_vector(endpoint: socket.socket, count: int) -> bytes:
    buffers = [bytearray(1), bytearray(7), bytearray(count)]
    assert os.readv(endpoint.fileno(), buffers) == count
    return b"".join(buffers)[:count]


def receive_message(endpoint: socket.socket, count: int) -> bytes:
    buffers = [bytearray(3), bytearray(count)]
    endpoint.recvmsg_into(buffers)
    return b"".join(buffers)[:count]


SENDERS: dict[str, Callable[[socket.socket, bytes], object]] = {
    "write": lambda endpoint, content: os.write(endpoint.fileno(), content),
    "send": lambda endpoint, content: endpoint.send(content),
    "writev": lambda endpoint, content: os.writev(endpoint.fileno(), [content[:2], b"", content[2:]]),
    "sendmsg": lambda endpoint, content: endpoint.sendmsg([content[:5], content[5:]]),
    "sendmmsg": send_mmsg,
}
RECEIVERS: dict[str, Callable[[socket.socket, int], bytes]] = {
    "read": lambda endpoint, count: os.read(endpoint.fileno(), count),
    "recv": lambda endpoint, count: endpoint.recv(count),
    "readv": read_vector,
    "recvmsg": receive_message,
    "recvmmsg": receive_mmsg,
}


@pytest.mark.parametrize("receive", RECEIVERS)
@pytest.mark.parametrize("send", SENDERS)
def test_each_call_is_captured_once_at_both_ends(tap: Tap, pair: Pair, send: str, receive: str) -> None:
    client, server = pair
    for _ in range(3):
        SENDERS[send](client, REQUEST)
        assert RECEIVERS[receive](server, len(REQUEST)) == REQUEST
    assert tap.stream(inode_of(client), Direction.EGRESS) == 3 * REQUEST
    assert tap.stream(inode_of(server), Direction.INGRESS) == 3 * REQUEST
    (opened,) = tap.of(inode_of(server), EventKind.OPENED)
    assert (opened.role, opened.joined_late, opened.origin.tgid) == (Role.SERVER, False, os.getpid())
    assert tap.of(inode_of(client), EventKind.OPENED)[0].role is Role.CLIENT


@pytest.mark.parametrize("size", [1, 8_191, 8_192, 8_193, 16_384, 100_003, 131_072])
@pytest.mark.parametrize("send", ["write", "writev", "sendmsg"])
def test_sizes_around_a_chunk_are_exact(tap: Tap, pair: Pair, send: str, size: int) -> None:
    client, server = pair
    body = bytes(range(256)) * (size // 256 + 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.sendall(REQUEST)
    assert SENDERS[send](client, body[:size]) == size
    assert tap.stream(inode_of(client), Direction.EGRESS) == REQUEST + body[:size]
    receive_exactly(server, len(REQUEST) + size)
    assert tap.stream(inode_of(server), Direction.INGRESS) == REQUEST + body[:size]


def test_a_thousand_small_segments_are_gathered(tap: Tap, pair: Pair) -> None:
    client, _server = pair
    segments = [bytes([index % 251]) * 100 for index in range(1024)]
    client.sendall(REQUEST)
    sent = os.writev(client.fileno(), segments)
    assert sent == 102_400
    assert tap.stream(inode_of(client), Direction.EGRESS) == REQUEST + b"".join(segments)
    assert len(tap.data(inode_of(client), Direction.EGRESS)) == 1 + 13


def test_segments_beyond_the_bound_are_reported_as_length(tap: Tap, pair: Pair) -> None:
    client, _server = pair
    # 40 messages of up to 40 one-byte segments take more steps than one call is followed for
    buffers = [ctypes.create_string_buffer(b"x" * 40, 40) for _ in range(40)]
    messages = (MMsgHdr * 40)()
    for message, buffer in zip(messages, buffers, strict=True):
        message.header.iov = (IoVec * 40)(*(IoVec(ctypes.addressof(buffer) + at, 1) for at in range(40)))
        message.header.iov_count = 40
    client.sendall(REQUEST)
    assert LIBC.sendmmsg(client.fileno(), messages, 40, 0) == 40
    *_, last = tap.data(inode_of(client), Direction.EGRESS)
    assert last.position + last.length == len(REQUEST) + 1600
    assert (last.payload, last.missing) == (b"", Missing.IOVEC_BOUND)
    assert tap.lost("iovec_bound_bytes") == last.length > 0


def test_what_was_not_sent_is_not_captured(tap: Tap, pair: Pair) -> None:
    client, server = pair
    client.setblocking(False)
    client.send(REQUEST)
    sent = 0
    try:
        while True:
            sent += client.send(b"y" * 1_000_003)
    except BlockingIOError:
        pass
    assert sent % 1_000_003, "no partial write happened"
    *_, last = tap.data(inode_of(client), Direction.EGRESS)
    total = max(last.position + last.length, len(REQUEST))
    for event in tap.capture.inspect(last.socket.cookie, last.connection_id):
        total = event.position + event.length
    assert total == len(REQUEST) + sent
    assert receive_exactly(server, len(REQUEST)) == REQUEST


def test_a_partial_read_is_captured_as_far_as_it_went(tap: Tap, pair: Pair) -> None:
    client, server = pair
    client.sendall(REQUEST)
    assert server.recv(17) == REQUEST[:17]
    assert server.recv(65_536) == REQUEST[17:]
    assert [event.length for event in tap.data(inode_of(server), Direction.INGRESS)] == [
        17,
        len(REQUEST) - 17,
    ]


def test_peeked_bytes_are_captured_only_when_they_are_read(tap: Tap, pair: Pair) -> None:
    client, server = pair
    client.sendall(REQUEST)
    for _ in range(2):
        assert server.recv(65_536, socket.MSG_PEEK) == REQUEST
        assert server.recvmsg(65_536, 0, socket.MSG_PEEK)[0] == REQUEST
    assert not tap.of(inode_of(server))
    server.recv(65_536)
    assert tap.stream(inode_of(server), Direction.INGRESS) == REQUEST


def test_discarded_bytes_count_as_unreadable(tap: Tap, pair: Pair) -> None:
    client, server = pair
    client.sendall(REQUEST + b"z" * 31)
    server.recv(len(REQUEST))
    assert LIBC.recv(server.fileno(), ctypes.create_string_buffer(31), 31, socket.MSG_TRUNC) == 31
    *_, last = tap.data(inode_of(server), Direction.INGRESS)
    assert (last.position, last.length, last.payload, last.missing) == (
        len(REQUEST),
        31,
        b"",
        Missing.UNREADABLE,
    )


def test_sendfile_is_a_gap_of_known_length(tap: Tap, pair: Pair) -> None:
    client, server = pair
    with tempfile.TemporaryFile() as file:
        file.write(b"s" * 5_003)
        file.flush()
        client.sendall(REQUEST)
        assert os.sendfile(client.fileno(), file.fileno(), 0, 5_003) == 5_003
    receive_exactly(server, len(REQUEST) + 5_003)
    _, gap = tap.data(inode_of(client), Direction.EGRESS)
    assert (gap.position, gap.length, gap.payload, gap.missing) == (
        len(REQUEST),
        5_003,
        b"",
        Missing.SENDFILE,
    )
    assert len(tap.stream(inode_of(server), Direction.INGRESS)) == len(REQUEST) + 5_003


def test_splice_is_a_gap_in_either_direction(tap: Tap, pair: Pair) -> None:
    client, server = pair
    receiving, sending = os.pipe()
    try:
        client.sendall(REQUEST)
        server.recv(65_536)
        os.write(sending, b"p" * 1_009)
        assert os.splice(receiving, client.fileno(), 1_009) == 1_009
        assert os.splice(server.fileno(), sending, 1_009) == 1_009
    finally:
        os.close(receiving)
        os.close(sending)
    for event in (
        tap.data(inode_of(client), Direction.EGRESS)[-1],
        tap.data(inode_of(server), Direction.INGRESS)[-1],
    ):
        assert (event.length, event.payload, event.missing) == (1_009, b"", Missing.SENDFILE)


def test_an_unreadable_buffer_is_reported_as_length(tap: Tap, pair: Pair) -> None:
    client, server = pair
    size = 16 << 20  # more than the socket's buffers hold
    memory = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    client.sendall(REQUEST)
    receive_exactly(server, len(REQUEST))
    sender = threading.Thread(target=LIBC.send, args=(client.fileno(), ctypes.c_void_p(address), size, 0))
    sender.start()
    # the first megabyte is sent, the call goes on: its beginning may go
    receive_exactly(server, 1 << 20)
    # unmapped, it would be a hole that any allocation may fill before the call returns
    assert LIBC.mprotect(ctypes.c_void_p(address), 1 << 20, 0) == 0
    receive_exactly(server, size - (1 << 20))
    sender.join()
    assert LIBC.mprotect(ctypes.c_void_p(address), 1 << 20, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    _, first, *_ = tap.data(inode_of(client), Direction.EGRESS)
    assert (first.position, first.payload) == (len(REQUEST), b"")
    assert first.missing & Missing.UNREADABLE
    assert tap.lost("unreadable_bytes") >= first.length > 0
