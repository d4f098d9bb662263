"""The books of one sink: how many spans came in, and what became of each.

Owns the counts and the invariant that ties them to the spans that are held. It must not hold spans or take a
lock: the queue is the only writer of the books, under its own lock.

Contract: at any time submitted = exported + queued + in flight + the sum of the drops, where the queue counts
what is queued and in flight among the spans themselves. `check` raises when that is broken, which is always a
bug of this package.
"""

from __future__ import annotations

from enum import StrEnum


class Drop(StrEnum):
    """Why a span was given up."""

    QUEUE_FULL = "queue_full"
    """The queue had no room when the span came."""
    REFUSED = "refused"
    """The backend refused the whole request for good."""
    REJECTED = "rejected"
    """The backend took the request without this span (OTLP "Partial Success")."""
    TOO_LARGE = "too_large"
    """The span alone is over the backend's limit on a request."""
    CLOSED = "closed"
    """The sink was closed before the span came, or before the backend took it."""


class UnbalancedBooksError(AssertionError):
    """The counts contradict each other; the message lists them."""


class Books:
    """Counts of spans by what became of them."""

    __slots__ = ("drops", "exported", "submitted")

    def __init__(self) -> None:
        self.submitted = 0
        self.exported = 0
        self.drops: dict[Drop, int] = dict.fromkeys(Drop, 0)

    @property
    def given_up(self) -> int:
        """Spans that were dropped for another reason than a full queue."""
        return sum(self.drops.values()) - self.drops[Drop.QUEUE_FULL]

    def counters(self, *, held: int) -> dict[str, int]:
        """Return `submitted`, `exported`, `queued` (the `held` spans) and `dropped_…` by cause."""
        return {
            "submitted": self.submitted,
            "exported": self.exported,
            "queued": held,
            **{f"dropped_{cause}": count for cause, count in self.drops.items()},
        }

    def check(self, *, queued: int, in_flight: int) -> None:
        """Raise UnbalancedBooksError unless every span is entered exactly once.

        `queued` and `in_flight` are what the caller counted among the spans that it holds.
        """
        counts = (self.exported, queued, in_flight, *self.drops.values())
        if self.submitted != sum(counts) or min(counts) < 0:
            raise UnbalancedBooksError(
                f"submitted {self.submitted}, but exported {self.exported}, queued {queued},"
                f" in flight {in_flight}, dropped {self.drops}"
            )
