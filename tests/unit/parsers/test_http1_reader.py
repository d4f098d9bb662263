"""What gaps, ends and bounds do to a message. Whole conversations are in the corpus."""

from __future__ import annotations

import pytest

from ebpf.events import Missing
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS, Conversation, describe

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def told(talk: Conversation, limits: ParserLimits | None = None) -> list[str]:
    return [describe(exchange) for exchange in talk.run(limits)]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (Missing.BUDGET, "limit"),
        (Missing.SENDFILE, "sendfile"),
        (Missing.RING_FULL, "gap"),
        (Missing.UNREADABLE | Missing.BUDGET, "gap"),
    ],
)
def test_a_gap_in_a_body_of_known_length_is_stepped_over(missing: Missing, reason: str) -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc", length=41 + 500, missing=missing)
    talk.response(b"z" * 500)
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == [
        f"GET / 1.1 (0) -> 200 1.1 (1000 b'abc' {reason})",
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok')",
    ]


def test_a_body_that_was_only_counted_ends_when_its_tail_is_told() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n")
    tail = talk.response(b"", length=300_000_000, missing=Missing.BUDGET)
    (exchange,) = talk.run(finish=False)
    assert exchange.response is not None
    assert exchange.response.body.size == 300_000_000
    assert exchange.response.body.truncation is Truncation.LIMIT
    assert exchange.response.end_ktime_ns == tail.ktime_ns


def test_a_gap_that_ends_with_the_body_leaves_the_place_known() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK[:-1])
    talk.lose_response(1)
    talk.request(GET)
    talk.response(OK, missing=Missing.RING_FULL)
    assert told(talk) == ["GET / 1.1 (0) -> 200 1.1 (2 b'o' gap)", "GET / 1.1 (0) -> 200 1.1 (2 b'ok')"]


def test_a_gap_beyond_the_body_loses_the_place_behind_it() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK[:-1], length=len(OK) + 7, missing=Missing.RING_FULL)
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == ["GET / 1.1 (0) -> 200 1.1 (2 b'o' gap)", "GET / 1.1 (0) -> 200 1.1 (2 b'ok')"]


def test_a_gap_inside_a_chunk_is_stepped_over() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc")
    talk.response(b"", length=0x100 - 3, missing=Missing.SENDFILE)
    talk.response(b"\r\n0\r\n\r\n")
    assert told(talk) == ["GET / 1.1 (0) -> 200 1.1 (256 b'abc' sendfile)"]


@pytest.mark.parametrize("missing", [Missing.RING_FULL, Missing.BUDGET | Missing.UNREADABLE, Missing(0)])
def test_a_loss_over_the_end_of_a_chunk_loses_the_message(missing: Missing) -> None:
    talk = Conversation()
    talk.request(GET)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk.response(head + b"100\r\nabc", length=len(head) + 5 + 300, missing=missing)
    talk.response(b"tail of the chunked body\r\n0\r\n\r\n")
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == [
        "GET / 1.1 (0) -> 200 1.1 (None b'abc' gap) incomplete lost_bytes",
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok')",
    ]


def test_a_gap_in_a_body_until_the_end_is_stepped_over() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\n\r\nabc", length=22 + 100, missing=Missing.BUDGET)
    talk.response(b"def")
    talk.end_responses()
    assert told(talk) == ["GET / 1.1 (0) -> 200 1.1 (106 b'abc' limit)"]


def test_a_gap_in_a_head_loses_the_message() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK[:20], length=len(OK), missing=Missing.RING_FULL)
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == [
        "GET / 1.1 (0) -> ? incomplete lost_bytes",
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok') incomplete lost_bytes",
    ]


def test_a_gap_in_a_requests_head_leaves_its_response_alone() -> None:
    talk = Conversation()
    talk.request(GET[:10], length=len(GET), missing=Missing.UNREADABLE)
    talk.response(OK)
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == [
        "? -> 200 1.1 (2 b'ok') incomplete lost_bytes",
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok') incomplete lost_bytes",
    ]


def test_a_loss_in_a_chunked_upload_keeps_its_pair_flagged() -> None:
    talk = Conversation()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk.request(head + b"5\r\nabcde\r\n", length=len(head) + 1000, missing=Missing.RING_FULL)
    talk.response(OK)
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == [
        "POST / 1.1 (None b'abcde' gap) -> 200 1.1 (2 b'ok') incomplete lost_bytes",
        "GET / 1.1 (0) -> 200 1.1 (2 b'ok') incomplete lost_bytes",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"xyz\r\n",
        b"-5\r\n",
        b"5\r\nabcdefgh\r\n",
        b"1\r\na\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b";" + b"e" * 9000,
        b"1;" + b"e" * 9000 + b"\r\n",
        b"0\r\n" + b"T: x\r\n" * 20_000,
        b"0\r\n" + b"T" * 70_000,
    ],
)
def test_broken_chunks_are_invalid(body: bytes) -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    (exchange,) = talk.run()
    assert exchange.incomplete is Incomplete.INVALID


