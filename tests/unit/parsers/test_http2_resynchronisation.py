from __future__ import annotations

from dataclasses import replace

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ebpf.events import Missing
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http2.search import PROVING_BYTES, PROVING_RECORDS
from parsers.limits import ParserLimits
from tests.builders import describe
from tests.unit.parsers.http2_peers import (
    PING,
    Frames,
    build_request,
    ended,
    head,
    request_of,
    response_of,
    watch,
)


def test_what_was_open_over_a_loss_is_flagged_and_what_follows_is_not() -> None:
    frames = Frames()
    for stream_id in (1, 3):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    frames.answer(1, ends=False)
    frames.lose(50, client=False)
    frames.prove(client=False)
    frames.server(ended(1, b"end"))
    frames.answer(3)
    frames.ask(5, path=b"/5")
    frames.answer(5)
    watched = frames.watch()
    assert [describe(exchange) for exchange in watched.exchanges] == [
        "GET /1 2 (0) -> 200 2 (None b'' gap) incomplete lost_bytes",
        "GET /3 2 (0) -> 200 2 (0) incomplete lost_bytes",
        "GET /5 2 (0) -> 200 2 (0)",
    ]
    assert (watched.counts["lost_places"], watched.counts["resynchronised"]) == (1, 1)


def test_a_request_whose_end_may_be_lost_does_not_wait_for_it() -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.lose(50, client=True)
    frames.prove()
    frames.answer(1)
    frames.ask(3, path=b"/3")
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=False)
    out = [exchange for event in frames.talk.events for exchange in connection.feed(event)]
    assert [describe(exchange) for exchange in out] == [
        "GET / 2 (None b'' gap) -> 200 2 (0) incomplete lost_bytes"
    ]


