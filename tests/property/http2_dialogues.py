"""Random HTTP/2 conversations between two h2 endpoints, and what of them is the truth.

Every path and every body carries the number of its stream, so whatever comes out can be held against what was
sent, on its own stream and on no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from random import Random

from hypothesis import strategies as st

from parsers.exchange import Incomplete
from parsers.http_exchange import Headers, HttpExchange, HttpRequest, HttpResponse
from tests.unit.parsers.http2_peers import Dialogue, build_request

USERS = [b"alice", b"bob", b"carol"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one stream is to carry."""

    number: int
    method: bytes
    user: bytes
    request_size: int | None
    response_size: int | None
    status: int
    interim: bool
    request_trailers: bool
    response_trailers: bool
    long_field: int
    padding: bool


@dataclass(slots=True)
class Truth:
    """What one stream carried."""

    method: bytes
    path: bytes
    request_headers: Headers
    request_body: bytes
    request_trailers: Headers
    status: int
    response_headers: Headers
    response_body: bytes
    response_trailers: Headers
    interim: tuple[int, ...]


@dataclass(slots=True)
class Spoken:
    """A whole conversation: calls in order, and the truth by path."""

    calls: list[tuple[bool, bytes]]
    truths: dict[bytes, Truth] = field(default_factory=dict)


def _plan(number: int, random: Random) -> Plan:
    sizes = [None, 0, 7, 60, 300]
    return Plan(
        number,
        random.choice([b"GET", b"POST", b"PUT"]),
        random.choice(USERS),
        random.choice(sizes),
        random.choice(sizes),
        random.choice([200, 200, 204, 404, 418]),
        interim=random.random() < 0.3,
        request_trailers=random.random() < 0.3,
        response_trailers=random.random() < 0.5,
        long_field=random.choice([0, 0, 0, 0, 40, 17_000]),
        padding=random.random() < 0.3,
    )


@cache
def converse(seed: int) -> Spoken:
    """Return conversation number `seed`: 4 to 24 streams, one after the other or interleaved.

    Each is played once: h2 takes longer to speak than the parsers take to listen.
    """
    random = Random(seed)
    plans = [_plan(number, random) for number in range(random.choice([4, 8, 16, 24]))]
    together = random.choice([1, 1, 2, 8])
    dialogue = Dialogue(table_size=random.choice([None, None, 0, 128, 16_384]))
    spoken = Spoken(dialogue.calls)
    for start in range(0, len(plans), together):
        batch = plans[start : start + together]
        speak(dialogue, batch, random.sample(batch, len(batch)), spoken)
    return spoken


conversations = st.integers(0, 47).map(converse)
"""One of the conversations."""


def speak(dialogue: Dialogue, asked: list[Plan], answered: list[Plan], spoken: Spoken) -> None:
    """Let streams pass: requests in one order, responses in another."""
    ids: dict[int, int] = {}
    for plan in asked:
        truth = tell_truth(plan)
        spoken.truths[truth.path] = truth
        body = truth.request_body if plan.request_size is not None else None
        stream_id = dialogue.client.get_next_available_stream_id()
        ids[plan.number] = stream_id
        _send(
            dialogue.client,
            stream_id,
            build_request(truth.path, *truth.request_headers, method=plan.method),
            body,
            truth.request_trailers,
            padding=plan.padding,
        )
        if plan.number % 2:
            dialogue.flush()
    dialogue.flush()
    for plan in answered:
        truth = spoken.truths[b"/%d" % plan.number]
        stream_id = ids[plan.number]
        if plan.interim:
            dialogue.server.send_headers(stream_id, [(b":status", b"103"), (b"link", b"</%d>" % plan.number)])
        body = truth.response_body if plan.response_size is not None else None
        head = [(b":status", b"%d" % plan.status), *truth.response_headers]
        _send(dialogue.server, stream_id, head, body, truth.response_trailers, padding=plan.padding)
        if plan.number % 3 == 0:
            dialogue.flush()
    dialogue.flush()


