"""HTTP/2 connections: known by their beginning, or in the middle by their frames; captured like any other."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable

import pytest
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from ebpf.events import Direction, EventKind, Missing, Protocol, Role
from tests.kernel.conftest import PREFACE, REQUEST, Tap, connect_pair, inode_of, receive_exactly
from tests.kernel.test_calls import RECEIVERS, SENDERS

pytestmark = pytest.mark.kernel

Pair = tuple[socket.socket, socket.socket]
OpenTap = Callable[..., Tap]

TURN_BUDGET = 131_072 + 65_536


def serialise(*frames: Frame) -> bytes:
    return b"".join(frame.serialize() for frame in frames)


def head(stream: int, *fields: tuple[str, str]) -> bytes:
    return serialise(HeadersFrame(stream, Encoder().encode(fields), flags=("END_HEADERS",)))


SETTINGS = serialise(SettingsFrame(0, {SettingsFrame.MAX_CONCURRENT_STREAMS: 100}))
ACKNOWLEDGED = serialise(SettingsFrame(0, flags=("ACK",)))
PING = serialise(PingFrame(0, b"12345678"))
WINDOW = serialise(WindowUpdateFrame(0, 65_535))
ASKED = head(7, (":method", "GET"), (":path", "/known"), (":scheme", "http"), (":authority", "test"))
ANSWERED = head(7, (":status", "200")) + serialise(DataFrame(7, b"the answer", flags=("END_STREAM",)))


def pass_on(sender: socket.socket, receiver: socket.socket, content: bytes) -> None:
    sender.sendall(content)
    receive_exactly(receiver, len(content))


def opened(tap: Tap, endpoint: socket.socket) -> tuple[Role, bool, bool]:
    """Return what OPENED says: role, joined late, HTTP/2."""
    (event,) = tap.of(inode_of(endpoint), EventKind.OPENED)
    return event.role, event.joined_late, event.socket.protocol == Protocol.HTTP2


def test_the_preface_opens_a_connection(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    pass_on(server, client, SETTINGS + ACKNOWLEDGED + ANSWERED)
    for endpoint, role, asked in (
        (client, Role.CLIENT, Direction.EGRESS),
        (server, Role.SERVER, Direction.INGRESS),
    ):
        assert opened(tap, endpoint) == (role, False, True)
        assert all(event.socket.protocol == Protocol.HTTP2 for event in tap.of(inode_of(endpoint)))
        assert tap.stream(inode_of(endpoint), asked) == PREFACE + SETTINGS + ASKED
        assert tap.stream(inode_of(endpoint), Direction(1 - asked)) == SETTINGS + ACKNOWLEDGED + ANSWERED
    assert (tap.lost("connections_http2"), tap.lost("connections_http")) == (2, 0)


def test_http1_is_not_called_http2(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, REQUEST)
    assert opened(tap, server) == (Role.SERVER, False, False)
    assert (tap.lost("connections_http2"), tap.lost("connections_http")) == (0, 2)


@pytest.mark.parametrize("split", [0, 1, 5, 8, 9])
def test_a_server_may_speak_first(tap: Tap, pair: Pair, split: int) -> None:
    client, server = pair
    if split:
        pass_on(server, client, SETTINGS[:split])
    pass_on(server, client, SETTINGS[split:])
    pass_on(client, server, PREFACE + SETTINGS)
    assert opened(tap, client) == (Role.CLIENT, False, True)
    assert opened(tap, server) == (Role.SERVER, False, True)
    assert tap.stream(inode_of(client), Direction.INGRESS) == SETTINGS
    assert tap.stream(inode_of(server), Direction.EGRESS) == SETTINGS
    assert tap.stream(inode_of(server), Direction.INGRESS) == PREFACE + SETTINGS


def test_who_speaks_first_on_a_pair_of_unknown_roles_is_the_server(tap: Tap) -> None:
    left, right = socket.socketpair()
    with left, right:
        pass_on(left, right, SETTINGS)
        assert opened(tap, left) == (Role.SERVER, False, True)
        assert opened(tap, right) == (Role.CLIENT, False, True)


def test_a_preface_byte_by_byte_is_whole(tap: Tap, pair: Pair) -> None:
    client, server = pair
    for at in range(len(PREFACE)):
        pass_on(client, server, PREFACE[at : at + 1])
    assert tap.stream(inode_of(client), Direction.EGRESS) == PREFACE
    assert tap.stream(inode_of(server), Direction.INGRESS) == PREFACE


def test_an_older_connection_is_captured_from_the_next_head_however_it_is_moved(open_tap: OpenTap) -> None:
    """Each way to send with each way to receive; the answer has two frames in one call."""
    # of several messages the first is looked at, and here it holds less than a frame's header
    ways = [(s, r) for s in SENDERS for r in RECEIVERS if s != "sendmmsg" and r != "recvmmsg"]
    with contextlib.ExitStack() as closing:
        pairs = []
        for way in ways:
            client, server = map(closing.enter_context, connect_pair())
            pass_on(client, server, PREFACE + SETTINGS)
            pairs.append((client, server, *way))
        tap = open_tap()
        for client, server, send, receive in pairs:
            # frames that tell nothing, and a piece of one
            for each in (WINDOW, PING, ACKNOWLEDGED, ANSWERED[20:]):
                pass_on(client, server, each)
            assert not tap.of(inode_of(client))
            for sender, receiver, content in ((client, server, ASKED), (server, client, ANSWERED)):
                SENDERS[send](sender, content)
                assert RECEIVERS[receive](receiver, len(content)) == content
            assert opened(tap, client) == (Role.CLIENT, True, True)
            assert opened(tap, server) == (Role.SERVER, True, True)
            for endpoint, asked in ((client, Direction.EGRESS), (server, Direction.INGRESS)):
                assert tap.stream(inode_of(endpoint), asked) == ASKED
                assert tap.stream(inode_of(endpoint), Direction(1 - asked)) == ANSWERED


def test_an_older_connection_may_begin_with_an_answer(open_tap: OpenTap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    tap = open_tap()
    pass_on(server, client, WINDOW + ANSWERED)
    pass_on(client, server, ASKED)
    assert opened(tap, client) == (Role.CLIENT, True, True)
    assert opened(tap, server) == (Role.SERVER, True, True)
    assert tap.stream(inode_of(client), Direction.INGRESS) == WINDOW + ANSWERED
    assert tap.stream(inode_of(client), Direction.EGRESS) == ASKED
    assert tap.lost("connections_http2") == 2


def test_a_long_dialogue_of_frames_does_not_end_the_wait_for_a_head(open_tap: OpenTap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    tap = open_tap()
    message = serialise(DataFrame(7, b"a message of a stream"))
    for _ in range(40):
        pass_on(client, server, message)
        pass_on(server, client, message)
    assert not tap.of(inode_of(client))
    pass_on(client, server, ASKED)
    assert tap.stream(inode_of(client), Direction.EGRESS) == ASKED
    assert tap.lost("connections_not_http") == 0


def known(tap: Tap, inode: int, direction: Direction) -> dict[int, bytes]:
    """Return runs of captured bytes of one direction, by position. The rest went over the budget."""
    runs: dict[int, bytes] = {}
    start, end, position = 0, -1, 0
    for event in tap.data(inode, direction):
        assert len(event.payload) in (0, event.length)
        assert event.missing == (0 if event.payload and event.position == position else Missing.BUDGET)
        position = event.position + event.length
        if event.payload:
            start = start if event.position == end else event.position
            runs[start] = runs.get(start, b"") + event.payload
            end = position
    return runs


def kept_frames(stream: bytes, runs: dict[int, bytes]) -> list[tuple[int, int, int]]:
    """Return type, stream and captured payload of each frame; of none may more be missing than its end."""
    frames, at = [], 0
    known_bytes = bytearray(len(stream))
    for position, run in runs.items():
        assert stream[position : position + len(run)] == run
        known_bytes[position : position + len(run)] = b"\1" * len(run)
    while at < len(stream):
        frame, length = Frame.parse_frame_header(memoryview(stream[at : at + 9]))
        of_frame = known_bytes[at : at + 9 + length]
        assert of_frame.startswith(b"\1" * 9)
        assert bytes(of_frame).rstrip(b"\0").count(b"\0") == 0
        frames.append((frame.type or 0, frame.stream_id, sum(of_frame) - 9))
        at += 9 + length
    return frames


def download(stream: int, frames: int) -> bytes:
    return serialise(*(DataFrame(stream, bytes([number]) * 16_384) for number in range(1, frames + 1)))


def transmit(sender: socket.socket, receiver: socket.socket, content: bytes, cut: int) -> None:
    """Send in calls of `cut` bytes, and receive as it comes."""
    reader = threading.Thread(target=receive_exactly, args=(receiver, len(content)))
    reader.start()
    for at in range(0, len(content), cut):
        sender.sendall(content[at : at + cut])
    reader.join()


@pytest.mark.parametrize("cut", [1 << 20, 16_393, 8_192, 10_007, 1_009])
def test_of_a_large_body_every_frame_is_known_but_no_more_payload_than_the_budget(
    tap: Tap, pair: Pair, cut: int
) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    answer = SETTINGS + head(7, (":status", "200")) + download(7, 40) + PING + download(7, 2)
    transmit(server, client, answer, cut)
    pass_on(client, server, PING)
    pass_on(server, client, trailers := head(7, ("grpc-status", "0")))
    for endpoint, direction in ((server, Direction.EGRESS), (client, Direction.INGRESS)):
        frames = kept_frames(answer + trailers, known(tap, inode_of(endpoint), direction))
        data = [kept for kind, _, kept in frames if kind == DataFrame.type]
        assert data == [16_384] * 12 + [0] * 30
        assert sum(data) == TURN_BUDGET


def test_acknowledging_a_download_does_not_refill_its_budget(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    body = download(7, 10)
    for _ in range(5):
        transmit(server, client, body, 1 << 20)
        pass_on(client, server, WINDOW + PING + ACKNOWLEDGED)
    for endpoint, direction in ((server, Direction.EGRESS), (client, Direction.INGRESS)):
        frames = kept_frames(body * 5, known(tap, inode_of(endpoint), direction))
        assert sum(kept for *_, kept in frames) == TURN_BUDGET


@pytest.mark.parametrize("other", [ASKED, serialise(DataFrame(9, b"a message"))])
def test_what_the_other_end_says_refills_the_budget(tap: Tap, pair: Pair, other: bytes) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    body = download(7, 20)
    for _ in range(3):
        transmit(server, client, body, 1 << 20)
        pass_on(client, server, other)
    frames = kept_frames(body * 3, known(tap, inode_of(server), Direction.EGRESS))
    assert sum(kept for *_, kept in frames) == 3 * TURN_BUDGET


def test_a_message_that_begins_refills_the_budget(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED + ASKED)
    content = download(7, 20) + head(9, (":status", "200")) + download(9, 20)
    transmit(server, client, content, 50_021)
    frames = kept_frames(content, known(tap, inode_of(client), Direction.INGRESS))
    for stream in (7, 9):
        kept = sum(kept for kind, of_stream, kept in frames if kind == DataFrame.type and of_stream == stream)
        assert kept == TURN_BUDGET


def test_no_single_frame_costs_more_than_the_budget(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    huge = (300_007).to_bytes(3, "big") + b"\x0c\0" + bytes(4) + bytes(300_007)
    transmit(server, client, huge + PING, 1 << 20)
    frames = kept_frames(huge + PING, known(tap, inode_of(client), Direction.INGRESS))
    assert [kept for *_, kept in frames] == [TURN_BUDGET, 8]


@pytest.mark.parametrize("send", ["writev", "sendmsg"])
def test_frames_in_segments_are_known(tap: Tap, pair: Pair, send: str) -> None:
    client, server = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    before = PREFACE + SETTINGS + ASKED
    content = download(7, 20)
    segments = []
    for at in range(0, len(content), 16_393):
        # the header on its own, or cut in the middle, and an empty segment
        segments += [content[at : at + 4], b"", content[at + 4 : at + 9], content[at + 9 : at + 16_393]]
    reader = threading.Thread(target=receive_exactly, args=(server, len(content)))
    reader.start()
    sent = getattr(os, send)(client.fileno(), segments) if send == "writev" else client.sendmsg(segments)
    reader.join()
    assert sent == len(content)
    runs = known(tap, inode_of(client), Direction.EGRESS)
    assert runs[0].startswith(before)
    frames = kept_frames(
        content, {at - len(before) if at else 0: run.removeprefix(before) for at, run in runs.items()}
    )
    assert [kept for *_, kept in frames] == [16_384] * 12 + [0] * 8


def test_what_is_no_frame_is_captured_like_any_other_bytes(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS)
    pass_on(client, server, noise := b"\xff" * 30_011)
    pass_on(client, server, b"\xfe" * 300_007)
    runs = known(tap, inode_of(client), Direction.EGRESS)
    assert runs[0] == (PREFACE + SETTINGS + noise + b"\xfe" * 300_007)[:TURN_BUDGET]
    # frames that convince are followed again
    pass_on(client, server, ASKED + (body := download(7, 30)))
    *_, (at, last) = known(tap, inode_of(client), Direction.EGRESS).items()
    assert last == body[-16_393:][:9]
    assert at == len(PREFACE + SETTINGS + noise) + 300_007 + len(ASKED + body) - 16_393


def test_payload_that_never_was_in_memory_is_counted_within_its_frame(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    frame = serialise(DataFrame(7, bytes(16_384)))
    with tempfile.TemporaryFile() as file:
        file.write(bytes(16_384))
        file.flush()
        for _ in range(20):
            client.sendall(frame[:9])
            # all of it in two calls; the second goes to the end of the frame
            assert os.sendfile(client.fileno(), file.fileno(), 0, 5_003) == 5_003
            assert os.sendfile(client.fileno(), file.fileno(), 0, 11_381) == 11_381
            receive_exactly(server, len(frame))
    transmit(client, server, frame * 20, 10_007)
    sent = tap.data(inode_of(client), Direction.EGRESS)
    assert [event.length for event in sent if event.missing == Missing.SENDFILE] == [5_003, 11_381] * 20
    # what follows is still told apart into frames
    *_, last = sent
    assert last.payload == frame[:9]


def test_a_frame_that_never_was_in_memory_is_not_followed(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    with tempfile.TemporaryFile() as file:
        file.write(serialise(DataFrame(7, bytes(1_000))))
        file.flush()
        os.sendfile(client.fileno(), file.fileno(), 0, 1_009)
    receive_exactly(server, 1_009)
    gap = tap.data(inode_of(client), Direction.EGRESS)[-1]
    assert (gap.length, gap.payload, gap.missing) == (1_009, b"", Missing.SENDFILE)
    pass_on(client, server, ASKED)
    assert tap.data(inode_of(client), Direction.EGRESS)[-1].payload == ASKED


def test_more_frames_than_one_call_is_followed_for_are_reported_as_length(tap: Tap, pair: Pair) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    content = PING * 3_000
    transmit(client, server, content, len(content))
    *_, last = tap.data(inode_of(client), Direction.EGRESS)
    assert last.position + last.length == len(PREFACE + SETTINGS + ASKED + content)
    assert (last.payload, last.missing) == (b"", Missing.IOVEC_BOUND)
    assert last.length < len(content)
    pass_on(client, server, ASKED)
    assert tap.data(inode_of(client), Direction.EGRESS)[-1].payload == ASKED
