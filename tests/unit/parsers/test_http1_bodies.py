"""What each framing makes of bytes, gaps and the end of the direction, wherever a body is cut."""

from __future__ import annotations

import pytest

from ebpf.events import Missing
from parsers.http1.bodies import BROKEN, OPEN, WHOLE, Body, BodyUntilEnd, ChunkedBody, LengthBody
from parsers.http1.head import Fields
from parsers.http1.message import Message
from parsers.http_exchange import Body as Content
from parsers.http_exchange import HttpRequest, Truncation
from parsers.limits import ParserLimits
from parsers.stream import Piece

LIMITS = ParserLimits()
NEXT = b"GET / HTTP/1.1\r\n"
CHUNKED = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n"


def begin() -> Message[HttpRequest]:
    """Return a message whose head passed."""
    record = HttpRequest(b"POST", b"/", "1.1", [], Content(None, b"", None), 1, 1)
    return Message(record, Fields([], {}), 10, 1)


def gap(length: int) -> Piece:
    """Return a piece of missing bytes."""
    return Piece(b"", length, Missing.RING_FULL, 5, 1, False)


def feed(body: Body, message: Message[HttpRequest], parts: list[bytes]) -> int:
    """Give parts to a body until it has ended; return how many bytes it took."""
    taken = 0
    for part in parts:
        at = 0
        while at < len(part) and body.end == OPEN:
            at = body.take(part, at, message, 5, LIMITS)
        taken += at
    return taken


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_body_of_declared_length_takes_no_more_than_that(cut: int) -> None:
    body, message = LengthBody(5), begin()
    whole = b"abcde" + NEXT
    assert feed(body, message, [whole[:cut], whole[cut:]]) == 5
    assert body.end == WHOLE
    assert (message.kept, message.size) == (b"abcde", 5)


@pytest.mark.parametrize("cut", range(1, len(CHUNKED)))
def test_a_chunked_body_takes_its_lines_and_chunks_wherever_it_is_cut(cut: int) -> None:
    body, message = ChunkedBody(LIMITS), begin()
    whole = CHUNKED + NEXT
    assert feed(body, message, [whole[:cut], whole[cut:]]) == len(CHUNKED)
    assert body.end == WHOLE
    assert body.held_bytes == 0
    assert (bytes(message.kept), message.size, message.wire_size) == (b"abcde", 5, len(CHUNKED))
    assert list(message.record.trailers) == [(b"X-T", b"1")]


def test_a_line_that_cannot_stand_there_breaks_a_chunked_body() -> None:
    body, message = ChunkedBody(LIMITS), begin()
    feed(body, message, [b"3\r\nabcd\r\n"])
    assert body.end == BROKEN


def test_an_unfinished_line_is_held() -> None:
    body, message = ChunkedBody(LIMITS), begin()
    feed(body, message, [b"3\r\nabc\r\n12"])
    assert body.end == OPEN
    assert body.held_bytes == 2


def test_a_body_until_the_end_takes_everything() -> None:
    body, message = BodyUntilEnd(LIMITS), begin()
    assert feed(body, message, [b"abc", NEXT]) == 3 + len(NEXT)
    assert body.end == OPEN
    assert body.ends_with_direction
    assert not LengthBody.ends_with_direction
    assert not ChunkedBody.ends_with_direction


@pytest.mark.parametrize(("missing", "counted", "end"), [(2, 2, OPEN), (4, 4, WHOLE), (9, 4, WHOLE)])
def test_a_gap_counts_up_to_the_declared_length(missing: int, counted: int, end: int) -> None:
    body, message = LengthBody(5), begin()
    feed(body, message, [b"a"])
    assert body.step_over(gap(missing), message) == counted
    assert (body.end, message.size, message.gap_cause) == (end, 1 + counted, Truncation.GAP)


@pytest.mark.parametrize(("missing", "counted"), [(2, 2), (4, 4), (9, 4)])
def test_a_gap_counts_inside_a_chunk_and_never_ends_the_body(missing: int, counted: int) -> None:
    body, message = ChunkedBody(LIMITS), begin()
    feed(body, message, [b"5\r\na"])
    assert body.step_over(gap(missing), message) == counted
    assert (body.end, message.size) == (OPEN, 1 + counted)


@pytest.mark.parametrize("before", [b"", b"5", b"5\r\nabcde", b"0\r\n"])
def test_a_gap_in_a_line_loses_the_place_in_the_coding(before: bytes) -> None:
    body, message = ChunkedBody(LIMITS), begin()
    feed(body, message, [before])
    size = message.size
    assert body.step_over(gap(1), message) is None
    assert message.size == size


def test_a_gap_of_any_length_counts_where_the_end_ends_the_body() -> None:
    body, message = BodyUntilEnd(LIMITS), begin()
    assert body.step_over(gap(1_000), message) == 1_000
    assert (body.end, message.size) == (OPEN, 1_000)


def test_nothing_is_kept_behind_a_gap() -> None:
    body, message = LengthBody(9), begin()
    feed(body, message, [b"ab"])
    body.step_over(gap(3), message)
    feed(body, message, [b"fghi"])
    assert (body.end, message.kept, message.size) == (WHOLE, b"ab", 9)
