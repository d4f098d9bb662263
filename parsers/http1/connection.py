"""Both directions of a connection that speaks HTTP/1: who is who, and what is read when.

Owns the readers, the role, and the order in which both directions are read. It must not pair
(`pairing`) or look into bytes beyond telling a request from a response, and it has no clock: time is that
of the events.

Contract: a response is read only when it is known which request it answers, because its framing depends on
that. On a connection of which every byte is accounted for, a response without request is held for its
request: two threads may report their calls in either order. It waits for `ParserLimits.reorder_ns` and
within `ParserLimits.max_stream_buffer`.

Traffic is nearly always one request, then its response, nothing missing. While it is (`_expected`), a call's
bytes go straight to their reader; everything else goes the long way, and the answers are the same.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, EventKind, Role, SocketEvent
from parsers.connection import Connection, begins_late
from parsers.exchange import HttpExchange, HttpRequest, HttpResponse, Incomplete
from parsers.http1.direct import DirectReader
from parsers.http1.disputes import ENDS_DIFFERENTLY
from parsers.http1.message import Message
from parsers.http1.outcome import BETWEEN, IN_LENGTH, IN_TAIL, Outcome
from parsers.http1.pairing import Pairing, Step
from parsers.http1.probation import QUIET_NS as PROBATION_QUIET_NS
from parsers.http1.sides import HTTP2_PREFACE, RequestSide, ResponseSide, detect_side
from parsers.http1.tail_end import TailEnds
from parsers.limits import ParserLimits
from parsers.protocol_switch import choose_successor
from parsers.stream import NOTHING_MISSING, Piece

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_DATA: Final = EventKind.DATA
_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_CLIENT: Final = Role.CLIENT
_UNKNOWN: Final = Role.UNKNOWN
_CERTAIN: Final = Step.CERTAIN
_NEED_MORE: Final = Outcome.NEED_MORE
_WAITING: Final = Outcome.WAITING
_STARTED: Final = Outcome.STARTED
_FINISHED: Final = Outcome.FINISHED


class Http1Connection(Connection):
    """One connection that speaks HTTP/1, from the first event seen of it."""

    __slots__ = (
        "_expected",
        "_joining_response",
        "_pairing",
        "_readers",
        "_releasing",
        "_requests",
        "_response_side",
        "_responses",
        "_stalled_since_ktime_ns",
        "_tail_ends",
        "_undecided",
    )

    def __init__(self, event: SocketEvent, limits: ParserLimits, counts: dict[str, int]) -> None:
        super().__init__(event, limits, counts)
        joined_late = begins_late(event)
        self._undecided: tuple[list[Piece], list[Piece]] | None = ([], [])
        self._response_side = ResponseSide()
        self._requests = DirectReader(RequestSide(limits), limits, counts, joined_late=joined_late)
        self._responses = DirectReader(self._response_side, limits, counts, joined_late=joined_late)
        self._readers: tuple[DirectReader[HttpRequest] | DirectReader[HttpResponse], ...] = ()
        self._pairing = Pairing(event.connection_id, event.socket, limits, counts, joined_late=joined_late)
        self._tail_ends = TailEnds(self._requests, self._responses, self._pairing, limits, counts)
        self._joining_response = joined_late
        self._releasing = False
        self._stalled_since_ktime_ns: int | None = None
        self._expected: Direction | None = None
        """Direction of which the next bytes may be read directly; None when the long way is needed."""
        if event.role is not _UNKNOWN:
            self._take_role(event.role)

    @property
    def is_in_message(self) -> bool:
        """Whether either direction is in the middle of a message."""
        return self._requests.is_in_message or self._responses.is_in_message

    @property
    def due_ktime_ns(self) -> int:
        """As for every connection, and when responses wait for a request, or an unseen tail is quiet."""
        due = min(super().due_ktime_ns, self._tail_ends.due_ktime_ns(self.last_ktime_ns, self.asked_ktime_ns))
        if self._stalled_since_ktime_ns is not None:
            due = min(due, self._stalled_since_ktime_ns + self._limits.reorder_ns)
        if self._pairing.is_holding:
            due = min(due, self.last_ktime_ns + PROBATION_QUIET_NS)
        return due

    def feed(self, event: SocketEvent) -> list[HttpExchange]:
        """Take an event; return the exchanges that it completes."""
        direction = event.direction
        if direction is self._expected and event.kind is _DATA and self.streams[direction].follow(event):
            self._read_directly(event)
            self.last_ktime_ns = event.ktime_ns
            return self._pairing.take_out()
        return super().feed(event)

    def _expire(self, ktime_ns: int) -> None:
        stalled = self._stalled_since_ktime_ns
        if stalled is not None and ktime_ns - stalled >= self._limits.reorder_ns:
            self._release_stalled()
        if self._tail_ends.due_ktime_ns(self.last_ktime_ns, self.asked_ktime_ns) <= ktime_ns:
            self._tail_ends.end_quiet()
        if self._pairing.is_holding and self.last_ktime_ns + PROBATION_QUIET_NS <= ktime_ns:
            self._pairing.end_probation()

    def _finish(self, cause: Incomplete) -> None:
        self._pairing.end_probation()
        self._release_stalled()
        is_closed = cause is Incomplete.CLOSED or self.closed_ktime_ns is not None
        self._tail_ends.end_for_good(is_closed=is_closed)
        if cause is Incomplete.CLOSED:
            self._end_directions()
        self._requests.abort(cause)
        self._responses.abort(cause)
        self._pairing.give_up(cause)

    def _drop(self) -> None:
        self._pairing.end_probation()
        self._pairing.turns.clear()
        self._requests.abort(Incomplete.STOPPED)
        self._responses.abort(Incomplete.STOPPED)
        self._stalled_since_ktime_ns = None

    def _take_out(self) -> list[HttpExchange]:
        return self._pairing.take_out()

    def _read_directly(self, event: SocketEvent) -> None:
        """Read the bytes that were expected; what comes of it is the same as by `_add` and `_pump`."""
        direction = event.direction
        reader = self._readers[direction]
        outcome = reader.read_directly(event.payload, event.ktime_ns, event.tgid)
        if outcome is None:
            piece = Piece(event.payload, 0, NOTHING_MISSING, event.ktime_ns, event.tgid, True)
            self._add(direction, [piece])
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
        """Tell anew what is held, whether time matters, and which direction may be read directly."""
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
            + (pairing.buffered_bytes if pairing.turns or pairing.on_probation else 0)
        )
        self._expected = None
        if not (
            is_waiting
            or pairing.on_probation
            or requests.has_input
            or responses.has_input
            or self._undecided is not None
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
                self._expected = requests_come
            elif requests.state == BETWEEN and request.done:
                self._expect_response(request)
        elif requests.state == BETWEEN and responses.state == IN_LENGTH:
            self._expected = responses_come

    def _expect_response(self, request: Message[HttpRequest]) -> None:
        """Expect the response to the only open request, which is read to its end."""
        self._response_side.request_method = request.record.method
        self._expected = _INGRESS if self.role is _CLIENT else _EGRESS

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        """Hand pieces to the reader of their direction, or keep them until it is known which one that is."""
        if self._undecided is None:
            reader = self._readers[direction]
            for piece in pieces:
                reader.add(piece)
            return
        kept = self._undecided[direction]
        kept += pieces
        side = detect_side(
            b"".join(piece.data for piece in kept), joined_late=self._pairing.step is not _CERTAIN
        )
        if side is not None:
            self._take_role(_CLIENT if side == (direction is _EGRESS) else Role.SERVER)
        elif self._pairing.step is not _CERTAIN:
            kept.clear()
        elif len(kept) > self._limits.max_reorder_pieces:
            self._pairing.become_unsure(Incomplete.LOST_BYTES)
            kept.clear()

    def _take_role(self, role: Role) -> None:
        self.role = self._pairing.role = role
        requests, responses = self._requests, self._responses
        self._readers = (responses, requests) if role is _CLIENT else (requests, responses)
        undecided = self._undecided
        self._undecided = None
        if undecided is not None:
            for direction in (_INGRESS, _EGRESS):
                self._add(direction, undecided[direction])

    def _pump(self, ktime_ns: int) -> None:
        """Read both directions until neither gets on without the other."""
        requests = self._requests
        responses = self._responses
        while not self.is_ignored:
            progress = False
            if requests.has_input:
                requests.gated = bool(self._pairing.turns) and self._awaits_switch()
                requests.may_resynchronise = requests.state != IN_TAIL or self._tail_ends.may_upload_be_over()
                outcome = requests.advance()
                if outcome is not _NEED_MORE and outcome is not _WAITING:
                    self._take_request_outcome(outcome)
                    progress = True
            if not progress and responses.has_input:
                outcome = self._advance_responses()
                if outcome is _WAITING:
                    self._stall(ktime_ns)
                elif outcome is not _NEED_MORE:
                    self._take_response_outcome(outcome)
                    progress = True
            if not progress:
                return

    def _advance_responses(self) -> Outcome:
        responses = self._responses
        turn = self._pairing.next_turn()
        awaited = turn is not None
        responses.gated = not awaited and self._pairing.step is _CERTAIN and not self._releasing
        responses.may_resynchronise = awaited or self._joining_response or self._releasing
        responses.is_next_due = awaited
        if turn is not None and turn.request is not None:
            self._response_side.request_method = turn.request.record.method
            current = self._pairing.turns[0]
            responses.may_lack_body = current.request is None and current.response is not None
        else:
            self._response_side.request_method = None
            responses.may_lack_body = False
        outcome = responses.advance()
        if responses.passed_over:
            responses.passed_over = False
            self._pairing.pass_over_responses()
        return outcome

    def _awaits_switch(self) -> bool:
        """Whether the last request may end HTTP, so that what follows must wait for its response."""
        turn = self._pairing.turns[-1]
        if turn.request is None or turn.response is not None:
            return False
        may_switch = turn.request.record.method == b"CONNECT" or b"upgrade" in turn.request.fields.framing
        return may_switch and self._requests.buffered_bytes <= self._limits.max_stream_buffer

    def _stall(self, ktime_ns: int) -> None:
        """Note that responses wait for their request; beyond the bound they wait no longer."""
        if self._stalled_since_ktime_ns is None:
            self._stalled_since_ktime_ns = ktime_ns
        if self._responses.buffered_bytes > self._limits.max_stream_buffer:
            self._release_stalled()

    def _release_stalled(self) -> None:
        """Read the responses that wait for a request as ones without: theirs is not going to be seen."""
        self._stalled_since_ktime_ns = None
        if not self._responses.has_input or self._releasing:
            return
        self._releasing = True
        if self._pairing.step is _CERTAIN:
            self._pairing.become_unsure(Incomplete.LOST_BYTES)
        while not self.is_ignored:
            outcome = self._advance_responses()
            if outcome is _NEED_MORE or outcome is _WAITING:
                break
            self._take_response_outcome(outcome)
        self._releasing = False

    def _take_request_outcome(self, outcome: Outcome) -> None:
        requests = self._requests
        pairing = self._pairing
        if outcome is _STARTED:
            message = requests.message
            assert message is not None
            self._stalled_since_ktime_ns = None
            pairing.open_turn(message, self.last_ktime_ns)
            if message.failure is not None:
                self._lose_requests(message.failure)
            elif message.fields.anomalies and not ENDS_DIFFERENTLY.isdisjoint(message.fields.anomalies):
                pairing.become_unsure(Incomplete.INVALID)
                pairing.doubt(Incomplete.INVALID)
        elif outcome is _FINISHED:
            if requests.message is not None and "body_not_sent" in requests.message.fields.anomalies:
                pairing.become_unsure(Incomplete.INVALID)
                pairing.doubt(Incomplete.INVALID)
            pairing.emit_done()
        elif outcome is Outcome.TAIL:
            if not pairing.begin_tail():
                requests.lose_tail()
                self._lose_requests(requests.loss)
        elif outcome is Outcome.LOST or outcome is Outcome.TAIL_LOST:
            self._lose_requests(requests.loss)
        elif outcome is Outcome.HTTP2:
            self._leave_http(HTTP2_PREFACE)

    def _lose_requests(self, cause: Incomplete) -> None:
        """Let what waits for a request go first: its request is among the lost ones, not behind them."""
        self._pairing.lose_requests(cause)
        self._release_stalled()
        if self.streams[_INGRESS if self.role is _CLIENT else _EGRESS].is_waiting:
            # Responses behind a jump could not go first; they may be those of the lost requests.
            self._pairing.doubt(cause)

    def _take_response_outcome(self, outcome: Outcome) -> None:
        self._joining_response = False
        responses = self._responses
        pairing = self._pairing
        if outcome is _STARTED:
            self._answer_turn()
        elif outcome is _FINISHED:
            if self._requests.state == IN_TAIL:
                self._tail_ends.end_answered_upload()
            pairing.finish_response(inferred=responses.finished_by_inference)
        elif outcome is Outcome.INTERIM:
            pairing.note_interim(self._response_side.interim_status)
        elif outcome is Outcome.TAIL:
            if not pairing.begin_tail():
                responses.lose_tail()
                pairing.lose_responses(responses.loss)
        elif outcome is Outcome.LOST:
            pairing.lose_responses(responses.loss)
        elif outcome is Outcome.TAIL_LOST:
            pairing.lose_responses(responses.loss)
            pairing.doubt(responses.loss)
        elif outcome is Outcome.ENDED:
            pairing.end_responses()

    def _answer_turn(self) -> None:
        message = self._responses.message
        assert message is not None
        pairing = self._pairing
        requests_seen = not self.streams[_EGRESS if self.role is _CLIENT else _INGRESS].is_untouched
        turn = pairing.answer_turn(message, requests_seen=requests_seen)
        request = turn.request
        if request is not None and not request.done and not turn.interim:
            # RFC 9110 §10.1.1: a client that waits for 100 may leave out the body after a final status.
            self._requests.may_lack_body = b"expect" in request.fields.framing
        if message.failure is not None:
            pairing.lose_responses(message.failure)
        elif message.tunnel:
            self._counts["connections_upgraded"] += 1
            self._leave_http(b"")
        elif message.done:
            if self._requests.state == IN_TAIL:
                self._tail_ends.end_answered_upload()
            pairing.finish_response(inferred=False)

    def _leave_http(self, preface: bytes) -> None:
        """Go over to what is spoken from here on; `preface` was read as the head of a request."""
        pairing = self._pairing
        pairing.end_probation()
        pairing.emit_done()
        handshake = pairing.take_handshake()
        requests = self._requests.take_unread()
        if preface:
            requests.insert(0, Piece(preface, 0, NOTHING_MISSING, self.last_ktime_ns, 0, True))
        responses = self._responses.take_unread()
        unread = (responses, requests) if self.role is _CLIENT else (requests, responses)
        self.successor = choose_successor(self, self._limits, self._counts, handshake, unread)
        if self.successor is None and handshake is not None:
            pairing.emit(handshake)
        pairing.give_up(Incomplete.LOST_BYTES)
        if self.successor is None:
            self.ignore()
        else:
            self.is_ignored = True
            self._drop()

    def _end_directions(self) -> None:
        """Let the end of the connection end the responses: one that lasts until then is whole."""
        self._responses.end(self.last_ktime_ns)
        while self._responses.has_input and not self.is_ignored:
            outcome = self._advance_responses()
            if outcome is _NEED_MORE or outcome is _WAITING:
                return
            self._take_response_outcome(outcome)
