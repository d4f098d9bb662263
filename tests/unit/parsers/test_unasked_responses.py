"""Responses without a request that can be read: unsolicited ones, and refusals of what is no head."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role
from parsers.exchange import Incomplete
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS, Conversation, describe

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WHOLE = "GET / 1.1 (0) -> 200 1.1 (2 b'ok')"
ROLES = pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])

SERVERS = {
    "Apache": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbye",
    "HAProxy": b"HTTP/1.0 408 Request Time-out\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\nbye",
    "HAProxy, no room": b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nbye",
    "Node": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
    "nginx": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbye",
    "without a word": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
}


@ROLES
@pytest.mark.parametrize("response", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("waits", [False, True])
def test_a_server_that_says_why_it_closes_an_idle_connection(
    role: Role,
    response: bytes,
    before: int,
    waits: bool,  # noqa: FBT001 - a parameter
) -> None:
    talk = Conversation(role=role)
    for _ in range(before):
        talk.request(GET)
        talk.response(OK)
    talk.wait(60 * SECOND_NS)
    talk.response(response)
    if waits:
        talk.wait(5 * SECOND_NS)
    talk.end_responses()
    talk.end_requests()
    talk.close()
    *whole, last = talk.run()
    assert [describe(exchange) for exchange in whole] == [WHOLE] * before
    assert last.request is None
    assert last.response is not None
    assert last.response.status == int(response[9:12])
    assert last.incomplete is Incomplete.UNSOLICITED
    assert last.answered


@ROLES
def test_a_connection_that_was_joined_late_and_is_idle(role: Role) -> None:
    talk = Conversation(role=role, joined_late=True)
    for _ in range(10):
        talk.request(GET)
        talk.response(OK)
    talk.wait(60 * SECOND_NS)
    talk.response(SERVERS["Apache"])
    talk.end_responses()
    talk.close()
    exchanges = talk.run()
    assert [exchange.incomplete for exchange in exchanges] == [None] * 10 + [Incomplete.UNSOLICITED]


def test_the_end_of_the_connection_tells_that_the_server_goes() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK)
    talk.response(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    talk.end_responses()
    talk.close()
    assert [exchange.incomplete for exchange in talk.run()] == [None, Incomplete.UNSOLICITED]


@ROLES
@pytest.mark.parametrize(
    "response", [OK, b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]
)
def test_a_response_that_speaks_of_a_request_had_one(role: Role, response: bytes) -> None:
    talk = Conversation(role=role)
    talk.request(GET)
    talk.response(OK)
    talk.response(response)
    assert [exchange.incomplete for exchange in talk.run()] == [None, Incomplete.LOST_BYTES]


def test_behind_a_loss_of_requests_the_word_is_loss() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK)
    talk.request(b"", length=30, missing=Missing.RING_FULL)
    talk.response(SERVERS["Apache"])
    talk.end_responses()
    talk.close()
    assert [exchange.incomplete for exchange in talk.run()] == [None, Incomplete.LOST_BYTES]


def test_a_request_that_was_reported_late_has_its_answer() -> None:
    talk = Conversation(role=Role.CLIENT)
    talk.response(SERVERS["Apache"])
    talk.request(GET)
    talk.end_responses()
    talk.close()
    assert [exchange.incomplete for exchange in talk.run()] == [None]


REFUSED = {
    "HTTP/2.0": (b"GET /two HTTP/2.0\r\nHost: a\r\n\r\n", b"GET", b"/two", "2.0"),
    "HTTP/0.9": (b"GET /nine\r\n", b"GET", b"/nine", ""),
    "no version": (b"POST /p\r\nHost: a\r\n\r\n", b"POST", b"/p", ""),
    "odd version": (b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n", b"GET", b"/", ""),
    "no slash": (b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", b"GET", b"/", ""),
    "method": (b"G<T / HTTP/1.1\r\nHost: a\r\n\r\n", None, None, "1.1"),
    "NUL": (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET", None, "1.1"),
    "garbage": (b"\x7fELF\x01\x02\r\n\r\n", None, None, ""),
    "binary": (b"\x01\x02\x03\x04\r\n\r\n", None, None, ""),
    "oversized": (b"GET /o HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"GET", b"/o", "1.1"),
    "oversized target": (b"GET /" + b"o" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET", None, ""),
    "unfinished": (b"GET /slow HTTP/1.1\r\nHost: a\r\nX-Y: ", b"GET", b"/slow", "1.1"),
    "unfinished line": (b"GET /slo", b"GET", None, ""),
}
refused = pytest.mark.parametrize(("sent", "method", "target", "version"), REFUSED.values(), ids=REFUSED)


@ROLES
@refused
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("half_closed", [False, True])
def test_a_refused_head_is_shown_with_its_refusal(
    role: Role,
    sent: bytes,
    method: bytes | None,
    target: bytes | None,
    version: str,
    before: int,
    half_closed: bool,  # noqa: FBT001 - a parameter
) -> None:
    talk = Conversation(role=role)
    for _ in range(before):
        talk.request(GET)
        talk.response(OK)
    talk.request(sent)
    if half_closed:
        talk.end_requests()
    talk.response(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbad")
    talk.end_responses()
    talk.close()
    *whole, last = talk.run()
    assert [describe(exchange) for exchange in whole] == [WHOLE] * before
    assert last.request is not None
    assert last.response is not None
    assert (last.request.method, last.request.target, last.request.version) == (method, target, version)
    assert last.request.body.size is None
    assert last.response.status == 400
    assert last.response.body.content == b"bad"
    assert last.incomplete is Incomplete.INVALID
    assert last.answered


@refused
def test_what_is_not_answered_by_http_is_not_shown(
    sent: bytes, method: bytes | None, target: bytes | None, version: str
) -> None:
    del method, target, version
    for answer in (
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
        b"$5\r\nvalue\r\n",
        b"-ERR unknown command\r\n",
        b"",
    ):
        talk = Conversation()
        talk.request(sent)
        if answer:
            talk.response(answer)
        talk.end_responses()
        talk.close()
        assert talk.run() == []


def test_the_fields_of_a_refused_head_are_those_that_were_there_in_full() -> None:
    talk = Conversation()
    talk.request(b"GET / HTTP/2.0\r\nHost: a\r\nX-One: 1\r\n\r\n")
    talk.response(OK)
    (exchange,) = talk.run()
    assert exchange.request is not None
    assert list(exchange.request.headers) == [(b"Host", b"a"), (b"X-One", b"1")]

    talk = Conversation()
    talk.request(b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1")
    talk.response(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
    talk.end_responses()
    talk.close()
    (exchange,) = talk.run()
    assert exchange.request is not None
    assert list(exchange.request.headers) == [(b"Host", b"a")]
    assert exchange.incomplete is Incomplete.INVALID


@ROLES
def test_requests_open_before_a_refused_head_keep_their_answers(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(GET + b"GET /two HTTP/2.0\r\nHost: a\r\n\r\n")
    talk.response(OK)
    talk.response(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    talk.end_responses()
    talk.close()
    first, second = talk.run()
    assert first.request is not None
    assert first.request.target == b"/"
    assert second.request is not None
    assert second.request.target == b"/two"
    assert second.response is not None
    assert second.response.status == 400
    assert second.incomplete is Incomplete.INVALID


@ROLES
def test_a_request_behind_a_refused_head_is_no_sure_pair(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(b"GET /two HTTP/2.0\r\nHost: a\r\n\r\n")
    talk.request(GET)
    talk.response(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    talk.response(OK)
    exchanges = talk.run()
    assert all(exchange.incomplete is not None for exchange in exchanges)
    assert Incomplete.LOST_BYTES not in {
        exchange.incomplete for exchange in exchanges if exchange.request is not None
    }


@ROLES
def test_a_refusal_knows_the_method(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n")
    talk.response(b"HTTP/1.1 505 No\r\nContent-Length: 100\r\n\r\n")
    (exchange,) = talk.run()
    assert exchange.incomplete is Incomplete.INVALID
    assert exchange.answered


def test_refused_heads_are_counted_and_held_for_one_answer_only() -> None:
    talk = Conversation()
    for _ in range(3):
        talk.request(b"GET /two HTTP/2.0\r\nHost: a\r\n\r\n")
    talk.response(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    tracker = ConnectionTracker(ParserLimits())
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    assert [exchange.incomplete for exchange in exchanges] == [Incomplete.INVALID]
    assert tracker.counters()["invalid_heads"] == 1
    assert tracker.counters()["incomplete_lost_bytes"] == 0
