from __future__ import annotations

import gzip

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    PushPromiseFrame,
    RstStreamFrame,
)

from ebpf.events import Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import Truncation
from parsers.limits import ParserLimits
from tests.builders import describe
from tests.unit.parsers.http2_peers import (
    OK,
    Dialogue,
    Frames,
    build_request,
    ended,
    response_of,
    tell,
    watch,
)

WHOLE = "GET / 2 (0) -> 200 2 (0)"


@pytest.mark.parametrize(
    ("cause", "flag"), [(Incomplete.CLOSED, "closed"), (Incomplete.TIMED_OUT, "timed_out")]
)
def test_the_end_of_the_connection_ends_what_is_pending(cause: Incomplete, flag: str) -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.server(DataFrame(1, b"part"))
    frames.ask(3, path=b"/3", ends=False)
    frames.client(DataFrame(3, b"half"))
    size = 4 if cause is Incomplete.CLOSED else None
    content = " b'half'"
    assert [describe(exchange) for exchange in frames.watch(cause=cause).exchanges] == [
        f"GET / 2 (0) -> 200 2 ({size} b'part') incomplete {flag}",
        f"GET /3 2 ({size}{content}) -> ? incomplete {flag}",
    ]


@pytest.mark.parametrize(
    ("length", "cause", "flag"),
    [
        (b"4", Incomplete.CLOSED, ""),
        (b"5", Incomplete.CLOSED, " incomplete closed"),
        (b"4", Incomplete.TIMED_OUT, " incomplete timed_out"),
    ],
)
def test_a_client_may_close_once_it_has_what_was_promised(
    length: bytes, cause: Incomplete, flag: str
) -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, [*OK, (b"content-length", length)], ends=False)
    frames.server(DataFrame(1, b"body"))
    (exchange,) = frames.watch(cause=cause).exchanges
    size = 4 if cause is Incomplete.CLOSED else None
    assert describe(exchange) == f"GET / 2 (0) -> 200 2 ({size} b'body'){flag}"


def test_the_end_of_the_responses_ends_what_waits_for_them() -> None:
    frames = Frames()
    frames.ask(1)
    frames.ask(3, path=b"/3")
    frames.answer(3, ends=False)
    frames.talk.end_requests()
    frames.talk.end_responses()
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    out = [exchange for event in frames.talk.events for exchange in connection.feed(event)]
    assert [describe(exchange) for exchange in out] == [
        "GET / 2 (0) -> ? incomplete closed",
        "GET /3 2 (0) -> 200 2 (0) incomplete closed",
    ]


def test_a_coded_body_that_was_cut_is_no_decoding_error() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, [*OK, (b"content-encoding", b"gzip")], ends=False)
    frames.server(DataFrame(1, gzip.compress(b"text" * 100)[:25]))
    (exchange,) = frames.watch(cause=Incomplete.CLOSED).exchanges
    assert response_of(exchange).body.truncation is Truncation.GAP


@pytest.mark.parametrize(
    ("length", "client", "code", "flag"),
    [
        (b"4", True, ErrorCodes.CANCEL, ""),
        (b"4", True, ErrorCodes.NO_ERROR, ""),
        (b"4", True, ErrorCodes.INTERNAL_ERROR, " incomplete reset"),
        (b"4", False, ErrorCodes.CANCEL, " incomplete reset"),
        (b"5", True, ErrorCodes.CANCEL, " incomplete reset"),
    ],
)
def test_a_client_may_give_up_a_stream_once_it_has_what_was_promised(
    length: bytes,
    client: bool,  # noqa: FBT001 - a parameter
    code: ErrorCodes,
    flag: str,
) -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, [*OK, (b"content-length", length)], ends=False)
    frames.server(DataFrame(1, b"body"))
    (frames.client if client else frames.server)(RstStreamFrame(1, code))
    assert frames.describe() == [f"GET / 2 (0) -> 200 2 (4 b'body'){flag}"]


@pytest.mark.parametrize("client", [True, False])
def test_a_reset_stream_is_flagged(client: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.server(DataFrame(1, b"part"))
    (frames.client if client else frames.server)(RstStreamFrame(1, ErrorCodes.CANCEL))
    frames.server(ended(1, b"late"))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (4 b'part') incomplete reset"]
    assert frames.watch().counts["http2_stray_frames"] == 1


def test_an_early_answer_is_whole_although_the_request_is_not() -> None:
    dialogue = Dialogue()
    stream_id = dialogue.client.get_next_available_stream_id()
    dialogue.client.send_headers(stream_id, build_request(b"/", method=b"POST"))
    dialogue.client.send_data(stream_id, b"some of it")
    dialogue.flush()
    dialogue.answer(stream_id, [(b":status", b"413")], b"too large")
    dialogue.server.reset_stream(stream_id, ErrorCodes.NO_ERROR)
    dialogue.flush()
    assert [describe(exchange) for exchange in watch(tell(dialogue.calls).events).exchanges] == [
        "POST / 2 (10 b'some of it') -> 413 2 (9 b'too large') anomalies request_cut_short"
    ]


def test_a_reset_with_an_error_after_the_answer_says_that_the_request_is_not_whole() -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.answer(1)
    frames.server(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
    frames.client(RstStreamFrame(99, ErrorCodes.CANCEL))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0) incomplete reset"]


def test_a_reset_reported_before_the_request_waits_for_it() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.answer(1, ends=False)
    frames.server(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
    frames.ask(1)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0) incomplete reset"]


def test_streams_that_the_server_has_not_taken_are_reset() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    frames.server(GoAwayFrame(0, last_stream_id=2**31 - 1))
    frames.server(GoAwayFrame(0, last_stream_id=3))
    frames.answer(3)
    frames.ask(7, path=b"/7")
    frames.answer(1)
    assert frames.describe() == [
        "GET /5 2 (0) -> ? incomplete reset",
        "GET /3 2 (0) -> 200 2 (0)",
        "GET /1 2 (0) -> 200 2 (0)",
        "GET /7 2 (0) -> ? incomplete reset",
    ]


def test_a_client_that_goes_away_takes_no_pushes() -> None:
    frames = Frames()
    frames.ask(1)
    promise = frames.responses.encode(build_request(b"/pushed"))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.client(GoAwayFrame(0, last_stream_id=0))
    frames.answer(1)
    (pushed, asked) = frames.watch().exchanges
    assert describe(pushed) == "GET /pushed 2 (0) -> ? incomplete reset"
    assert describe(asked) == WHOLE
