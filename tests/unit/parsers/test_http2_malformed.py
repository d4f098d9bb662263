from __future__ import annotations

import pytest
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    SettingsFrame,
)

from parsers.exchange import Incomplete
from parsers.http_exchange import Headers
from parsers.limits import ParserLimits
from tests.builders import Conversation, describe
from tests.unit.parsers.http2_peers import (
    OK,
    Frames,
    build_request,
    ended,
    head,
    request_of,
    response_of,
    watch,
)

WHOLE = "GET / 2 (0) -> 200 2 (0)"


def test_a_connection_without_the_clients_preface_is_still_read() -> None:
    frames = Frames(late=False)
    talk = Conversation()
    talk.request(SettingsFrame(0).serialize() + frames.request(1, build_request(b"/")).serialize())
    talk.response(SettingsFrame(0).serialize() + head(1, frames.responses.encode(OK)).serialize())
    assert [describe(exchange) for exchange in watch(talk.events).exchanges] == [WHOLE]


@pytest.mark.parametrize("bad", [b"PRI * HTTP/1.0\r\n\r\n", b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello"])
def test_bytes_that_are_no_frames_are_passed_over(bad: bytes) -> None:
    talk = Conversation()
    talk.request(bad[:4])
    talk.request(bad[4:])
    talk.response(b"\x00" * 50)
    watched = watch(talk.events)
    assert watched.exchanges == []
    assert watched.counts["lost_places"] == 2


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x", id="content of no stream"),
        pytest.param(b"\x00\x00\x00\x00\x08\x00\x00\x00\x01", id="padded without a pad length"),
        pytest.param(b"\x00\x00\x02\x00\x08\x00\x00\x00\x01\x05x", id="more padding than payload"),
        pytest.param(b"\x00\x00\x02\x01\x0c\x00\x00\x00\x05\x05x", id="more padding than block"),
        pytest.param(b"\x00\x00\x03\x01\x24\x00\x00\x00\x05\x00\x00\x00", id="priority cut off"),
        pytest.param(b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x82", id="continuation of nothing"),
        pytest.param(b"\x00\x00\x07\x06\x00\x00\x00\x00\x001234567", id="short ping"),
    ],
)
def test_a_frame_that_no_receiver_accepts_ends_what_was_open(frame: bytes) -> None:
    frames = Frames()
    frames.ask(1, ends=False)
    frames.talk.request(frame)
    frames.answer(1)
    watched = frames.watch()
    assert [exchange.incomplete for exchange in watched.exchanges] == [Incomplete.INVALID]
    assert watched.counts["http2_invalid_frames"] == 1


def test_a_block_that_is_interrupted_is_lost() -> None:
    frames = Frames()
    block = frames.requests.encode(build_request(b"/"))
    frames.client(HeadersFrame(1, block), DataFrame(1, b"x"))
    frames.answer(1)
    assert [exchange.incomplete for exchange in frames.watch().exchanges] == [Incomplete.INVALID]


def test_a_block_that_is_no_hpack_is_flagged_and_the_table_forgotten() -> None:
    frames = Frames()
    frames.ask(1, (b"user", b"alice"))
    frames.answer(1)
    frames.client(head(3, b"\x82\x84\xff"))
    frames.answer(3)
    frames.ask(5, (b"user", b"alice"))
    frames.answer(5)
    first, second, third = frames.watch().exchanges
    assert first.incomplete is None
    assert (request_of(second).method, second.incomplete) == (b"GET", Incomplete.INVALID)
    assert (request_of(third).headers, third.incomplete) == ([], Incomplete.UNKNOWN_HEADERS)


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param([[(b"a", b"b")]], id="no pseudo-field"),
        pytest.param([OK], id="a response from the client"),
        pytest.param([build_request(b"/"), build_request(b"/2")], id="two heads"),
        pytest.param([[*build_request(b"/"), (b":path", b"/2")]], id="two paths"),
        pytest.param([build_request(b"/"), [(b"a", b"b")], [(b"c", b"d")]], id="two trailers"),
    ],
)
def test_a_message_that_no_peer_accepts_is_invalid(blocks: list[Headers]) -> None:
    frames = Frames()
    for block in blocks:
        frames.client(frames.request(1, block, ends=block is blocks[-1]))
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID


def test_the_server_sends_no_requests_and_the_client_no_even_streams() -> None:
    frames = Frames()
    frames.client(frames.request(2, build_request(b"/")))
    frames.server(head(2, frames.responses.encode(build_request(b"/"))))
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID


def test_what_is_odd_is_named_once_for_both_messages() -> None:
    frames = Frames()
    frames.ask(1, (b"X-Upper", b"1"))
    frames.answer(1, [*OK, (b"connection", b"close")], ends=False)
    frames.answer(1, [(b"X-Upper", b"1")])
    (exchange,) = frames.watch().exchanges
    assert exchange.anomalies == ("uppercase_field_name", "connection_field")
    assert exchange.incomplete is None


def test_fields_beyond_the_bound_are_counted() -> None:
    frames = Frames()
    frames.ask(1, *[(b"a", b"%d" % number) for number in range(9)])
    frames.answer(1)
    watched = frames.watch(ParserLimits(max_headers=4))
    (exchange,) = watched.exchanges
    assert (len(request_of(exchange).headers), request_of(exchange).dropped_headers) == (4, 5)
    assert watched.counts["http2_dropped_fields"] == 5


def test_trailers_have_to_end_their_stream() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, ends=False)
    frames.answer(1, [(b"t", b"1")], ends=False)
    frames.server(ended(1))
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID
    assert response_of(exchange).trailers == [(b"t", b"1")]


def test_content_before_the_head_is_invalid() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1, [(b":status", b"100")], ends=False)
    frames.server(DataFrame(1, b"?"))
    frames.answer(1)
    (exchange,) = frames.watch().exchanges
    assert exchange.incomplete is Incomplete.INVALID
    assert (response_of(exchange).status, response_of(exchange).body.size) == (200, None)


def test_frames_of_streams_that_never_began_or_have_ended_begin_none() -> None:
    frames = Frames()
    frames.ask(1)
    frames.answer(1)
    frames.client(DataFrame(1, b"late"), DataFrame(7, b"never"))
    frames.server(ended(7))
    frames.ask(1, path=b"/again")
    frames.ask(3)
    frames.client(DataFrame(3, b"after the end"), frames.request(3, [(b"t", b"1")]))
    frames.answer(3)
    watched = frames.watch()
    assert [describe(exchange) for exchange in watched.exchanges] == [WHOLE, WHOLE]
    assert watched.counts["http2_stray_frames"] == 6


def test_only_so_many_interim_responses_are_noted() -> None:
    frames = Frames()
    frames.ask(1)
    for _ in range(5):
        frames.answer(1, [(b":status", b"102")], ends=False)
    frames.answer(1)
    (exchange,) = frames.watch(ParserLimits(max_interim=2)).exchanges
    assert response_of(exchange).interim == (102, 102)
    assert exchange.incomplete is None
