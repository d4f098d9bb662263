"""Which response belongs to which request, and how sure that is.

Owns the open requests of one connection, the pairing and the doubt about it. It must not read bytes:
`connection` tells it what began, ended and was lost, in the order in which each direction carried it.

Contract: pairs are made by order within each direction, never by time. A pair that may be wrong is flagged;
so is every message that is not whole. How sure the order is, is the `step`:

| step | means | response without request | pair |
|---|---|---|---|
| CERTAIN | every byte since birth is accounted for | held for its request | sure |
| ALTERNATING | one request at a time: the next response is that of the newest one | emitted at once | sure |
| DOUBTFUL | responses may be due whose request nobody saw | emitted at once | flagged |

| from | when | to |
|---|---|---|
| (birth) | seen from its first byte | CERTAIN |
| (birth) | joined late | ALTERNATING |
| CERTAIN | a loss that could not be stepped over, or an unseen tail, one request open at most | ALTERNATING |
| any | such a loss, more requests open | DOUBTFUL, may end |
| any | such a loss, and this client has pipelined before | DOUBTFUL for good |
| ALTERNATING | a request was there before the previous response was over (pipelining) | DOUBTFUL for good |
| ALTERNATING | a client's socket shows a response without request | DOUBTFUL, may end |
| ALTERNATING | any socket does, while pairs are held | DOUBTFUL, may end |
| DOUBTFUL, may end | a request after a quiet `reorder_ns` with nothing open | ALTERNATING |

The last but two: another thread's write is reported when it returns, so the response may come before its
own request, which then looks like the request of the next one.

After a late join pairs are held at first, to be flagged should doubt come up (`probation`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ebpf.events import Role, SocketInfo
from parsers.counters import INCOMPLETE_COUNTER
from parsers.exchange import HttpExchange, HttpRequest, HttpResponse, Incomplete
from parsers.http1.disputes import READ_DIFFERENTLY
from parsers.http1.message import Message
from parsers.http1.probation import Probation
from parsers.limits import ParserLimits


class Step(Enum):
    """How sure the order of messages is."""

    CERTAIN = "certain"
    ALTERNATING = "alternating"
    DOUBTFUL = "doubtful"


# Bound once: looking up a member of an enumeration takes longer than comparing it.
_CERTAIN: Final = Step.CERTAIN
_ALTERNATING: Final = Step.ALTERNATING
_DOUBTFUL: Final = Step.DOUBTFUL


@dataclass(slots=True)
class Turn:
    """One request and its response while they are read."""

    request: Message[HttpRequest] | None
    response: Message[HttpResponse] | None = None
    flag: Incomplete | None = None
    """Why the two may not belong together, or why one is absent."""
    interim: tuple[int, ...] = ()
    may_be_answered: bool = False
    """Responses were lost while it was open: its own may have been among them."""


class Pairing:
    """The requests and responses of one connection. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_cause",
        "_connection_id",
        "_counts",
        "_doubt_may_end",
        "_limits",
        "_out",
        "_pipelining_seen",
        "_probation",
        "_socket",
        "role",
        "step",
        "turns",
    )

    def __init__(
        self,
        connection_id: int,
        socket: SocketInfo,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        joined_late: bool,
    ) -> None:
        self._connection_id = connection_id
        self._socket = socket
        self._limits = limits
        self._counts = counts
        self._cause = Incomplete.JOINED_LATE
        self._pipelining_seen = False
        self._doubt_may_end = False
        self._out: list[HttpExchange] = []
        self.role = Role.UNKNOWN
        self.step = _ALTERNATING if joined_late else _CERTAIN
        self.turns: deque[Turn] = deque()
        self._probation = Probation() if joined_late else None

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

    def take_out(self) -> list[HttpExchange]:
        """Return the exchanges emitted since the last call."""
        out = self._out
        probation = self._probation
        if probation is not None:
            self._out = []
            if self.step is _ALTERNATING and not probation.is_passed:
                return probation.hold(out)
            out = probation.hold(out)
            if self.step is _DOUBTFUL:
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
        return self._out.pop() if self._out and self._out[-1].upgraded else None

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
        if (
            self.step is _DOUBTFUL
            and self._doubt_may_end
            and not turns
            and message.record.start_ktime_ns - last_ktime_ns >= self._limits.reorder_ns
        ):
            self.step = _ALTERNATING
        if not self._pipelining_seen:
            # One request at a time: this one says that the response to the one before is over, wherever it
            # went.
            while turns and turns[0].may_be_answered and turns[0].response is None:
                self._emit(turns.popleft(), Incomplete.LOST_BYTES)
        if self._probation is not None and not turns:
            self._probation.count_turn()
        turns.append(Turn(message, None, self._cause if self.step is _DOUBTFUL else None))
        self._counts["requests"] += 1
        if len(turns) > self._limits.max_pending_messages:
            # Giving up only the oldest would shift every later pair by one.
            self._counts["pending_overflows"] += 1
            self._pipelining_seen = True
            self.become_unsure(Incomplete.LOST_BYTES)
            newest = turns.pop()
            self.give_up(Incomplete.EVICTED)
            newest.flag = newest.flag or Incomplete.LOST_BYTES
            turns.append(newest)

    def answer_turn(self, message: Message[HttpResponse], *, requests_seen: bool) -> Turn:
        """Take a response whose head was read; return its turn."""
        self._counts["responses"] += 1
        turn = self.next_turn()
        if turn is None:
            late = self._cause is Incomplete.JOINED_LATE and self.step is not _CERTAIN
            one_side = Incomplete.LOST_BYTES if requests_seen else Incomplete.ONE_SIDE
            turn = Turn(None, message, Incomplete.JOINED_LATE if late else one_side)
            self.turns.append(turn)
            if self.role is Role.CLIENT or self.is_holding:
                self.doubt(self._cause)
            return turn
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

    def end_responses(self) -> None:
        """Note that no response will come any more: nobody will answer what is still open."""
        turns = self.turns
        while turns and (request := turns[0].request) is not None and request.done:
            self._emit(turns.popleft(), Incomplete.CLOSED)

    def lose_requests(self, cause: Incomplete) -> None:
        """Note that requests of unknown number were lost; the turns before them keep their place."""
        self._counts["lost_places"] += 1
        turns = self.turns
        unanswered = sum(turn.response is None for turn in turns)
        cut = bool(turns) and (request := turns[-1].request) is not None and request.failure is not None
        self.become_unsure(cause)
        if unanswered > cut:
            self.doubt(cause)
        self.emit_done()

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
        turns = self.turns
        unanswered = sum(turn.response is None for turn in turns)
        newest = turns[-1] if unanswered else None
        while turns and turns[0] is not newest:
            self._emit(turns.popleft(), cause)
        self.become_unsure(cause)
        if unanswered > 1:
            self.doubt(cause)
        if newest is not None:
            newest.flag = newest.flag or cause
            newest.may_be_answered = True

    def pass_over_responses(self) -> None:
        """Note that bytes were passed over in which an open request may have been answered."""
        for turn in self.turns:
            if turn.response is None:
                turn.flag = turn.flag or self._cause
                turn.may_be_answered = True

    def become_unsure(self, cause: Incomplete) -> None:
        """Note that not every byte is accounted for any more."""
        if self.step is _CERTAIN:
            self.step = _ALTERNATING
        self._cause = cause
        if self._pipelining_seen:
            self.step = _DOUBTFUL
            self._doubt_may_end = False

    def doubt(self, cause: Incomplete) -> None:
        """Flag pairs from here on, until a quiet spell shows that nothing is due."""
        if self.step is not _DOUBTFUL:
            self.step = _DOUBTFUL
            self._doubt_may_end = not self._pipelining_seen
            self._cause = cause

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

    def give_up(self, cause: Incomplete) -> None:
        """Emit everything that is open, flagged."""
        while self.turns:
            self._emit(self.turns.popleft(), cause)

    def _see_pipelining(self) -> None:
        """Note that a request was there before the previous response was over."""
        self._pipelining_seen = True
        if self.step is not _CERTAIN:
            self.step = _DOUBTFUL
            self._doubt_may_end = False
            for turn in self.turns:
                turn.flag = turn.flag or self._cause

    def _emit(self, turn: Turn, cause: Incomplete | None) -> None:
        request = turn.request
        response = turn.response
        limits = self._limits
        anomalies: list[str] | None = None
        incomplete: Incomplete | None = None
        if request is not None:
            if not request.done:
                request.fail(cause or Incomplete.CLOSED, limits)
            incomplete = request.failure
            anomalies = request.fields.anomalies
        if response is not None:
            if not response.done:
                response.fail(cause or Incomplete.CLOSED, limits)
            incomplete = incomplete or response.failure
            if response.fields.anomalies:
                anomalies = (anomalies or []) + response.fields.anomalies
            response.record.interim = turn.interim
        incomplete = incomplete or turn.flag
        if incomplete is None and request is not None and request.fields.anomalies:
            incomplete = None if READ_DIFFERENTLY.isdisjoint(request.fields.anomalies) else Incomplete.INVALID
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
                self._connection_id,
                self._socket,
                self.role,
                first.tgid,
                None if request is None else request.record,
                None if response is None else response.record,
                incomplete,
                tuple(dict.fromkeys(anomalies)) if anomalies else (),
                response is not None and response.tunnel,
            )
        )
