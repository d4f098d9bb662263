"""What the log and the counters say of the Kubernetes API: each trouble once, and its end once.

Owns the wording and the memory of what was said already. A trouble that lasts for hours is two lines and a
number, however often it is met. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

MAX_DENIALS = 64
"""Distinct denials that are remembered: verbs times kinds of objects; discovery uses about ten kinds."""

log = logging.getLogger(__name__)


class ApiJournal:
    """Notes on the troubles of one API server."""

    def __init__(self, *, is_silent: bool = False) -> None:
        """Count only, when silent."""
        self._is_silent = is_silent
        self._lock = threading.Lock()
        self._unreachable: set[str] = set()
        self._denied: set[tuple[str, str]] = set()
        self._counts: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += amount

    def unreachable(self, collection: str, cause: str) -> None:
        """Note that a collection could not be listed or watched."""
        with self._lock:
            self._counts["unreachable"] += 1
            said = bool(self._unreachable)
            self._unreachable.add(collection)
        if not said:
            self._say(logging.WARNING, "Kubernetes API: %s; the last known state stays in force", cause)

    def reachable(self, collection: str) -> None:
        """Note that a collection was listed or is watched; the trouble is over when that goes for all."""
        if collection not in self._unreachable:
            return
        with self._lock:
            self._unreachable.discard(collection)
            is_over = not self._unreachable
        if is_over:
            self._say(logging.INFO, "Kubernetes API: reachable again")

    def denied(self, verb: str, resource: str, message: str) -> None:
        """Note that a request was refused because credentials or rights are missing."""
        with self._lock:
            self._counts["denied"] += 1
            said = (verb, resource) in self._denied
            if not said and len(self._denied) < MAX_DENIALS:
                self._denied.add((verb, resource))
        if not said:
            self._say(logging.WARNING, "Kubernetes API: %s", message)

    def allowed(self, verb: str, resource: str) -> None:
        """Note that a request was let through."""
        if (verb, resource) not in self._denied:
            return
        with self._lock:
            self._denied.discard((verb, resource))
        self._say(logging.INFO, "Kubernetes API: %s %s is allowed now", verb, resource)

    def bug(self, doing: str, error: Exception) -> None:
        """Note an exception that should not be, without its trace for people."""
        self.count("bugs")
        log.error("a bug while %s: %s: %s", doing, type(error).__name__, error)
        log.debug("where it happened", exc_info=error)

    def counters(self) -> dict[str, int]:
        """Return what was counted."""
        with self._lock:
            return dict(self._counts)

    def _say(self, level: int, text: str, *parts: object) -> None:
        if not self._is_silent:
            log.log(level, text, *parts)
