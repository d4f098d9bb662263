"""What the five servers together say of a shape, what the parsers make of it, and whether that is right.

| the servers | class | the parsers must |
|---|---|---|
| all accept, and read the same | `same` | show it whole and clean, and read what they read |
| some accept, some do not; those that do read the same | `acceptance` | flag it: an anomaly, or incomplete |
| two of them read different requests, bodies or ends | `reading` | show it as incomplete: `invalid` |
| none accepts | `refused` | show it: flagged, or with the status of the refusal |
| one answers without a head | `headless` | flag it at the others; where HTTP/0.9 was spoken, no span is due |

A server that waits for more than a shape has does not accept it. What it would read is unknown, but it reads
another end than the servers that accept the shape.

"Reads" is: the method, the target without scheme and authority, the host that the server acts on, the body,
and where the next request begins. What a server makes of a path, or of fields that frame nothing, is its own
affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange
from tests.builders import Conversation
from tests.servers.readings import FOLLOWER, FOLLOWER_TARGET, Read, Verdict, normalize_target

SAME, ACCEPTANCE, READING, REFUSED, HEADLESS = "same", "acceptance", "reading", "refused", "headless"
CLASSES = (SAME, ACCEPTANCE, READING, REFUSED, HEADLESS)
FLAGGED, CLEAN, NOT_SHOWN = "flagged", "clean", "not shown"
SHOWINGS = (FLAGGED, CLEAN, NOT_SHOWN)


def classify(verdicts: Mapping[str, Verdict]) -> str:
    """Return the class of a shape by what each server made of it."""
    if any(verdict.is_headless for verdict in verdicts.values()):
        return HEADLESS
    accepted = [verdict for verdict in verdicts.values() if verdict.is_accepted]
    if not accepted:
        return REFUSED
    reads = {verdict.read for verdict in accepted if verdict.read is not None}
    followers = {verdict.follower for verdict in accepted if verdict.follower != "unseen"}
    waiting = any(verdict.waited for verdict in verdicts.values())
    if len(reads) > 1 or len(followers) > 1 or waiting:
        return READING
    return SAME if len(accepted) == len(verdicts) else ACCEPTANCE


@dataclass
class Showing:
    """What the parsers show of one shape and one server's answer to it."""

    exchanges: list[HttpExchange]

    @property
    def first(self) -> HttpExchange | None:
        """The exchange of the shape: the first one that was emitted."""
        return self.exchanges[0] if self.exchanges else None

    @property
    def word(self) -> str:
        """Return `flagged`, `clean` or `not shown`."""
        first = self.first
        if first is None:
            return NOT_SHOWN
        return FLAGGED if first.incomplete or first.anomalies else CLEAN


def show(shape: bytes, answer: bytes) -> Showing:
    """Feed the parsers what a server's socket saw: the shape and the request behind it, then the answer."""
    talk = Conversation()
    talk.request(shape + FOLLOWER)
    if answer:
        talk.response(answer)
    talk.end_requests()
    talk.end_responses()
    talk.close()
    return Showing(talk.run())


def find_fault(class_name: str, showing: Showing, verdict: Verdict) -> str:
    """Return why what is shown is wrong for the class; empty when it is right."""
    first = showing.first
    if class_name == HEADLESS and verdict.is_headless:
        return ""
    if first is None:
        return "not shown"
    if class_name == SAME:
        return _find_fault_of_same(showing, first, verdict)
    if class_name in (ACCEPTANCE, HEADLESS) and showing.word == CLEAN:
        return "clean, although not all servers accept it"
    if class_name == READING and not is_invalid(showing) and not _is_second_flagged(showing):
        return "not invalid, although servers read it differently"
    if (
        class_name == REFUSED
        and showing.word == CLEAN
        and (first.response is None or first.response.status < 400)
    ):
        return "clean, although every server refuses it"
    return ""


def _is_second_flagged(showing: Showing) -> bool:
    """Whether what stands behind the shape is flagged, which is where a difference of ends alone shows."""
    return any(exchange.incomplete or exchange.anomalies for exchange in showing.exchanges[1:])


def _find_fault_of_same(showing: Showing, first: HttpExchange, verdict: Verdict) -> str:
    if showing.word != CLEAN and verdict.follower == "misread":
        # What stands behind is no request, which may put the pair before it in doubt.
        return "" if is_invalid(showing) else f"flagged as {first.incomplete or first.anomalies}"
    if showing.word != CLEAN:
        return f"flagged as {first.incomplete or first.anomalies}, although all servers read it alike"
    request, read = first.request, verdict.read
    if request is None or request.method is None or request.target is None:
        return "no request"
    if read is not None:
        shown = Read(
            request.method,
            normalize_target(request.target),
            read.host,
            request.body.size or 0,
            hashlib.sha1(request.body.content).hexdigest(),
        )
        if shown != read:
            return f"read as {shown}"
    if verdict.follower != "answered":
        return ""
    behind = showing.exchanges[1] if len(showing.exchanges) > 1 else None
    if behind is None or behind.request is None or behind.request.target != FOLLOWER_TARGET:
        return "the request behind it is missing"
    return "the request behind it is flagged" if behind.incomplete or behind.anomalies else ""


def is_invalid(showing: Showing) -> bool:
    """Whether the exchange of the shape says that two servers would read it differently."""
    return showing.first is not None and showing.first.incomplete is Incomplete.INVALID
