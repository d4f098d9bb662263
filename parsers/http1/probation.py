"""The first pairs of a connection that was joined late, held until nothing speaks against them.

On such a connection responses may be due whose requests were not seen. A client that sends one request at a
time has none, and a client that pipelines shows it sooner or later: by a request that is there before the
response to the one before, or by a response without request. Until it had the chance to, pairs are held.

Owns what is held and for how long. It must not pair. Contract: what is held comes out in its order, all at
once, flagged when the order turned out to be doubtful.
"""

from __future__ import annotations

from parsers.exchange import Exchange, Incomplete

TURNS = 8
"""Requests, each sent when nothing was open, after which a client is believed to send one at a time: one that
keeps several in flight has two of them arrive together far sooner."""
QUIET_NS = 200_000_000
"""Silence after which nothing more is waited for: whatever was due would have come, unless it takes long."""


class Probation:
    """What is held of one connection."""

    __slots__ = ("_held", "_turns")

    def __init__(self) -> None:
        self._held: list[Exchange] = []
        self._turns = 0

    @property
    def is_holding(self) -> bool:
        """Whether there is something to come out."""
        return bool(self._held)

    def held_bytes(self, coming: list[Exchange]) -> int:
        """Return the bytes of the bodies that are held, those that come included."""
        return sum(exchange.held_bytes for exchange in (*self._held, *coming))

    @property
    def is_passed(self) -> bool:
        """Whether the client is believed."""
        return self._turns >= TURNS

    def count_turn(self) -> None:
        """Note a request that was sent when nothing was open."""
        self._turns += 1

    def hold(self, exchanges: list[Exchange]) -> list[Exchange]:
        """Hold what was paired; return what need not be: it is flagged, and nothing before it is held."""
        passing = 0
        while not self._held and passing < len(exchanges) and exchanges[passing].incomplete is not None:
            passing += 1
        self._held += exchanges[passing:]
        return exchanges[:passing]

    def release(self) -> list[Exchange]:
        """Return what was held."""
        held, self._held = self._held, []
        return held

    def flag(self, cause: Incomplete) -> int:
        """Flag what is held and not flagged yet; return how many were."""
        doubtful = [exchange for exchange in self._held if exchange.incomplete is None]
        for exchange in doubtful:
            exchange.incomplete = cause
        return len(doubtful)
