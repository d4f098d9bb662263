from __future__ import annotations

import gzip

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ebpf.events import Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import DeclaredCoding, Truncation
from parsers.limits import ParserLimits
from tests.builders import MILLISECOND_NS, SECOND_NS, describe, split_bytes
from tests.unit.parsers.http2_peers import (
    OK,
    Dialogue,
    Frames,
    build_request,
    ended,
    head,
    request_of,
    response_of,
    tell,
    watch,
)

ZIPPED = gzip.compress(b"text" * 20)
WHOLE = "GET / 2 (0) -> 200 2 (0)"


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("known", [True, False])
def test_an_exchange_with_everything(role: Role, known: bool) -> None:  # noqa: FBT001 - a parameter
    dialogue = Dialogue()
    stream_id = dialogue.ask(
        build_request(b"/a?b=c", (b"x-one", b"1"), (b"cookie", b"a=1"), method=b"POST"),
        b"request",
        [(b"x-checksum", b"r")],
    )
    dialogue.server.send_headers(stream_id, [(b":status", b"103"), (b"link", b"</style.css>")])
    dialogue.answer(stream_id, [*OK, (b"content-type", b"text/plain")], b"response", [(b"grpc-status", b"0")])
    talk = tell(dialogue.calls, role=role, kernel_role=role if known else Role.UNKNOWN)
    (exchange,) = watch(talk.events).exchanges
    assert describe(exchange) == (
        "POST /a?b=c 2 (7 b'request') trailers 1 -> 200 2 (8 b'response') trailers 1 interim 103"
    )
    assert (exchange.role, exchange.connection_id) == (role, 1)
    assert exchange.origin[1:] == (100, 101)
    assert (exchange.upgraded, exchange.pushed, exchange.application) == (False, False, None)
    request, response = request_of(exchange), response_of(exchange)
    assert request.headers == [(b"x-one", b"1"), (b"cookie", b"a=1")]
    assert (request.scheme, request.authority, request.protocol) == (b"http", b"a", None)
    assert request.trailers == [(b"x-checksum", b"r")]
    assert (response.headers, response.reason) == ([(b"content-type", b"text/plain")], b"")
    assert response.trailers == [(b"grpc-status", b"0")]
    assert request.start_ktime_ns <= request.end_ktime_ns < response.start_ktime_ns <= response.end_ktime_ns


def test_a_hundred_streams_in_flight_are_paired_by_their_ids() -> None:
    dialogue = Dialogue()
    ids = [dialogue.ask(build_request(b"/%d" % number), flush=False) for number in range(100)]
    dialogue.flush()
    for number, stream_id in reversed(list(enumerate(ids))):
        dialogue.server.send_headers(stream_id, OK)
        dialogue.server.send_data(stream_id, b"first half of %d, " % number)
    for number, stream_id in enumerate(ids):
        dialogue.server.send_data(stream_id, b"second half of %d" % number, end_stream=True)
        dialogue.flush()
    exchanges = watch(tell(dialogue.calls).events).exchanges
    assert len(exchanges) == 100
    for exchange in exchanges:
        number = int(request_of(exchange).target[1:])  # type: ignore[index]
        content = response_of(exchange).body.content
        assert content == b"first half of %d, second half of %d" % (number, number)
        assert exchange.incomplete is None


def test_every_byte_may_come_alone() -> None:
    dialogue = Dialogue(push=True)
    stream_id = dialogue.ask(build_request(b"/", (b"x-long", b"v" * 40)), b"request", [(b"t", b"1")])
    dialogue.server.push_stream(stream_id, 2, build_request(b"/style.css"))
    dialogue.answer(2, OK, b"style")
    dialogue.server.send_headers(stream_id, OK)
    dialogue.server.send_data(stream_id, b"response", pad_length=9)
    dialogue.server.send_headers(stream_id, [(b"t", b"2")], end_stream=True)
    dialogue.client.ping(b"12345678")
    dialogue.flush()
    dialogue.server.close_connection()
    dialogue.flush()
    talk = tell(dialogue.calls)
    whole = watch(talk.events)
    alone = watch([part for event in talk.events for part in split_bytes(event)])
    assert [describe(exchange) for exchange in alone.exchanges] == [
        describe(exchange) for exchange in whole.exchanges
    ]
    assert [describe(exchange) for exchange in whole.exchanges] == [
        "GET /style.css 2 (0) -> 200 2 (5 b'style')",
        "GET / 2 (7 b'request') trailers 1 -> 200 2 (8 b'response') trailers 1",
    ]
    assert [exchange.pushed for exchange in whole.exchanges] == [True, False]


