"""Both directions of one connection: who is who, and which response belongs to which request.

Owns the role, the pairing and the doubt about it. It must not look into bytes beyond telling a request from a
response, and it has no clock: time is that of the events.

Contract: pairs are made by order within each direction, never by time. A pair that may be wrong is flagged; so is
every message that is not whole. How sure the order is, is the `step`:

| step | means | entered | response without request | pair |
|---|---|---|---|---|
| CERTAIN | every byte since birth is accounted for | at birth | held for its request, up to `reorder_ns` | sure |
| ALTERNATING | one request at a time, so the next response is that of the newest request | joined late, or a loss that could not be stepped over | emitted at once | sure while it alternates |
| DOUBTFUL | responses may be due that nobody will see the request of | see below | emitted at once | flagged |

From CERTAIN a loss leads to ALTERNATING, or to DOUBTFUL when this client has ever sent a request before the previous
response was over (pipelining), or when more than one request was open at the loss. From ALTERNATING, pipelining
leads to DOUBTFUL for good. A response without request on a client's socket leads to DOUBTFUL too: its request may
follow, because another thread's write is reported when it returns. That kind of doubt ends with a request that comes
after a quiet `reorder_ns` with nothing open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from ebpf.events import Direction, EventKind, Missing, Role, SocketEvent
from parsers.counters import INCOMPLETE_COUNTER
from parsers.exchange import HttpExchange, HttpRequest, HttpResponse, Incomplete
from parsers.http1 import RequestReader, ResponseReader, detect_side
from parsers.http1_message import Message
from parsers.http1_reader import Outcome
from parsers.limits import ParserLimits
from parsers.stream import ByteStream, Piece

_BY_DESIGN = Missing.BUDGET | Missing.SENDFILE
"""Causes that leave a gap inside one turn of one direction, and lose nothing else."""


class Step(Enum):
    """How sure the order of messages is."""

    CERTAIN = "certain"
    ALTERNATING = "alternating"
    DOUBTFUL = "doubtful"


@dataclass(slots=True)
class Turn:
    """One request and its response while they are read."""

    request: Message[HttpRequest] | None
    response: Message[HttpResponse] | None = None
    flag: Incomplete | None = None
    """Why the two may not belong together, or why one is absent."""
    interim: tuple[int, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether both are read."""
        response = self.response
        return response is not None and response.done and (self.request is None or self.request.done)