def _send(
    peer: object, stream_id: int, head: Headers, body: bytes | None, trailers: Headers, *, padding: bool
) -> None:
    send = peer  # both ends have the same methods
    ends = body is None and not trailers
    send.send_headers(stream_id, head, end_stream=ends)  # type: ignore[attr-defined]
    if body is not None:
        send.send_data(  # type: ignore[attr-defined]
            stream_id, body, end_stream=not trailers, pad_length=7 if padding else None
        )
    if trailers:
        send.send_headers(stream_id, trailers, end_stream=True)  # type: ignore[attr-defined]


def tell_truth(plan: Plan) -> Truth:
    """Return what a stream will carry."""
    number = b"%d" % plan.number
    request_headers = [(b"user", plan.user), (b"x-id", number)]
    if plan.long_field:
        request_headers.append((b"x-long", b"%s:" % number + b"v" * plan.long_field))
    return Truth(
        plan.method,
        b"/" + number,
        request_headers,
        (b"<request %s>" % number * 30)[: plan.request_size or 0],
        [(b"x-request-end", number)] if plan.request_trailers else [],
        plan.status,
        [(b"seen-user", plan.user), (b"x-id", number), (b"server", b"h2")],
        (b"<response %s>" % number * 30)[: plan.response_size or 0],
        [(b"x-response-end", plan.user)] if plan.response_trailers else [],
        (103,) if plan.interim else (),
    )


def cut(calls: list[tuple[bool, bytes]], places: list[int]) -> list[tuple[bool, bytes]]:
    """Cut each call's bytes into records."""
    records = []
    for from_client, data in calls:
        at = sorted({place % len(data) for place in places} - {0})
        records += [
            (from_client, data[start:end]) for start, end in zip([0, *at], [*at, len(data)], strict=True)
        ]
    return records


def assert_true(exchange: HttpExchange, truths: dict[bytes, Truth]) -> None:
    """Fail when anything in an exchange is not what was sent; all of it must be there unless it says so."""
    request, response = exchange.request, exchange.response
    whole = exchange.incomplete is None
    truth: Truth | None = None
    if request is not None and request.target is not None:
        truth = truths[request.target]
        _hold_request(request, truth)
    if response is not None and truth is not None:
        _hold_response(response, truth)
    if response is not None and truth is None:
        ids = [value for name, value in response.headers if name == b"x-id"]
        if ids:
            _hold_response(response, truths[b"/" + ids[0]])
    if not whole:
        return
    assert request is not None
    assert response is not None
    assert truth is not None
    assert request.unknown_headers == response.unknown_headers == 0
    assert (request.method, request.scheme, request.authority) == (truth.method, b"http", b"a")
    assert request.headers == truth.request_headers
    assert request.trailers == truth.request_trailers
    assert response.status == truth.status
    assert response.headers == truth.response_headers
    assert response.trailers == truth.response_trailers
    assert response.interim == truth.interim
    for body, content in ((request.body, truth.request_body), (response.body, truth.response_body)):
        # A gap over the length of padding hides how much of a frame was content.
        assert body.size == len(content) or (body.size is None and body.truncation == "gap")
        assert body.truncation is not None or body.content == content


def _hold_request(request: HttpRequest, truth: Truth) -> None:
    assert request.method in (None, truth.method)
    assert set(request.headers) <= set(truth.request_headers) | set(truth.request_trailers)
    assert set(request.trailers) <= set(truth.request_trailers)
    assert truth.request_body.startswith(request.body.content)
    assert request.body.size in (None, len(truth.request_body)) or not request.body.truncation


def _hold_response(response: HttpResponse, truth: Truth) -> None:
    assert response.status in (None, truth.status)
    links = {(b"link", b"<%s>" % truth.path)}
    assert set(response.headers) <= set(truth.response_headers) | set(truth.response_trailers) | links
    assert set(response.trailers) <= set(truth.response_trailers) | set(truth.response_headers)
    assert truth.response_body.startswith(response.body.content)
    assert set(response.interim) <= {103}


FLAGS = {
    Incomplete.LOST_BYTES,
    Incomplete.UNKNOWN_HEADERS,
    Incomplete.JOINED_LATE,
    Incomplete.ONE_SIDE,
    Incomplete.STOPPED,
    Incomplete.CLOSED,
    Incomplete.INVALID,
}
"""What a loss may be flagged with."""
