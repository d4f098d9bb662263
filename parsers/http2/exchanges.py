"""Making exchanges of HTTP/2 streams, and saying why one is not whole.

Owns the exchange of a stream that is over or given up: its records, its flag, its counts. It must not decide
when a stream is over (`streams`).

Contract: `incomplete` is None only when both messages are whole and known to the last field. Of several
causes the first of these counts: what was lost or in doubt in the request, in the response; a reset; what
ended the connection; unknown fields. What a listener says of the stream's end may count for more.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, Role, SocketInfo
from parsers.counters import INCOMPLETE_COUNTER
from parsers.exchange import Exchange, Incomplete
from parsers.http2.dialogues import may_be_tapped, open_dialogue
from parsers.http2.stream import Http2Stream, StreamHalf, build_request, build_response
from parsers.http_exchange import Body, HttpExchange
from parsers.limits import ParserLimits
from parsers.numbering import ExchangeNumbers
from parsers.prologue import Prologue

_SWITCHED: Final = (101,)
_RESET: Final = Incomplete.RESET
_ENDS_STREAM: Final = (None, Incomplete.CLOSED, Incomplete.RESET)
"""Causes behind which no more of a message comes than was seen."""


class ExchangeBuilder:
    """Makes the exchanges of one connection. `counts` are the tracker's counters, added to here."""

    __slots__ = ("_counts", "_first_ordinal", "_limits", "_numbers", "_out", "_socket", "prologue")

    def __init__(
        self, numbers: ExchangeNumbers, socket: SocketInfo, limits: ParserLimits, counts: dict[str, int]
    ) -> None:
        self._numbers = numbers
        self._first_ordinal = numbers.next_ordinal
        """Added to a stream's id."""
        self._socket = socket
        self._limits = limits
        self._counts = counts
        self._out: list[Exchange] = []
        self.prologue: Prologue | None = None
        """Set from outside: what stood in front of HTTP on the connection."""

    def take_out(self) -> list[Exchange]:
        """Return the exchanges made since the last call."""
        out = self._out
        if not out:
            return []
        self._out = []
        return out

    def note_head(self, stream: Http2Stream, requests: Direction) -> None:
        """Take note of a head.

        Of a request: that it has begun. Of either: whether the stream leaves HTTP with it, and what listens
        to it from here on.
        """
        request, response = stream.select(requests)
        request_head = request.head if request is not None else None
        response_head = response.head if response is not None else None
        if request_head is not None and request_head.method == b"CONNECT" and response_head is not None:
            status = response_head.status
            stream.tunnel = status is not None and 200 <= status < 300
        if request is not None and request_head is not None:
            self.note_request(stream, request)
        if not (
            (request_head is not None and may_be_tapped(request_head))
            or (response_head is not None and may_be_tapped(response_head))
        ):
            return
        request_record = build_request(request, None) if request is not None and request_head else None
        response_record = build_response(response, None) if response is not None and response_head else None
        dialogue = stream.dialogue
        if dialogue is None:
            dialogue = stream.dialogue = open_dialogue(
                request_record, response_record, requests, self._limits, self._counts
            )
            if dialogue is None:
                return
        dialogue.open_readers(request_record, response_record)
        if request is not None and request.listener is None and dialogue.request is not None:
            request.open_listener(dialogue.request)
        if response is not None and response.listener is None and dialogue.response is not None:
            response.open_listener(dialogue.response)

    def note_request(self, stream: Http2Stream, request: StreamHalf) -> None:
        """Note that the request of a stream has begun, unless it was noted before."""
        if not stream.is_noted:
            stream.is_noted = True
            self._numbers.note_request(self._first_ordinal + stream.stream_id, request.origin)

    def emit(
        self,
        stream: Http2Stream,
        requests: Direction,
        cause: Incomplete | None,
        absence: Incomplete | None,
    ) -> None:
        """Make the exchange of a stream.

        `cause` is why it is given up, None when it is over. `absence` is why nothing was seen of its request
        or of its response, as far as that is known.
        """
        counts = self._counts
        request, response = stream.select(requests)
        if stream.reset is not None:
            cause = _RESET
        elif (
            cause is Incomplete.CLOSED
            and response is not None
            and response.is_over
            and request is not None
            and not request.is_over
        ):
            # The connection took the rest of the request with it, and the answer was there.
            stream.answered_early = True
        if stream.handshake is not None:
            self._answer_handshake(stream, stream.handshake, response, cause, absence)
            return
        if not (_is_known(request) or _is_known(response)):
            counts["http2_headless_streams"] += 1
            return
        incomplete = _decide_incomplete(stream, request, response, cause, absence)
        for half in (request, response):
            if half is not None and half.listener is not None:
                half.listener.end(stream.last_ktime_ns)
        request_record = None
        if request is not None:
            request_record = build_request(request, self._build_body(stream, request, cause))
        response_record = None
        if response is not None:
            response_record = build_response(response, self._build_body(stream, response, cause))
        counts["exchanges"] += 1
        if incomplete is not None:
            counts[INCOMPLETE_COUNTER[incomplete]] += 1
        if response_record is None:
            counts["requests_unpaired"] += 1
        elif request_record is None:
            counts["responses_unpaired"] += 1
        first = request or response
        assert first is not None
        self._out.append(
            HttpExchange(
                self._numbers.connection_id,
                self._first_ordinal + stream.stream_id,
                self._socket,
                Role.CLIENT if requests is Direction.EGRESS else Role.SERVER,
                first.origin,
                request_record,
                response_record,
                stream.tunnel,
                None if stream.dialogue is None else stream.dialogue.build(request_record, response_record),
                stream.stream_id % 2 == 0,
                self.prologue,
                _is_answered(stream, response),
                stream.reset if incomplete is _RESET else None,
                incomplete=incomplete,
                anomalies=_list_anomalies(stream, request, response),
            )
        )

    def _answer_handshake(
        self,
        stream: Http2Stream,
        handshake: HttpExchange,
        response: StreamHalf | None,
        cause: Incomplete | None,
        absence: Incomplete | None,
    ) -> None:
        """Put the response of HTTP/2 in the place of the 101, which becomes an interim one."""
        if response is not None:
            handshake.response = build_response(response, self._build_body(stream, response, cause))
            handshake.response.interim = _SWITCHED + response.interim
            handshake.anomalies += _list_anomalies(stream, None, response)
            handshake.upgraded = False
        incomplete = _decide_incomplete(stream, None, response, cause, absence)
        if handshake.incomplete is None and incomplete is not None:
            # The connection that made the handshake counted it as whole.
            handshake.incomplete = incomplete
            self._counts[INCOMPLETE_COUNTER[incomplete]] += 1
            handshake.reset = stream.reset if incomplete is _RESET else None
        handshake.answered = _is_answered(stream, response)
        self._out.append(handshake)

    def _build_body(self, stream: Http2Stream, half: StreamHalf, cause: Incomplete | None) -> Body:
        if stream.tunnel:
            half.become_tunnel()
        ended = half.is_over or stream.tunnel or cause in _ENDS_STREAM
        return half.build_body(self._limits, ended=ended)


