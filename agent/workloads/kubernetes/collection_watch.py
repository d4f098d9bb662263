"""A collection of the Kubernetes API, followed: listed, then watched, and what goes wrong in between.

Owns one thread for each collection, and when to list, to resume and to wait. It must not know what the
objects mean: they go to a consumer as they come.

    list     from the API server's cache at first, which may be seconds old; later never older than what was
             seen; after 410 Gone the newest there is
    watch    from the list's resource version, resumed at that of the last event or bookmark
    trouble  waits that double up to a bound, with jitter, since all agents of a cluster meet the same one;
             the consumer keeps what it has
    denied   tried again slowly: rights are granted while agents run
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.workloads.kubernetes.api import (
    ApiDeniedError,
    ApiError,
    ApiFailedError,
    BrokenOffError,
    Resource,
    ResourceExpiredError,
)
from agent.workloads.kubernetes.client import KubernetesApi, WatchStream

T = TypeVar("T")

WATCH_SECONDS = (240, 480)
"""Length of a watch. Random between these, so that the agents of a cluster don't come back all at once."""
STEADY_SECONDS = 5.0
"""A watch that ended sooner counts as trouble: a server that closes each at once isn't asked in a loop."""
PAGE_OBJECTS = 500
"""Objects in a page of a list, as kubectl has it: some megabytes of JSON at once."""
ROUTINE_BREAKS = 2
"""Connections in a row that may be cut before it counts as trouble: load balancers cut those that last."""
MAX_REFUSALS = 5
"""Answers in a row that say the server could not, after which the version is given up: a server that was
restored from a backup never reaches the one that it is asked for."""
MAX_PAGES = 2_000
"""Pages of one list: a million objects, beyond what etcd holds."""


@dataclass(frozen=True, slots=True)
class RetryPace:
    """How long to wait before another try, in seconds."""

    first: float = 0.5
    most: float = 10.0
    """A change should be seen within seconds, also one made just after an outage."""
    denied: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionConsumer(Generic[T]):
    """The receiver of a collection's changes. Called from the thread of the watch."""

    parse: Callable[[Mapping[str, Any]], T | None]
    """Returns what is kept of an object; None for one of no interest."""
    replace: Callable[[list[T]], None]
    """Takes these for all there are."""
    put: Callable[[T], None]
    """Takes an object that is new, or newer."""
    remove: Callable[[T], None]
    """Forgets an object."""
    deny: Callable[[], None]
    """Does without: the collection may not be read."""


class CollectionWatch(Generic[T]):
    """Keeps a consumer up to date with a collection until closed."""

    def __init__(
        self,
        api: KubernetesApi,
        resource: Resource,
        consumer: CollectionConsumer[T],
        *,
        field_selector: str | None = None,
        pace: RetryPace = RetryPace(),
    ) -> None:
        self._api = api
        self._resource = resource
        self._consumer = consumer
        self._parameters = {"fieldSelector": field_selector} if field_selector else {}
        # The selected few come in one page; only then the server's cache can answer for any version.
        self._is_paged = field_selector is None
        self._pace = pace
        self._version: str | None = None
        """Resource version of what the consumer has; None: list first."""
        self._list_version = "" if self._is_paged else "0"
        self._failures = 0
        self._refusals = 0
        self._was_cut = False
        self._stream: WatchStream | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{resource.plural}", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have the thread end as soon as it can."""
        self._closed.set()
        with self._lock:
            if self._stream is not None:
                self._stream.abort()

    def close(self, deadline: float) -> None:
        """End the thread; wait for that until `deadline` of time.monotonic() at most. Idempotent."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._version is None:
                    self._list()
                self._watch()
            except ResourceExpiredError:
                self._api.journal.count(f"expired_{self._resource.plural}")
                self._version, self._list_version = None, ""
                # A list that expires while it is paged must not be repeated in a loop.
                self._wait(self._back_off())
            except ApiDeniedError:
                self._consumer.deny()
                self._version = None
                self._wait(self._pace.denied)
            except ApiError as error:
                if not self._closed.is_set():
                    self._note_trouble(error)
                    self._wait(self._back_off())
            except Exception as error:  # noqa: BLE001 (a dead thread would leave the past in force for good)
                self._api.journal.bug(f"watching {self._resource}", error)
                self._version = None
                self._wait(self._pace.most)

    def _note_trouble(self, error: ApiError) -> None:
        self._was_cut = isinstance(error, BrokenOffError)
        if self._was_cut and self._failures < ROUTINE_BREAKS:
            self._api.journal.count("cut_connections")
        else:
            self._api.journal.unreachable(str(self._resource), str(error))
        self._refusals += isinstance(error, ApiFailedError)
        if self._refusals >= MAX_REFUSALS:
            self._version, self._list_version = None, "" if self._is_paged else "0"
            self._refusals = 0

    def _list(self) -> None:
        records: list[T] = []
        metadata: Mapping[str, Any] = {}
        parameters = {**self._parameters}
        if self._is_paged:
            parameters["limit"] = str(PAGE_OBJECTS)
        elif self._list_version:
            parameters["resourceVersion"] = self._list_version
        for _ in range(MAX_PAGES):
            answer = self._api.list(self._resource, parameters)
            parsed = (self._consumer.parse(item) for item in answer.get("items") or ())
            records.extend(record for record in parsed if record is not None)
            metadata = answer.get("metadata") or {}
            token = metadata.get("continue")
            if not token or self._closed.is_set():
                break
            parameters["continue"] = token
        if self._closed.is_set():
            return
        self._api.journal.count(f"lists_{self._resource.plural}")
        self._consumer.replace(records)
        self._note_version(metadata)

    def _watch(self) -> None:
        started_at = time.monotonic()
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 (spreads load, guards nothing)
        parameters = {
            **self._parameters,
            "resourceVersion": self._version or "",
            "allowWatchBookmarks": "true",
        }
        stream = self._api.watch(self._resource, parameters, seconds)
        with self._lock:
            self._stream = stream
            if self._closed.is_set():
                stream.abort()
        if not self._was_cut:
            self._api.journal.reachable(str(self._resource))
        try:
            for kind, document in stream.events():
                self._api.journal.reachable(str(self._resource))
                self._failures = self._refusals = 0
                self._was_cut = False
                self._take(kind, document)
        finally:
            with self._lock:
                self._stream = None
            stream.close()
        if time.monotonic() - started_at < STEADY_SECONDS:
            self._wait(self._back_off())
        else:
            self._failures = 0

    def _take(self, kind: str, document: Mapping[str, Any]) -> None:
        self._note_version(document.get("metadata") or {})
        if kind == "BOOKMARK":
            return
        self._api.journal.count(f"changes_{self._resource.plural}")
        record = self._consumer.parse(document)
        if record is None:
            return
        if kind == "DELETED":
            self._consumer.remove(record)
        else:
            self._consumer.put(record)

    def _note_version(self, metadata: Mapping[str, Any]) -> None:
        version = metadata.get("resourceVersion")
        if isinstance(version, str) and version:
            self._version = self._list_version = version

    def _back_off(self) -> float:
        """Return the next wait: twice the one before, up to the bound, the upper half of it random."""
        wait: float = min(self._pace.most, self._pace.first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, guards nothing)

    def _wait(self, seconds: float) -> None:
        self._closed.wait(seconds)