def test_trailers_beyond_the_bound_of_fields_are_left_out() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n")
    (exchange,) = talk.run(ParserLimits(max_headers=2))
    assert exchange.response is not None
    assert exchange.response.trailers == ((b"A", b"1"), (b"B", b"2"))


@pytest.mark.parametrize("whole", [True, False])
def test_a_head_beyond_the_bound_is_refused_and_counted(whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    talk = Conversation()
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"
    for part in [data] if whole else [data[:30_000], data[30_000:]]:
        talk.request(part)
    talk.response(OK)
    tracker = ConnectionTracker(ParserLimits())
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    assert [describe(exchange) for exchange in exchanges] == [
        "GET / 1.1 (None b'') -> 200 1.1 (2 b'ok') incomplete invalid"
    ]
    assert tracker.counters()["oversized_heads"] == 1


def test_an_unfinished_head_stops_growing_at_the_bound() -> None:
    talk = Conversation()
    for _ in range(20):
        talk.request(b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000)
    tracker = ConnectionTracker(ParserLimits())
    for event in talk.events:
        tracker.feed(event)
        assert tracker.buffered_bytes <= 65_536 + 10_100
    assert tracker.counters()["oversized_heads"] >= 1


def test_fields_beyond_the_bound_are_counted_and_still_frame_the_message() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5 + b"Content-Length: 2\r\n\r\nok")
    (exchange,) = talk.run(ParserLimits(max_headers=3))
    assert exchange.response is not None
    assert len(exchange.response.headers) == 3
    assert exchange.response.dropped_headers == 3
    assert exchange.response.body.content == b"ok"


def test_a_body_is_kept_up_to_the_bound() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n" + "aäää".encode()
    )
    talk.response(b"later")
    (exchange,) = talk.run(ParserLimits(max_body=6))
    assert exchange.response is not None
    body = exchange.response.body
    assert (body.size, body.content, body.truncation, body.captured_size) == (
        12,
        "aää".encode(),
        Truncation.LIMIT,
        5,
    )


def test_a_body_of_one_mebibyte_in_chunks_of_a_call() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\nContent-Type: text/plain\r\n\r\n")
    for _ in range(16):
        talk.response(b"\xe2\x82\xac" * 2730 + b"ab")
    talk.response(b"", length=1_048_576 - 16 * 8192, missing=Missing.BUDGET)
    (exchange,) = talk.run()
    assert exchange.incomplete is None
    assert exchange.response is not None
    assert exchange.response.body.size == 1_048_576
    assert len(exchange.response.body.content) == 131_072
    assert exchange.response.body.truncation is Truncation.LIMIT


def test_without_bodies_only_sizes_are_kept() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(OK)
    (exchange,) = talk.run(ParserLimits(capture_bodies=False))
    assert exchange.response is not None
    assert (exchange.response.body.size, exchange.response.body.content) == (2, b"")
    assert exchange.response.body.truncation is None


def test_a_cut_compressed_body_is_no_decoding_error() -> None:
    talk = Conversation()
    talk.request(GET)
    coded = bytes.fromhex("1f8b0800000000000203cb48cdc9c95728cf2fca490100")
    talk.response(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n"
        + coded
    )
    talk.close()
    (exchange,) = talk.run()
    assert exchange.incomplete is Incomplete.CLOSED
    assert exchange.response is not None
    assert exchange.response.body.content == b"hello world"
    assert exchange.response.body.truncation is Truncation.GAP


def test_times_are_those_of_the_first_and_the_last_byte() -> None:
    talk = Conversation()
    first = talk.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    last = talk.request(b"ab")
    talk.wait(SECOND_NS)
    head = talk.response(OK[:-1])
    end = talk.response(OK[-1:])
    (exchange,) = talk.run()
    assert exchange.request is not None
    assert exchange.response is not None
    assert (exchange.request.start_ktime_ns, exchange.request.end_ktime_ns) == (first.ktime_ns, last.ktime_ns)
    assert (exchange.response.start_ktime_ns, exchange.response.end_ktime_ns) == (head.ktime_ns, end.ktime_ns)


def test_interim_responses_beyond_the_bound_are_passed_over() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + OK)
    (exchange,) = talk.run()
    assert exchange.response is not None
    assert exchange.response.interim == (102,) * 16
    assert exchange.incomplete is None


def test_the_end_in_the_middle_of_a_head() -> None:
    talk = Conversation()
    talk.request(GET[:12])
    talk.end_requests()
    talk.close()
    assert talk.run() == []


def test_bytes_behind_the_end_are_passed_over() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.end_requests()
    talk.request(GET)
    talk.response(OK)
    assert told(talk) == ["GET / 1.1 (0) -> 200 1.1 (2 b'ok')"]