def _is_known(half: StreamHalf | None) -> bool:
    return half is not None and (half.head is not None or half.trailers is not None)


def _is_answered(stream: Http2Stream, response: StreamHalf | None) -> bool:
    return response is not None and response.is_over and response.find_flaw() is None and not stream.tunnel


def _decide_incomplete(
    stream: Http2Stream,
    request: StreamHalf | None,
    response: StreamHalf | None,
    cause: Incomplete | None,
    absence: Incomplete | None,
) -> Incomplete | None:
    """Return why the exchange is not whole; None when it is."""
    flaw = None
    if request is not None:
        flaw = request.find_flaw()
    elif stream.handshake is None:
        flaw = absence or Incomplete.LOST_BYTES
    if flaw is None and response is not None:
        flaw = response.find_flaw()
    if flaw is not None:
        return flaw
    cut = _find_cut(stream, request, response, cause, absence)
    if stream.dialogue is not None:
        cut = stream.dialogue.decide_incomplete(cut)
    if cut is None and any(half is not None and half.has_unknown for half in (request, response)):
        return Incomplete.UNKNOWN_HEADERS
    return cut


def _find_cut(
    stream: Http2Stream,
    request: StreamHalf | None,
    response: StreamHalf | None,
    cause: Incomplete | None,
    absence: Incomplete | None,
) -> Incomplete | None:
    """Return what cut the stream short; None when both messages have ended."""
    if cause is _RESET:
        return cause
    if response is None:
        return absence or cause or Incomplete.CLOSED
    # A client that has the length it was promised may close without reading that nothing follows.
    has_ended = response.is_over or (cause is Incomplete.CLOSED and response.has_promised_length)
    is_over = has_ended and (request is None or request.is_over or stream.answered_early)
    return None if is_over else cause or Incomplete.LOST_BYTES


def _list_anomalies(
    stream: Http2Stream, request: StreamHalf | None, response: StreamHalf | None
) -> tuple[str, ...]:
    anomalies: tuple[str, ...] = ()
    if stream.answered_early and not stream.tunnel:
        anomalies = ("request_cut_short",)
    for half in (request, response):
        if half is None:
            continue
        head = half.head
        if head is not None and head.anomalies:
            anomalies += head.anomalies
        trailers = half.trailers
        if trailers is not None and trailers.anomalies:
            anomalies += trailers.anomalies
    return tuple(dict.fromkeys(anomalies)) if anomalies else ()
