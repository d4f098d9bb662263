"""A connection that speaks HTTP/1, and the short way through it.

Owns when a call's bytes may go straight to their reader. What messages mean to each other is in
`conversation`, and how a reader takes a call's bytes in `direct`.

Contract: traffic is nearly always one request, then its response, nothing missing. While it is (`_expected`),
a call's bytes go the short way; everything else goes the long one, and the answers are the same.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, EventKind, Role, SocketEvent
from parsers.exchange import Exchange
from parsers.http1.conversation import Http1Conversation
from parsers.http1.message import Message
from parsers.http1.outcome import BETWEEN, IN_LENGTH, Outcome
from parsers.http_exchange import HttpRequest
from parsers.stream import NOTHING_MISSING, Piece

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_DATA: Final = EventKind.DATA
_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_CLIENT: Final = Role.CLIENT
_NEED_MORE: Final = Outcome.NEED_MORE


class Http1Connection(Http1Conversation):
    """One connection that speaks HTTP/1, from the first event seen of it."""

    __slots__ = ()

    def feed(self, event: SocketEvent) -> list[Exchange]:
        """Take an event; return the exchanges that it completes."""
        direction = event.direction
        if direction is self._expected and event.kind is _DATA and self.streams[direction].follow(event):
            self._read_directly(event)
            self.last_ktime_ns = event.ktime_ns
            return self._pairing.take_out()
        return super().feed(event)

    def _read_directly(self, event: SocketEvent) -> None:
        """Read the bytes that were expected; what comes of it is the same as by `_add` and `_pump`."""
        direction = event.direction
        reader = self._readers[direction]
        outcome = reader.read_directly(event.payload, event.origin, self._expected_method)
        if outcome is None:
            piece = Piece(event.payload, 0, NOTHING_MISSING, event.ktime_ns, event.origin, True)
            self._receive(direction, [piece])
            self._pump(event.ktime_ns)
            self._take_stock()
            return
        if outcome is not _NEED_MORE:
            if reader is self._requests:
                self._take_request_outcome(outcome)
            else:
                self._take_response_outcome(outcome)
        if reader.has_input:
            self._pump(event.ktime_ns)
            self._take_stock()
            return
        state = reader.state
        if state == IN_LENGTH:
            message = reader.message
            assert message is not None
            if message.awaits_continue:
                self._expected = None  # the body may be left out
            self.needs_attention = True
            self.held_bytes = self._pairing.buffered_bytes
        elif state != BETWEEN:
            self._take_stock()
        elif reader is self._requests:
            message = self._requests.message
            assert message is not None
            self.needs_attention = False
            self.held_bytes = message.buffered_bytes
            self._expect_response(message)
        elif not self._pairing.turns:
            self.needs_attention = False
            self.held_bytes = 0
            self._expected = _EGRESS if self.role is _CLIENT else _INGRESS
        else:
            self._take_stock()

    def _take_stock(self) -> None:
        """Find out what is held, whether time matters, and which direction may be read directly."""
        requests = self._requests
        responses = self._responses
        first, second = self.streams
        is_waiting = self._stalled_since_ktime_ns is not None or self._is_waiting
        pairing = self._pairing
        self.needs_attention = (
            is_waiting or requests.is_in_message or responses.is_in_message or pairing.is_holding
        )
        self.held_bytes = (
            first.held_bytes
            + second.held_bytes
            + requests.buffered_bytes
            + responses.buffered_bytes
            + (0 if self._undecided is None else self._undecided.held_bytes)
            + (pairing.buffered_bytes if pairing.turns or pairing.on_probation else 0)
            + (0 if self._header_reader is None else self._header_reader.held_bytes)
        )
        self._expected = None
        if not (
            is_waiting
            or pairing.on_probation
            or requests.has_input
            or responses.has_input
            or self._undecided is not None
            or self._header_reader is not None
            or self.is_ignored
        ):
            self._expect_next()

    def _expect_next(self) -> None:
        """Expect bytes that can be read directly, if what both directions are in the middle of is plain."""
        requests = self._requests
        responses = self._responses
        turns = self._pairing.turns
        requests_come, responses_come = (_EGRESS, _INGRESS) if self.role is _CLIENT else (_INGRESS, _EGRESS)
        if not turns:
            if requests.state == BETWEEN and responses.state == BETWEEN:
                self._expected = requests_come
            return
        turn = turns[0]
        request = turn.request
        if len(turns) > 1 or request is None:
            return
        if turn.response is None and responses.state == BETWEEN:
            if requests.state == IN_LENGTH:
                self._expected = None if request.awaits_continue else requests_come
            elif requests.state == BETWEEN and request.done:
                self._expect_response(request)
        elif requests.state == BETWEEN and responses.state == IN_LENGTH:
            self._expected = responses_come

    def _expect_response(self, request: Message[HttpRequest]) -> None:
        """Expect the response to the only open request, which is read to its end."""
        self._expected_method = request.record.method
        self._expected = _INGRESS if self.role is _CLIENT else _EGRESS
