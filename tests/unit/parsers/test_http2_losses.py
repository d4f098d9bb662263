from __future__ import annotations

from dataclasses import replace

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ebpf.events import Missing, Role
from parsers.counters import new_counters
from parsers.exchange import Incomplete, Truncation
from parsers.http2_connection import Http2Connection
from parsers.http2_search import PROVING_BYTES, PROVING_RECORDS
from parsers.limits import ParserLimits
from tests.builders import describe
from tests.unit.parsers.http2_peers import (
    OK,
    Dialogue,
    Frames,
    build_request,
    ended,
    head,
    lose,
    request_of,
    response_of,
    tell,
    watch,
)

PING = PingFrame(0, b"12345678")


def prove(frames: Frames, *, client: bool = True) -> None:
    """Let a direction show that its frames are frames."""
    for _ in range(PROVING_RECORDS):
        (frames.client if client else frames.server)(PING)


# Gaps that can be stepped over


@pytest.mark.parametrize(
    ("missing", "cut"),
    [
        (Missing.RING_FULL, Truncation.GAP),
        (Missing.UNREADABLE | Missing.SENDFILE, Truncation.GAP),
        (Missing(0), Truncation.GAP),
        (Missing.SENDFILE, Truncation.SENDFILE),
        (Missing.BUDGET, Truncation.LIMIT),
    ],
)
def test_a_hole_in_content_is_stepped_over(missing: Missing, cut: Truncation) -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    data = DataFrame(1, b"x" * 1_000).serialize()
    frames.talk.response(data[:109], length=800, missing=missing)
    frames.talk.response(data[800:] + ended(1, b"end").serialize())
    (exchange,) = frames.watch().exchanges
    body = response_of(exchange).body
    assert exchange.incomplete is None
    assert (body.size, body.content, body.truncation) == (1_003, b"x" * 100, cut)


@pytest.mark.parametrize("seen", [9, 10, 60, 110, 115])
@pytest.mark.parametrize("found", [9, 30, 109, 110, 120])
def test_a_hole_in_a_padded_frame_is_stepped_over(seen: int, found: int) -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    data = DataFrame(1, b"x" * 100, pad_length=10, flags=["PADDED", "END_STREAM"]).serialize()
    assert len(data) == 120
    found = max(seen, found)
    frames.talk.response(data[:seen], length=found, missing=Missing.RING_FULL)
    frames.talk.response(data[found:])
    frames.ask(3, path=b"/3")
    frames.answer(3)
    first, second = frames.watch().exchanges
    assert describe(second) == "GET /3 2 (0) -> 200 2 (0)"
    body = response_of(first).body
    assert first.incomplete is None
    holed = seen < min(found, 110)
    assert body.size == (None if seen == 9 < found else 100)
    assert body.truncation == (Truncation.GAP if holed else None)
    assert body.content == b"x" * (100 if not holed else max(0, seen - 10))


def test_a_hole_up_to_the_end_of_a_frame_keeps_its_end_of_stream() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    data = ended(1, b"x" * 100).serialize()
    frames.talk.response(data[:20], length=len(data), missing=Missing.RING_FULL)
    frames.ask(3, path=b"/3")
    frames.answer(3)
    assert frames.describe() == [
        "GET / 2 (0) -> 200 2 (100 b'xxxxxxxxxxx' gap)",
        "GET /3 2 (0) -> 200 2 (0)",
    ]
    assert frames.watch().counts["lost_places"] == 0


def test_a_hole_in_a_field_block_loses_that_block_alone() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/lost", (b"user", b"alice")))
    data = head(1, block, ends=False).serialize()
    frames.talk.request(data[:12], length=len(data), missing=Missing.RING_FULL)
    frames.client(ended(1, b"content"))
    frames.answer(1)
    frames.ask(3, (b"user", b"bob"), path=b"/3")
    frames.answer(3)
    lost, later = frames.watch().exchanges
    assert (lost.incomplete, later.incomplete) == (Incomplete.LOST_BYTES, Incomplete.UNKNOWN_HEADERS)
    assert (request_of(lost).method, request_of(lost).target) == (None, None)
    assert (request_of(lost).body.content, request_of(lost).body.size) == (b"content", 7)
    assert response_of(lost).status == 200
    # The names of `:authority` and `user` were in the lost block.
    assert (request_of(later).target, request_of(later).headers) == (b"/3", [])
    assert request_of(later).unknown_headers == 2


def test_a_hole_in_any_part_of_a_block_loses_all_of_it() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    frames.client(HeadersFrame(1, block[:2], flags=["END_STREAM"]))
    data = ContinuationFrame(1, block[2:4]).serialize()
    frames.talk.request(data[:10], length=len(data), missing=Missing.RING_FULL)
    frames.client(ContinuationFrame(1, block[4:], flags=["END_HEADERS"]))
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert (request_of(exchange).method, exchange.incomplete) == (None, Incomplete.LOST_BYTES)


