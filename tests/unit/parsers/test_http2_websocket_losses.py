from __future__ import annotations

from dataclasses import replace

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, RstStreamFrame

from ebpf.events import EventKind, Missing
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from tests.builders import describe
from tests.unit.parsers.http2_peers import OK, Frames, ended, head
from tests.unit.parsers.test_http2_dialogues import Seen, only
from tests.unit.parsers.test_http2_websockets import (
    CLOSE,
    CONNECT,
    DEFLATE,
    WHOLE,
    flows,
    opened,
    said,
    session_of,
)
from tests.websocket_peers import Peers, frame, masked


def test_a_gap_in_a_message_is_stepped_over() -> None:
    frames = opened()
    data = DataFrame(1, frame(2, b"x" * 100) + frame(1, b"next")).serialize()
    frames.talk.response(data[:20], length=60, missing=Missing.RING_FULL)
    frames.talk.response(data[60:])
    frames.server(ended(1, frame(8, CLOSE)))
    frames.client(ended(1))
    exchange = only(frames.talk.events)
    assert describe(exchange) == WHOLE
    first, second, _ = session_of(exchange).messages
    assert (first.size, first.content, first.truncation) == (100, b"x" * 9, Truncation.GAP)
    assert (second.content, second.truncation) == (b"next", None)


@pytest.mark.parametrize("place", [True, False])
def test_behind_a_gap_between_messages_frames_are_found_again(place: bool) -> None:  # noqa: FBT001 - a parameter
    frames = opened()
    frames.server(DataFrame(1, frame(1, b"before")))
    if place:
        frames.lose(50, client=False)
        frames.prove(client=False)
    else:
        data = DataFrame(1, frame(1, b"a") + frame(1, b"b")).serialize()
        frames.talk.response(data[:9], length=len(data), missing=Missing.RING_FULL)
    frames.server(DataFrame(1, frame(1, b"again") + frame(1, b"and again")))
    frames.server(ended(1, frame(8, CLOSE)))
    frames.client(ended(1, masked(8, CLOSE)))
    exchange = only(frames.talk.events)
    assert exchange.incomplete is Incomplete.LOST_BYTES
    assert said(exchange, 1) == [b"before", b"again", b"and again"]
    assert flows(exchange)[1].uncounted
    assert not flows(exchange)[0].uncounted


def test_extensions_that_may_be_hidden_are_not_taken_for_none() -> None:
    frames = opened(DEFLATE, (b"x-one", b"1"))
    frames.client(RstStreamFrame(1, error_code=ErrorCodes.CANCEL))
    block = head(3, frames.responses.encode([*OK, (b"x-two", b"2")]), ends=False)
    frames.client(frames.request(3, CONNECT, ends=False))
    data = block.serialize()
    frames.talk.response(data[:9], length=len(data), missing=Missing.RING_FULL)
    frames.client(frames.request(5, CONNECT, ends=False))
    frames.answer(5, [*OK, DEFLATE], ends=False)
    peers = Peers()
    frames.server(DataFrame(5, peers.send(from_client=False, opcode=1, payload=b"hello hello")))
    frames.server(ended(5, frame(8, CLOSE)))
    frames.client(ended(5, masked(8, CLOSE)))
    _, exchange, headless = Seen(frames.talk.events).exchanges
    assert exchange.incomplete is Incomplete.UNKNOWN_HEADERS
    assert session_of(exchange).compression is None
    message = session_of(exchange).messages[0]
    assert (message.content.startswith(b"hello"), message.truncation) == (False, Truncation.DECODE_ERROR)
    # Whether the other one was accepted is not known.
    assert (headless.application, headless.upgraded) == (None, False)
    assert headless.incomplete is Incomplete.LOST_BYTES


def chat() -> Frames:
    """Return two sessions with messages of all kinds, one of them compressed, call by call."""
    peers = Peers()
    frames = opened()
    frames.client(frames.request(3, CONNECT, ends=False))
    frames.answer(3, [*OK, DEFLATE], ends=False)
    for number in range(6):
        text = b"message %d, much as the others" % number
        frames.client(DataFrame(1, masked(1, text[:9], fin=False)))
        frames.client(DataFrame(1, masked(0, text[9:])), DataFrame(1, masked(9, b"?")))
        frames.server(DataFrame(1, frame(10, b"?") + frame(2, text)))
        frames.client(DataFrame(3, peers.send(from_client=True, opcode=1, payload=text)))
        frames.server(DataFrame(3, peers.send(from_client=False, opcode=1, payload=text)))
    for stream in (1, 3):
        frames.server(ended(stream, frame(8, CLOSE)))
        frames.client(ended(stream, masked(8, CLOSE)))
    return frames


@pytest.mark.parametrize("whole_calls", [True, False])
def test_whatever_is_lost_nothing_wrong_is_said_unflagged(whole_calls: bool) -> None:  # noqa: FBT001 - a parameter
    events = chat().talk.events
    truth = [said(exchange) for exchange in Seen(events).exchanges]
    every = {content for contents in truth for content in contents}
    assert len(truth) == 2
    for index, event in enumerate(events):
        if event.kind is not EventKind.DATA:
            continue
        size = len(event.payload)
        for seen in [0] if whole_calls else range(0, size, 3):
            lost = replace(event, payload=event.payload[:seen], missing=Missing.RING_FULL)
            for exchange in Seen([*events[:index], lost, *events[index + 1 :]]).exchanges:
                if exchange.application is None:
                    assert exchange.incomplete is not None
                    continue
                messages = session_of(exchange).messages
                assert all(message.content in every for message in messages if message.truncation is None)
                assert all(
                    any(whole.startswith(message.content) for whole in every)
                    for message in messages
                    if message.truncation is Truncation.GAP
                )
                is_flagged = exchange.incomplete is not None or any(
                    flow.uncounted for flow in flows(exchange)
                )
                if not is_flagged and all(message.truncation is None for message in messages):
                    assert said(exchange) in truth