def test_a_stream_whose_answer_was_lost_is_given_up_once_it_is_quiet() -> None:
    frames = Frames()
    frames.ask(1)
    frames.ask(3, path=b"/3")
    frames.answer(3, ends=False)
    frames.talk.response(b"", length=50, missing=Missing.RING_FULL)
    frames.prove(client=False)
    limits = ParserLimits()
    connection = Http2Connection(frames.talk.events[0], limits, new_counters(), joined_late=False)
    for event in frames.talk.events:
        assert connection.feed(event) == []
    lost_ktime_ns = frames.talk.ktime_ns - 4 * 1_000_000
    assert connection.needs_attention
    assert connection.due_ktime_ns == lost_ktime_ns + limits.idle_ns
    frames.talk.wait(limits.idle_ns // 2)
    frames.server(DataFrame(3, b"more"))
    connection.feed(frames.talk.events[-1])
    out = connection.expire(lost_ktime_ns + limits.idle_ns)
    assert [describe(exchange) for exchange in out] == ["GET / 2 (0) -> ? incomplete lost_bytes"]
    out = connection.expire(frames.talk.ktime_ns + limits.idle_ns)
    assert [describe(exchange) for exchange in out] == [
        "GET /3 2 (0) -> 200 2 (None b'' gap) incomplete lost_bytes"
    ]


def test_content_whose_head_was_lost_is_not_taken_for_its_beginning() -> None:
    frames = Frames()
    frames.ask(1)
    frames.lose(30, client=False)
    frames.server(DataFrame(1, b"the rest"), ended(1))
    (exchange,) = frames.watch().exchanges
    response = response_of(exchange)
    assert (response.status, response.body.content, response.body.size) == (None, b"", None)
    assert exchange.incomplete is Incomplete.LOST_BYTES


def test_trailers_whose_head_was_lost_are_trailers() -> None:
    frames = Frames()
    frames.ask(1)
    frames.lose(30, client=False)
    frames.prove(client=False)
    frames.answer(1, [(b"grpc-status", b"0")])
    frames.answer(3, [(b"grpc-status", b"1")])
    first, second = frames.watch().exchanges
    assert response_of(first).trailers == [(b"grpc-status", b"0")]
    assert (response_of(first).status, first.incomplete) == (None, Incomplete.LOST_BYTES)
    assert (second.request, second.incomplete) == (None, Incomplete.LOST_BYTES)


@pytest.mark.parametrize("ends", [True, False])
def test_a_lost_block_of_a_stream_that_has_ended_does_not_matter(ends: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames()
    frames.ask(1)
    if ends:
        frames.answer(1)
    data = head(1, b"\x82\x84\x86").serialize()
    frames.talk.request(data[:9], length=len(data), missing=Missing.RING_FULL)
    if not ends:
        frames.answer(1)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0)"]


def test_a_hole_in_content_of_a_stream_that_has_ended_does_not_matter() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    data = DataFrame(1, bytes(50)).serialize()
    frames.talk.request(data[:20], length=len(data), missing=Missing.RING_FULL)
    watched = frames.watch()
    assert [describe(exchange) for exchange in watched.exchanges] == ["GET / 2 (0) -> 200 2 (0)"]
    assert watched.counts["http2_stray_frames"] == 2


def test_a_stream_of_which_only_content_was_seen_is_no_exchange() -> None:
    frames = Frames()
    frames.lose(30, client=False)
    frames.server(DataFrame(1, b"the rest"), ended(1))
    watched = frames.watch()
    assert watched.exchanges == []
    assert watched.counts["http2_headless_streams"] == 1


def test_a_block_that_is_cut_off_with_the_place_is_lost() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    data = head(1, block).serialize()
    frames.talk.request(data[:12], length=len(data) + 100, missing=Missing.RING_FULL)
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert (request_of(exchange).method, exchange.incomplete) == (None, Incomplete.LOST_BYTES)
    frames = Frames()
    frames.client(HeadersFrame(1, block[:3]))
    frames.lose(30, client=True)
    frames.prove()
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert (request_of(exchange).method, exchange.incomplete) == (None, Incomplete.LOST_BYTES)


def test_a_hole_in_the_preface_or_a_header_loses_the_place() -> None:
    for cut in (5, 28):
        frames = Frames()
        first = frames.talk.events[1]
        frames.ask(1)
        frames.answer(1)
        events = [
            frames.talk.events[0],
            replace(first, payload=first.payload[:cut], length=len(first.payload)),
            *frames.talk.events[2:],
        ]
        (exchange,) = watch(events).exchanges
        assert exchange.incomplete is Incomplete.LOST_BYTES


def test_frames_are_found_where_a_call_begins_or_in_its_middle() -> None:
    frames = Frames()
    frames.lose(10, client=True)
    frames.talk.request(b"rest of something" * 3)
    frames.talk.request(b"rest" + PING.serialize() * 2 + WindowUpdateFrame(0, 9).serialize())
    frames.ask(1)
    frames.answer(1)
    watched = frames.watch()
    assert [describe(exchange) for exchange in watched.exchanges] == [
        "GET / 2 (0) -> 200 2 (0) incomplete lost_bytes"
    ]
    assert watched.counts["discarded_bytes"] == 17 * 3 + 4
    assert watched.counts["resynchronised"] == 1


def test_a_frame_longer_than_a_call_is_found_by_where_it_ends() -> None:
    data = DataFrame(1, bytes(range(1, 101)) * 50).serialize()
    for cut in (3_000, len(data)):
        frames = Frames()
        frames.ask(1)
        frames.answer(1, ends=False)
        frames.lose(10, client=False)
        frames.talk.response(data[:2_000])
        rest = data[2_000:] + PING.serialize() + ended(1).serialize()
        frames.talk.response(rest[: cut - 2_000])
        frames.talk.response(rest[cut - 2_000 :])
        watched = frames.watch()
        assert watched.counts["resynchronised"] == 1
        assert watched.counts["discarded_bytes"] == len(data)
        (exchange,) = watched.exchanges
        assert describe(exchange) == "GET / 2 (0) -> 200 2 (None b'' gap) incomplete lost_bytes"


def test_an_expected_frame_may_come_behind_another_gap() -> None:
    frames = Frames()
    frames.ask(1)
    frames.lose(10, client=False)
    data = DataFrame(3, bytes(5_000)).serialize()
    frames.talk.response(data[:100], length=2_000, missing=Missing.RING_FULL)
    frames.talk.response(data[2_000:] + PING.serialize() + DataFrame(1, bytes(100)).serialize()[:20])
    watched = frames.watch()
    assert watched.counts["resynchronised"] == 1
    frames.lose(10, client=False)
    frames.talk.response(data[:100], length=6_000, missing=Missing.RING_FULL)
    frames.talk.response(PING.serialize()[:12])
    assert frames.watch().counts["resynchronised"] == 1


def test_frames_are_trusted_after_a_number_of_calls_or_of_bytes() -> None:
    frames = Frames(late=True)
    frames.client(PING)
    frames.server(PING)
    for number in range(PROVING_RECORDS):
        stream_id = 2 * number + 1
        frames.ask(stream_id)
        frames.answer(stream_id)
    flags = [exchange.incomplete for exchange in frames.watch().exchanges]
    assert flags == [Incomplete.JOINED_LATE] * (PROVING_RECORDS - 1) + [Incomplete.UNKNOWN_HEADERS]

    frames = Frames(late=True)
    frames.prove(client=False)
    block = DataFrame(1, b"x" * 16_384).serialize()
    data = PING.serialize() + block * (PROVING_BYTES // 16_384 + 1)
    data += frames.request(3, build_request(b"/3")).serialize()
    for start in range(0, len(data), 5_000):
        frames.talk.request(data[start : start + 5_000])
    frames.answer(3)
    assert frames.describe() == ["GET /3 2 (0) -> 200 2 (0)"]


def test_a_header_does_not_prove_itself() -> None:
    frames = Frames(late=True)
    frames.server(SettingsFrame(0, settings={5: 1 << 20}))
    frames.talk.request(PING.serialize() + DataFrame(1, bytes(PROVING_BYTES)).serialize()[:100])
    connection = Http2Connection(frames.talk.events[0], ParserLimits(), new_counters(), joined_late=True)
    for event in frames.talk.events:
        connection.feed(event)
    reader = connection._session.readers[frames.talk.requests]
    assert reader.is_in_frame
    assert reader.doubt is Incomplete.JOINED_LATE


def test_content_that_looks_like_frames_gives_nothing_unflagged() -> None:
    # The header of a DATA frame is lost, and its content is a conversation of its own, whole to the last
    # byte, so that the true frames follow in step.
    frames = Frames()
    frames.ask(1, (b"user", b"alice"))
    frames.answer(1)
    frames.ask(3, ends=False, path=b"/upload")
    forged = Encoder()
    content = b"".join(
        head(stream_id, forged.encode(build_request(b"/admin", (b"user", b"mallory")))).serialize()
        for stream_id in (5, 7, 9)
    )
    data = DataFrame(3, content).serialize()
    frames.lose(9, client=True)
    frames.talk.request(data[9:])
    frames.prove()
    frames.client(ended(3))
    for stream_id in (5, 7, 9, 11):
        frames.ask(stream_id, (b"user", b"bob"), (b"n", b"%d" % stream_id), path=b"/%d" % stream_id)
        frames.answer(stream_id)
    frames.ask(13, (b"user", b"alice"), path=b"/13")
    frames.answer(13)
    for exchange in frames.watch().exchanges:
        request = request_of(exchange)
        if exchange.incomplete is None:
            assert request.target in (b"/", b"/11")
            assert (b"user", b"mallory") not in request.headers
        if request.target == b"/13":
            assert exchange.incomplete is Incomplete.UNKNOWN_HEADERS


def test_an_index_that_points_into_forged_content_is_flagged() -> None:
    frames = Frames()
    frames.ask(1, (b"user", b"alice"))
    forged = Encoder().encode([(b":method", b"GET"), (b"user", b"mallory"), (b"x", b"y")])
    data = DataFrame(3, head(5, forged).serialize()).serialize()
    frames.lose(9, client=True)
    frames.talk.request(data[9:])
    frames.prove()
    # The peer's newest entry is alice; what was forged stands in its place here.
    frames.ask(7, (b"user", b"alice"), path=b"/7")
    frames.answer(7)
    exchange = next(e for e in frames.watch().exchanges if e.request and e.request.target == b"/7")
    assert exchange.incomplete is Incomplete.UNKNOWN_HEADERS


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x00\x00\x01\x0b\x00\x00\x00\x00\x01x", id="unknown type"),
        pytest.param(b"\x00\x00\x01\x01\x04\x00\x00\x00\x03\xff", id="no HPACK"),
        pytest.param(b"\x00\x00\x01\x01\x04\x00\x00\x00\x03\x88", id="a response from the client"),
        pytest.param(b"\x00\x00\x01\x01\x04\x00\x00\x00\x02\x82", id="an even stream of the client"),
        pytest.param(
            b"\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82", id="a promise of the client"
        ),
        pytest.param(
            b"\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82" + PING.serialize(), id="an interrupted block"
        ),
        pytest.param(
            b"\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82\x00\x00\x01\x09\x04\x00\x00\x00\x03\xff",
            id="no HPACK in two parts",
        ),
    ],
)
def test_what_frames_cannot_say_shows_that_they_are_none(frame: bytes) -> None:
    frames = Frames()
    frames.lose(9, client=True)
    frames.client(PING)
    frames.talk.request(frame)
    frames.ask(1)
    frames.answer(1)
    watched = frames.watch()
    assert watched.counts["lost_places"] == 2
    assert [exchange.incomplete for exchange in watched.exchanges] == [Incomplete.LOST_BYTES]


def test_a_block_found_in_its_middle_is_not_known() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/", (b"user", b"alice")))
    frames.lose(20, client=True)
    frames.client(ContinuationFrame(1, block[3:6]), ContinuationFrame(1, block[6:], flags=["END_HEADERS"]))
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert (request_of(exchange).target, exchange.incomplete) == (None, Incomplete.LOST_BYTES)


def test_resets_and_goaways_in_doubt_are_flagged_or_left() -> None:
    frames = Frames()
    frames.ask(1)
    frames.ask(3, path=b"/3")
    frames.ask(5, path=b"/5", ends=False)
    frames.answer(5, ends=False)
    frames.lose(20, client=False)
    frames.server(PING, GoAwayFrame(0, last_stream_id=1), RstStreamFrame(1, 0), RstStreamFrame(5, 0))
    assert frames.describe() == [
        "GET / 2 (0) -> ? incomplete lost_bytes",
        "GET /5 2 (0) -> 200 2 (None b'' gap) incomplete lost_bytes",
        "GET /3 2 (0) -> ? incomplete lost_bytes",
    ]