@pytest.mark.parametrize("size", [0, 100, 65_536])
def test_the_table_size_follows_the_encoder(size: int) -> None:
    dialogue = Dialogue(table_size=size)
    for number in range(30):
        fields = [(b"x-%d" % index, b"%d" % (number // 3)) for index in range(5)]
        dialogue.answer(dialogue.ask(build_request(b"/%d" % (number % 7), *fields)), [*OK, *fields])
    exchanges = watch(tell(dialogue.calls).events).exchanges
    for number, exchange in enumerate(exchanges):
        fields = [(b"x-%d" % index, b"%d" % (number // 3)) for index in range(5)]
        assert exchange.incomplete is None
        assert request_of(exchange).target == b"/%d" % (number % 7)
        assert request_of(exchange).headers == response_of(exchange).headers == fields


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")])
def test_a_response_may_have_no_content_whatever_its_fields_say(method: bytes, status: bytes) -> None:
    dialogue = Dialogue()
    stream_id = dialogue.ask(build_request(b"/", method=method))
    dialogue.answer(stream_id, [(b":status", status), (b"content-length", b"10")])
    (exchange,) = watch(tell(dialogue.calls).events).exchanges
    assert exchange.incomplete is None
    assert response_of(exchange).body.size == 0


def test_all_types_of_frames_pass_and_unknown_ones_too() -> None:
    frames = Frames()
    frames.client(WindowUpdateFrame(0, 1_000), PriorityFrame(3, depends_on=0), PingFrame(0, b"12345678"))
    block = frames.requests.encode(build_request(b"/", (b"a", b"b")))
    frames.client(
        HeadersFrame(1, block[:3], pad_length=4, depends_on=0, flags=["PADDED", "PRIORITY", "END_STREAM"]),
        ContinuationFrame(1, block[3:5]),
        ContinuationFrame(1, b""),
        ContinuationFrame(1, block[5:], flags=["END_HEADERS"]),
    )
    frames.server(SettingsFrame(0, flags=["ACK"]), PingFrame(0, b"12345678", flags=["ACK"]))
    frames.talk.response(b"\x00\x00\x03\xfa\xff\x00\x00\x00\x01???")
    frames.server(head(1, frames.responses.encode(OK), ends=False), DataFrame(1), WindowUpdateFrame(1, 5))
    frames.server(DataFrame(1, b"ok", pad_length=255, flags=["PADDED"]))
    frames.server(DataFrame(1, b"", pad_length=3, flags=["PADDED", "END_STREAM"]))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (2 b'ok')"]


def test_priority_alone_does_not_change_what_is_read() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    frames.client(HeadersFrame(1, block, depends_on=0, flags=["PRIORITY", "END_STREAM", "END_HEADERS"]))
    frames.answer(1)
    assert frames.describe() == [WHOLE]


@pytest.mark.parametrize(
    ("encoding", "content", "coding"),
    [
        (b"aws-chunked, gzip", b"%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED), None),
        (b"UTF-8", b"text" * 20, None),
        (b"gzip", b"text" * 20, DeclaredCoding("gzip", is_applied=False)),
        (b"foo", b"text" * 20, DeclaredCoding("foo", is_applied=True)),
    ],
)
def test_odd_codings_cost_no_content(encoding: bytes, content: bytes, coding: DeclaredCoding | None) -> None:
    dialogue = Dialogue()
    coded = [*OK, (b"content-type", b"application/x-ndjson"), (b"content-encoding", encoding)]
    dialogue.answer(dialogue.ask(build_request(b"/")), coded, content)
    (only,) = watch(tell(dialogue.calls).events).exchanges
    body = response_of(only).body
    assert (body.content, body.truncation, body.coding) == (b"text" * 20, None, coding)
    assert body.charset == (None if encoding == b"foo" else "utf-8")


def test_bodies_are_decoded_and_cut_at_the_bound() -> None:
    dialogue = Dialogue()
    coded = [*OK, (b"content-type", b"text/plain"), (b"content-encoding", b"identity, gzip")]
    dialogue.answer(dialogue.ask(build_request(b"/gzip")), coded, gzip.compress(b"text" * 20))
    dialogue.answer(dialogue.ask(build_request(b"/long")), OK, b"x" * 300)
    first, second = watch(tell(dialogue.calls).events, ParserLimits(max_body=100)).exchanges
    body = response_of(first).body
    assert (body.content, body.charset, body.truncation) == (b"text" * 20, "utf-8", None)
    body = response_of(second).body
    assert (body.size, body.content, body.truncation) == (300, b"x" * 100, Truncation.LIMIT)
    assert first.incomplete is second.incomplete is None
    (_, second) = watch(tell(dialogue.calls).events, ParserLimits(capture_bodies=False)).exchanges
    body = response_of(second).body
    assert (body.size, body.content, body.truncation) == (300, b"", None)


def test_a_response_reported_before_its_request_waits_for_it() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.answer(1, ends=False)
    frames.server(ended(1, b"body"))
    frames.talk.wait(900 * MILLISECOND_NS)
    frames.ask(1)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (4 b'body')"]


def test_a_request_that_came_late_is_read_to_its_end() -> None:
    frames = Frames(role=Role.CLIENT)
    frames.answer(1)
    frames.ask(1, ends=False)
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    for event in frames.talk.events:
        assert connection.feed(event) == []
    assert connection.expire(frames.talk.ktime_ns + 2 * SECOND_NS) == []
    frames.client(ended(1, b"content"))
    (exchange,) = connection.feed(frames.talk.events[-1])
    assert describe(exchange) == "GET / 2 (7 b'content') -> 200 2 (0)"


def test_a_request_that_does_not_come_is_waited_for_no_longer() -> None:
    frames = Frames()
    frames.answer(1)
    talk = frames.talk
    limits = ParserLimits()
    connection = Http2Connection(talk.events[0], limits, counts := new_counters(), joined_late=False)
    for event in talk.events:
        assert connection.feed(event) == []
    assert connection.needs_attention
    due = talk.ktime_ns + limits.reorder_ns
    assert connection.due_ktime_ns == due
    assert connection.expire(due - 1) == []
    (exchange,) = connection.expire(due)
    assert (exchange.request, exchange.incomplete) == (None, Incomplete.LOST_BYTES)
    assert not connection.needs_attention
    assert connection.held_bytes == 0
    assert counts["responses_unpaired"] == 1
