"""What a connection carries: methods of any name, bytes in front of HTTP, answers that decide, no HTTP."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from ebpf.events import Direction, EventKind, Missing, Protocol, Role
from tests.kernel.conftest import Tap, connect_pair, inode_of, receive_exactly

pytestmark = pytest.mark.kernel

Pair = tuple[socket.socket, socket.socket]
OpenTap = Callable[..., Tap]

TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
FOLLOWING = b"GET /following HTTP/1.1\r\nHost: test\r\n\r\n"
FROB = b"FROB /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"
PROXY_1 = b"PROXY TCP4 192.0.2.10 192.0.2.20 56324 443\r\n"
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(
    (192, 0, 2, 10, 192, 0, 2, 20, 0xDC, 0x04, 0x01, 0xBB)
)
HELLO = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03" + bytes(range(238))


def send(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    sender.sendall(data)
    receive_exactly(receiver, len(data))


def methods() -> Iterator[bytes]:
    """Yield registered methods, invented ones, and some drawn from every byte that a token may hold."""
    yield from (b"PROPFIND", b"REPORT", b"QUERY", b"BASELINE-CONTROL", b"UPDATEREDIRECTREF", b"get", b"Post")
    yield from (b"G", b"GETS", b"PRI", b"HTTP", b"PROXY", b"M-SEARCH", b"x" * 40)
    chance = random.Random(9110)
    tokens = list(TOKEN_BYTES)
    while tokens:
        length = min(len(tokens), chance.choice([1, 2, 5, 9, 17]))
        chosen = chance.sample(tokens, length)
        tokens = [token for token in tokens if token not in chosen]
        yield bytes(chosen)


@pytest.mark.parametrize("method", list(methods()))
def test_a_first_request_of_any_method_is_seen_and_what_follows_it(
    tap: Tap, pair: Pair, method: bytes
) -> None:
    client, server = pair
    request = method + b" /a HTTP/1.1\r\nHost: test\r\n\r\n"
    for message in (request, FOLLOWING):
        send(client, server, message)
        send(server, client, RESPONSE)
    for end, sent, received, role in (
        (client, Direction.EGRESS, Direction.INGRESS, Role.CLIENT),
        (server, Direction.INGRESS, Direction.EGRESS, Role.SERVER),
    ):
        inode = inode_of(end)
        assert tap.stream(inode, sent) == request + FOLLOWING
        assert tap.stream(inode, received) == RESPONSE * 2
        (opened,) = tap.of(inode, EventKind.OPENED)
        assert (opened.role, opened.joined_late) == (role, False)
    assert tap.lost("connections_http") == 2
    assert tap.lost("connections_not_http") == 0


@pytest.mark.parametrize(
    "cuts",
    [range(1, len(FROB)), (1,), (4,), (5,), (6,), (15, 16, 17), (20, 40), (len(FROB) - 5,)],
    ids=["bytes", "1", "4", "5", "6", "15-17", "20-40", "body"],
)
def test_such_a_request_in_pieces_is_whole(tap: Tap, pair: Pair, cuts: range | tuple[int, ...]) -> None:
    client, server = pair
    for start, end in itertools.pairwise((0, *cuts, len(FROB))):
        send(client, server, FROB[start:end])
    send(server, client, RESPONSE)
    assert tap.stream(inode_of(client), Direction.EGRESS) == FROB
    assert tap.stream(inode_of(server), Direction.INGRESS) == FROB


@pytest.mark.parametrize("cut", [1, 3, 5, 6, 7, 8, 12])
def test_an_answer_in_pieces_decides(tap: Tap, pair: Pair, cut: int) -> None:
    client, server = pair
    send(client, server, FROB)
    send(server, client, RESPONSE[:cut])
    send(server, client, RESPONSE[cut:])
    assert tap.stream(inode_of(client), Direction.EGRESS) == FROB
    assert tap.stream(inode_of(client), Direction.INGRESS) == RESPONSE


def test_such_a_request_may_be_gathered_from_many_buffers(tap: Tap, pair: Pair) -> None:
    client, server = pair
    client.sendmsg([FROB[:2], FROB[2:7], FROB[7:]])
    receive_exactly(server, len(FROB))
    send(server, client, RESPONSE)
    assert tap.stream(inode_of(client), Direction.EGRESS) == FROB


def test_what_exceeds_the_copy_is_missing_by_design_and_counted(tap: Tap, pair: Pair) -> None:
    client, server = pair
    head = b"FROB /a HTTP/1.1\r\nHost: test\r\nContent-Length: 30000\r\n\r\n"
    send(client, server, head)
    send(client, server, b"x" * 30_000)
    send(server, client, RESPONSE)
    send(client, server, FOLLOWING)
    events = [
        event
        for event in tap.of(inode_of(client), EventKind.DATA, EventKind.UNJUDGED)
        if event.direction is Direction.EGRESS
    ]
    copied = b"".join(event.payload for event in events if event.kind is EventKind.UNJUDGED)
    assert copied == (head + b"x" * 30_000)[:8192]
    (gap,) = [event for event in events if not event.payload]
    assert (gap.position, gap.length, gap.missing) == (8192, len(head) + 30_000 - 8192, Missing.BUDGET)
    assert (events[-1].position, events[-1].payload) == (len(head) + 30_000, FOLLOWING)


@pytest.mark.parametrize("header", [PROXY_1, PROXY_2, b"PROXY UNKNOWN\r\n"], ids=["1", "2", "unknown"])
@pytest.mark.parametrize("request_line", [b"GET", b"FROB"])
@pytest.mark.parametrize("way", ["together", "apart", "bytes", "within"])
def test_a_proxy_header_stands_before_the_request(
    tap: Tap, pair: Pair, header: bytes, request_line: bytes, way: str
) -> None:
    client, server = pair
    sent = header + request_line + b" /a HTTP/1.1\r\nHost: test\r\n\r\n"
    cuts = {"together": (), "apart": (len(header),), "bytes": range(1, len(sent)), "within": (9,)}[way]
    for start, end in itertools.pairwise((0, *cuts, len(sent))):
        send(client, server, sent[start:end])
    send(server, client, RESPONSE)
    for end_of, direction in ((client, Direction.EGRESS), (server, Direction.INGRESS)):
        assert tap.stream(inode_of(end_of), direction) == sent
        (opened,) = tap.of(inode_of(end_of), EventKind.OPENED)
        assert not opened.joined_late
    assert tap.stream(inode_of(client), Direction.INGRESS) == RESPONSE


@pytest.mark.parametrize("header", [PROXY_1, PROXY_2], ids=["1", "2"])
def test_a_proxy_header_stands_before_http2(tap: Tap, pair: Pair, header: bytes) -> None:
    client, server = pair
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
    settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"
    send(client, server, header)
    send(client, server, preface)
    send(server, client, settings)
    ping = b"\0\0\x08\x06\0\0\0\0\0pingpong"
    send(client, server, ping)
    inode = inode_of(server)
    assert tap.stream(inode, Direction.INGRESS) == header + preface + ping
    assert tap.stream(inode, Direction.EGRESS) == settings
    (opened,) = tap.of(inode, EventKind.OPENED)
    assert opened.socket.protocol == Protocol.HTTP2


@pytest.mark.parametrize("header", [PROXY_1, PROXY_2], ids=["1", "2"])
@pytest.mark.parametrize("together", [True, False])
def test_a_proxy_header_stands_before_tls(tap: Tap, pair: Pair, header: bytes, *, together: bool) -> None:
    client, server = pair
    for part in (header + HELLO,) if together else (header, HELLO):
        send(client, server, part)
    send(server, client, b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(120))
    assert not tap.of(inode_of(client), EventKind.OPENED)
    assert tap.lost("connections_tls") == 2


SOCKS_5 = (b"\5\1\0", b"\5\0", b"\5\1\0\1\x7f\0\0\1\x1f\x90", b"\5\0\0\1\0\0\0\0\0\0")
SOCKS_5_PASSWORD = (b"\5\1\2", b"\5\2", b"\1\4user\4pass", b"\1\0", *SOCKS_5[2:])
SOCKS_4 = (b"\4\1\x1f\x90\x7f\0\0\1user\0", b"\0\x5a\x1f\x90\x7f\0\0\1")
GREETING = (b"HELLO tunnel.example\r\n", b"OK 1\r\n")


@pytest.mark.parametrize("request_line", [b"GET", b"FROB"])
@pytest.mark.parametrize(
    "dialogue",
    [SOCKS_5, SOCKS_5_PASSWORD, SOCKS_4, GREETING, GREETING * 7],
    ids=["socks5", "socks5-password", "socks4", "greeting", "seven-greetings"],
)
def test_what_follows_a_tunnels_setting_up_is_seen(
    tap: Tap, pair: Pair, dialogue: tuple[bytes, ...], request_line: bytes
) -> None:
    client, server = pair
    for question, answer in zip(dialogue[::2], dialogue[1::2], strict=True):
        send(client, server, question)
        send(server, client, answer)
    request = request_line + b" /a HTTP/1.1\r\nHost: test\r\n\r\n"
    send(client, server, request)
    send(server, client, RESPONSE)
    for end, asked, answered in (
        (client, Direction.EGRESS, Direction.INGRESS),
        (server, Direction.INGRESS, Direction.EGRESS),
    ):
        assert tap.stream(inode_of(end), asked) == request
        assert tap.stream(inode_of(end), answered) == RESPONSE
        (opened,) = tap.of(inode_of(end), EventKind.OPENED)
        assert not opened.joined_late


@pytest.mark.parametrize(
    "first",
    [b"\0\1\2garbage\r\n\r\n", b"\x80\x81 /a HTTP/1.1\r\n\r\n", b" GET / HTTP/1.1\r\n\r\n", HELLO],
    ids=["binary", "not-ascii", "blank", "tls"],
)
def test_an_answer_overturns_whatever_was_judged(tap: Tap, pair: Pair, first: bytes) -> None:
    client, server = pair
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    send(client, server, first)
    send(server, client, refusal)
    send(client, server, FOLLOWING)
    send(server, client, RESPONSE)
    for end, asked, answered in (
        (client, Direction.EGRESS, Direction.INGRESS),
        (server, Direction.INGRESS, Direction.EGRESS),
    ):
        assert tap.stream(inode_of(end), asked) == FOLLOWING
        assert tap.stream(inode_of(end), answered) == refusal + RESPONSE
        (opened,) = tap.of(inode_of(end), EventKind.OPENED)
        assert opened.joined_late


OTHER_PROTOCOLS = {
    "redis": (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\nb\r\n"),
    "redis-inline": (b"PING\r\n", b"+PONG\r\n"),
    "memcached": (b"get some-key\r\n", b"END\r\n"),
    "memcached-set": (b"set some-key 0 0 4\r\nabcd\r\n", b"STORED\r\n"),
    "nats": (b"PUB subject 5\r\nhello\r\n", b"+OK\r\n"),
    "rtsp": (b"DESCRIBE rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
    "sip": (b"REGISTER sip:a SIP/2.0\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"),
    "postgresql": (b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
    "mysql": (b"\x05\0\0\0\x03ping", b"\7\0\0\1\0\0\0\2\0\0\0"),
    "fastcgi": (b"\1\1\0\1\0\x08\0\0\0\1\0\0\0\0\0\0", b"\1\6\0\1\0\x10\0\0X-Status: 200\r\n\r\n"),
    "kafka": (b"\0\0\0\x0a\0\x12\0\3\0\0\0\1\0\0", b"\0\0\0\4\0\0\0\1"),
    "amqp": (b"AMQP\0\0\x09\1", b"\1\0\0\0\0\0\4\0\x0a\0\x0a\xce"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"SSH-2.0-Go\r\n"),
    "irc": (b"NICK alice\r\n", b":server 001 alice :hi\r\n"),
}


@pytest.mark.parametrize("protocol", OTHER_PROTOCOLS)
def test_what_is_not_http_is_given_up_in_the_end_and_costs_one_look_up_then(
    tap: Tap, pair: Pair, protocol: str
) -> None:
    client, server = pair
    question, answer = OTHER_PROTOCOLS[protocol]
    for _ in range(8):
        send(client, server, question)
        send(server, client, answer)
    assert tap.lost("connections_not_http") == 2
    inodes = inode_of(client), inode_of(server)
    delivered = [len(tap.of(inode)) for inode in inodes]
    for _ in range(3):
        send(client, server, question)
        send(server, client, answer)
    assert [len(tap.of(inode)) for inode in inodes] == delivered
    assert not [event for inode in inodes for event in tap.of(inode) if event.kind is not EventKind.UNJUDGED]


@pytest.mark.parametrize("protocol", ["smtp", "mysql", "ftp"])
def test_a_server_that_speaks_first_is_no_client(tap: Tap, pair: Pair, protocol: str) -> None:
    client, server = pair
    greeting = {"smtp": b"220 mail ESMTP\r\n", "mysql": b"\x4a\0\0\0\x0a8.0", "ftp": b"220 ready\r\n"}[
        protocol
    ]
    send(server, client, greeting)
    assert not tap.of(inode_of(client))
    assert not tap.of(inode_of(server))


def test_one_that_ends_before_it_is_judged_is_counted_too(tap: Tap) -> None:
    for _ in range(5):
        client, server = connect_pair()
        with client, server:
            send(client, server, b"get some-key\r\n")
            send(server, client, b"END\r\n")
            client.close()
            assert server.recv(1) == b""
    tap.until(lambda: tap.lost("connections_not_http") == 10)


def test_between_unix_sockets_whose_roles_are_unknown_the_answer_decides(tap: Tap) -> None:
    client, server = socket.socketpair()
    with client, server:
        send(client, server, FROB)
        send(server, client, RESPONSE)
        inodes = inode_of(client), inode_of(server)
    for inode, role, direction in (
        (inodes[0], Role.CLIENT, Direction.EGRESS),
        (inodes[1], Role.SERVER, Direction.INGRESS),
    ):
        assert tap.stream(inode, direction) == FROB
        (opened,) = tap.of(inode, EventKind.OPENED)
        assert (opened.role, opened.joined_late) == (role, False)


@pytest.mark.parametrize("joined", ["between", "in_body"])
def test_on_an_old_connection_the_answer_shows_that_it_is_http(
    open_tap: OpenTap, pair: Pair, joined: str
) -> None:
    client, server = pair
    send(client, server, FROB if joined == "between" else FROB[:-5])
    if joined == "between":
        send(server, client, RESPONSE)
    tap = open_tap()
    send(client, server, FROB if joined == "between" else FROB[-5:])
    send(server, client, RESPONSE)
    send(client, server, FROB)
    send(server, client, RESPONSE)
    inode = inode_of(client)
    assert tap.stream(inode, Direction.INGRESS) == RESPONSE * 2
    assert tap.stream(inode, Direction.EGRESS) == FROB
