from __future__ import annotations

import pytest

from ebpf.events import EventKind, Missing, Origin, Role
from parsers.exchange import Incomplete
from parsers.http1.reader import MessageReader
from parsers.http1.sides import detect_side
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import Conversation, describe, run_events, split_bytes

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WHOLE = "GET / 1.1 (0) -> 200 1.1 (2 b'ok')"


@pytest.mark.parametrize(
    ("start", "from_birth", "late"),
    [
        (b"", None, None),
        (b"H", None, None),
        (b"HTTP/1.", False, False),
        (b"HEAD", True, None),
        (b"HTTPS / HTTP/1.1\r\n", True, True),
        (GET, True, True),
        (b"garbage", True, None),
    ],
)
def test_the_first_bytes_tell_the_side(start: bytes, from_birth: bool | None, late: bool | None) -> None:  # noqa: FBT001 - parameters of the test
    assert detect_side(start, joined_late=False) is from_birth
    assert detect_side(start, joined_late=True) is late


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_joined_late_without_a_role_the_middle_of_messages_tells_nothing(role: Role) -> None:
    talk = Conversation(role=role, kernel_role=Role.UNKNOWN, joined_late=True)
    talk.response(b"middle of a body")
    talk.request(GET)
    talk.response(OK)
    (exchange,) = talk.run()
    assert describe(exchange) == WHOLE
    assert exchange.role is role


