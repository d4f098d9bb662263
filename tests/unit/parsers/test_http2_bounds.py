from __future__ import annotations

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PushPromiseFrame,
    WindowUpdateFrame,
)

from ebpf.events import Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import Truncation
from parsers.limits import ParserLimits
from tests.builders import SECOND_NS, describe
from tests.unit.parsers.http2_peers import (
    Frames,
    ask_and_answer,
    build_request,
    ended,
    head,
    request_of,
    response_of,
    tell,
)

WHOLE = "GET / 2 (0) -> 200 2 (0)"


def test_a_flood_of_continuations_is_refused() -> None:
    frames = Frames()
    frames.client(HeadersFrame(1, b"\x82\x86\x84", flags=["END_STREAM"]))
    for _ in range(100):
        frames.client(ContinuationFrame(1, b"\x00\x01a\x60" + b"v" * 96))
    frames.client(ContinuationFrame(1, b"", flags=["END_HEADERS"]))
    frames.answer(1)
    limits = ParserLimits(max_header_block=1_000)
    watched = frames.watch(limits)
    (exchange,) = watched.exchanges
    assert (request_of(exchange).method, exchange.incomplete) == (None, Incomplete.INVALID)
    assert watched.counts["oversized_heads"] == 1
    assert watched.most_held < 1_500


def test_a_block_of_one_frame_beyond_the_bound_is_refused() -> None:
    frames = Frames()
    frames.client(frames.request(1, build_request(b"/", (b"a", b"v" * 5_000))))
    frames.answer(1)
    promise = frames.responses.encode(build_request(b"/pushed", (b"a", b"v" * 5_000)))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.answer(2)
    watched = frames.watch(ParserLimits(max_header_block=1_000))
    assert [exchange.incomplete for exchange in watched.exchanges] == [Incomplete.INVALID] * 2
    assert [exchange.pushed for exchange in watched.exchanges] == [False, True]
    assert watched.counts["oversized_heads"] == 2


def test_streams_beyond_the_bound_push_out_the_oldest() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    frames.answer(1)
    frames.answer(5)
    watched = frames.watch(ParserLimits(max_http2_streams=2))
    assert [describe(exchange) for exchange in watched.exchanges] == [
        "GET /1 2 (0) -> ? incomplete evicted",
        "GET /5 2 (0) -> 200 2 (0)",
        "GET /3 2 (0) -> ? incomplete stopped",
    ]
    assert watched.counts["http2_streams_evicted"] == 1
    assert watched.counts["http2_stray_frames"] == 1


def test_ended_streams_are_remembered_by_number_beyond_the_bound() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5, 7):
        frames.ask(stream_id, path=b"/%d" % stream_id)
        frames.answer(stream_id)
    for stream_id in (1, 3, 5, 7):
        frames.answer(stream_id)
    watched = frames.watch(ParserLimits(max_ended_streams=2))
    assert len(watched.exchanges) == 4
    assert watched.counts["http2_stray_frames"] == 4
    assert watched.counts["http2_forgotten_streams"] == 2


def test_content_of_all_streams_together_is_bounded() -> None:
    frames = Frames()
    for stream_id in (1, 3, 5):
        frames.ask(stream_id, ends=False)
        frames.client(ended(stream_id, b"x" * 60))
    for stream_id in (1, 3, 5):
        frames.answer(stream_id)
    watched = frames.watch(ParserLimits(max_http2_content=150))
    assert [request_of(exchange).body.truncation for exchange in watched.exchanges] == [
        None,
        None,
        Truncation.LIMIT,
    ]
    assert [request_of(exchange).body.size for exchange in watched.exchanges] == [60, 60, 60]
    assert watched.counts["http2_refused_content"] == 1


def test_an_endless_stream_does_not_grow() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    for _ in range(500):
        frames.server(DataFrame(1, b"data: event\n\n" * 20))
    limits = ParserLimits(max_body=1_000)
    watched = frames.watch(limits, cause=Incomplete.CLOSED)
    (exchange,) = watched.exchanges
    assert response_of(exchange).body.size == 500 * 260
    assert len(response_of(exchange).body.content) == 1_000
    assert watched.most_held < 1_500


def test_held_bytes_are_those_of_streams_frames_and_tables() -> None:
    frames = Frames()
    frames.ask(1, (b"user", b"alice"), ends=False)
    frames.client(DataFrame(1, b"x" * 100))
    block = frames.requests.encode([(b"t", b"1")])
    frames.talk.request(head(1, block).serialize()[:12])
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    for event in frames.talk.events:
        connection.feed(event)
    table = sum(32 + len(name) + len(value) for name, value in [(b":authority", b"a"), (b"user", b"alice")])
    assert connection.held_bytes == len(b"useralice") + 100 + table + 3
    assert connection.is_in_message
    connection.ignore()
    assert connection.held_bytes == 0
    assert connection.finish(Incomplete.STOPPED) == []


def test_the_kernel_may_tell_the_role_later() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    frames.client(WindowUpdateFrame(0, 5))
    frames.talk.kernel_role = Role.SERVER
    for stream_id in (1, 3):
        frames.ask(stream_id)
        frames.answer(stream_id)
    assert {exchange.role for exchange in frames.watch().exchanges} == {Role.SERVER}


def test_time_passes_without_harm() -> None:
    talk = tell(ask_and_answer(2).calls)
    connection = Http2Connection(talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    exchanges = [exchange for event in talk.events for exchange in connection.feed(event)]
    assert connection.expire(talk.ktime_ns + SECOND_NS) == []
    assert len(exchanges) == 2
    assert not connection.is_in_message
