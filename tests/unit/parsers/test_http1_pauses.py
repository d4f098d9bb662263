"""Chunked bodies whose rest was left out, with pauses in it: when they are over, and how long they were."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role, SocketEvent
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import MILLISECOND_NS, SECOND_NS, Conversation

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DOWNLOAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
PAUSES_MS = [100, 1_000, 6_500, 30_000, 60_000]
LEFT_OUT = 300_000


class Listener:
    """A tracker whose time passes in steps; `asked` is what the source answers when it is asked."""

    def __init__(self) -> None:
        self.tracker = ConnectionTracker(ParserLimits())
        self.exchanges: list[HttpExchange] = []

    def hear(self, talk: Conversation) -> None:
        for event in talk.events:
            self.exchanges += self.tracker.feed(event)
        talk.events.clear()

    def wait(self, talk: Conversation, milliseconds: int) -> None:
        step = 50 * MILLISECOND_NS
        for passed in range(0, milliseconds * MILLISECOND_NS, step):
            self.exchanges += self.tracker.advance(talk.ktime_ns + passed)
            self.tracker.awaiting()
        talk.wait(milliseconds * MILLISECOND_NS)


def leave_out(talk: Conversation, *, upload: bool, length: int = LEFT_OUT) -> SocketEvent:
    return (talk.request if upload else talk.response)(b"", length=length, missing=Missing.BUDGET)


@pytest.mark.parametrize("upload", [False, True])
@pytest.mark.parametrize("end", ["next request", "close"])
@pytest.mark.parametrize("inspected", [True, False])
@pytest.mark.parametrize("pause_ms", PAUSES_MS)
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_a_pause_ends_nothing(role: Role, pause_ms: int, inspected: bool, end: str, upload: bool) -> None:  # noqa: FBT001 - parameters of the test
    talk = Conversation(role=role)
    listener = Listener()
    length = LEFT_OUT
    if upload:
        talk.request(UPLOAD)
    else:
        talk.request(GET)
        talk.response(DOWNLOAD)
    if inspected:
        leave_out(talk, upload=upload)
        length += LEFT_OUT
    listener.hear(talk)
    listener.wait(talk, pause_ms)
    assert listener.exchanges == [], "it goes on"
    last = leave_out(talk, upload=upload)
    if upload:
        talk.response(OK)
    if end == "close":
        talk.close()
    else:
        talk.request(GET)
        talk.response(OK)
    listener.hear(talk)
    listener.wait(talk, 2_000)
    exchange = listener.exchanges[0]
    message = exchange.request if upload else exchange.response
    assert message is not None
    assert exchange.incomplete is None
    assert message.end_ktime_ns == last.ktime_ns
    assert message.body.size is None
    assert message.wire_size == len(UPLOAD if upload else DOWNLOAD) + length
    assert ("end_not_seen" in exchange.anomalies) == (end == "close" and not upload)


def test_a_silence_beyond_what_proxies_allow_ends_it_and_says_that_its_end_was_not_seen() -> None:
    talk = Conversation()
    listener = Listener()
    talk.request(GET)
    talk.response(DOWNLOAD)
    last = leave_out(talk, upload=False)
    listener.hear(talk)
    listener.wait(talk, 67_000)
    (exchange,) = listener.exchanges
    assert exchange.incomplete is None
    assert exchange.anomalies == ("end_not_seen",)
    assert exchange.response is not None
    assert exchange.response.end_ktime_ns == last.ktime_ns
    assert exchange.response.wire_size == len(DOWNLOAD) + LEFT_OUT
    # What passes later belongs to nothing, and harms nothing.
    leave_out(talk, upload=False)
    talk.request(GET)
    talk.response(OK)
    listener.hear(talk)
    assert [each.incomplete for each in listener.exchanges] == [None, None]


@pytest.mark.parametrize("head_end", [b"\r\n\r\n", b"\n\n"])
@pytest.mark.parametrize("cut", [None, 10, 60, 66])
def test_the_size_on_the_wire_counts_every_byte_however_it_is_cut(head_end: bytes, cut: int | None) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + head_end + b"a\r\n0123456789\r\n5\r\nab"
    talk = Conversation()
    talk.request(GET)
    for part in [whole] if cut is None else [whole[:cut], whole[cut:]]:
        talk.response(part)
    leave_out(talk, upload=False, length=1_000)
    talk.response(b"xyz\r\n0\r\n\r\n")
    (exchange,) = talk.run(finish=False)
    assert exchange.response is not None
    assert exchange.response.wire_size == len(whole) + 1_000 + 10
    assert "end_not_seen" not in exchange.anomalies


def test_a_body_that_was_seen_has_no_size_on_the_wire_beside_its_own() -> None:
    talk = Conversation()
    talk.request(GET)
    talk.response(DOWNLOAD + b"0\r\n\r\n")
    talk.wait(SECOND_NS)
    (exchange,) = talk.run()
    assert exchange.response is not None
    assert (exchange.response.body.size, exchange.response.wire_size) == (3, None)
