"""Long conversations, and the kernel's byte budget: what is captured of them, and what is left out.

Every message carries its number in a header, as in `dialogues`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from ebpf.events import Direction, EventKind, Missing, SocketEvent
from tests.builders import NOTHING_MISSING, Conversation

LONGEST_HEAD = 120
"""Bytes that hold any head of these conversations, with an interim response before it."""


@dataclass(frozen=True, slots=True)
class LongExchange:
    """A request and its response, as bytes and as what they mean."""

    request: bytes
    response: bytes
    request_body: bytes
    response_body: bytes
    interim_at: int | None
    """So many bytes of the request pass before an interim response; None without one."""


def _frame(head: bytes, body: bytes, chunk: int | None) -> bytes:
    if chunk is None:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    parts = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


@st.composite
def long_exchanges(draw: st.DrawFn, number: int) -> LongExchange:
    """One exchange with its number; its bodies are chunked more often than not."""
    chunks = st.one_of(st.none(), st.integers(1, 300), st.integers(100, 300))
    bodies = st.builds(
        lambda start, count: start + b"%d," % number * count, st.binary(max_size=20), st.integers(0, 300)
    )
    uploads = draw(st.booleans())
    request_body = draw(bodies) if uploads else b""
    response_body = draw(bodies)
    head = b"%s /%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n" % (b"POST" if uploads else b"GET", number, number)
    request = _frame(head, request_body, draw(chunks)) if uploads else head + b"\r\n"
    response = _frame(b"HTTP/1.1 200 OK\r\nX-Id: %d\r\n" % number, response_body, draw(chunks))
    interim_at = draw(st.none() | st.integers(LONGEST_HEAD, 1500)) if uploads else None
    return LongExchange(request, response, request_body, response_body, interim_at)


@st.composite
def long_batches(draw: st.DrawFn, *, pipelined: bool) -> list[list[LongExchange]]:
    """Exchanges in batches: the requests of a batch go out before its first response does."""
    sizes = draw(st.lists(st.integers(1, 3) if pipelined else st.just(1), min_size=1, max_size=5))
    if pipelined:
        sizes[0] = max(2, sizes[0])
    numbers = iter(range(1, 1 + sum(sizes)))
    return [[draw(long_exchanges(next(numbers))) for _ in range(size)] for size in sizes]


def perform_in_calls(talk: Conversation, conversation: list[list[LongExchange]], call: int) -> None:
    """Let the conversation happen, `call` bytes at a time; a message, or the first of a run, begins one."""
    for batch in conversation:
        interim_at = batch[0].interim_at if len(batch) == 1 else None
        sent = 0
        for data in _cut(b"".join(exchange.request for exchange in batch), call):
            talk.request(data)
            sent += len(data)
            if interim_at is not None and sent >= interim_at:
                talk.response(b"HTTP/1.1 102 Processing\r\n\r\n")
                interim_at = None
        for data in _cut(b"".join(exchange.response for exchange in batch), call):
            talk.response(data)


def _cut(data: bytes, call: int) -> list[bytes]:
    return [data[start : start + call] for start in range(0, len(data), call)]


class _Meter:
    """One direction, as the kernel side counts it."""

    def __init__(self) -> None:
        self.spent = 0
        self.reported = 0
        self.last: SocketEvent | None = None
        """The last event whose bytes were left out in part."""

    def report(self, position: int) -> list[SocketEvent]:
        """Return the event that says what was left out up to `position`."""
        if self.last is None or position <= self.reported:
            return []
        gap = replace(
            self.last,
            position=self.reported,
            length=position - self.reported,
            payload=b"",
            missing=Missing.BUDGET,
        )
        self.reported = position
        return [gap]


def withhold(events: list[SocketEvent], budget: int, asked: set[int]) -> list[SocketEvent]:
    """Return the events as a kernel side with this byte budget per turn delivers them.

    Behind the events of these numbers it is asked what has passed uncaptured.
    """
    meters = {Direction.INGRESS: _Meter(), Direction.EGRESS: _Meter()}
    positions = dict.fromkeys(meters, 0)
    turn: Direction | None = None
    delivered: list[SocketEvent] = []
    for index, event in enumerate(events):
        direction = event.direction
        meter = meters[direction]
        if event.kind is EventKind.DATA:
            if turn is not direction:
                for other in meters:
                    if other is not direction:
                        delivered += meters[other].report(positions[other])
                turn = direction
                meter.spent = 0
            positions[direction] += event.length
            captured = event.payload[: budget - meter.spent]
            if captured:
                missing = Missing.BUDGET if meter.reported < event.position else NOTHING_MISSING
                delivered.append(replace(event, payload=captured, length=len(captured), missing=missing))
                meter.spent += len(captured)
                meter.reported = event.position + len(captured)
            if len(captured) < event.length:
                meter.last = event
        else:
            ended = [direction] if event.kind is EventKind.ENDED else list(meters)
            for each in ended:
                delivered += meters[each].report(positions[each])
            delivered.append(event)
        if index in asked:
            for each in meters:
                delivered += meters[each].report(positions[each])
    return delivered
