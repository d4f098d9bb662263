"""What is spoken inside a tunnel. Whole conversations are in the corpus too."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role
from parsers.exchange import Incomplete
from parsers.http2.frames import PREFACE
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.prologue import Tunnel
from parsers.tracker import ConnectionTracker
from parsers.tunnel import MAX_EMPTY_LINES, MAX_FIRST_SETTINGS, Beginning, judge_beginning
from tests.builders import SECOND_NS, Conversation, describe, run_events, split_bytes
from tests.proxy_headers import header_v1, header_v2
from tests.unit.parsers.http2_peers import Dialogue, build_request

CONNECT = b"CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: shop.example\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
SET_UP = "CONNECT shop.example:80 1.1 (0) -> 200 1.1 (0) upgraded"
INSIDE = "GET /a 1.1 (0) -> 204 1.1 (0)"
SHOP = Tunnel(authority=b"shop.example:80")
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
SETTINGS = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"

BEGINNINGS: list[tuple[bytes, Beginning]] = [
    (b"", Beginning.NEED_MORE),
    (b"\r\n\r\n", Beginning.NEED_MORE),
    (b"\r\n" + GET, Beginning.REQUEST),
    (b"\r" * (MAX_EMPTY_LINES + 1), Beginning.OTHER),
    (b"G", Beginning.NEED_MORE),
    (b"GET /a HTTP/1.1", Beginning.NEED_MORE),
    (b"GET /a HTTP/1.1\r\n", Beginning.REQUEST),
    (b"GET /a HTTP/1.0\n", Beginning.REQUEST),
    (b"!#$%&'*+-.^_`|~ * HTTP/1.1\r\n", Beginning.REQUEST),
    (b"OPTIONS * HTTP/1.1\r\n", Beginning.REQUEST),
    (b"GET /\xc3\xa9 HTTP/1.1\r\n", Beginning.REQUEST),
    (b"GET /a\r\n", Beginning.OTHER),
    (b"DESCRIBE rtsp://a RTSP/1.0\r\n", Beginning.OTHER),
    (b"INVITE sip:a@b SIP/2.0\r\n", Beginning.OTHER),
    (b"EHLO a\r\n", Beginning.OTHER),
    (b"220 mail.example ESMTP\r\n", Beginning.OTHER),
    (b"SSH-2.0-OpenSSH_9.9\r\n", Beginning.OTHER),
    (b"*1\r\n$4\r\nPING\r\n", Beginning.OTHER),
    (b"get key\r\n", Beginning.OTHER),
    (b"INFO {", Beginning.NEED_MORE),
    (b"INFO {}\r\n", Beginning.OTHER),
    (b"A\x00", Beginning.OTHER),
    (b"(hello", Beginning.OTHER),
    (CLIENT_HELLO, Beginning.OTHER),
    (b"\x16", Beginning.OTHER),
    (b"\x05\x01\x00", Beginning.OTHER),
    (b"\0\0\0\x08\x04\xd2\x16\x2f", Beginning.OTHER),
    (b"\x4a\0\0\0\x0a8.0.36", Beginning.OTHER),
    (b"H", Beginning.NEED_MORE),
    (b"HTTP/1.1 20", Beginning.NEED_MORE),
    (b"HTTP/1.1 200 OK\r\n", Beginning.RESPONSE),
    (b"HTTP/1.1 204\r\n\r\n", Beginning.RESPONSE),
    (b"HTTP/1.1 /a HTTP/1.1\r\n", Beginning.OTHER),
    (b"HTTP/2 200 OK\r\n", Beginning.OTHER),
    (PREFACE, Beginning.HTTP2),
    (PREFACE[:16], Beginning.NEED_MORE),
    (PREFACE[:5], Beginning.NEED_MORE),
    (SETTINGS, Beginning.SETTINGS),
    (b"\0\0\0\x04\0\0\0\0\0", Beginning.SETTINGS),
    (SETTINGS[:8], Beginning.NEED_MORE),
    (b"\0\0\x07\x04\0\0\0\0\0", Beginning.OTHER),
    (b"\0\0\x06\x04\x01\0\0\0\0", Beginning.OTHER),
    (b"\0\0\x06\x04\0\0\0\0\x01", Beginning.OTHER),
    (b"\0\0%c\x04\0\0\0\0\0" % (MAX_FIRST_SETTINGS + 6), Beginning.OTHER),
    (b"\0\0\x06\x00\0\0\0\0\x01", Beginning.OTHER),
    (b"\0\x01\0", Beginning.OTHER),
]


@pytest.mark.parametrize(("data", "expected"), BEGINNINGS)
def test_the_first_bytes_of_a_direction_are_judged(data: bytes, expected: Beginning) -> None:
    assert judge_beginning(data) is expected
    if expected in (Beginning.REQUEST, Beginning.RESPONSE, Beginning.HTTP2, Beginning.SETTINGS):
        assert judge_beginning(data + b"\0anything\r\n") is expected
        shorter = {judge_beginning(data[:cut]) for cut in range(len(data))}
        assert shorter <= {Beginning.NEED_MORE, expected}


def set_up(role: Role = Role.SERVER, *, joined_late: bool = False) -> Conversation:
    talk = Conversation(role=role, joined_late=joined_late)
    talk.request(CONNECT)
    talk.response(ESTABLISHED)
    return talk


def described(exchanges: list[HttpExchange]) -> list[str]:
    return [describe(exchange) for exchange in exchanges]


def tunnels(exchange: HttpExchange) -> tuple[Tunnel, ...]:
    return () if exchange.prologue is None else exchange.prologue.tunnels


def count(talk: Conversation) -> dict[str, int]:
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        tracker.feed(event)
    tracker.advance(talk.ktime_ns + 2 * SECOND_NS)
    tracker.flush()
    assert tracker.last_bug is None
    assert tracker.buffered_bytes == 0
    return {name: value for name, value in tracker.counters().items() if name.startswith("tunnels") and value}


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_exchanges_inside_a_tunnel_say_so_and_the_one_that_made_it_does_not(role: Role) -> None:
    talk = set_up(role)
    for _ in range(2):
        talk.request(GET)
        talk.response(NO_CONTENT)
    exchanges = talk.run()
    assert described(exchanges) == [SET_UP, INSIDE, INSIDE]
    assert [tunnels(exchange) for exchange in exchanges] == [(), (SHOP,), (SHOP,)]
    assert {exchange.role for exchange in exchanges} == {role}
    assert count(talk) == {"tunnels_http": 1}


def test_the_exchange_that_sets_a_tunnel_up_comes_out_at_once() -> None:
    talk = set_up()
    assert described(talk.run(finish=False)) == [SET_UP]


def test_a_response_whose_request_never_comes_is_read_at_the_end() -> None:
    talk = set_up()
    talk.response(NO_CONTENT)
    (_, inside) = talk.run()
    assert inside.request is None
    assert inside.response is not None
    assert (inside.response.status, inside.incomplete, tunnels(inside)) == (
        204,
        Incomplete.LOST_BYTES,
        (SHOP,),
    )


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_every_2xx_sets_a_tunnel_up(status: int, version: bytes) -> None:
    talk = Conversation()
    talk.request(CONNECT)
    talk.response(b"HTTP/%b %d \r\n\r\n" % (version, status))
    talk.request(GET)
    talk.response(NO_CONTENT)
    assert described(talk.run())[1:] == [INSIDE]


@pytest.mark.parametrize("status", [302, 403, 407, 502])
def test_a_refused_connect_is_followed_by_what_is_no_tunnel(status: int) -> None:
    talk = Conversation()
    talk.request(CONNECT)
    talk.response(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
    talk.request(GET)
    talk.response(NO_CONTENT)
    _, after = talk.run()
    assert describe(after) == INSIDE
    assert after.prologue is None


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("header", [b"", header_v1(), header_v2()], ids=["plain", "v1", "v2"])
def test_a_tunnel_may_be_cut_anywhere(role: Role, header: bytes) -> None:
    requests = CONNECT + header + GET
    for cut in range(1, len(requests)):
        talk = Conversation(role=role)
        talk.request(requests[:cut])
        if cut < len(CONNECT):
            talk.request(requests[cut:])
            talk.response(ESTABLISHED)
        else:
            talk.response(ESTABLISHED)
            talk.request(requests[cut:])
        talk.response(NO_CONTENT)
        exchanges = talk.run()
        assert described(exchanges) == [SET_UP, INSIDE]
        assert tunnels(exchanges[1]) == (SHOP,)
        assert exchanges[1].prologue is not None
        assert len(exchanges[1].prologue.proxy_headers) == bool(header)


def test_answers_may_come_with_the_one_that_sets_the_tunnel_up() -> None:
    talk = Conversation()
    talk.request(CONNECT + GET + GET)
    talk.response(ESTABLISHED + NO_CONTENT + NO_CONTENT)
    assert described(talk.run()) == [SET_UP, INSIDE, INSIDE]


def test_an_answer_inside_may_be_reported_before_its_request() -> None:
    talk = set_up(Role.CLIENT)
    talk.response(NO_CONTENT)
    talk.request(GET)
    exchanges = talk.run(finish=False)
    assert described(exchanges) == [SET_UP, INSIDE]


def test_an_answer_inside_whose_request_is_not_seen_comes_out_flagged() -> None:
    talk = set_up()
    talk.response(NO_CONTENT)
    _, alone = talk.run()
    expected = describe(alone)
    assert expected.startswith("? -> 204 1.1 (0) incomplete")
    assert count(talk) == {"tunnels_http": 1}
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        tracker.feed(event)
    assert tracker.advance(talk.ktime_ns + SECOND_NS - 1) == []
    assert tracker.advance(talk.ktime_ns + SECOND_NS) == []
    (exchange,) = tracker.advance(talk.ktime_ns + 3 * SECOND_NS)
    assert describe(exchange) == expected


@pytest.mark.parametrize("server_first", [True, False])
def test_http2_is_read_inside_a_tunnel(server_first: bool) -> None:  # noqa: FBT001 - a parameter of the table
    dialogue = Dialogue()
    dialogue.client.send_headers(1, build_request(b"/a"), end_stream=True)
    dialogue.flush()
    dialogue.server.send_headers(1, [(b":status", b"204")], end_stream=True)
    dialogue.flush()
    calls = dialogue.calls
    if server_first:
        index = next(i for i, (is_client, _) in enumerate(calls) if not is_client)
        calls.insert(0, calls.pop(index))
    talk = set_up()
    for is_client, data in calls:
        (talk.request if is_client else talk.response)(data)
    for exchanges in (talk.run(), run_events([part for event in talk.events for part in split_bytes(event)])):
        assert described(exchanges) == [SET_UP, "GET /a 2 (0) -> 204 2 (0)"]
        assert tunnels(exchanges[1]) == (SHOP,)


@pytest.mark.parametrize(
    ("requests", "responses"),
    [
        (CLIENT_HELLO, b"\x16\x03\x03\0\x7a\x02"),
        (CLIENT_HELLO + GET, NO_CONTENT),
        (b"EHLO a\r\n", b"250 a\r\n"),
        (b"\x03\0\0\x13\x0e", b"\x03\0\0\x13\x0e"),
        (b"SSH-2.0-a\r\n", b"SSH-2.0-b\r\n"),
    ],
)
def test_anything_else_in_a_tunnel_is_ignored(requests: bytes, responses: bytes) -> None:
    for server_first in (True, False):
        talk = set_up()
        for _ in range(2):
            if server_first:
                talk.response(responses)
            talk.request(requests)
            if not server_first:
                talk.response(responses)
            talk.request(GET)
            talk.response(NO_CONTENT)
        exchanges = talk.run()
        assert described(exchanges) == [SET_UP]
        assert count(talk) == {"tunnels_other": 1}


def test_a_tunnel_that_nothing_passes_through_gives_nothing() -> None:
    talk = set_up()
    talk.request(GET[:10])
    talk.close()
    assert described(talk.run()) == [SET_UP]
    assert count(talk) == {"tunnels_other": 1}


def nested(depth: int) -> Conversation:
    talk = Conversation()
    for number in range(depth):
        talk.request(b"CONNECT p%d.example:80 HTTP/1.1\r\nHost: p\r\n\r\n" % number)
        talk.response(ESTABLISHED)
    talk.request(GET)
    talk.response(NO_CONTENT)
    return talk


def test_tunnels_inside_one_another_are_seen_up_to_a_bound() -> None:
    bound = ParserLimits().max_tunnels
    *outer, inner = nested(bound).run()
    assert describe(inner) == INSIDE
    assert [tunnel.authority for tunnel in tunnels(inner)] == [b"p%d.example:80" % n for n in range(bound)]
    assert [len(tunnels(exchange)) for exchange in outer] == list(range(bound))
    beyond = nested(bound + 1)
    assert len(beyond.run()) == bound + 1
    assert count(beyond) == {"tunnels_http": bound, "tunnels_unjudged": 1}


def test_tunnels_inside_one_another_may_come_in_one_call_each_way() -> None:
    single = nested(3)
    talk = Conversation()
    talk.request(b"".join(event.payload for event in single.events if event.direction is talk.requests))
    talk.response(b"".join(event.payload for event in single.events if event.direction is talk.responses))
    assert described(talk.run()) == described(single.run())
    assert described(talk.run(finish=False)) == described(single.run())


def test_a_gap_in_the_beginning_of_a_tunnel_ends_the_question() -> None:
    for told in (Missing.RING_FULL, Missing(0)):
        talk = set_up()
        talk.lose_request(5)
        talk.request(GET, missing=told)
        talk.response(b"HTTP/")
        talk.wait(2 * SECOND_NS)
        talk.response(b"1.1 204 No Content\r\n\r\n")
        assert described(talk.run()) == [SET_UP]
        assert count(talk) == {"tunnels_unjudged": 1}


def test_a_beginning_beyond_the_bound_is_given_up() -> None:
    bound = ParserLimits().max_tunnel_start
    within, beyond = set_up(), set_up()
    line = b"GET /%b HTTP/1.1\r\n" % (b"x" * (bound - 16))
    assert len(line) == bound
    for part in (line[: bound // 2], line[bound // 2 :] + b"Host: a\r\n\r\n"):
        within.request(part)
    within.response(NO_CONTENT)
    assert len(within.run()) == 2
    beyond.request(b"GET /")
    for _ in range(17):
        beyond.request(b"x" * (bound // 16))
    beyond.request(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert described(beyond.run()) == [SET_UP]
    assert count(beyond) == {"tunnels_unjudged": 1}


def test_what_is_held_of_a_tunnel_counts_as_held() -> None:
    tracker = ConnectionTracker(ParserLimits())
    talk = set_up()
    talk.request(b"GET /" + b"x" * 995)
    for event in talk.events:
        tracker.feed(event)
    assert tracker.buffered_bytes == 1000


def test_a_101_to_what_turns_out_to_be_http_is_a_tunnel_without_authority() -> None:
    talk = Conversation()
    talk.request(b"POST /hijack HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    talk.response(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    talk.request(GET)
    talk.response(NO_CONTENT)
    _, inside = talk.run()
    assert describe(inside) == INSIDE
    assert tunnels(inside) == (Tunnel(protocol=b"tcp"),)


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_a_101_may_turn_the_roles(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n")
    talk.response(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n")
    talk.response(GET)
    talk.request(NO_CONTENT)
    handshake, inside = talk.run()
    assert describe(inside) == INSIDE
    assert handshake.role is role
    assert {handshake.role, inside.role} == {Role.SERVER, Role.CLIENT}


def test_behind_a_connect_in_doubt_the_next_request_is_looked_for() -> None:
    talk = Conversation(joined_late=True)
    talk.request(GET + GET)
    talk.response(NO_CONTENT)
    talk.request(CONNECT)
    talk.response(NO_CONTENT)
    talk.response(ESTABLISHED)
    talk.request(b"FROB /lost HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.request(GET)
    talk.response(NO_CONTENT)
    *_, handshake, inside = talk.run()
    assert handshake.incomplete is Incomplete.JOINED_LATE
    assert inside.request is not None
    assert inside.request.target == b"/a"


def test_a_long_line_that_comes_byte_by_byte_is_looked_at_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []

    def judge(data: bytes) -> Beginning:
        looked.append(len(data))
        return judge_beginning(data)

    monkeypatch.setattr("parsers.tunnel.judge_beginning", judge)
    talk = set_up()
    for _ in range(8000):
        talk.request(b"x")
    talk.run()
    assert sum(looked) < 5 * 8000
