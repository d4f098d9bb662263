"""Both directions of a conversation over HTTP/1: which one carries requests, and what is read when.

Owns the readers, the role, and the order in which both directions are read. It must not pair
(`pairing`) or look into bytes beyond telling a request from a response, and it has no clock: time is that
of the events.

Contract: a response is read only when it is known which request it answers, because its framing depends on
that. While every byte of a connection is accounted for, a response without request is held for its request:
two threads may report their calls in either order. It waits for `ParserLimits.reorder_ns` and
within `ParserLimits.max_stream_buffer`.

Everything goes the long way here; `connection` adds the short one.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, EventKind, Missing, Origin, Role, SocketEvent
from parsers.connection import Connection, begins_late
from parsers.exchange import Exchange, Incomplete
from parsers.http1.certainty import Certainty
from parsers.http1.direct import DirectReader
from parsers.http1.disputes import ENDS_DIFFERENTLY
from parsers.http1.framing import METHODS_THAT_FRAME
from parsers.http1.message import Message
from parsers.http1.outcome import IN_HEAD, IN_TAIL, UNTIL_END, Outcome
from parsers.http1.pairing import Pairing
from parsers.http1.probation import QUIET_NS as PROBATION_QUIET_NS
from parsers.http1.reading_context import REQUEST_CONTEXTS, RESPONSE_CONTEXTS
from parsers.http1.sides import HTTP2_PREFACE, RequestSide, ResponseSide
from parsers.http1.tail_end import TailEnds
from parsers.http1.unanswered import Ends, explain_unanswered
from parsers.http1.undecided import UndecidedSides
from parsers.http1.unsolicited import UNSOLICITED_STATUSES, may_be_unsolicited
from parsers.http_exchange import HttpRequest, HttpResponse
from parsers.limits import ParserLimits
from parsers.prologue import Prologue
from parsers.protocol_switch import choose_successor
from parsers.stream import NOTHING_MISSING, Piece
from parsers.tunnel import TunnelConnection

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_DATA: Final = EventKind.DATA
_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_CLIENT: Final = Role.CLIENT
_UNKNOWN: Final = Role.UNKNOWN
_CERTAIN: Final = Certainty.CERTAIN
_NEED_MORE: Final = Outcome.NEED_MORE
_WAITING: Final = Outcome.WAITING
_STARTED: Final = Outcome.STARTED
_FINISHED: Final = Outcome.FINISHED


class Http1Conversation(Connection):
    """One connection that speaks HTTP/1, from the first event seen of it, read the long way."""

    __slots__ = (
        "_ends",
        "_expected",
        "_expected_method",
        "_joining_response",
        "_may_lack_body",
        "_pairing",
        "_readers",
        "_releasing",
        "_requests",
        "_response_side",
        "_responses",
        "_stalled_since_ktime_ns",
        "_tail_ends",
        "_undecided",
        "_was_certain",
    )

    def __init__(
        self,
        origin: SocketEvent | Connection,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        joined_late: bool | None = None,
        unread: tuple[list[Piece], list[Piece]] | None = None,
    ) -> None:
        """Begin with the first event of a connection, or take over from a tunnel.

        `joined_late` says that the beginning was not seen; None leaves that to the event. `unread` is what
        the tunnel left unread, by direction.
        """
        super().__init__(origin, limits, counts)
        if joined_late is None:
            joined_late = not isinstance(origin, Connection) and begins_late(origin)
        self._undecided: UndecidedSides | None = UndecidedSides(limits)
        self._response_side = ResponseSide()
        self._requests = DirectReader(RequestSide(limits), limits, counts, joined_late=joined_late)
        self._responses = DirectReader(self._response_side, limits, counts, joined_late=joined_late)
        self._readers: tuple[DirectReader[HttpRequest] | DirectReader[HttpResponse], ...] = ()
        self._pairing = Pairing(self.numbers, self.socket, limits, counts, joined_late=joined_late)
        self._pairing.prologue = self.prologue
        if isinstance(origin, SocketEvent) and origin.kind is _DATA and origin.missing & Missing.RING_FULL:
            self._pairing.doubt(Incomplete.LOST_BYTES)  # OPENED was lost as well
        self._tail_ends = TailEnds(self._requests, self._responses, self._pairing, limits, counts)
        self._ends = Ends()
        self._joining_response = joined_late
        self._releasing = False
        self._was_certain = False
        """Until the responses that wait were released, every byte was accounted for."""
        self._stalled_since_ktime_ns: int | None = None
        self._expected: Direction | None = None
        """Direction whose next bytes may be read directly; None when the long way is needed."""
        self._expected_method: bytes | None = None
        """Method of the request whose response is expected then."""
        self._may_lack_body = False
        """The request being read was answered while its client may have waited for 100."""
        if origin.role is not _UNKNOWN:
            self._take_role(origin.role)
        if unread is not None:
            self._add(_INGRESS, unread[_INGRESS])
            self._add(_EGRESS, unread[_EGRESS])

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

    def _expire(self, ktime_ns: int) -> None:
        stalled = self._stalled_since_ktime_ns
        if stalled is not None and ktime_ns - stalled >= self._limits.reorder_ns:
            self._release_stalled()
        if self._tail_ends.due_ktime_ns(self.last_ktime_ns, self.asked_ktime_ns) <= ktime_ns:
            self._tail_ends.end_quiet()
        if self._pairing.is_holding and self.last_ktime_ns + PROBATION_QUIET_NS <= ktime_ns:
            self._pairing.end_probation()

    def _finish(self, cause: Incomplete) -> None:
        if self.closed_ktime_ns is not None:
            # Whatever else ends the wait for late bytes, the connection has ended before.
            cause = Incomplete.CLOSED
        self._pairing.end_probation()
        self._release_stalled()
        is_closed = cause is Incomplete.CLOSED
        self._tail_ends.end_for_good(is_closed=is_closed)
        if self._responses.state == UNTIL_END and is_closed and self.socket.tls is not None:
            self._end_session_response()
        self._requests.abort(cause)
        self._responses.abort(cause)
        self._pairing.give_up(cause, self._explain_unanswered() if is_closed else None)

    def _drop(self) -> None:
        self._pairing.end_probation()
        self._pairing.turns.clear()
        self._requests.abort(Incomplete.STOPPED)
        self._responses.abort(Incomplete.STOPPED)
        self._stalled_since_ktime_ns = None

    def _take_out(self) -> list[Exchange]:
        return self._pairing.take_out()

    def _note_prologue(self, prologue: Prologue) -> None:
        self._pairing.prologue = prologue

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        """Hand pieces to the reader of their direction, or keep them until it is known which one that is."""
        undecided = self._undecided
        if undecided is None:
            reader = self._readers[direction]
            if reader is self._responses:
                self._requests.passed_over = False
            for piece in pieces:
                reader.add(piece)
            return
        is_sure = self._pairing.certainty is _CERTAIN
        if not is_sure and any(piece.gap for piece in pieces):
            self._pairing.pass_over_requests(Incomplete.LOST_BYTES)
        side = undecided.add(direction, pieces, is_sure=is_sure)
        if side is not None:
            self._take_role(_CLIENT if side == (direction is _EGRESS) else Role.SERVER)
        elif is_sure and undecided.is_full(direction):
            self._pairing.become_unsure(Incomplete.LOST_BYTES)
            undecided.pieces[direction].clear()

    def _take_role(self, role: Role) -> None:
        self.role = self._pairing.role = role
        requests, responses = self._requests, self._responses
        self._readers = (responses, requests) if role is _CLIENT else (requests, responses)
        undecided = self._undecided
        self._undecided = None
        if undecided is not None:
            for direction in (_INGRESS, _EGRESS):
                self._add(direction, undecided.pieces[direction])
            self._requests.passed_over = undecided.passed_over is (_EGRESS if role is _CLIENT else _INGRESS)

    def _pump(self, ktime_ns: int) -> None:
        """Read both directions until neither gets on without the other."""
        requests = self._requests
        responses = self._responses
        while not self.is_ignored:
            progress = False
            if requests.has_input:
                may_begin = not (self._pairing.turns and self._awaits_switch())
                may_resynchronise = requests.state != IN_TAIL or self._tail_ends.may_upload_be_over()
                outcome = requests.advance(
                    REQUEST_CONTEXTS[may_begin, may_resynchronise, self._may_lack_body]
                )
                if requests.is_ambiguous:
                    requests.is_ambiguous = False
                    turns = self._pairing.turns
                    self._pairing.dispute(turns[-1] if turns else None)
                if requests.passed_gap:
                    requests.passed_gap = False
                    self._pairing.pass_over_requests(requests.loss)
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
        pairing = self._pairing
        turn = pairing.next_turn()
        awaited = turn is not None
        may_lack_body = False
        if turn is not None and turn.request is not None:
            method = turn.request.record.method
            current = pairing.turns[0]
            may_lack_body = current.request is None and current.response is not None
        else:
            method = pairing.refused_method
        may_begin = awaited or self._releasing or pairing.certainty is not _CERTAIN
        may_resynchronise = awaited or self._releasing or self._joining_response
        if method not in METHODS_THAT_FRAME:
            method = None
        outcome = responses.advance(
            RESPONSE_CONTEXTS[may_begin, may_resynchronise, may_lack_body, awaited, method]
        )
        if responses.passed_over:
            responses.passed_over = False
            came_ahead = responses.passed_message or responses.passed_gap
            pairing.pass_over_responses(came_ahead=came_ahead)
            responses.passed_message = responses.passed_gap = False
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
        if self._requests.state == IN_HEAD:
            # The server has answered what came of the head.
            self._requests.refuse_unfinished(self.last_ktime_ns)
            self._lose_requests(self._requests.loss)
        if self._pairing.certainty is _CERTAIN:
            self._was_certain = True
            self._pairing.become_unsure(Incomplete.LOST_BYTES)
        while not self.is_ignored:
            outcome = self._advance_responses()
            if outcome is _NEED_MORE or outcome is _WAITING:
                break
            self._take_response_outcome(outcome)
        self._releasing = False
        self._was_certain = False

    def _take_request_outcome(self, outcome: Outcome) -> None:
        requests = self._requests
        pairing = self._pairing
        if outcome is _STARTED:
            message = requests.message
            assert message is not None
            self._stalled_since_ktime_ns = None
            self._may_lack_body = False
            if requests.passed_over:
                # A request may be among the bytes before this one, for nothing answered them.
                requests.passed_over = False
                pairing.doubt()
            pairing.open_turn(message, self.last_ktime_ns)
            if message.failure is not None:
                self._lose_requests(message.failure)
            elif message.fields.anomalies and not ENDS_DIFFERENTLY.isdisjoint(message.fields.anomalies):
                pairing.become_unsure(Incomplete.INVALID)
                pairing.doubt(Incomplete.INVALID)
        elif outcome is _FINISHED:
            finished = requests.message
            if finished is not None and finished.failure is Incomplete.CLOSED:
                pairing.cut_request(finished)
            elif finished is not None and "body_not_sent" in finished.fields.anomalies:
                pairing.dispute()
            pairing.emit_done()
        elif outcome is Outcome.TAIL:
            if not pairing.begin_tail():
                requests.lose_tail()
                self._lose_requests(requests.loss)
        elif outcome is Outcome.LOST or outcome is Outcome.TAIL_LOST:
            self._lose_requests(requests.loss)
        elif outcome is Outcome.HTTP2:
            self._leave_http(HTTP2_PREFACE)
        elif outcome is Outcome.ENDED:
            self._ends.end_requests()
            self._take_refused()

    def _take_refused(self) -> None:
        """Let a head that is none wait for the response that refuses it."""
        refused = self._requests.refused
        if refused is not None:
            self._requests.refused = None
            self._pairing.refuse(refused)

    def _lose_requests(self, cause: Incomplete) -> None:
        """Let what waits for a request go first: its request is among the lost ones, not behind them."""
        self._pairing.lose_requests(cause)
        self._take_refused()
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
            self._ends.end_responses()
            pairing.end_responses(self._explain_unanswered())

    def _explain_unanswered(self) -> Incomplete:
        is_client = self.role is _CLIENT
        return explain_unanswered(
            self._ends,
            left_out=self.streams[_INGRESS if is_client else _EGRESS].is_untouched,
            answered_unseen=self._pairing.calls.answered_unseen,
            is_client=is_client,
            is_tls=self.socket.tls is not None,
        )

    def _answer_turn(self) -> None:
        message = self._responses.message
        assert message is not None
        pairing = self._pairing
        requests = self.streams[_EGRESS if self.role is _CLIENT else _INGRESS]
        requests_seen = not requests.is_untouched
        turn = pairing.answer_turn(
            message,
            requests_seen=requests_seen,
            requests_wait=requests.is_waiting,
            may_be_unsolicited=message.record.status in UNSOLICITED_STATUSES
            and self._may_be_unsolicited(message, requests_seen=requests_seen),
        )
        request = turn.request
        if request is not None and not turn.interim and request.awaits_continue:
            # RFC 9110 §10.1.1: a client that waits for 100 may leave out the body after a final status.
            if request.may_be_next or (request.size and message.record.start_ktime_ns < request.end_ktime_ns):
                pairing.dispute(turn)
            elif not request.done:
                self._may_lack_body = True
        if message.failure is not None:
            pairing.lose_responses(message.failure)
        elif message.tunnel:
            self._counts["connections_upgraded"] += 1
            self._leave_http(b"")
        elif message.done:
            if self._requests.state == IN_TAIL:
                self._tail_ends.end_answered_upload()
            pairing.finish_response(inferred=False)

    def _may_be_unsolicited(self, message: Message[HttpResponse], *, requests_seen: bool) -> bool:
        """Whether a server may have sent a response without a request, and no request may be missing."""
        joined = requests_seen and self._pairing.alternates_since_late_join
        requests = self.streams[_EGRESS if self.role is _CLIENT else _INGRESS]
        if not (self._was_certain or joined) or requests.is_waiting:
            return False
        is_over = self._responses.is_ending or self.closed_ktime_ns is not None
        record = message.record
        return may_be_unsolicited(message.fields, record.version, record.status, is_over=is_over)

    def _leave_http(self, preface: bytes) -> None:
        """Go over to what is spoken from here on; `preface` was read as the head of a request."""
        pairing = self._pairing
        pairing.end_probation()
        pairing.emit_done()
        handshake = pairing.take_handshake()
        requests = self._requests.take_unread()
        if preface:
            requests.insert(
                0, Piece(preface, 0, NOTHING_MISSING, self.last_ktime_ns, Origin(self.last_ktime_ns), True)
            )
        responses = self._responses.take_unread()
        unread = (responses, requests) if self.role is _CLIENT else (requests, responses)
        self.successor = choose_successor(
            self, self._limits, self._counts, handshake, unread, http1=type(self)
        )
        is_over = self.successor is None or isinstance(self.successor, TunnelConnection)
        if is_over and handshake is not None:
            pairing.emit(handshake)
        pairing.give_up(Incomplete.LOST_BYTES)
        if self.successor is None:
            self.ignore()
        else:
            self.is_ignored = True
            self._drop()

    def _end_session_response(self) -> None:
        """Let the end of a TLS session end the response that lasts until then.

        No other end of a session is seen, so whether it came in order is unknown. On a socket it is known:
        there, only `EventKind.ENDED` ends such a response (RFC 9112 §8).
        """
        self._responses.end(self.last_ktime_ns)
        while self._responses.has_input:
            self._take_response_outcome(self._advance_responses())
