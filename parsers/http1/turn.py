"""One request and its response on their way to be an exchange, and what is said of them in the end.

Owns why an exchange is not whole, its anomalies, and whether it was answered. It must not decide which two
belong together: `pairing` does.

| what | becomes |
|---|---|
| a whole response, its request cut by the end of the connection later | whole, with `request_cut_short` |
| the same, the client having waited for 100 and sent nothing of the body | whole, with `body_not_sent` |
| a whole response, its request cut before the response began | closed, and `answered` |
| a head that is none (`refuse`), answered by the next response | one exchange, invalid |
| the same, not answered, or followed by a request first | nothing: it may not have been HTTP at all |
| a response that no request asked for, by which a server closes an idle connection | unsolicited |
| requests that nothing answered when the connection ends | see `unanswered` |
"""

from __future__ import annotations

from dataclasses import dataclass

from ebpf.events import Origin
from parsers.exchange import Incomplete
from parsers.http1.disputes import READ_DIFFERENTLY
from parsers.http1.message import Message
from parsers.http_exchange import HttpRequest, HttpResponse
from parsers.limits import ParserLimits


@dataclass(slots=True)
class Turn:
    """One request and its response while they are read."""

    ordinal: int
    """Number that its exchange will have on the connection."""
    request: Message[HttpRequest] | None
    response: Message[HttpResponse] | None = None
    flag: Incomplete | None = None
    """Why the two may not belong together, or why one is absent."""
    interim: tuple[int, ...] = ()
    may_be_answered: bool = False
    """Responses were lost while it was open: its own may have been among them."""
    precedes_loss: bool = False
    """It was open when requests were lost, and until then every byte was accounted for: by order its response
    comes before theirs."""
    cut_by_client: bool = False
    """The direction of the requests ended inside the request, before anything answered it."""

    @property
    def origin(self) -> Origin:
        """The call that moved the first byte of the request, or of the response where there is none."""
        first = self.request or self.response
        assert first is not None
        return first.origin


def close_turn(
    turn: Turn, cause: Incomplete | None, limits: ParserLimits
) -> tuple[Incomplete | None, tuple[str, ...], bool]:
    """End what of a turn has not ended, for `cause`.

    Return why the exchange is not whole, its anomalies, and whether the request was answered.
    """
    request = turn.request
    response = turn.response
    anomalies: list[str] | None = None
    incomplete: Incomplete | None = None
    if request is not None:
        if not request.done:
            request.fail(cause or Incomplete.CLOSED, limits)
        incomplete = request.failure
        anomalies = request.fields.anomalies
    answered = False
    if response is not None:
        if not response.done:
            response.fail(cause or Incomplete.CLOSED, limits)
        answered = response.failure is None and not response.tunnel
        if request is not None and incomplete is Incomplete.CLOSED and answered and not turn.cut_by_client:
            # RFC 9110 §15.5.14: a server that has answered may close before it has the whole request.
            incomplete = None
            was_awaited = b"expect" in request.fields.framing and not request.size and not turn.interim
            cut = "body_not_sent" if was_awaited else "request_cut_short"
            anomalies = [*request.fields.anomalies, cut]
        incomplete = incomplete or response.failure
        if response.fields.anomalies:
            anomalies = (anomalies or []) + response.fields.anomalies
        response.record.interim = turn.interim
    incomplete = incomplete or turn.flag
    if incomplete is None and request is not None and request.fields.anomalies:
        incomplete = None if READ_DIFFERENTLY.isdisjoint(request.fields.anomalies) else Incomplete.INVALID
    if response is None:
        incomplete = incomplete or cause or Incomplete.ONE_SIDE
    return incomplete, tuple(dict.fromkeys(anomalies)) if anomalies else (), answered
