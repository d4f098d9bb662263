"""Chunked bodies beyond the byte budget: what passes unseen, when it is over, and when that is in doubt."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role
from parsers.exchange import Incomplete
from parsers.http1.chunked import ends_like_chunked_body
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import ASK_AGAIN_NS, QUIET_NS, ConnectionTracker
from tests.builders import MILLISECOND_NS, SECOND_NS, Conversation, describe

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"5\r\nabcde\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LONG = b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"3\r\nabc\r\n"
WHOLE = "GET / 1.1 (0) -> 200 1.1 (2 b'ok')"
CUT = "GET / 1.1 (0) -> 200 1.1 (None b'abc' limit)"
UNSEEN_END = f"{CUT} anomalies end_not_seen"
UPLOADED = "POST / 1.1 (None b'abcde' limit) -> 200 1.1 (2 b'ok')"


def begin_long_answer(talk: Conversation, missing: Missing = Missing.BUDGET) -> None:
    talk.request(GET)
    talk.response(LONG)
    talk.response(b"", length=1000, missing=missing)


def begin_long_upload(talk: Conversation) -> None:
    talk.request(UPLOAD)
    talk.request(b"", length=1000, missing=Missing.BUDGET)


def turn(talk: Conversation) -> None:
    talk.request(GET)
    talk.response(OK)


def told(talk: Conversation, *, finish: bool = True) -> list[str]:
    return [describe(exchange) for exchange in talk.run(finish=finish)]


def feed(tracker: ConnectionTracker, talk: Conversation) -> list[str]:
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    talk.events.clear()
    return [describe(exchange) for exchange in exchanges]


def tick(tracker: ConnectionTracker, talk: Conversation, nanoseconds: int) -> list[HttpExchange]:
    """Let time pass as a source that has nothing to add lets it."""
    exchanges = []
    for passed in range(0, nanoseconds + 1, 50 * MILLISECOND_NS):
        exchanges += tracker.advance(talk.ktime_ns + passed)
        tracker.awaiting()
    return exchanges


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (Missing.BUDGET, "limit"),
        (Missing.SENDFILE, "sendfile"),
        (Missing.SENDFILE | Missing.BUDGET, "sendfile"),
    ],
)
def test_the_next_response_ends_a_long_one(role: Role, missing: Missing, reason: str) -> None:
    talk = Conversation(role=role)
    for _ in range(3):
        begin_long_answer(talk, missing)
    turn(talk)
    assert told(talk, finish=False) == [CUT.replace("limit", reason)] * 3 + [WHOLE]


def test_its_time_is_that_of_the_last_byte_known_to_have_passed() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.wait(3 * SECOND_NS)
    last = talk.response(b"", length=1000, missing=Missing.BUDGET)
    talk.wait(3 * SECOND_NS)
    turn(talk)
    first, _ = talk.run(finish=False)
    assert first.response is not None
    assert first.response.end_ktime_ns == last.ktime_ns


def test_the_end_of_the_direction_ends_it() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.end_responses()
    assert told(talk, finish=False) == [UNSEEN_END]


@pytest.mark.parametrize("stopped", [False, True])
def test_the_end_of_the_connection_ends_it(stopped: bool) -> None:  # noqa: FBT001 - a parameter of the test
    talk = Conversation()
    begin_long_answer(talk)
    talk.close()
    tracker = ConnectionTracker(ParserLimits())
    assert feed(tracker, talk) == []
    ended = tracker.flush() if stopped else tracker.advance(talk.ktime_ns + SECOND_NS)
    assert [describe(exchange) for exchange in ended] == [UNSEEN_END]


def test_quiet_ends_it_but_not_before_the_source_was_asked() -> None:
    talk = Conversation()
    tracker = ConnectionTracker(ParserLimits())
    begin_long_answer(talk)
    assert feed(tracker, talk) == []
    last_ktime_ns = talk.ktime_ns
    quiet_ns = ParserLimits().tail_quiet_ns
    assert tick(tracker, talk, quiet_ns - MILLISECOND_NS) == []
    (exchange,) = tick(tracker, talk, quiet_ns + 2 * ASK_AGAIN_NS)
    assert describe(exchange) == UNSEEN_END
    assert exchange.response is not None
    assert exchange.response.end_ktime_ns == last_ktime_ns
    assert tracker.counters()["unseen_tails"] == tracker.counters()["unseen_tails_timed_out"] == 1
    assert tracker.counters()["lost_places"] == 0
    assert tracker.buffered_bytes == 0
    turn(talk)
    assert feed(tracker, talk) == [WHOLE]


def test_a_source_that_was_away_is_asked_before_quiet_ends_anything() -> None:
    talk = Conversation()
    tracker = ConnectionTracker(ParserLimits())
    begin_long_answer(talk)
    feed(tracker, talk)
    assert tracker.advance(talk.ktime_ns + 60 * SECOND_NS) == []
    assert len(tracker.awaiting()) == 1
    talk.wait(59 * SECOND_NS)
    talk.response(b"", length=1000, missing=Missing.BUDGET)
    assert feed(tracker, talk) == []
    assert tracker.advance(talk.ktime_ns + SECOND_NS + ASK_AGAIN_NS) == []


def test_what_passes_keeps_it_from_being_over() -> None:
    talk = Conversation()
    tracker = ConnectionTracker(ParserLimits(tail_quiet_ns=SECOND_NS))
    begin_long_answer(talk)
    for _ in range(10):
        assert feed(tracker, talk) == []
        assert tick(tracker, talk, SECOND_NS - QUIET_NS) == []
        talk.wait(SECOND_NS - QUIET_NS)
        talk.response(b"", length=1000, missing=Missing.BUDGET)


def test_an_event_stream_is_over_when_the_client_goes_on() -> None:
    talk = Conversation()
    tracker = ConnectionTracker(ParserLimits())
    talk.request(GET)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
    talk.response(head + CHUNKED + b"3\r\nabc\r\n", length=1000, missing=Missing.BUDGET)
    feed(tracker, talk)
    assert tick(tracker, talk, 20 * SECOND_NS) == []
    talk.wait(20 * SECOND_NS)
    talk.request(GET)
    assert feed(tracker, talk) == []
    (exchange,) = tick(tracker, talk, 6 * SECOND_NS)
    assert describe(exchange) == CUT
    talk.response(OK)
    assert feed(tracker, talk) == [WHOLE]


def test_the_last_chunk_at_the_end_of_a_record_ends_it() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.response(b"the rest, captured again\r\n0\r\n\r\n")
    assert told(talk, finish=False) == [CUT]
    turn(talk)
    assert told(talk) == [CUT, WHOLE]


@pytest.mark.parametrize(
    ("record", "ends"),
    [
        (b"\r\n0\r\n\r\n", True),
        (b"0\r\n\r\n", True),
        (b"abc\r\n0\r\n\r\n", True),
        (b"abc\r\n10\r\n\r\n", False),
        (b"abc0\r\n\r\n", False),
        (b"\r\n0\r\n\r\nabc", False),
    ],
)
def test_what_ends_like_a_chunked_body(record: bytes, ends: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert ends_like_chunked_body(record) is ends


def test_a_last_chunk_before_more_bytes_of_its_call_ends_nothing() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.response(b"0\r\n\r\n", length=300, missing=Missing.BUDGET)
    assert told(talk, finish=False) == []


def test_trailers_behind_the_gap_stay_unknown() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.response(b"\r\n0\r\nChecksum: 1\r\n\r\n")
    turn(talk)
    assert told(talk, finish=False) == [CUT, WHOLE]


def test_a_gap_beyond_a_chunk_goes_on_unseen() -> None:
    talk = Conversation()
    talk.request(GET)
    head = b"HTTP/1.1 200 OK\r\n" + CHUNKED
    talk.response(head + b"100\r\nabc", length=len(head) + 5 + 300, missing=Missing.BUDGET)
    turn(talk)
    assert told(talk) == [CUT, WHOLE]


def test_a_loss_in_the_tail_is_a_loss() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.response(b"", length=1000, missing=Missing.RING_FULL | Missing.BUDGET)
    turn(talk)
    assert told(talk) == [f"{CUT} incomplete lost_bytes", WHOLE]


def test_without_bodies_only_the_size_is_unknown() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.end_responses()
    (exchange,) = talk.run(ParserLimits(capture_bodies=False))
    assert describe(exchange) == "GET / 1.1 (0) -> 200 1.1 (None b'') anomalies end_not_seen"


def test_a_response_that_never_was_asked_for_makes_doubt() -> None:
    # Another thread's write is reported when it returns, so a response may come before its request.
    talk = Conversation(role=Role.CLIENT)
    begin_long_answer(talk)
    for _ in range(2):
        talk.response(OK)
        talk.request(GET)
    talk.wait(SECOND_NS)
    turn(talk)
    exchanges = talk.run()
    assert describe(exchanges[0]) == f"{CUT} incomplete lost_bytes"
    assert all(exchange.incomplete for exchange in exchanges)


def test_a_client_that_goes_on_before_the_response_is_over_is_doubted() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.request(GET)
    talk.response(b"still the first response")
    talk.request(GET)
    talk.response(OK)
    talk.response(OK)
    turn(talk)
    exchanges = talk.run()
    assert describe(exchanges[0]) == f"{CUT} incomplete lost_bytes"
    assert all(exchange.incomplete for exchange in exchanges)


def test_a_gap_behind_the_next_request_makes_doubt() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.request(GET)
    talk.response(b"", length=10, missing=Missing.SENDFILE)
    talk.request(GET)
    talk.response(OK)
    exchanges = talk.run()
    assert describe(exchanges[0]) == f"{CUT} incomplete lost_bytes"
    assert all(exchange.incomplete for exchange in exchanges)


@pytest.mark.parametrize("before", [True, False])
def test_a_client_that_pipelines_gets_no_tail(before: bool) -> None:  # noqa: FBT001 - a parameter of the test
    talk = Conversation()
    if before:
        talk.request(GET * 2)
        talk.response(OK * 2)
        talk.request(GET)
    else:
        talk.request(GET * 3)
    talk.response(LONG, length=1000, missing=Missing.BUDGET)
    turn(talk)
    exchanges = talk.run()[2 * before :]
    assert describe(exchanges[0]) == f"{CUT} incomplete lost_bytes"
    assert all(exchange.incomplete for exchange in exchanges)


def test_more_than_one_request_open_behind_the_response_gets_no_tail() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(LONG)
    talk.request(GET * 2)
    talk.response(b"", length=1000, missing=Missing.BUDGET)
    talk.response(OK * 2)
    exchanges = talk.run()
    assert describe(exchanges[0]) == f"{CUT} incomplete lost_bytes"
    assert all(exchange.incomplete for exchange in exchanges)


def test_the_end_of_another_requests_response_leaves_an_upload_alone() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK[:-1])
    # Another thread's calls, reported after the response that they came before.
    talk.wait(-10 * MILLISECOND_NS)
    begin_long_upload(talk)
    talk.wait(10 * MILLISECOND_NS)
    talk.response(OK[-1:])
    last = talk.request(b"", length=1000, missing=Missing.BUDGET)
    talk.response(OK)
    _, upload = talk.run()
    assert upload.request is not None
    assert upload.request.end_ktime_ns == last.ktime_ns


def test_when_the_capture_ends_a_response_before_an_open_request_was_over() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    talk.request(GET)
    assert told(talk) == [CUT, "GET / 1.1 (0) -> ? incomplete stopped"]


def test_when_the_capture_ends_a_tail_is_flagged() -> None:
    talk = Conversation()
    begin_long_answer(talk)
    assert told(talk) == [f"{CUT} incomplete stopped"]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_a_response_ends_the_long_upload_that_it_answers(role: Role) -> None:
    talk = Conversation(role=role)
    for _ in range(2):
        begin_long_upload(talk)
        talk.response(OK)
    begin_long_upload(talk)
    talk.response(OK[:-1])
    talk.response(OK[-1:])
    turn(talk)
    assert told(talk, finish=False) == [UPLOADED] * 3 + [WHOLE]


def test_an_upload_that_goes_on_after_an_interim_response() -> None:
    talk = Conversation()
    begin_long_upload(talk)
    talk.response(b"HTTP/1.1 102 Processing\r\n\r\n")
    talk.request(b"more of it")
    talk.request(b"", length=1000, missing=Missing.BUDGET)
    talk.response(b"HTTP/1.1 102 Processing\r\n\r\n")
    talk.request(b"\r\n0\r\n\r\n")
    talk.response(OK)
    assert told(talk, finish=False) == [f"{UPLOADED} interim 102,102"]


def test_an_upload_that_outlives_its_response_ends_with_the_next_request() -> None:
    talk = Conversation()
    begin_long_upload(talk)
    talk.response(OK[:-1])
    last = talk.request(b"", length=1000, missing=Missing.BUDGET)
    talk.response(OK[-1:])
    assert talk.run(finish=False) == []
    turn(talk)
    first, second = talk.run(finish=False)
    assert [describe(first), describe(second)] == [UPLOADED, WHOLE]
    assert first.request is not None
    assert first.request.end_ktime_ns == last.ktime_ns


@pytest.mark.parametrize("end", ["end", "close", "quiet"])
def test_an_upload_that_outlives_its_response_ends_with_the_connection_or_quiet(end: str) -> None:
    talk = Conversation()
    talk.request(UPLOAD)
    talk.response(OK)
    talk.request(b"", length=1000, missing=Missing.BUDGET)
    if end == "end":
        talk.end_requests()
    elif end == "close":
        talk.close()
    tracker = ConnectionTracker(ParserLimits())
    ended = feed(tracker, talk)
    ended += [describe(exchange) for exchange in tick(tracker, talk, 67 * SECOND_NS)]
    assert ended == [f"{UPLOADED} anomalies end_not_seen"]
    assert tracker.buffered_bytes == 0


def test_quiet_never_ends_an_upload_before_its_response() -> None:
    talk = Conversation()
    tracker = ConnectionTracker(ParserLimits())
    begin_long_upload(talk)
    assert feed(tracker, talk) == []
    assert tick(tracker, talk, 20 * SECOND_NS) == []
    talk.wait(20 * SECOND_NS)
    talk.response(OK)
    assert feed(tracker, talk) == [UPLOADED]
    assert tracker.counters()["unseen_tails_timed_out"] == 0


def test_what_looks_like_a_request_inside_an_upload_is_flagged() -> None:
    talk = Conversation()
    begin_long_upload(talk)
    talk.response(b"HTTP/1.1 102 Processing\r\n\r\n")
    talk.request(GET)
    talk.response(OK)
    talk.response(OK)
    turn(talk)
    assert all(exchange.incomplete for exchange in talk.run())


def test_a_long_upload_behind_an_open_request_is_flagged() -> None:
    talk = Conversation()
    talk.request(GET)
    begin_long_upload(talk)
    talk.response(OK * 2)
    assert [exchange.incomplete for exchange in talk.run()] == [None, Incomplete.LOST_BYTES]


@pytest.mark.parametrize("end", ["request", "close", "quiet"])
def test_a_long_upload_with_a_long_response(end: str) -> None:
    talk = Conversation()
    begin_long_upload(talk)
    talk.response(LONG, length=1000, missing=Missing.BUDGET)
    if end == "request":
        talk.request(b"", length=1000, missing=Missing.BUDGET)
        turn(talk)
    elif end == "close":
        talk.close()
    tracker = ConnectionTracker(ParserLimits())
    ended = feed(tracker, talk)
    ended += [describe(exchange) for exchange in tick(tracker, talk, 67 * SECOND_NS)]
    both = "POST / 1.1 (None b'abcde' limit) -> 200 1.1 (None b'abc' limit)"
    assert ended == ([both, WHOLE] if end == "request" else [f"{both} anomalies end_not_seen"])


def test_an_upload_given_up_with_its_exchange_ends_where_the_next_request_begins() -> None:
    talk = Conversation()
    begin_long_upload(talk)
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n")
    turn(talk)
    first, second = talk.run()
    assert (first.incomplete, second.incomplete) == (Incomplete.INVALID, None)
    assert describe(second) == WHOLE