def test_a_lost_interim_response_does_not_hide_the_final_one() -> None:
    frames = Frames()
    frames.ask(1)
    data = head(1, frames.responses.encode([(b":status", b"103")]), ends=False).serialize()
    frames.talk.response(data[:9], length=len(data), missing=Missing.RING_FULL)
    frames.answer(1, ends=False)
    frames.server(ended(1, b"ok"))
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (2 b'ok') incomplete lost_bytes"]


def test_lost_trailers_leave_the_rest() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.server(DataFrame(1, b"ok"))
    data = head(1, frames.responses.encode([(b"t", b"1")])).serialize()
    frames.talk.response(data[:9], length=len(data), missing=Missing.RING_FULL)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (2 b'ok') incomplete lost_bytes"]


@pytest.mark.parametrize("kept", [9, 13, 14, 16])
def test_a_promise_of_which_the_block_is_lost_is_flagged_where_its_stream_is_known(kept: int) -> None:
    frames = Frames()
    frames.ask(1)
    block = frames.responses.encode(build_request(b"/pushed"))
    data = PushPromiseFrame(1, 2, data=block, pad_length=2, flags=["END_HEADERS", "PADDED"]).serialize()
    frames.talk.response(data[:kept], length=len(data), missing=Missing.RING_FULL)
    frames.answer(2)
    frames.answer(1)
    asked, pushed = sorted(frames.watch().exchanges, key=lambda exchange: exchange.pushed)
    # Where the promised stream is not known, all that is known is the stream of the promise.
    assert describe(asked) == "GET / 2 (0) -> 200 2 (0)" + (" incomplete lost_bytes" if kept < 14 else "")
    assert (pushed.pushed, pushed.incomplete) == (True, Incomplete.LOST_BYTES)
    assert (pushed.request is None) == (kept < 14)


@pytest.mark.parametrize(
    "frame",
    [SettingsFrame(0, settings={5: 100_000}), GoAwayFrame(0, 0, 0, b"debug"), PingFrame(0, b"12345678")],
    ids=repr,
)
def test_a_hole_in_another_frame_does_not_matter(frame: SettingsFrame) -> None:
    frames = Frames()
    frames.ask(1)
    data = frame.serialize()
    frames.talk.response(data[:10], length=len(data) - 1, missing=Missing.RING_FULL)
    frames.talk.response(data[-1:])
    frames.answer(1)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0)"]


def test_a_reset_of_which_the_code_is_lost_is_a_reset() -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.answer(1)
    data = RstStreamFrame(1, 0).serialize()
    frames.talk.response(data[:9], length=len(data), missing=Missing.RING_FULL)
    assert frames.describe() == ["GET / 2 (0) -> 200 2 (0) incomplete reset"]


# The place is lost


def test_what_was_open_over_a_loss_is_flagged_and_what_follows_is_not() -> None:
    frames = Frames()
    for stream_id in (1, 3):
        frames.ask(stream_id, path=b"/%d" % stream_id)
    frames.answer(1, ends=False)
    frames.lose(50, client=False)
    prove(frames, client=False)
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
    prove(frames)
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
    prove(frames, client=False)
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
    prove(frames, client=False)
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
    prove(frames)
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


# Finding frames again


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
    prove(frames, client=False)
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
    prove(frames)
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
    prove(frames)
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


# Joined late


