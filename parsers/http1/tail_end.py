"""When a message is over whose rest passes unseen (`tail`), although none of its bytes said so.

Owns what the other direction, the end of the connection and time say about that. It must not read bytes, and
it has no clock: time is that of the events.

Contract: a message is over only by a rule below. `conversation` asks in the moments that
the rules name.

| of | is over when | is its end seen? |
|---|---|---|
| either | the connection was closed | no: it may have been cut off |
| a response | the capture ends, a further request being open | yes: by that request |
| an upload | its response is over, nothing of it having passed since that began | yes |
| a response | a further request is open, and nothing passed for `doubt_quiet_ns` | yes |
| a response, no event stream | no request is open, nothing passed for `tail_quiet_ns` | no: it may go on |
| an upload | nothing passed for as long, its response being over or in its own tail | no |

A message whose end is not seen says so by the anomaly `END_NOT_SEEN`. Its time is that of the last byte that
had passed by then. A pause in the middle of a body is common: reports that are computed while they are sent,
and streams of tokens or events by whatever content type. So the wait is as long as the pause that proxies
allow. What passes later belongs to nothing.
"""

from __future__ import annotations

from parsers.connection import NEVER_NS
from parsers.http1.outcome import IN_TAIL
from parsers.http1.pairing import Pairing
from parsers.http1.tail import TailReader
from parsers.http_exchange import HttpRequest, HttpResponse
from parsers.limits import ParserLimits


class TailEnds:
    """Both directions of one connection. `counts` are the tracker's counters, added to here."""

    __slots__ = ("_counts", "_limits", "_pairing", "_requests", "_responses")

    def __init__(
        self,
        requests: TailReader[HttpRequest],
        responses: TailReader[HttpResponse],
        pairing: Pairing,
        limits: ParserLimits,
        counts: dict[str, int],
    ) -> None:
        self._requests = requests
        self._responses = responses
        self._pairing = pairing
        self._limits = limits
        self._counts = counts

    def may_upload_be_over(self) -> bool:
        """Whether the next request may follow the upload that passes unseen.

        A client that sends one request at a time sends none before the response has begun, and an upload's
        content may look like anything.
        """
        message = self._requests.message
        assert message is not None
        if message.done:
            return True
        response = self._pairing.turns[-1].response
        return response is not None and (response.done or self._responses.state == IN_TAIL)

    def end_answered_upload(self) -> None:
        """End the upload that passes unseen, if the response that is now over answers it.

        A server may answer before the upload is over (RFC 9112 §9.3): then some of it passed since, and may
        go on passing.
        """
        turns = self._pairing.turns
        response = self._responses.message
        if not turns or response is None or turns[-1].response is not response:
            return
        request = turns[-1].request
        if request is not None and request.end_ktime_ns <= response.record.start_ktime_ns:
            self._requests.end_tail(seen=True)

    def due_ktime_ns(self, last_ktime_ns: int, asked_ktime_ns: int | None) -> int:
        """Return when the quiet since `last_ktime_ns` ends a message; `NEVER_NS` when it does not.

        Not before the source was asked, at `asked_ktime_ns`, whether more has passed uncaptured.
        """
        is_followed = self._responses.state == IN_TAIL and len(self._pairing.turns) > 1
        due = last_ktime_ns + (self._limits.doubt_quiet_ns if is_followed else self._limits.tail_quiet_ns)
        if asked_ktime_ns is None or asked_ktime_ns < due:
            return NEVER_NS
        return due if self._ends_response_by_quiet() or self._ends_upload_by_quiet() else NEVER_NS

    def end_quiet(self) -> None:
        """End what the quiet ends."""
        if self._ends_response_by_quiet():
            self._counts["unseen_tails_timed_out"] += 1
            self._end_response()
        if self._ends_upload_by_quiet():
            self._counts["unseen_tails_timed_out"] += 1
            self._requests.end_tail(seen=False)
            self._pairing.emit_done()

    def end_for_good(self, *, is_closed: bool) -> None:
        """End what is over when nothing more will be read; `is_closed`, because the connection is closed."""
        if self._responses.state == IN_TAIL and (is_closed or len(self._pairing.turns) > 1):
            self._end_response()
        if self._requests.state == IN_TAIL and is_closed:
            self._requests.end_tail(seen=False)
            self._pairing.emit_done()

    def _end_response(self) -> None:
        self._responses.end_tail(seen=len(self._pairing.turns) > 1)
        if self._requests.state == IN_TAIL:
            self.end_answered_upload()
        self._pairing.finish_response(inferred=True)

    def _ends_response_by_quiet(self) -> bool:
        message = self._responses.message
        if message is None or self._responses.state != IN_TAIL:
            return False
        return not message.is_event_stream or len(self._pairing.turns) > 1

    def _ends_upload_by_quiet(self) -> bool:
        return self._requests.state == IN_TAIL and self.may_upload_be_over()
