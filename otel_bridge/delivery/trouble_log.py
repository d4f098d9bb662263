"""Log lines about trouble that repeats: one of each kind in a minute.

Owns when a line is due. It must not count: the books say how often something happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

LOG_INTERVAL_SECONDS = 60.0
"""One kind of trouble is logged once in this time; the counters show how often it happened."""


class TroubleLog:
    """Warnings of one logger, each kind at most once in an interval."""

    def __init__(self, logger: logging.Logger, now: Callable[[], float]) -> None:
        self._logger = logger
        self._now = now
        self._logged_at: dict[str, float] = {}
        """By kind; the kinds are few and fixed."""

    def warn(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning unless one of its kind was logged less than an interval ago."""
        now = self._now()
        logged_at = self._logged_at.get(kind)
        if logged_at is None or now - logged_at >= LOG_INTERVAL_SECONDS:
            self._logged_at[kind] = now
            self._logger.warning(message, *arguments)
