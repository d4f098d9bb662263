"""What the end of a connection says of requests without a response.

Owns one question: was it seen that they failed, or was merely no answer seen? A program may move bytes in a
way that passes no captured call, and then nothing is known of them. This module must not end anything:
`connection` does, and flags what is open with the cause that it gets here.

Contract: `Incomplete.CLOSED` only where the failure was seen, else `Incomplete.ONE_SIDE`. The first row that
fits counts. `left out` means that neither a byte of the responses' direction was seen, nor a gap in it.

| responses' direction | besides | cause |
|---|---|---|
| not left out | | closed: its bytes are captured, and no answer is among them |
| left out | a request in a later call than an open one, never in the same | one_side: answers pass unseen |
| left out | a TLS session | closed: a library is probed in both directions |
| its end was read by the client | | closed: a captured read found the end in place of an answer |
| the server ended it | the client had not ended its own | closed: the server left the client waiting |
| the server ended it | the client had | one_side: the client left, with its answer or tired of waiting |
| has no end, at the client | the requests have none either | closed: a reset while the client waited |
| has no end | anything else | one_side: the client left, as above |

The second row is sure for a client that sends one request at a time: it had the answer to the one before.
The end of a direction that was left out stands at position 0: any other position shows a gap before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from parsers.exchange import Incomplete
from parsers.http1.message import Message
from parsers.http1.turn import Turn
from parsers.http_exchange import HttpRequest


@dataclass(slots=True)
class Ends:
    """What was seen of the ends of both directions of a connection."""

    requests: bool = False
    responses: bool = False
    responses_first: bool = False
    """The responses' end came first, or alone."""

    def end_requests(self) -> None:
        """Note that the direction of the requests is over."""
        self.requests = True

    def end_responses(self) -> None:
        """Note that the direction of the responses is over."""
        if not self.responses:
            self.responses = True
            self.responses_first = not self.requests


@dataclass(slots=True)
class RequestCalls:
    """Whether requests came in calls of their own, while an earlier one was open."""

    apart: bool = False
    """One did."""
    together: bool = False
    """One came in the same call as the one before it."""

    @property
    def answered_unseen(self) -> bool:
        """Whether a request came in a later call than an open one, and never one in the same call.

        The client sends one request at a time then, as far as it was seen: it had its answer.
        """
        return self.apart and not self.together

    def compare(self, turn: Turn, message: Message[HttpRequest]) -> None:
        """Note what a request says of the open one before it: answered unseen, or a client that pipelines."""
        before = turn.request
        if before is None or turn.response is not None:
            return
        if message.record.start_ktime_ns > before.end_ktime_ns:
            self.apart = True
        else:
            self.together = True


def explain_unanswered(
    ends: Ends, *, left_out: bool, answered_unseen: bool, is_client: bool, is_tls: bool
) -> Incomplete:
    """Return why requests have no response when their connection is over, by the table above.

    `left_out` says that nothing was seen of the responses' direction, `answered_unseen` that a later request
    shows that an earlier one had its answer.
    """
    if not left_out:
        return Incomplete.CLOSED
    if answered_unseen:
        return Incomplete.ONE_SIDE
    if is_tls:
        return Incomplete.CLOSED
    has_reset = not ends.requests
    failed = ends.responses or has_reset if is_client else ends.responses_first
    return Incomplete.CLOSED if failed else Incomplete.ONE_SIDE