class Connection:
    """One connection, from the first event seen of it. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_cause",
        "_closed_ktime_ns",
        "_counts",
        "_doubt_may_end",
        "_id",
        "_joining_response",
        "_last_ktime_ns",
        "_limits",
        "_out",
        "_pipelining_seen",
        "_releasing",
        "_requests",
        "_responses",
        "_role",
        "_socket",
        "_stalled_since_ktime_ns",
        "_step",
        "_streams",
        "_turns",
        "_undecided",
        "accounted_bytes",
        "is_finished",
        "is_ignored",
    )

    def __init__(self, event: SocketEvent, limits: ParserLimits, counts: dict[str, int]) -> None:
        # Every connection begins with OPENED; one that does not was given up before, so its past is unknown.
        joined_late = event.joined_late or (event.kind is EventKind.DATA and event.position > 0)
        begins_at = None if event.position > 0 and event.kind is EventKind.DATA else 0
        self._limits = limits
        self._counts = counts
        self._id = event.connection_id
        self._socket = event.socket
        self._role = Role.UNKNOWN
        self._streams = (ByteStream(limits, counts, begins_at), ByteStream(limits, counts, begins_at))
        self._undecided: tuple[list[Piece], list[Piece]] | None = ([], [])
        self._requests = RequestReader(limits, counts, joined_late=joined_late)
        self._responses = ResponseReader(limits, counts, joined_late=joined_late)
        self._turns: deque[Turn] = deque()
        self._step = Step.ALTERNATING if joined_late else Step.CERTAIN
        self._cause = Incomplete.JOINED_LATE
        self._pipelining_seen = False
        self._doubt_may_end = False
        self._joining_response = joined_late
        self._releasing = False
        self._stalled_since_ktime_ns: int | None = None
        self._closed_ktime_ns: int | None = None
        self._last_ktime_ns = event.ktime_ns
        self._out: list[HttpExchange] = []
        self.accounted_bytes = 0
        self.is_finished = False
        self.is_ignored = False
        if event.role is not Role.UNKNOWN:
            self._take_role(event.role)

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for this connection."""
        total = (
            self._streams[0].held_bytes
            + self._streams[1].held_bytes
            + self._requests.buffered_bytes
            + self._responses.buffered_bytes
        )
        for turn in self._turns:
            if turn.request is not None:
                total += turn.request.buffered_bytes
            if turn.response is not None:
                total += turn.response.buffered_bytes
        return total

    @property
    def is_in_message(self) -> bool:
        """Whether either direction is in the middle of a message."""
        return self._requests.is_in_message or self._responses.is_in_message

    @property
    def needs_time(self) -> bool:
        """Whether something may happen by time alone, so that `expire` must be called."""
        return (
            self._closed_ktime_ns is not None
            or self._stalled_since_ktime_ns is not None
            or self._streams[0].is_waiting
            or self._streams[1].is_waiting
        )

    @property
    def cookie(self) -> int:
        """Key under which the source finds the live connection."""
        return self._socket.cookie

    @property
    def last_ktime_ns(self) -> int:
        """Time of the latest event."""
        return self._last_ktime_ns

    def feed(self, event: SocketEvent) -> list[HttpExchange]:
        """Take an event; return the exchanges that it completes."""
        kind = event.kind
        if self._undecided is not None and event.role is not Role.UNKNOWN:
            self._take_role(event.role)
        if self.is_ignored:
            if kind is EventKind.DATA:
                self._counts["discarded_bytes"] += event.length
        elif kind is EventKind.DATA or kind is EventKind.ENDED:
            direction = event.direction
            stream = self._streams[direction]
            pieces = stream.receive(event) if kind is EventKind.DATA else stream.end(event)
            self._add(direction, pieces)
            self._pump(event.ktime_ns)
        if kind is EventKind.CLOSED and self._closed_ktime_ns is None:
            self._closed_ktime_ns = event.ktime_ns
        self._last_ktime_ns = event.ktime_ns
        return self._take_out()

    def expire(self, ktime_ns: int) -> list[HttpExchange]:
        """Let time pass up to `ktime_ns`; return what that decides."""
        for direction in (Direction.INGRESS, Direction.EGRESS):
            pieces = self._streams[direction].expire(ktime_ns)
            if pieces:
                self._add(direction, pieces)
                self._pump(ktime_ns)
        stalled = self._stalled_since_ktime_ns
        if stalled is not None and ktime_ns - stalled >= self._limits.reorder_ns:
            self._release_stalled()
        closed = self._closed_ktime_ns
        if closed is not None and ktime_ns - closed >= self._limits.close_grace_ns:
            return self.finish(Incomplete.CLOSED)
        return self._take_out()

    def finish(self, cause: Incomplete) -> list[HttpExchange]:
        """End the connection: return what is pending, flagged."""
        self.is_finished = True
        if self.is_ignored:
            return []
        for direction in (Direction.INGRESS, Direction.EGRESS):
            self._add(direction, self._streams[direction].drain())
        self._pump(self._last_ktime_ns)
        self._release_stalled()
        if cause is Incomplete.CLOSED:
            self._end_directions()
        self._requests.abort(cause)
        self._responses.abort(cause)
        while self._turns:
            self._emit(self._turns.popleft(), cause)
        return self._take_out()

    def ignore(self) -> None:
        """Drop everything and read nothing more of this connection."""
        self.is_ignored = True
        self._turns.clear()
        self._requests.abort(Incomplete.STOPPED)
        self._responses.abort(Incomplete.STOPPED)
        self._streams = (
            ByteStream(self._limits, self._counts, None),
            ByteStream(self._limits, self._counts, None),
        )
        self._stalled_since_ktime_ns = None

    def _take_out(self) -> list[HttpExchange]:
        out = self._out
        if out:
            self._out = []
        return out

    # Roles

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        """Hand pieces to the reader of their direction, or keep them until it is known which one that is."""
        if self._undecided is None:
            if (direction is Direction.EGRESS) == (self._role is Role.CLIENT):
                for piece in pieces:
                    self._requests.add(piece)
            else:
                for piece in pieces:
                    self._responses.add(piece)
            return
        kept = self._undecided[direction]
        kept += pieces
        side = detect_side(b"".join(piece.data for piece in kept), joined_late=self._step is not Step.CERTAIN)
        if side is not None:
            self._take_role(Role.CLIENT if side == (direction is Direction.EGRESS) else Role.SERVER)
        elif self._step is not Step.CERTAIN:
            kept.clear()

    def _take_role(self, role: Role) -> None:
        self._role = role
        undecided = self._undecided
        self._undecided = None
        if undecided is not None:
            for direction in (Direction.INGRESS, Direction.EGRESS):
                self._add(direction, undecided[direction])

    # Reading

    def _pump(self, ktime_ns: int) -> None:
        """Read both directions until neither gets on without the other."""
        requests = self._requests
        responses = self._responses
        while not self.is_ignored:
            progress = False
            if requests.has_input:
                requests.gated = self._awaits_switch()
                outcome = requests.advance()
                if outcome is not Outcome.NEED_MORE and outcome is not Outcome.WAITING:
                    self._take_request_outcome(outcome)
                    progress = True
            if not progress and responses.has_input:
                outcome = self._advance_responses()
                if outcome is Outcome.WAITING:
                    self._stall(ktime_ns)
                elif outcome is not Outcome.NEED_MORE:
                    self._take_response_outcome(outcome)
                    progress = True
            if not progress:
                return

    def _advance_responses(self) -> Outcome:
        responses = self._responses
        turn = self._next_turn()
        awaited = turn is not None
        responses.gated = not awaited and self._step is Step.CERTAIN and not self._releasing
        responses.may_resynchronise = awaited or self._joining_response or self._releasing
        if turn is not None and turn.request is not None:
            responses.request_method = turn.request.record.method
            current = self._turns[0]
            responses.may_lack_body = current.request is None and current.response is not None
        else:
            responses.request_method = None
            responses.may_lack_body = False
        return responses.advance()

    def _next_turn(self) -> Turn | None:
        """Return the first turn whose response has not begun; those that have begun stand before it."""
        turns = self._turns
        if not turns or turns[-1].response is not None:
            return None
        for turn in turns:
            if turn.response is None:
                return turn
        return None

    def _awaits_switch(self) -> bool:
        """Whether the last request may end HTTP, so that what follows must wait for its response."""
        if not self._turns:
            return False
        turn = self._turns[-1]
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
        """Read the responses that wait for a request as ones without: their request is not going to be seen."""
        self._stalled_since_ktime_ns = None
        if not self._responses.has_input or self._releasing:
            return
        self._releasing = True
        self._become_unsure(Incomplete.LOST_BYTES, overlap=False)
        while not self.is_ignored:
            outcome = self._advance_responses()
            if outcome is Outcome.NEED_MORE or outcome is Outcome.WAITING:
                break
            self._take_response_outcome(outcome)
        self._releasing = False

    # Requests

    def _take_request_outcome(self, outcome: Outcome) -> None:
        if outcome is Outcome.STARTED:
            message = self._requests.message
            assert message is not None
            self._open_turn(message)
            if message.failure is not None:
                self._lose_requests(message.failure)
        elif outcome is Outcome.FINISHED:
            if (
                self._requests.message is not None
                and "body_not_sent" in self._requests.message.fields.anomalies
            ):
                self._doubt(Incomplete.INVALID)
            self._emit_done()
        elif outcome is Outcome.LOST:
            self._lose_requests(self._requests.loss)
        elif outcome is Outcome.HTTP2:
            self._counts["connections_http2"] += 1
            self._leave_http()

    def _open_turn(self, message: Message[HttpRequest]) -> None:
        self._stalled_since_ktime_ns = None
        if (
            self._step is Step.DOUBTFUL
            and self._doubt_may_end
            and not self._turns
            and message.record.start_ktime_ns - self._last_ktime_ns >= self._limits.reorder_ns
        ):
            self._step = Step.ALTERNATING
        flag = self._cause if self._step is Step.DOUBTFUL else None
        self._turns.append(Turn(message, None, flag))
        self._counts["requests"] += 1
        if len(self._turns) > self._limits.max_pending_messages:
            # Giving up only the oldest would shift every later pair by one.
            self._counts["pending_overflows"] += 1
            self._pipelining_seen = True
            self._become_unsure(Incomplete.LOST_BYTES, overlap=True)
            while len(self._turns) > 1:
                self._emit(self._turns.popleft(), Incomplete.EVICTED)

    def _lose_requests(self, cause: Incomplete) -> None:
        """Note that requests of unknown number were lost; the turns before them keep their place."""
        self._counts["lost_places"] += 1
        unanswered = sum(turn.response is None for turn in self._turns)
        cut = (
            bool(self._turns)
            and (request := self._turns[-1].request) is not None
            and request.failure is not None
        )
        self._release_stalled()
        self._become_unsure(cause, overlap=unanswered > cut)
        self._emit_done()

    # Responses

    def _take_response_outcome(self, outcome: Outcome) -> None:
        self._joining_response = False
        responses = self._responses
        if outcome is Outcome.STARTED:
            message = responses.message
            assert message is not None
            self._answer_turn(message)
            if message.failure is not None:
                self._lose_responses(message.failure, by_design=False)
            elif message.tunnel:
                self._counts["connections_upgraded"] += 1
                self._leave_http()
            elif message.done:
                self._finish_response()
        elif outcome is Outcome.FINISHED:
            self._finish_response()
        elif outcome is Outcome.INTERIM:
            turn = self._next_turn()
            if turn is not None and len(turn.interim) < self._limits.max_interim:
                turn.interim += (responses.interim_status,)
        elif outcome is Outcome.LOST:
            by_design = bool(responses.loss_missing) and not responses.loss_missing & ~_BY_DESIGN
            self._lose_responses(responses.loss, by_design=by_design)
        elif outcome is Outcome.ENDED:
            # Nobody will answer what is still open.
            while self._turns and self._turns[0].request is not None and self._turns[0].request.done:
                self._emit(self._turns.popleft(), Incomplete.CLOSED)

    def _answer_turn(self, message: Message[HttpResponse]) -> None:
        self._counts["responses"] += 1
        turn = self._next_turn()
        if turn is None:
            turn = Turn(None, message, self._orphan_flag())
            self._turns.append(turn)
            if self._role is Role.CLIENT:
                self._doubt(self._cause)
            return
        turn.response = message
        if self._turns[-1].response is None:
            self._see_pipelining()
        request = turn.request
        if request is not None and not request.done and not turn.interim:
            # RFC 9110 §10.1.1: a client that waits for 100 may leave out the body after a final status.
            self._requests.may_lack_body = b"expect" in request.fields.framing

    def _orphan_flag(self) -> Incomplete:
        requests = self._streams[Direction.EGRESS if self._role is Role.CLIENT else Direction.INGRESS]
        if self._cause is Incomplete.JOINED_LATE and self._step is not Step.CERTAIN:
            return Incomplete.JOINED_LATE
        return Incomplete.ONE_SIDE if requests.is_untouched else Incomplete.LOST_BYTES

    def _finish_response(self) -> None:
        if len(self._turns) > 1 and not self._responses.finished_by_gap:
            self._see_pipelining()
        self._emit_done()

    def _see_pipelining(self) -> None:
        """Note that a request was there before the previous response was over."""
        self._pipelining_seen = True
        if self._step is not Step.CERTAIN:
            self._step = Step.DOUBTFUL
            self._doubt_may_end = False
            for turn in self._turns:
                turn.flag = turn.flag or self._cause

    def _lose_responses(self, cause: Incomplete, *, by_design: bool) -> None:
        """Note that responses of unknown number were lost: only the newest request can still be answered."""
        self._counts["lost_places"] += 1
        begun = bool(self._turns) and self._turns[0].response is not None
        unanswered = sum(turn.response is None for turn in self._turns)
        newest = self._turns[-1] if unanswered else None
        while self._turns and self._turns[0] is not newest:
            self._emit(self._turns.popleft(), cause)
        self._become_unsure(cause, overlap=unanswered > 1)
        if newest is not None and not (by_design and begun and self._step is Step.ALTERNATING):
            newest.flag = newest.flag or cause

    # Doubt

    def _become_unsure(self, cause: Incomplete, *, overlap: bool) -> None:
        if self._step is Step.CERTAIN:
            self._step = Step.ALTERNATING
        self._cause = cause
        if self._pipelining_seen:
            self._step = Step.DOUBTFUL
            self._doubt_may_end = False
        elif overlap:
            self._doubt(cause)

    def _doubt(self, cause: Incomplete) -> None:
        """Flag pairs from here on, until a quiet spell shows that nothing is due."""
        if self._step is not Step.DOUBTFUL:
            self._step = Step.DOUBTFUL
            self._doubt_may_end = not self._pipelining_seen
            self._cause = cause

    # Emission

    def _leave_http(self) -> None:
        while self._turns:
            self._emit(self._turns.popleft(), Incomplete.LOST_BYTES)
        self.ignore()

    def _end_directions(self) -> None:
        """Let the end of the connection end the responses: one that lasts until then is whole."""
        self._responses.end(self._last_ktime_ns)
        while self._responses.has_input and not self.is_ignored:
            outcome = self._advance_responses()
            if outcome is Outcome.NEED_MORE or outcome is Outcome.WAITING:
                return
            self._take_response_outcome(outcome)

    def _emit_done(self) -> None:
        turns = self._turns
        while turns and turns[0].is_done:
            self._emit(turns.popleft(), None)

    def _emit(self, turn: Turn, cause: Incomplete | None) -> None:
        request = turn.request
        response = turn.response
        limits = self._limits
        anomalies: list[str] = []
        incomplete: Incomplete | None = None
        if request is not None:
            if not request.done:
                request.fail(cause or Incomplete.CLOSED, limits)
            incomplete = request.failure
            anomalies += request.fields.anomalies
        if response is not None:
            if not response.done:
                response.fail(cause or Incomplete.CLOSED, limits)
            incomplete = incomplete or response.failure
            anomalies += response.fields.anomalies
            response.record.interim = turn.interim
        incomplete = incomplete or turn.flag
        if response is None:
            incomplete = incomplete or cause or Incomplete.ONE_SIDE
        first = request or response
        assert first is not None
        counts = self._counts
        counts["exchanges"] += 1
        if incomplete is not None:
            counts[INCOMPLETE_COUNTER[incomplete]] += 1
            if response is None:
                counts["requests_unpaired"] += 1
            elif request is None:
                counts["responses_unpaired"] += 1
        self._out.append(
            HttpExchange(
                self._id,
                self._socket,
                self._role,
                first.tgid,
                None if request is None else request.record,
                None if response is None else response.record,
                incomplete,
                tuple(dict.fromkeys(anomalies)) if anomalies else (),
                response is not None and response.tunnel,
            )
        )
