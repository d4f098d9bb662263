r"""Builders of socket events, shared by all tests: a conversation is told call by call.

`Conversation` owns positions and times, so that a test reads like a dialogue:

    talk = Conversation()
    talk.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    exchanges = talk.run()
"""

from __future__ import annotations

from collections.abc import Iterable

from ebpf.events import Direction, EventKind, Missing, Origin, Role, SocketEvent, SocketInfo
from parsers.http_exchange import Body, HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
NOTHING_MISSING = Missing(0)


def build_socket(cookie: int = 7) -> SocketInfo:
    """Return the socket of a loopback connection."""
    return SocketInfo("ipv4", "127.0.0.1", 8080, "127.0.0.1", 40_000, 4_026_531_840, 12_345, cookie)


class Conversation:
    """One connection as one socket sees it. Each call is an event a millisecond after the one before it."""

    def __init__(
        self,
        connection_id: int = 1,
        *,
        role: Role = Role.SERVER,
        kernel_role: Role | None = None,
        joined_late: bool = False,
        opened: bool = True,
        start_ktime_ns: int = SECOND_NS,
        tgid: int = 100,
        tid: int = 101,
    ) -> None:
        self.connection_id = connection_id
        self.kernel_role = role if kernel_role is None else kernel_role
        self.joined_late = joined_late
        self.socket = build_socket(connection_id + 6)
        self.ktime_ns = start_ktime_ns
        self.tgid = tgid
        self.tid = tid
        self.requests = Direction.EGRESS if role is Role.CLIENT else Direction.INGRESS
        self.responses = Direction.INGRESS if role is Role.CLIENT else Direction.EGRESS
        self.positions = {Direction.INGRESS: 0, Direction.EGRESS: 0}
        self.events: list[SocketEvent] = []
        if opened:
            self.add(EventKind.OPENED, Direction.INGRESS)

    def add(
        self,
        kind: EventKind,
        direction: Direction,
        payload: bytes = b"",
        *,
        length: int | None = None,
        missing: Missing = NOTHING_MISSING,
    ) -> SocketEvent:
        """Append an event at the direction's position; `length` beyond the payload is a known gap."""
        self.ktime_ns += MILLISECOND_NS
        event = SocketEvent(
            kind,
            self.ktime_ns,
            self.connection_id,
            Origin(self.ktime_ns, self.tgid, self.tid),
            direction,
            self.positions[direction],
            len(payload) if length is None else length,
            payload,
            missing,
            self.kernel_role,
            self.joined_late,
            self.socket,
        )
        self.positions[direction] += event.length
        self.events.append(event)
        return event

    def request(
        self, data: bytes, *, length: int | None = None, missing: Missing = NOTHING_MISSING
    ) -> SocketEvent:
        """One call that moved bytes of requests."""
        return self.add(EventKind.DATA, self.requests, data, length=length, missing=missing)

    def response(
        self, data: bytes, *, length: int | None = None, missing: Missing = NOTHING_MISSING
    ) -> SocketEvent:
        """One call that moved bytes of responses."""
        return self.add(EventKind.DATA, self.responses, data, length=length, missing=missing)

    def lose_request(self, count: int) -> None:
        """Let bytes of requests pass without an event."""
        self.positions[self.requests] += count

    def lose_response(self, count: int) -> None:
        """Let bytes of responses pass without an event."""
        self.positions[self.responses] += count

    def end_requests(self) -> None:
        """Let the requests' direction end."""
        self.add(EventKind.ENDED, self.requests)

    def end_responses(self) -> None:
        """Let the responses' direction end."""
        self.add(EventKind.ENDED, self.responses)

    def close(self) -> None:
        """Let the connection reach TCP_CLOSE."""
        self.add(EventKind.CLOSED, Direction.INGRESS)

    def wait(self, nanoseconds: int) -> None:
        """Let time pass without an event."""
        self.ktime_ns += nanoseconds

    def run(self, limits: ParserLimits | None = None, *, finish: bool = True) -> list[HttpExchange]:
        """Feed the events to a tracker of their own; with `finish`, let all time-outs pass and flush."""
        return run_events(self.events, limits, finish=finish)


def run_events(
    events: Iterable[SocketEvent], limits: ParserLimits | None = None, *, finish: bool = True
) -> list[HttpExchange]:
    """Feed events to a new tracker and return all exchanges; a bug in the parsers fails the test."""
    tracker = ConnectionTracker(limits or ParserLimits())
    exchanges: list[HttpExchange] = []
    ktime_ns = 0
    for event in events:
        ktime_ns = max(ktime_ns, event.ktime_ns)
        exchanges += tracker.feed(event)
    if finish:
        exchanges += tracker.advance(ktime_ns + 2 * SECOND_NS)
        exchanges += tracker.flush()
        assert tracker.buffered_bytes == 0
        assert tracker.connection_count == 0
    assert tracker.last_bug is None, tracker.last_bug
    assert tracker.counters()["exchanges"] == len(exchanges)
    return exchanges


def split_bytes(event: SocketEvent) -> list[SocketEvent]:
    """Return the event as one event per byte, as if each had been a call of its own."""
    if event.kind is not EventKind.DATA or event.length != len(event.payload):
        return [event]
    return [
        SocketEvent(
            event.kind,
            event.ktime_ns,
            event.connection_id,
            event.origin,
            event.direction,
            event.position + offset,
            1,
            event.payload[offset : offset + 1],
            event.missing if offset == 0 else NOTHING_MISSING,
            event.role,
            event.joined_late,
            event.socket,
        )
        for offset in range(event.length)
    ]


def describe(exchange: HttpExchange) -> str:
    """Return one line that holds all of an exchange but its times and headers."""
    request, response = exchange.request, exchange.response
    parts = []
    if request is None:
        parts.append("?")
    else:
        method, target = (
            "?" if part is None else part.decode("latin-1") for part in (request.method, request.target)
        )
        parts.append(f"{method} {target} {request.version or '?'}")
        parts.append(_describe_body(request.body))
        parts += [f"trailers {len(request.trailers)}"] if request.trailers else []
    parts.append("->")
    if response is None:
        parts.append("?")
    else:
        parts.append(f"{response.status} {response.version}")
        parts.append(_describe_body(response.body))
        parts += [f"trailers {len(response.trailers)}"] if response.trailers else []
        parts += [f"interim {','.join(map(str, response.interim))}"] if response.interim else []
    parts += [f"anomalies {','.join(exchange.anomalies)}"] if exchange.anomalies else []
    parts += ["upgraded"] if exchange.upgraded else []
    parts += [f"incomplete {exchange.incomplete}"] if exchange.incomplete else []
    return " ".join(parts)


def _describe_body(body: Body) -> str:
    text = "" if body.size == 0 and not body.content else f" {body.content!r}"
    coding = ""
    if body.coding is not None:
        coding = f" {'in' if body.coding.is_applied else 'not in'} {body.coding.names}"
    return f"({body.size}{text}{coding}{' ' + body.truncation if body.truncation else ''})"
