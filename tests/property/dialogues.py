"""Random conversations for the properties: every request and response carries its number in a header.

So a pair is right exactly when the two numbers are equal, whatever was lost on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from ebpf.events import EventKind, Missing, SocketEvent
from parsers.http_exchange import HttpExchange, HttpRequest, HttpResponse
from tests.builders import NOTHING_MISSING, Conversation


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response, as bytes."""

    request: bytes
    response: bytes


def _request(number: int, method: bytes, body: bytes, *, chunked: bool) -> bytes:
    head = b"%s /%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n" % (method, number, number)
    return head + _body(body, chunked=chunked, always=False)


def _response(number: int, method: bytes, body: bytes, *, chunked: bool, interim: bool) -> bytes:
    head = b"HTTP/1.1 103 Early Hints\r\nX-Id: %d\r\n\r\n" % number if interim else b""
    head += b"HTTP/1.1 200 OK\r\nX-Id: %d\r\n" % number
    if method == b"HEAD":
        return head + b"Content-Length: %d\r\n\r\n" % len(body)
    return head + _body(body, chunked=chunked, always=True)


def _body(body: bytes, *, chunked: bool, always: bool) -> bytes:
    if chunked:
        middle = len(body) // 2
        parts = [part for part in (body[:middle], body[middle:]) if part]
        return (
            b"Transfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            + b"0\r\n\r\n"
        )
    if body or always:
        return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    return b"\r\n"


@st.composite
def exchanges(draw: st.DrawFn, number: int) -> Exchange:
    """One exchange with its number."""
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"]))
    request_body = draw(st.binary(max_size=30)) if method == b"POST" else b""
    response_body = draw(st.binary(max_size=60))
    return Exchange(
        _request(number, method, request_body, chunked=draw(st.booleans()) and method == b"POST"),
        _response(number, method, response_body, chunked=draw(st.booleans()), interim=draw(st.booleans())),
    )


@st.composite
def batches(draw: st.DrawFn, *, pipelined: bool) -> list[list[Exchange]]:
    """Exchanges in batches: the requests of a batch go out before its first response does."""
    sizes = draw(st.lists(st.integers(1, 4) if pipelined else st.just(1), min_size=1, max_size=6))
    if pipelined:
        # A client that pipelines shows it while all is still well, at its first batch.
        sizes[0] = max(2, sizes[0])
    number = 0
    result = []
    for size in sizes:
        batch = []
        for _ in range(size):
            number += 1
            batch.append(draw(exchanges(number)))
        result.append(batch)
    return result


def perform(talk: Conversation, conversation: list[list[Exchange]], cuts: list[int]) -> None:
    """Let the conversation happen; each message, or run of pipelined ones, is cut into calls at `cuts`."""
    for batch in conversation:
        for data in _cut(b"".join(exchange.request for exchange in batch), cuts):
            talk.request(data)
        for data in _cut(b"".join(exchange.response for exchange in batch), cuts):
            talk.response(data)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % len(data) for cut in cuts} - {0})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def drop(events: list[SocketEvent], dropped: set[int]) -> list[SocketEvent]:
    """Lose events as a full ring does: the next event of the direction says so."""
    kept: list[SocketEvent] = []
    missing = {0: NOTHING_MISSING, 1: NOTHING_MISSING}
    for index, event in enumerate(events):
        if event.kind is EventKind.DATA and index in dropped:
            missing[event.direction] = Missing.RING_FULL
            continue
        kept.append(replace(event, missing=event.missing | missing[event.direction]))
        if event.kind is EventKind.DATA:
            missing[event.direction] = NOTHING_MISSING
    return kept


def number_of(message: HttpRequest | HttpResponse) -> bytes:
    """Return the number that a message carries."""
    return dict(message.headers)[b"X-Id"]


def assert_no_wrong_pair_unflagged(exchanges_seen: list[HttpExchange]) -> None:
    """Fail when an exchange that claims to be whole pairs a request with another one's response."""
    for exchange in exchanges_seen:
        if exchange.incomplete is None:
            assert exchange.request is not None
            assert exchange.response is not None
            assert number_of(exchange.request) == number_of(exchange.response)
