"""Final responses that are over before the request is: answered, whatever becomes of the rest of the body."""

from __future__ import annotations

import pytest

from ebpf.events import Role
from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange, Truncation
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS, Conversation, describe, run_events, split_bytes

STATUSES = (200, 201, 204, 301, 302, 307, 400, 401, 403, 404, 409, 411, 413, 417, 429, 500, 501, 502, 503)
ROLES = pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
UPLOAD = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nabc"
CHUNKED_UPLOAD = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nabc"
FRAMINGS = {
    "length": b"Content-Length: 4\r\n\r\nstop",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n4\r\nstop\r\n0\r\n\r\n",
    "until_end": b"\r\nstop",
    "empty": b"Content-Length: 0\r\n\r\n",
}
ENDS = {
    "closed by the server": ("responses", "requests", "close"),
    "closed by the client": ("requests", "responses", "close"),
    "reset behind the server's end": ("responses", "close"),
    "reset behind the client's end": ("requests", "close"),
    "reset": ("close",),
}


def end(talk: Conversation, steps: tuple[str, ...]) -> None:
    for step in steps:
        {"requests": talk.end_requests, "responses": talk.end_responses, "close": talk.close}[step]()


def head(status: int) -> bytes:
    return b"HTTP/1.1 %d Said\r\nConnection: close\r\n" % status


def check_answered(exchange: HttpExchange, status: int, *, size: int = 3) -> None:
    assert exchange.request is not None
    assert exchange.response is not None
    assert exchange.response.status == status
    assert exchange.incomplete is None
    assert exchange.answered
    assert exchange.anomalies == ("request_cut_short",)
    assert exchange.request.body.size == size
    assert exchange.request.body.truncation is None


@ROLES
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("steps", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("upload", [UPLOAD, CHUNKED_UPLOAD], ids=["length", "chunked"])
def test_an_early_answer_is_whole_whatever_its_status_and_however_the_connection_ends(
    role: Role, status: int, steps: tuple[str, ...], upload: bytes
) -> None:
    talk = Conversation(role=role)
    talk.request(upload)
    talk.response(head(status) + (b"\r\n" if status == 204 else FRAMINGS["length"]))
    end(talk, steps)
    (exchange,) = talk.run()
    check_answered(exchange, status)


@ROLES
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("steps", ENDS.values(), ids=ENDS)
def test_an_early_answer_is_whole_in_every_framing_that_shows_its_end(
    role: Role, framing: str, steps: tuple[str, ...]
) -> None:
    talk = Conversation(role=role)
    talk.request(UPLOAD)
    talk.response(head(413) + FRAMINGS[framing])
    end(talk, steps)
    (exchange,) = talk.run()
    if framing == "until_end" and "responses" not in steps:
        # Only the end of its direction would have ended it.
        assert exchange.incomplete is Incomplete.CLOSED
        assert not exchange.answered
    else:
        check_answered(exchange, 413)
    (again,) = run_events([part for event in talk.events for part in split_bytes(event)])
    assert describe(again) == describe(exchange)


@ROLES
def test_what_the_client_still_sends_counts_for_the_body(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(UPLOAD)
    talk.response(head(413) + FRAMINGS["length"])
    talk.request(b"d" * 100)
    talk.request(b"", length=200)
    talk.end_responses()
    talk.close()
    (exchange,) = talk.run()
    assert exchange.request is not None
    assert exchange.incomplete is None
    assert exchange.request.body.size == 303
    assert exchange.request.body.content == b"abc" + b"d" * 100
    assert exchange.request.body.truncation is Truncation.GAP


@ROLES
def test_an_upload_that_goes_on_to_its_end_is_whole(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(UPLOAD)
    talk.response(head(200) + FRAMINGS["length"])
    talk.request(b"d" * 897)
    talk.end_responses()
    talk.close()
    assert describe(talk.run()[0]).endswith("-> 200 1.1 (4 b'stop')")


@pytest.mark.parametrize("framing", ["length", "chunked", "until_end"])
@pytest.mark.parametrize("steps", ENDS.values(), ids=ENDS)
def test_an_answer_that_is_cut_itself_is_closed(framing: str, steps: tuple[str, ...]) -> None:
    whole = head(413) + FRAMINGS[framing]
    cut = whole[: whole.index(b"stop") + 2]
    talk = Conversation()
    talk.request(UPLOAD)
    talk.response(cut)
    end(talk, steps)
    (exchange,) = talk.run()
    if framing == "until_end" and "responses" in steps:
        check_answered(exchange, 413)
    else:
        assert exchange.incomplete is Incomplete.CLOSED
        assert not exchange.answered


@ROLES
def test_a_client_that_ends_inside_its_upload_before_the_answer_has_not_sent_a_whole_request(
    role: Role,
) -> None:
    talk = Conversation(role=role)
    talk.request(UPLOAD)
    talk.end_requests()
    talk.response(head(400) + FRAMINGS["length"])
    talk.end_responses()
    talk.close()
    (exchange,) = talk.run()
    assert exchange.incomplete is Incomplete.CLOSED
    assert exchange.answered, "the answer is whole, so its status tells"
    assert exchange.anomalies == ()


@ROLES
@pytest.mark.parametrize("interim", [False, True])
def test_a_body_that_waits_for_100_and_is_refused(role: Role, interim: bool) -> None:  # noqa: FBT001 - a parameter
    talk = Conversation(role=role)
    talk.request(UPLOAD[:-3].replace(b"Host", b"Expect: 100-continue\r\nHost"))
    if interim:
        talk.response(b"HTTP/1.1 100 Continue\r\n\r\n")
        talk.request(b"abc")
    talk.response(head(417) + FRAMINGS["empty"])
    talk.end_responses()
    talk.close()
    (exchange,) = talk.run()
    assert exchange.incomplete is None
    assert exchange.request is not None
    assert exchange.request.body.size == (3 if interim else 0)
    assert exchange.anomalies == ("request_cut_short" if interim else "body_not_sent",)


def test_an_early_answer_behind_whole_exchanges() -> None:
    talk = Conversation()
    for _ in range(2):
        talk.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    talk.request(UPLOAD)
    talk.response(head(413) + FRAMINGS["length"])
    talk.end_responses()
    talk.close()
    first, second, third = talk.run()
    assert first.incomplete is second.incomplete is None
    assert not first.anomalies
    check_answered(third, 413)


def test_the_end_of_the_capture_behind_the_close_changes_nothing() -> None:
    talk = Conversation()
    talk.request(UPLOAD)
    talk.response(head(413) + FRAMINGS["length"])
    talk.close()
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        assert tracker.feed(event) == []
    (exchange,) = tracker.flush()
    check_answered(exchange, 413)


def test_before_the_close_the_rest_of_the_upload_may_still_come() -> None:
    talk = Conversation()
    talk.request(UPLOAD)
    talk.response(head(413) + FRAMINGS["length"])
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        assert tracker.feed(event) == []
    assert tracker.advance(talk.ktime_ns + 10 * SECOND_NS) == []
    (exchange,) = tracker.flush()
    assert exchange.incomplete is Incomplete.STOPPED
    assert exchange.answered
