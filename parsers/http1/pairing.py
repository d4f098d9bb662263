"""Which response belongs to which request, and how sure that is.

Owns the open requests of one connection, the pairing and the doubt about it. It must not read bytes:
`conversation` reports what began, ended and was lost, in the order in which each direction carried it.

Contract: pairs are made by order within each direction, never by time. A pair that may be wrong is flagged;
so is every message that is not whole. How sure the order is, is its `certainty`, which changes so:

| from | when | to |
|---|---|---|
| (birth) | seen from its first byte | CERTAIN |
| (birth) | joined late | ALTERNATING |
| CERTAIN | a loss that could not be stepped over, or an unseen tail, one request open at most | ALTERNATING |
| any | such a loss, more requests open | DOUBTFUL, may end |
| any | a loss of requests, or at a client of responses, the client not being proven yet | DOUBTFUL, may end |
| any | the same bytes read in two ways: `invalid`, or a body perhaps left out | DOUBTFUL, may end |
| any | such a loss, and this client has pipelined before | DOUBTFUL for good |
| ALTERNATING | a request was there before the previous response was over (pipelining) | DOUBTFUL for good |
| ALTERNATING | a client's socket shows a response without request | DOUBTFUL, may end |
| ALTERNATING | any socket does, while pairs are held or a request may be read late | DOUBTFUL, may end |
| ALTERNATING | the next response after lost requests, nothing of the responses missing | DOUBTFUL, may end |
| DOUBTFUL, may end | a request after a quiet `doubt_quiet_ns` with nothing open or owed | ALTERNATING |
| ALTERNATING | a loss of responses that may lie in the silence which ended the doubt | DOUBTFUL, may end |

A client is proven after `PROVEN_TURNS` requests that were sent one at a time while nothing was lost: until
then a loss may hide that it pipelines. Each lost request has a response, seen or lost; so with nothing of the
responses missing, the next one answers a lost request. A response that a client lost with nothing open
answers the request that is reported next. Behind a loss every response may be that of the request before,
because calls of other threads are reported late, by `reorder_ns` at most. Requests are flagged until silence
ends the doubt, or a response comes later than that after its request. A client's response without request may
be reported before its own, which then looks like the request of the next one.

After a late join pairs are held at first, to be flagged should doubt come up (`probation`). What is no pair
of two whole messages is in `turn`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ebpf.events import Role, SocketInfo
from parsers.counters import INCOMPLETE_COUNTER
from parsers.exchange import Exchange, Incomplete
from parsers.http1.certainty import Certainty
from parsers.http1.message import Message
from parsers.http1.probation import Probation
from parsers.http1.turn import Turn, close_turn
from parsers.http1.unanswered import RequestCalls
from parsers.http_exchange import HttpExchange, HttpRequest, HttpResponse
from parsers.limits import ParserLimits
from parsers.numbering import ExchangeNumbers
from parsers.prologue import Prologue

# Bound once: looking up a member of an enumeration takes longer than comparing it.
_CERTAIN: Final = Certainty.CERTAIN
_ALTERNATING: Final = Certainty.ALTERNATING
_DOUBTFUL: Final = Certainty.DOUBTFUL

PROVEN_TURNS = 3
"""Requests, each sent when nothing was open, after which a client counts as one that sends one at a time. One
that pipelines shows it with its first requests, and what is lost later is lost of a client that is known."""


class Pairing:
    """The requests and responses of one connection. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_cause",
        "_counts",
        "_doubt_may_end",
        "_is_behind_loss",
        "_limits",
        "_numbers",
        "_out",
        "_owes_response",
        "_pipelining_seen",
        "_probation",
        "_quiet_is_unproven",
        "_refused",
        "_response_came_ahead",
        "_response_seen",
        "_socket",
        "_turns_alone",
        "calls",
        "certainty",
        "prologue",
        "role",
        "turns",
    )

    def __init__(
        self,
        numbers: ExchangeNumbers,
        socket: SocketInfo,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        joined_late: bool,
    ) -> None:
        self._numbers = numbers
        self._socket = socket
        self._limits = limits
        self._counts = counts
        self._cause = Incomplete.JOINED_LATE
        self._pipelining_seen = False
        self._doubt_may_end = False
        self._owes_response = False
        self._response_came_ahead = False
        self._is_behind_loss = False
        """Messages were lost, and nothing has shown since that reports are not one behind."""
        self._quiet_is_unproven = False
        """Silence has ended the doubt, and no response since shows that none was lost in it."""
        self._turns_alone = 0
        self._out: list[Exchange] = []
        self.prologue: Prologue | None = None
        """Set from outside: what stood in front of HTTP on the connection."""
        self.role = Role.UNKNOWN
        self.certainty = _ALTERNATING if joined_late else _CERTAIN
        self.turns: deque[Turn] = deque()
        self._probation = Probation() if joined_late else None
        self._refused: Message[HttpRequest] | None = None
        """A head that is none and awaits the response that refuses it."""
        self._response_seen = False
        self.calls = RequestCalls()

    @property
    def alternates_since_late_join(self) -> bool:
        """Whether one request at a time was seen since a late join, and no loss."""
        return self.certainty is _ALTERNATING and self._cause is Incomplete.JOINED_LATE

    @property
    def refused_method(self) -> bytes | None:
        """Method of the head that awaits its refusal; None when there is none, or it is unknown."""
        return None if self._refused is None else self._refused.record.method

    @property
    def on_probation(self) -> bool:
        """Whether pairs are held until nothing speaks against them."""
        return self._probation is not None

    @property
    def is_holding(self) -> bool:
        """Whether pairs are held, or will be when they are taken out."""
        return self._probation is not None and (self._probation.is_holding or bool(self._out))

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for messages whose exchange is not emitted yet, or not taken out."""
        total = 0 if self._probation is None else self._probation.held_bytes(self._out)
        for turn in self.turns:
            if turn.request is not None:
                total += turn.request.buffered_bytes
            if turn.response is not None:
                total += turn.response.buffered_bytes
        return total

    @property
    def _is_proven(self) -> bool:
        """Whether the client has shown that it sends one request at a time."""
        return self._turns_alone >= PROVEN_TURNS

    def take_out(self) -> list[Exchange]:
        """Return the exchanges emitted since the last call."""
        out = self._out
        probation = self._probation
        if probation is not None:
            self._out = []
            if self.certainty is _ALTERNATING and not probation.is_passed:
                return probation.hold(out)
            out = probation.hold(out)
            if self.certainty is _DOUBTFUL:
                self._counts[INCOMPLETE_COUNTER[self._cause]] += probation.flag(self._cause)
            self._probation = None
            return out + probation.release()
        if not out:
            return []
        self._out = []
        return out

    def end_probation(self) -> None:
        """Believe the client: time is over, or nothing more will come."""
        if self._probation is not None:
            self._out = self._probation.release() + self._out
            self._probation = None

    def take_handshake(self) -> HttpExchange | None:
        """Take back the exchange that switched the protocol, if that is what was emitted last."""
        last = self._out[-1] if self._out else None
        if isinstance(last, HttpExchange) and last.upgraded:
            del self._out[-1]
            return last
        return None

    def emit(self, exchange: HttpExchange) -> None:
        """Emit an exchange that was taken back."""
        self._out.append(exchange)

    def next_turn(self) -> Turn | None:
        """Return the first turn whose response has not begun; those that have begun stand before it."""
        turns = self.turns
        if not turns or turns[-1].response is not None:
            return None
        for turn in turns:
            if turn.response is None:
                break
        return turn

    def open_turn(self, message: Message[HttpRequest], last_ktime_ns: int) -> None:
        """Take a request whose head was read; `last_ktime_ns` is the time of the event before it."""
        turns = self.turns
        if not turns:
            quiet_ns = message.record.start_ktime_ns - last_ktime_ns
            if quiet_ns >= self._limits.doubt_quiet_ns and not self._owes_response:
                if self.certainty is _DOUBTFUL and self._doubt_may_end:
                    self.certainty = _ALTERNATING
                    self._quiet_is_unproven = True
                self._is_behind_loss = False
        if not self._pipelining_seen:
            # One request at a time: this one says that the response to the one before is over, wherever it
            # went.
            while turns and turns[0].may_be_answered and turns[0].response is None:
                self._emit(turns.popleft(), Incomplete.LOST_BYTES)
                # Unless its report is late: then it comes next, and every response may be one behind.
                self._is_behind_loss = True
        if not turns:
            self._turns_alone += self.certainty is not _DOUBTFUL
            if self._probation is not None:
                self._probation.count_turn()
        if self._refused is not None:
            # Whether the response to come answers the refused head or this request, nothing says.
            self._refused = None
            self.doubt(Incomplete.INVALID)
        if turns:
            self.calls.compare(turns[-1], message)
        ordinal = self._numbers.begin_request(message.origin)
        turn = Turn(ordinal, message, None, self._cause if self.certainty is _DOUBTFUL else None)
        turns.append(turn)
        if self._is_behind_loss:
            turn.flag = turn.flag or self._cause
        if self._response_came_ahead:
            self._response_came_ahead = False
            self._is_behind_loss = True
            turn.flag = turn.flag or self._cause
            turn.may_be_answered = True
        self._counts["requests"] += 1
        if len(turns) > self._limits.max_pending_messages:
            # Giving up only the oldest would shift every later pair by one.
            self._counts["pending_overflows"] += 1
            is_one_sided = (
                self.calls.answered_unseen
                and not self._response_seen
                and (not self._pipelining_seen or self._cause is Incomplete.ONE_SIDE)
            )
            self._pipelining_seen = True
            self.become_unsure(Incomplete.ONE_SIDE if is_one_sided else Incomplete.LOST_BYTES)
            newest = turns.pop()
            self.give_up(Incomplete.ONE_SIDE if is_one_sided else Incomplete.EVICTED)
            newest.flag = newest.flag or self._cause
            turns.append(newest)

    def answer_turn(
        self,
        message: Message[HttpResponse],
        *,
        requests_seen: bool,
        requests_wait: bool,
        may_be_unsolicited: bool,
    ) -> Turn:
        """Take a response whose head was read; return its turn.

        `requests_wait` says that bytes of requests wait for others that are late. `may_be_unsolicited` says
        that no request is known to be missing, and that the server closes the connection with this response.
        """
        self._counts["responses"] += 1
        self._response_seen = True
        self._quiet_is_unproven = False
        turn = self.next_turn()
        if turn is None:
            if self._refused is not None:
                turn = Turn(self._numbers.begin_request(self._refused.origin), self._refused, message)
                self._refused = None
                self.turns.append(turn)
                return turn
            late = self._cause is Incomplete.JOINED_LATE and self.certainty is not _CERTAIN
            absence = Incomplete.LOST_BYTES if requests_seen else Incomplete.ONE_SIDE
            if late:
                absence = Incomplete.JOINED_LATE
            if may_be_unsolicited:
                absence = Incomplete.UNSOLICITED
            # Its request may be read yet, behind the one in progress, and take the next response.
            may_follow = requests_wait or bool(self.turns)
            turn = Turn(self._numbers.take(), None, message, absence)
            self.turns.append(turn)
            self._owes_response = False
            if self.role is Role.CLIENT or self.is_holding or may_follow:
                self.doubt(self._cause)
            return turn
        if self._owes_response and not turn.precedes_loss:
            # Nothing of the responses is missing since, so this one answers a request that was lost.
            self._owes_response = False
            self.doubt(self._cause)
            turn.flag = turn.flag or self._cause
        if turn.may_be_answered and self.role is Role.CLIENT:
            self.doubt(self._cause)
        if self._is_behind_loss:
            # After that long it is no late report of the response before.
            waited_ns = message.record.start_ktime_ns - turn.origin.ktime_ns
            self._is_behind_loss = waited_ns <= self._limits.reorder_ns
        turn.response = message
        if self.turns[-1].response is None:
            self._see_pipelining()
        return turn

    def note_interim(self, status: int) -> None:
        """Take a 1xx response: it belongs to the request that is answered next."""
        turn = self.next_turn()
        if turn is not None and len(turn.interim) < self._limits.max_interim:
            turn.interim += (status,)

    def finish_response(self, *, inferred: bool) -> None:
        """Note that the response being read is over; when `inferred`, what came meanwhile proves nothing."""
        if len(self.turns) > 1 and not inferred:
            self._see_pipelining()
        self.emit_done()

    def refuse(self, head: Message[HttpRequest]) -> None:
        """Take a head that is none: it is shown if the next response is left for it."""
        self._refused = head

    def cut_request(self, message: Message[HttpRequest]) -> None:
        """Note that the client ended its direction inside a request."""
        turns = self.turns
        if turns and turns[-1].request is message and turns[-1].response is None:
            turns[-1].cut_by_client = True

    def end_responses(self, unanswered: Incomplete) -> None:
        """Note that no response will come any more; `unanswered` says what that means for open requests."""
        turns = self.turns
        while turns and (request := turns[0].request) is not None and request.done:
            self._emit(turns.popleft(), unanswered)

    def lose_requests(self, cause: Incomplete) -> None:
        """Note that requests of unknown number were lost; the turns before them keep their place."""
        self._counts["lost_places"] += 1
        turns = self.turns
        unanswered = sum(turn.response is None for turn in turns)
        cut = bool(turns) and (request := turns[-1].request) is not None and request.failure is not None
        was_certain = self.certainty is _CERTAIN
        self.become_unsure(cause)
        if unanswered > cut or not self._is_proven or cause is Incomplete.INVALID:
            self.doubt(cause)
        self._owes_response = True
        if was_certain:
            for turn in turns:
                turn.precedes_loss = True
        self._is_behind_loss = True
        self.emit_done()

    def pass_over_requests(self, cause: Incomplete) -> None:
        """Note that bytes were lost in which requests of unknown number may have begun."""
        if not self._is_proven:
            self.doubt(cause)

    def begin_tail(self) -> bool:
        """Note that the rest of a message passes unseen; False when other messages may pass with it.

        A client that sends one request at a time has sent one at most whose response has not begun: the one
        that passes, or the one behind the response that passes.
        """
        unanswered = sum(turn.response is None for turn in self.turns)
        if self._pipelining_seen or unanswered > 1:
            return False
        self.become_unsure(Incomplete.LOST_BYTES)
        self._counts["unseen_tails"] += 1
        return True

    def lose_responses(self, cause: Incomplete) -> None:
        """Note that responses of unknown number were lost: only the newest request can still be answered."""
        self._counts["lost_places"] += 1
        self._response_seen = True
        self._refused = None
        turns = self.turns
        unanswered = sum(turn.response is None for turn in turns)
        newest = turns[-1] if unanswered else None
        cut = bool(turns) and (response := turns[0].response) is not None and response.failure is not None
        is_client = self.role is Role.CLIENT
        if is_client and not unanswered and not cut and not self._owes_response:
            self._response_came_ahead = True
        self._owes_response = False
        while turns and turns[0] is not newest:
            self._emit(turns.popleft(), cause)
        self.become_unsure(cause)
        if unanswered > 1 or (is_client and not self._is_proven) or self._quiet_is_unproven:
            self.doubt(cause)
        if newest is not None:
            newest.flag = newest.flag or cause
            newest.may_be_answered = True

    def pass_over_responses(self, *, came_ahead: bool) -> None:
        """Note that bytes were passed over in which an open request may have been answered.

        `came_ahead` says that a response began there, or may have, when none was due.
        """
        if came_ahead and self.role is Role.CLIENT and not self.turns:
            self._response_came_ahead = True
        self._owes_response = False
        unanswered = [turn for turn in self.turns if turn.response is None]
        for turn in unanswered:
            turn.flag = turn.flag or self._cause
            turn.may_be_answered = True
        if len(unanswered) > 1 or (unanswered and not self._is_proven) or self._quiet_is_unproven:
            self.doubt(self._cause)

    def become_unsure(self, cause: Incomplete) -> None:
        """Note that not every byte is accounted for any more."""
        if self.certainty is _CERTAIN:
            self.certainty = _ALTERNATING
        self._cause = cause
        if self._pipelining_seen:
            self.certainty = _DOUBTFUL
            self._doubt_may_end = False

    def doubt(self, cause: Incomplete | None = None) -> None:
        """Flag pairs from here on, for `cause` or what made the order unsure, until a quiet spell ends it."""
        if self.certainty is not _DOUBTFUL:
            self.certainty = _DOUBTFUL
            self._doubt_may_end = not self._pipelining_seen
            self._cause = cause or self._cause

    def dispute(self, turn: Turn | None = None) -> None:
        """Note that bytes read as a body may have been requests, or the other way round.

        `turn` is the first whose request may be concerned, where it is open.
        """
        self.become_unsure(Incomplete.INVALID)
        self.doubt(Incomplete.INVALID)
        is_concerned = False
        for each in self.turns:
            is_concerned = is_concerned or each is turn
            if is_concerned:
                each.flag = each.flag or Incomplete.INVALID

    def emit_done(self) -> None:
        """Emit the exchanges that are read to their end, in order."""
        turns = self.turns
        while turns:
            turn = turns[0]
            request, response = turn.request, turn.response
            if response is None or not response.done or not (request is None or request.done):
                return
            turns.popleft()
            self._emit(turn, None)

    def give_up(self, cause: Incomplete, unanswered: Incomplete | None = None) -> None:
        """Emit everything that is open, flagged; requests without a response as `unanswered`, when given."""
        self._refused = None
        while self.turns:
            turn = self.turns.popleft()
            is_unanswered = turn.response is None and turn.request is not None and turn.request.done
            self._emit(turn, (unanswered or cause) if is_unanswered else cause)

    def _see_pipelining(self) -> None:
        """Note that a request was there before the previous response was over."""
        self._pipelining_seen = True
        if self.certainty is not _CERTAIN:
            self.certainty = _DOUBTFUL
            self._doubt_may_end = False
            for turn in self.turns:
                if not turn.precedes_loss:
                    turn.flag = turn.flag or self._cause

    def _emit(self, turn: Turn, cause: Incomplete | None) -> None:
        request = turn.request
        response = turn.response
        incomplete, anomalies, answered = close_turn(turn, cause, self._limits)
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
                self._numbers.connection_id,
                turn.ordinal,
                self._socket,
                self.role,
                turn.origin,
                None if request is None else request.record,
                None if response is None else response.record,
                response is not None and response.tunnel,
                prologue=self.prologue,
                answered=answered,
                incomplete=incomplete,
                anomalies=anomalies,
            )
        )
