"""What listens to the content of a stream as it passes, and what an exchange carries because of it.

Owns the shape of a listener. It must not know frames, nor what is listened for.

Contract: a listener gets all content of its direction in order, also what is beyond the body limit; what is
missing comes as a count, never as filler. It holds a bounded number of bytes and says how many.
"""

from __future__ import annotations

from typing import Protocol

from ebpf.events import Missing
from parsers.exchange import Incomplete
from parsers.http_exchange import Application, HttpRequest, HttpResponse


class ContentListener(Protocol):
    """Listens to one direction of a stream."""

    @property
    def held_bytes(self) -> int:
        """Bytes held."""

    def receive(self, data: bytes, ktime_ns: int) -> None:
        """Take content."""

    def miss(self, count: int | None, missing: Missing, ktime_ns: int) -> None:
        """Account for a gap of `count` bytes; None if its length is unknown."""

    def keep_no_more(self) -> None:
        """Keep nothing more, for want of room; what passes still counts."""

    def end(self, ktime_ns: int) -> None:
        """Note that nothing follows; nothing when that is known."""


class Dialogue(Protocol):
    """Listens to both directions of a stream."""

    @property
    def request(self) -> ContentListener | None:
        """Takes the content of the request; None when it is not listened to, or not yet."""

    @property
    def response(self) -> ContentListener | None:
        """Takes the content of the response; None when it is not listened to, or not yet."""

    def open_readers(self, request: HttpRequest | None, response: HttpResponse | None) -> None:
        """Learn the heads that are known by now, without body and trailers."""

    def decide_incomplete(self, cause: Incomplete | None) -> Incomplete | None:
        """Return why the exchange is not whole, None when it is; asked before what is unfinished is ended.

        `cause` is how its stream was cut short, None when both messages ended. What the protocol spoken says
        of its end may count for more.
        """

    def build(self, request: HttpRequest | None, response: HttpResponse | None) -> Application | None:
        """Return what the exchange carries, once both messages are over or given up."""
