"""Exchanges that wait as long as their attribution is pending.

A container is named by its runtime or by Kubernetes, which may know it a second after its first request.
Until then its exchanges wait here instead of being exported without a name, or dropped.

Owns the order and the bounds. It must not know what is waited for: an attribution says whether it is
pending. Contract: exchanges of one program come out in their order; an exchange that had to go while it was
pending is returned to the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

from agent.attribution import Attribution
from agent.decisions import CaptureState
from parsers.exchange import Exchange

MAX_EXCHANGES = 8_192
"""Exchanges that wait at once: ten seconds of a busy node's new containers."""
MAX_BYTES = 33_554_432
"""Content that waits at once, as much as unfinished messages may take."""


class WaitingExchanges:
    """A bounded queue of exchanges and their attributions."""

    def __init__(self, *, max_exchanges: int = MAX_EXCHANGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_exchanges = max_exchanges
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Exchange, Attribution]] = deque()
        self._bytes = 0
        self._waited = 0
        self._pushed_out = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._queue)

    def add(self, exchange: Exchange, attribution: Attribution) -> list[tuple[Exchange, Attribution]]:
        """Keep an exchange; return the oldest ones that have to go for it."""
        self._queue.append((exchange, attribution))
        self._bytes += exchange.held_bytes
        self._waited += 1
        pushed_out = []
        while len(self._queue) > self._max_exchanges or self._bytes > self._max_bytes:
            pushed_out.append(self._pop())
        self._pushed_out += len(pushed_out)
        return pushed_out

    def take(self, renew: Callable[[Attribution], Attribution]) -> list[tuple[Exchange, Attribution]]:
        """Return the exchanges that are no longer pending, in their order; the others go on waiting.

        `renew` returns the attribution of the same program as it is now, and is called once for each program.
        """
        ready = []
        renewed: dict[Hashable, Attribution] = {}
        for _ in range(len(self._queue)):
            exchange, former = self._pop()
            attribution = renewed.get(former.program)
            if attribution is None:
                attribution = renewed[former.program] = renew(former)
            if attribution.state is CaptureState.PENDING:
                self._queue.append((exchange, attribution))
                self._bytes += exchange.held_bytes
            else:
                ready.append((exchange, attribution))
        return ready

    def counters(self) -> dict[str, int]:
        """Return `waiting` as it stands, and since the start `waited` and `pushed_out`."""
        return {"waiting": len(self._queue), "waited": self._waited, "pushed_out": self._pushed_out}

    def _pop(self) -> tuple[Exchange, Attribution]:
        exchange, attribution = self._queue.popleft()
        self._bytes -= exchange.held_bytes
        return exchange, attribution
