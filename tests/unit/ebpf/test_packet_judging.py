"""Judging a connection in packets by its answer: any method, bytes in front of HTTP, and no HTTP at all."""

from __future__ import annotations

import random

import pytest

from ebpf.events import Direction, EventKind, Missing
from parsers.http_exchange import HttpExchange
from tests.builders import run_events
from tests.packets import Talk
from tests.unit.ebpf.talks import GET, OK, counted, told

TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FROB = b"FROB /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
HELLO = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03" + bytes(range(238))


def talk_of(*turns: tuple[int, bytes]) -> Talk:
    """Return a connection seen from its handshake on; 0 sends as the client, 1 as the server."""
    talk = Talk()
    talk.open()
    for sender, data in turns:
        talk.send(sender, data)
        talk.send(1 - sender)
    return talk


def exchanges(*turns: tuple[int, bytes]) -> list[HttpExchange]:
    return run_events(told(talk_of(*turns).segments))


def targets(found: list[HttpExchange]) -> list[bytes | None]:
    return [each.request.target if each.request else None for each in found]


def test_a_first_request_of_any_method_is_read_and_what_follows_it() -> None:
    chance = random.Random(9110)
    for _ in range(50):
        method = bytes(chance.choices(TOKEN_BYTES, k=chance.choice([1, 3, 8, 16, 40])))
        request = method + b" /a HTTP/1.1\r\nHost: a\r\n\r\n"
        found = exchanges((0, request), (1, OK), (0, GET), (1, OK))
        assert [each.incomplete for each in found] == [None, None]
        assert found[0].request is not None
        assert found[0].request.method == method


@pytest.mark.parametrize("size", [1, 2, 5, 16, 30])
def test_such_a_request_in_segments_is_whole(size: int) -> None:
    parts = [(0, FROB[at : at + size]) for at in range(0, len(FROB), size)]
    (found,) = exchanges(*parts, (1, OK))
    assert found.incomplete is None
    assert found.request is not None
    assert found.request.body.content == b"hello"


def test_what_exceeds_the_bound_is_missing_by_design() -> None:
    head = b"FROB /a HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n"
    parts = [(0, (head + bytes(20_000))[at : at + 1400]) for at in range(0, len(head) + 20_000, 1400)]
    events = told(talk_of(*parts, (1, OK)).segments)
    unjudged = [event for event in events if event.kind is EventKind.UNJUDGED]
    assert sum(len(event.payload) for event in unjudged) == 8_192
    assert {event.missing for event in unjudged if len(event.payload) < event.length} == {Missing.BUDGET}
    (found,) = run_events(events)
    assert found.request is not None
    assert (found.incomplete, found.request.body.size) == (None, 20_000)
    assert found.request.body.truncation == "limit"


@pytest.mark.parametrize(
    "dialogue",
    [
        [(0, b"\5\1\0"), (1, b"\5\0"), (0, b"\5\1\0\1\x7f\0\0\1\x1f\x90"), (1, b"\5\0\0\1\0\0\0\0\0\0")],
        [(0, b"\4\1\x1f\x90\x7f\0\0\1user\0"), (1, b"\0\x5a\x1f\x90\x7f\0\0\1")],
        [(0, b"HELLO tunnel.example\r\n"), (1, b"OK 1\r\n")] * 7,
        [(1, b"220 a greeting\r\n")],
    ],
    ids=["socks5", "socks4", "greetings", "server-first"],
)
@pytest.mark.parametrize("request_bytes", [GET, FROB], ids=["get", "frob"])
def test_what_follows_a_tunnels_setting_up_is_read(
    dialogue: list[tuple[int, bytes]], request_bytes: bytes
) -> None:
    (found,) = exchanges(*dialogue, (0, request_bytes), (1, OK))
    assert found.incomplete is None


@pytest.mark.parametrize(
    "first", [b"\0\1\2garbage\r\n\r\n", b" GET / HTTP/1.1\r\n\r\n", HELLO], ids=["binary", "blank", "tls"]
)
def test_an_answer_overturns_whatever_was_judged(first: bytes) -> None:
    events = told(talk_of((0, first), (1, REFUSAL), (0, GET), (1, OK)).segments)
    assert all(event.joined_late for event in events if event.kind is EventKind.OPENED)
    sent = b"".join(e.payload for e in events if e.direction is Direction.EGRESS)
    assert sent == REFUSAL + OK
    assert b"".join(e.payload for e in events if e.direction is Direction.INGRESS) == GET


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\nb\r\n"),
        (b"get some-key\r\n", b"END\r\n"),
        (b"DESCRIBE rtsp://a/b RTSP/1.0\r\n\r\n", b"RTSP/1.0 200 OK\r\n\r\n"),
        (b"REGISTER sip:a SIP/2.0\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
        (b"\0\0\0\x0a\0\x12\0\3\0\0\0\1\0\0", b"\0\0\0\4\0\0\0\1"),
    ],
    ids=["redis", "memcached", "rtsp", "sip", "postgresql", "kafka"],
)
@pytest.mark.parametrize("rounds", [1, 8, 12])
def test_what_is_not_http_is_counted_once_and_gives_nothing(
    question: bytes, answer: bytes, rounds: int
) -> None:
    segments = talk_of(*[(0, question), (1, answer)] * rounds).segments
    assert run_events(told(segments)) == []
    counts = counted(segments)
    assert counts == {
        "connections_not_http": 1,
        "bytes_left_alone": rounds * (len(question) + len(answer)),
    }


def test_a_proxy_header_before_tls_is_tls() -> None:
    proxy = b"PROXY TCP4 192.0.2.10 192.0.2.20 56324 443\r\n"
    server_hello = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(120)
    for turns in ([(0, proxy), (0, HELLO)], [(0, proxy + HELLO), (1, server_hello)]):
        assert counted(talk_of(*turns).segments)["connections_tls"] == 1


def test_bytes_of_what_did_not_begin_a_request_never_meet_those_of_the_next() -> None:
    events = told(talk_of((0, b"AUTH secret\r\n"), (1, b"+OK\r\n"), (0, FROB), (1, OK)).segments)
    unjudged = {event.connection_id: event.payload for event in events if event.kind is EventKind.UNJUDGED}
    (opened,) = [event for event in events if event.kind is EventKind.OPENED]
    assert unjudged[opened.connection_id] == FROB
    assert len(unjudged) == 2
