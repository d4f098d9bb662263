from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)

from ebpf.events import Missing
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from tests.builders import describe
from tests.unit.parsers.http2_peers import (
    Frames,
    build_request,
    ended,
    head,
    request_of,
    response_of,
)


@pytest.mark.parametrize(
    ("missing", "cut"),
    [
        (Missing.RING_FULL, Truncation.GAP),
        (Missing.UNREADABLE | Missing.SENDFILE, Truncation.GAP),
        (Missing(0), Truncation.GAP),
        (Missing.UNWANTED, Truncation.GAP),
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
