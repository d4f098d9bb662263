"""What the end of a connection says of requests that no response was seen of.

Owns one question: was it seen that the requests failed, or was merely no answer seen? A server may answer in
a way that passes no captured call, and then nothing is known of its answers. This module must not end
anything: `connection` does, and flags what is open with the cause that it gets here.

Contract: `Incomplete.CLOSED` only where the failure was seen, else `Incomplete.ONE_SIDE`. The first row that
fits counts. *Left out* means that neither a byte of the responses' direction was seen nor a gap in it.

| responses' direction | what else | cause | because |
|---|---|---|---|
| not left out | | closed | its calls are captured, and there was no answer among them |
| left out | a request in a later call than the one before it, none ever in the same call | one_side | a client \
that sends one request at a time had its answer before: answers pass unseen here |
| left out, of a TLS session | | closed | a library is probed in both directions or in none |
| its end was read, on the client's socket | | closed | a captured read returned 0 in place of an answer |
| it ended, on the server's socket | the requests had not ended | closed | the server left the client waiting |
| it ended, on the server's socket | the requests had ended before | one_side | the client left: content, or \
tired of waiting |
| left out, no end of it | client's socket, no end of the requests either | closed | the connection was reset \
while the client waited |
| left out, no end of it | anything else | one_side | the client left, as above |

A captured end of a direction that was left out stands at position 0: at any other, bytes had passed, which is
a gap and not left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from parsers.exchange import Incomplete


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


def judge_unanswered(
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
    if is_client:
        failed = ends.responses or not ends.requests
    else:
        failed = ends.responses_first
    return Incomplete.CLOSED if failed else Incomplete.ONE_SIDE