def test_the_kernel_may_tell_the_role_later() -> None:
    talk = Conversation(kernel_role=Role.UNKNOWN)
    talk.request(b"H")
    talk.kernel_role = Role.SERVER
    talk.request(b"EAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    assert [describe(exchange) for exchange in talk.run()] == ["HEAD / 1.1 (0) -> 200 1.1 (0)"]


def test_the_origin_is_that_of_the_requests_first_byte() -> None:
    talk = Conversation(tgid=1, tid=11)
    first = talk.request(GET[:5])
    talk.tgid, talk.tid = 2, 12
    talk.request(GET[5:])
    talk.tgid = 3
    talk.response(OK)
    (exchange,) = talk.run()
    assert exchange.origin == first.origin == Origin(first.ktime_ns, 1, 11)
    assert (exchange.connection_id, exchange.socket.cookie) == (1, 7)


def test_without_a_request_the_origin_is_that_of_the_response() -> None:
    talk = Conversation(tgid=3, joined_late=True)
    event = talk.response(OK)
    assert talk.run()[0].origin == event.origin == Origin(event.ktime_ns, 3, 101)


def test_late_reads_after_close_complete_the_response() -> None:
    talk = Conversation(role=Role.CLIENT)
    talk.request(GET)
    talk.close()
    talk.response(OK[:30])
    talk.response(OK[30:])
    assert [describe(exchange) for exchange in talk.run()] == [WHOLE]


def test_a_second_close_changes_nothing() -> None:
    talk = Conversation(role=Role.CLIENT)
    talk.request(GET)
    talk.close()
    talk.close()
    assert [exchange.incomplete for exchange in talk.run()] == [Incomplete.CLOSED]


def test_a_request_behind_connect_waits_for_the_answer_within_the_bound() -> None:
    talk = Conversation()
    talk.request(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    for _ in range(5):
        talk.request(GET)
    limits = ParserLimits(max_stream_buffer=100)
    tracker = ConnectionTracker(limits)
    for event in talk.events:
        tracker.feed(event)
        assert tracker.buffered_bytes <= 1000
    assert tracker.counters()["requests"] > 1


def test_requests_open_when_the_connection_leaves_http_are_flagged() -> None:
    talk = Conversation()
    talk.request(GET + b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    talk.response(OK + b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    talk.response(b"\x81\x00")
    talk.close()
    assert [describe(exchange) for exchange in talk.run()] == [
        WHOLE,
        "GET /ws 1.1 (0) -> 101 1.1 (0) upgraded",
    ]


def test_an_upgrade_that_nobody_asked_for_ends_http_too() -> None:
    talk = Conversation()
    talk.request(GET * 2)
    talk.response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert [describe(exchange) for exchange in talk.run()] == [
        "GET / 1.1 (0) -> 101 1.1 (0) upgraded",
        "GET / 1.1 (0) -> ? incomplete lost_bytes",
    ]


def test_pieces_that_never_got_their_turn_are_read_at_the_end() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.lose_response(5)
    talk.response(OK)
    assert [describe(exchange) for exchange in talk.run()] == [
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok') incomplete lost_bytes"
    ]


def test_a_connection_given_up_before_goes_on_as_joined_late() -> None:
    talk = Conversation(opened=False)
    talk.positions = {talk.requests: 5000, talk.responses: 7000}
    talk.request(GET)
    talk.response(OK)
    talk.response(OK)
    assert [describe(exchange) for exchange in talk.run()] == [
        f"{WHOLE} incomplete joined_late",
        "? -> 200 1.1 (2 b'ok') incomplete joined_late",
    ], "the first response may be to a request before, for there was one more than requests"


def test_bytes_cut_anywhere_with_an_unknown_role() -> None:
    talk = Conversation(role=Role.CLIENT, kernel_role=Role.UNKNOWN)
    talk.request(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    events = [part for event in talk.events for part in split_bytes(event)]
    assert [describe(exchange) for exchange in run_events(events)] == ["HEAD / 1.1 (0) -> 200 1.1 (0)"]


def test_opened_carries_no_bytes_of_the_stream() -> None:
    talk = Conversation(opened=False)
    talk.add(EventKind.OPENED, talk.requests, b"/run/app.sock", length=0)
    talk.request(GET)
    talk.response(OK)
    assert [describe(exchange) for exchange in talk.run()] == [WHOLE]


def test_gaps_before_any_byte_do_not_pile_up_while_the_role_is_unknown() -> None:
    talk = Conversation(kernel_role=Role.UNKNOWN)
    for _ in range(20):
        talk.request(b"", length=10, missing=Missing.SENDFILE)
    talk.request(GET)
    talk.response(OK)
    talk.response(OK)
    assert [
        describe(exchange) for exchange in talk.run(ParserLimits(max_reorder_pieces=4), finish=False)
    ] == [
        # One was perhaps among what was not seen.
        f"{WHOLE} incomplete lost_bytes",
        # Not held for its request: not every byte of the connection is accounted for any more.
        "? -> 200 1.1 (2 b'ok') incomplete lost_bytes",
    ]


def test_a_response_still_held_when_the_connection_closes_is_emitted_alone() -> None:
    talk = Conversation()
    talk.response(OK)
    talk.close()
    assert [describe(exchange) for exchange in talk.run()] == ["? -> 200 1.1 (2 b'ok') incomplete one_side"]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_plain_exchanges_are_read_directly(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AssertionError("the long way was taken")

    monkeypatch.setattr(MessageReader, "advance", fail)
    talk = Conversation(role=role)
    for _ in range(3):
        talk.request(GET)
        talk.response(OK)
        talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab")
        talk.request(b"cd")
        talk.request(b"ef")
        talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        talk.response(b"gh")
        talk.response(b"ij")
    expected = [WHOLE, "POST / 1.1 (6 b'abcdef') -> 200 1.1 (4 b'ghij')"] * 3
    assert [describe(exchange) for exchange in talk.run(finish=False)] == expected


@pytest.mark.parametrize("chunked", [b"4\r\nokok\r\n0\r\n\r\n", b"2\r\nok\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"])
def test_what_is_behind_a_head_read_directly_is_read_too(chunked: bytes) -> None:
    talk = Conversation()
    talk.request(GET + GET)
    talk.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + OK)
    first, second = talk.run(finish=False)
    assert first.response is not None
    assert (first.response.body.size, first.response.body.content) == (4, b"okok")
    assert describe(second) == WHOLE
