"""Requests to the Kubernetes API that run in the background: the owner of a ReplicaSet, an Event to create.

Owns one thread and a bounded queue before it, and when a request that came to nothing is tried again.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.workloads.kubernetes.api import ApiError, ApiUnreachableError
from agent.workloads.kubernetes.collection_watch import RetryPace
from agent.workloads.kubernetes.journal import ApiJournal

MAX_REQUESTS = 1_024
"""Requests waiting: one for each owner of the pods of a full node, several times over."""
ATTEMPTS = 4
"""Times that a request is made; an API server that is away for longer is not waited for."""


@dataclass(frozen=True, slots=True)
class SideRequest:
    """A request, and what follows from it. Both are called in the queue's thread."""

    send: Callable[[], None]
    """Raises ApiError when it comes to nothing."""
    give_up: Callable[[ApiError], None]


class RequestQueue:
    """Makes requests one after the other until closed."""

    def __init__(self, journal: ApiJournal, pace: RetryPace) -> None:
        self._journal = journal
        self._pace = pace
        self._waiting: collections.deque[SideRequest] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="kubernetes-requests", daemon=True)

    def start(self) -> None:
        """Begin to make requests."""
        self._thread.start()

    def put(self, request: SideRequest) -> bool:
        """Queue a request; return False when there is no room for it."""
        with self._changed:
            if len(self._waiting) >= MAX_REQUESTS:
                self._journal.count("refused_requests")
                return False
            self._waiting.append(request)
            self._changed.notify_all()
            return True

    def close(self, deadline: float) -> None:
        """Drop what waits and end the thread, until `deadline` of time.monotonic() at most. Idempotent."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                request = self._waiting.popleft()
            self._make(request)

    def _make(self, request: SideRequest) -> None:
        for attempt in range(ATTEMPTS):
            try:
                request.send()
            except ApiUnreachableError as error:
                if attempt == ATTEMPTS - 1:
                    self._journal.count("abandoned_requests")
                    request.give_up(error)
                    return
                with self._changed:
                    wait = min(self._pace.most, self._pace.first * 2.0**attempt)
                    if self._changed.wait_for(lambda: self._closed, wait):
                        return
            except ApiError as error:
                request.give_up(error)
                return
            except Exception as error:  # noqa: BLE001 (a dead thread would leave every later request unanswered)
                self._journal.bug("asking the Kubernetes API", error)
                request.give_up(ApiError(str(error)))
                return
            else:
                return
