"""What the kernel side would deliver of calls when its ring is full at times: `bpf/emission.h`, in Python.

A record that finds no room is lost; the next one of its direction says so in `missing`, and so does what a
connection's end, or a change of direction, says of bytes that no record covers. OPENED is tried again with
the next call, CLOSED is not. Positions go on counting whatever is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ebpf.events import Direction, EventKind, Missing, Origin, Role, SocketEvent
from ebpf.http_prefixes import HTTP_PREFIXES
from tests.builders import MILLISECOND_NS, NOTHING_MISSING, SECOND_NS, build_socket
from tests.property.talks import REQUEST, RESPONSE, Call, Talk

LOSS_KINDS = (
    "nothing",
    "one record",
    "1 % of records",
    "3 % of records",
    "10 % of records",
    "30 % of records",
    "runs",
    "the beginning",
    "the end",
)
_RATES = {
    "1 % of records": 0.01,
    "3 % of records": 0.03,
    "10 % of records": 0.1,
    "30 % of records": 0.3,
}
_BEGINNINGS = tuple(prefix for prefix, _ in HTTP_PREFIXES)
_SOCKET = build_socket()
_FULL = Missing.RING_FULL
_DATA = EventKind.DATA


@dataclass(slots=True)
class _Stream:
    position: int = 0
    reported: int = 0
    lost_end: int = 0
    lost_ktime_ns: int = 0
    spent: int = 0
    missing: Missing = NOTHING_MISSING


@dataclass(slots=True)
class Delivery:
    """The events of one connection, and how they came about."""

    kind: str
    """What was lost, one of `LOSS_KINDS`."""
    description: str
    events: list[SocketEvent] = field(default_factory=list)


class _Ring:
    """The kernel side of one connection: calls go in, events that found room come out."""

    def __init__(
        self, delivery: Delivery, role: Role, *, joined_late: bool, budget: int, chunk: int, told: bool
    ) -> None:
        self._delivery = delivery
        self._role = role
        self._joined_late = joined_late
        self._budget = budget
        self._chunk = chunk
        self._told = told
        self._streams = (_Stream(), _Stream())
        self._opened = False
        self._turn: int | None = None
        self.records = 0
        self.is_full: Callable[[EventKind, Direction], bool] = lambda _kind, _direction: False
        """Whether the next record finds no room."""

    def _deliver(
        self,
        kind: EventKind,
        ktime_ns: int,
        direction: Direction,
        position: int,
        length: int,
        payload: bytes,
        missing: Missing,
    ) -> bool:
        self.records += 1
        if not self._told and length and not payload and missing == _FULL:
            return True
        if self.is_full(kind, direction) and (self._told or kind is not EventKind.OPENED):
            return False
        self._delivery.events.append(
            SocketEvent(
                kind,
                ktime_ns,
                1,
                Origin(ktime_ns, 100),
                direction,
                position,
                length,
                payload,
                missing if self._told else missing & ~_FULL,
                self._role,
                self._joined_late,
                _SOCKET,
            )
        )
        return True

    def _deliver_data(
        self, ktime_ns: int, direction: Direction, position: int, length: int, payload: bytes
    ) -> None:
        stream = self._streams[direction]
        if not self._deliver(_DATA, ktime_ns, direction, position, length, payload, stream.missing):
            stream.missing |= _FULL
            stream.lost_end = position + length
            stream.lost_ktime_ns = ktime_ns
            return
        stream.missing = NOTHING_MISSING
        stream.reported = position + length
        stream.spent += len(payload)

    def _deliver_uncaptured(self, direction: Direction) -> None:
        stream = self._streams[direction]
        if stream.lost_end > stream.reported:
            self._deliver_data(
                stream.lost_ktime_ns, direction, stream.reported, stream.lost_end - stream.reported, b""
            )

    def call(self, ktime_ns: int, direction: Direction, data: bytes) -> None:
        """Let a call move bytes."""
        if not self._opened:
            self._opened = self._deliver(EventKind.OPENED, ktime_ns, direction, 0, 0, b"", NOTHING_MISSING)
        stream = self._streams[direction]
        position = stream.position
        stream.position += len(data)
        if self._turn is not direction:
            self._deliver_uncaptured(
                Direction.EGRESS if direction is Direction.INGRESS else Direction.INGRESS
            )
            self._turn = direction
            stream.spent = 0
        captured = data[: max(0, self._budget - stream.spent)]
        for start in range(0, len(captured), self._chunk):
            part = captured[start : start + self._chunk]
            self._deliver_data(ktime_ns, direction, position + start, len(part), part)
        if len(captured) < len(data):
            stream.missing |= Missing.BUDGET
            stream.lost_end = stream.position
            stream.lost_ktime_ns = ktime_ns

    def end(self, ktime_ns: int, direction: Direction) -> None:
        """Let a direction end."""
        if self._opened:
            self._deliver_uncaptured(direction)
            position = self._streams[direction].position
            self._deliver(EventKind.ENDED, ktime_ns, direction, position, 0, b"", NOTHING_MISSING)

    def close(self, ktime_ns: int) -> None:
        """Let the connection end."""
        if self._opened:
            for direction in Direction:
                self._deliver_uncaptured(direction)
            position = self._streams[Direction.INGRESS].position
            self._deliver(EventKind.CLOSED, ktime_ns, Direction.INGRESS, position, 0, b"", NOTHING_MISSING)


def _reorder(chance: random.Random, calls: list[Call], sent: int) -> None:
    """Let calls that sent (side `sent`) return later than a call that read what they caused.

    Nothing else can change places: a read is reported before the program that reads has the bytes.
    """
    index = 0
    while index + 1 < len(calls):
        if calls[index].side == sent != calls[index + 1].side and chance.random() < 0.3:
            delayed = calls[index]
            calls[index] = calls[index + 1]
            calls[index + 1] = replace(delayed, pause_ms=0)
            index += 1
        index += 1


def _join(chance: random.Random, talk: Talk) -> list[Call]:
    """Return what is captured of a connection that is found in the middle of its life.

    Requests of a pipelining client that are in flight then are another matter (`probation`).
    """
    calls = talk.calls
    start = chance.randrange(len(calls))
    while start < len(calls) and not (
        calls[start].begins_exchange if talk.pipelines else calls[start].data.startswith(_BEGINNINGS)
    ):
        start += 1
    return calls[start:]


def deliver(talk: Talk, chance: random.Random) -> Delivery:
    """Return what is delivered of a conversation, with a kind of loss drawn."""
    kind = chance.choice(LOSS_KINDS)
    role = chance.choice((Role.SERVER, Role.CLIENT))
    joined_late = chance.random() < 0.2
    is_reordered = not joined_late and chance.random() < 0.25
    told = chance.random() < 0.85
    chunk = chance.choice((8_192, 8_192, 1_448, 200, 60))
    budget = max(talk.longest_head, chance.choice((1 << 40, 1 << 40, 131_072, 8_192, 1_000, 300)))
    if not told or is_reordered:
        # Untold losses are those of packet captures, which have no budget. A call that is reported late while
        # the budget is used up hides a message in the wrong turn, which can't be seen (0002).
        budget = 1 << 40
    if talk.pipelines:
        # What is pipelined for the first time behind an upload that was left out can't be seen (0002).
        budget = max(budget, 4 * talk.longest_upload)
    shown_role = role if chance.random() < 0.8 else Role.UNKNOWN
    calls = talk.calls
    if joined_late:
        calls = _join(chance, talk)
    if is_reordered:
        _reorder(chance, calls, REQUEST if role is Role.CLIENT else RESPONSE)
    delivery = Delivery(
        kind,
        f"{role.name.lower()} {'joined late' if joined_late else 'fresh'}"
        f"{' reordered' if is_reordered else ''}{'' if told else ' untold'}"
        f" records of {chunk} budget {budget}",
    )
    ring = _Ring(delivery, shown_role, joined_late=joined_late, budget=budget, chunk=chunk, told=told)
    total = len(calls) + (talk.closes << 1)
    _draw_losses(chance, ring, kind, total)
    request_direction = Direction.EGRESS if role is Role.CLIENT else Direction.INGRESS
    response_direction = Direction.INGRESS if role is Role.CLIENT else Direction.EGRESS
    directions = {REQUEST: request_direction, RESPONSE: response_direction}
    ktime_ns = SECOND_NS
    for call in calls:
        ktime_ns += MILLISECOND_NS * (1 + call.pause_ms)
        ring.call(ktime_ns, directions[call.side], call.data)
    if talk.closes:
        if chance.random() < 0.5:
            ring.end(ktime_ns + MILLISECOND_NS, directions[chance.choice((REQUEST, RESPONSE))])
        ring.close(ktime_ns + 2 * MILLISECOND_NS)
    return delivery


def _draw_losses(chance: random.Random, ring: _Ring, kind: str, total: int) -> None:
    """Draw which records find no room; `total` is about how many there are."""
    rate = _RATES.get(kind)
    if rate is not None:
        ring.is_full = lambda _kind, _direction: chance.random() < rate
    elif kind == "one record":
        lost = chance.randrange(1, 3 + total)
        ring.is_full = lambda _kind, _direction: ring.records == lost
    elif kind == "runs":
        start, length = chance.randrange(1, 3 + total), chance.randrange(1, 9)
        again = start + length + chance.randrange(1, 12)
        ring.is_full = lambda _kind, _direction: (
            start <= ring.records < start + length or again <= ring.records < again + length
        )
    elif kind == "the beginning":
        left = {Direction.INGRESS: chance.randrange(4), Direction.EGRESS: chance.randrange(4)}
        opened = chance.randrange(3)

        def is_full(event: EventKind, direction: Direction) -> bool:
            nonlocal opened
            if event is EventKind.OPENED:
                opened -= 1
                return opened >= 0
            left[direction] -= 1
            return left[direction] >= 0

        ring.is_full = is_full
    elif kind == "the end":
        first = max(1, total - chance.randrange(5))
        rate_at_end = chance.choice((0.5, 1.0))
        ring.is_full = lambda _kind, _direction: ring.records >= first and chance.random() < rate_at_end