def test_joined_late_the_fields_are_learned_from_what_is_seen() -> None:
    dialogue = Dialogue()
    for number in range(16):
        fields = [(b"user", b"bob"), (b"x-%d" % (number // 4), b"1")]
        dialogue.answer(dialogue.ask(build_request(b"/%d" % number, *fields)), [*OK, *fields])
    exchanges = watch(tell(dialogue.calls[6:], late=True).events).exchanges
    flags = [exchange.incomplete for exchange in exchanges]
    assert set(flags) == {Incomplete.JOINED_LATE, Incomplete.UNKNOWN_HEADERS}
    last = request_of(exchanges[-1])
    # `user` and `:authority` were told once, before anybody listened.
    assert (last.target, last.authority, last.headers) == (b"/15", None, [(b"x-3", b"1")])
    assert last.unknown_headers == 2


def test_joined_late_what_refers_to_nothing_older_is_whole() -> None:
    frames = Frames(late=True)
    prove(frames)
    prove(frames, client=False)
    frames.ask(101, (b"user", b"bob"), path=b"/one")
    frames.answer(101, [*OK, (b"color", b"red")])
    frames.ask(103, (b"user", b"bob"), path=b"/one")
    frames.answer(103, [*OK, (b"color", b"red")])
    first, second = frames.watch().exchanges
    for exchange in (first, second):
        assert describe(exchange) == "GET /one 2 (0) -> 200 2 (0)"
        assert request_of(exchange).headers == [(b"user", b"bob")]
        assert response_of(exchange).headers == [(b"color", b"red")]


def test_joined_late_a_response_without_its_request_says_so() -> None:
    frames = Frames(late=True)
    prove(frames, client=False)
    frames.answer(1, ends=False)
    frames.server(ended(1, b"rest"))
    (exchange,) = frames.watch().exchanges
    assert describe(exchange) == "? -> 200 2 (4 b'rest') incomplete joined_late"


def test_joined_late_a_promise_may_be_unknown() -> None:
    frames = Frames(late=True)
    frames.ask(1)
    promise = frames.responses.encode(build_request(b"/pushed"))
    frames.server(PushPromiseFrame(1, 2, data=promise, flags=["END_HEADERS"]))
    frames.answer(2)
    frames.answer(1)
    pushed, asked = frames.watch().exchanges
    assert pushed.incomplete is asked.incomplete is Incomplete.JOINED_LATE
    assert request_of(pushed).target == b"/pushed"


def test_a_head_of_which_the_status_is_hidden_may_have_been_interim() -> None:
    frames = Frames(late=True)
    prove(frames)
    prove(frames, client=False)
    frames.responses.encode([(b":status", b"103"), (b":status", b"204"), (b":status", b"418")])
    for stream_id, rest in ((1, [[(b":status", b"102")], OK]), (3, [OK]), (5, [[(b":status", b"418")]])):
        frames.ask(stream_id)
        frames.answer(stream_id, [(b":status", b"103")], ends=False)
        for block in rest:
            frames.answer(stream_id, block, ends=block is rest[-1])
    first, second, third = frames.watch().exchanges
    assert {exchange.incomplete for exchange in (first, second, third)} == {Incomplete.UNKNOWN_HEADERS}
    assert (response_of(first).status, response_of(first).interim) == (200, (102,))
    assert response_of(first).unknown_headers == 1
    assert (response_of(second).status, response_of(second).unknown_headers) == (200, 1)
    # Head and trailers, or an interim response and the final one: nobody can tell.
    assert (response_of(third).status, response_of(third).unknown_headers) == (None, 2)


def test_joined_at_the_very_beginning_the_preface_is_passed_over() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    watched = watch(frames.talk.events, late=True)
    assert [describe(exchange) for exchange in watched.exchanges] == [
        "GET / 2 (0) -> 200 2 (0) incomplete joined_late"
    ]
    assert watched.counts["discarded_bytes"] == 0


def test_who_is_the_client_may_be_told_by_frames_in_doubt_alone() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    for stream_id in (1, 3):
        frames.client(PING, frames.request(stream_id, build_request(b"/%d" % stream_id)))
        frames.server(PING, head(stream_id, frames.responses.encode(OK)))
    exchanges = frames.watch().exchanges
    assert [describe(exchange) for exchange in exchanges] == [
        "GET /1 2 (0) -> 200 2 (0) incomplete joined_late",
        "GET /3 2 (0) -> 200 2 (0) incomplete joined_late",
    ]
    assert {exchange.role for exchange in exchanges} == {Role.SERVER}


def test_nobody_says_who_is_the_client() -> None:
    frames = Frames(late=True, kernel_role=Role.UNKNOWN)
    # Fields that refer to what was sent before.
    frames.client(PING, head(1, b"\xbe\xbf"))
    frames.server(PING, head(1, b"\xbe\xbf"))
    watched = frames.watch()
    assert watched.exchanges == []
    assert watched.counts["http2_unattributed_streams"] == 1


# One direction only, floods


@pytest.mark.parametrize("requests", [True, False])
def test_one_direction_alone_says_so(requests: bool) -> None:  # noqa: FBT001 - a parameter
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    lost = frames.talk.responses if requests else frames.talk.requests
    events = [event for event in frames.talk.events if event.direction is not lost or not event.length]
    (exchange,) = watch(events).exchanges
    assert describe(exchange) == (
        "GET / 2 (0) -> ? incomplete one_side" if requests else "? -> 200 2 (0) incomplete one_side"
    )


def test_events_out_of_order_are_read_in_order() -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.client(DataFrame(1, b"one "))
    frames.client(ended(1, b"two"))
    frames.answer(1)
    events = frames.talk.events
    events[4], events[5] = events[5], events[4]
    assert [describe(exchange) for exchange in watch(events).exchanges] == [
        "GET / 2 (7 b'one two') -> 200 2 (0)"
    ]


def test_every_single_loss_in_a_long_dialogue_is_flagged_or_harmless() -> None:
    dialogue = Dialogue()
    for number in range(15):
        fields = [(b"user", b"u%d" % (number % 4)), (b"x-id", b"%d" % number)]
        stream_id = dialogue.ask(build_request(b"/%d" % number, *fields), b"request %d" % number)
        dialogue.answer(stream_id, [*OK, *fields], b"response %d" % number)
    events = tell(dialogue.calls).events
    for dropped in range(1, len(events)):
        for exchange in watch(lose(events, {dropped})).exchanges:
            request, response = exchange.request, exchange.response
            number = int(request.target[1:]) if request is not None and request.target else None
            for message in (request, response):
                if message is None or number is None:
                    continue
                fields = [(b"user", b"u%d" % (number % 4)), (b"x-id", b"%d" % number)]
                assert set(message.headers) <= set(fields)
                assert exchange.incomplete is not None or message.headers == fields
            if exchange.incomplete is None:
                assert request_of(exchange).body.content == b"request %d" % number  # type: ignore[str-bytes-safe]
                assert response_of(exchange).body.content == b"response %d" % number
