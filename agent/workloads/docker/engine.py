"""Discovery of the containers of a Docker Engine.

Owns the two threads that ask the Engine, and what makes them ask: one follows the events, so that a container
is known when its first process starts; the other inspects containers, those first that the main loop asks
for. What the answers mean belongs to `containers`, what is kept of them to `container_table`.

While the Engine is away, what was known last stays in force; once it is back, events are taken up where they
broke off, and a list of what runs sets right what no event reported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.workloads.docker.client import (
    EngineClient,
    EngineRefusalError,
    EngineUnreachableError,
    NoSuchContainerError,
)
from agent.workloads.docker.container_table import ContainerTable
from agent.workloads.docker.containers import DEFAULT_LABELS, Json, describe_event, describe_inspected
from agent.workloads.workload import Absence, ContainerReference, Discovery, Finding

FIRST_BACKOFF_SECONDS = 0.25
BACKOFF_FACTOR = 2.0
MAX_BACKOFF_SECONDS = 5.0
"""An Engine that is up again is followed within this time."""

CLOSE_SECONDS = 1.0
"""How long closing waits for a thread, whose questions are cancelled: no answer is worth a stop's time."""

MAX_WANTED = 8_192
"""Containers waiting to be inspected: as many as are known at once."""

_STATES = frozenset({"followed", "containers_running", "containers_ended", "containers_denied"})

_logger = logging.getLogger(__name__)


class DockerDiscovery(Discovery):
    """The containers of the Docker Engine at one socket."""

    def __init__(self, socket: Path, *, labels: Sequence[str] = DEFAULT_LABELS) -> None:
        """Start looking. `labels` are shell patterns over the keys of labels that become attributes."""
        self._socket = socket
        self._labels = tuple(labels)
        self._table = ContainerTable()
        self._client = EngineClient(socket)
        # One condition guards everything below: containers to inspect, the end.
        self._changed = threading.Condition()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._in_flight: str | None = None
        self._closing = False
        self._since_unix_ns = time.time_ns()
        self._is_followed = False
        self._is_loss_told = False
        self._counts = {"connections": 0, "events": 0, "inspections": 0, "failures": 0, "unasked": 0}
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._follow, "docker-events"), (self._inspect, "docker-inspect"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def version(self) -> int:
        """Raised whenever some answer of `find` or `peer` may have changed."""
        return self._table.version

    @property
    def has_answered(self) -> bool:
        """Whether the Engine has once listed what runs."""
        return self._counts["connections"] > 0

    def find(self, reference: ContainerReference) -> Finding:
        """Return what is known of a container now, and have an unknown one inspected."""
        finding = self._table.find(reference.container_id)
        if finding is None:
            if reference.container_id != self._in_flight:
                self._want(reference.container_id, first=True)
            return Absence.PENDING
        return finding

    def peer(self, address: str) -> Mapping[str, str]:
        """Return the owner of an IP address, as attributes below `wirespan.peer.`; {} when it has none."""
        return self._table.peer(address)

    @property
    def states(self) -> frozenset[str]:
        """Those of the counters that go down as well."""
        return _STATES

    def counters(self) -> dict[str, int]:
        """Return what was asked, and what is known.

        `connections` to the event stream, `events`, `inspections`, `failures` of either, and `unasked`
        containers for which there was no room to wait; those of `ContainerTable` with the prefix
        `containers_`; and `followed`, 1 while events are received.
        """
        with self._changed:
            counts = {**self._counts, "followed": int(self._is_followed)}
        return counts | {f"containers_{name}": count for name, count in self._table.counters().items()}

    def close(self) -> None:
        """Stop both threads. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._client.cancel()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)

    def _want(self, container_id: str, *, first: bool = False) -> None:
        with self._changed:
            if container_id not in self._wanted and len(self._wanted) >= MAX_WANTED:
                self._counts["unasked"] += 1
                return
            self._wanted[container_id] = None
            if first:
                self._wanted.move_to_end(container_id, last=False)
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the Engine is reached."""
        with self._changed:
            before = self._counts["connections"]
            self._changed.wait_for(lambda: self._closing or self._counts["connections"] > before, seconds)

    # The thread of events.

    def _follow(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._closing:
            try:
                self._follow_once()
                backoff = FIRST_BACKOFF_SECONDS
                reason = "it has closed the stream of events"
            except (EngineUnreachableError, EngineRefusalError) as error:
                reason = str(error)
            self._lose(reason)
            self._pause(backoff)
            backoff = min(backoff * BACKOFF_FACTOR, MAX_BACKOFF_SECONDS)

    def _follow_once(self) -> None:
        """Follow the events until the Engine ends the stream."""
        self._client.negotiate()
        # Events first, then the list: what happens in between is in both.
        with self._client.events(self._since_unix_ns) as events:
            running = self._client.running()
            self._table.end_all_but(running)
            for container_id in running:
                self._want(container_id)
            self._reach(len(running))
            for event in events:
                self._observe(event)

    def _reach(self, running: int) -> None:
        with self._changed:
            self._is_followed = True
            self._is_loss_told = False
            self._counts["connections"] += 1
            self._changed.notify_all()
        _logger.info("Docker Engine at %s: %d containers run", self._socket, running)

    def _lose(self, reason: str) -> None:
        with self._changed:
            if self._closing:
                return
            is_told, self._is_loss_told = self._is_loss_told, True
            self._is_followed = False
            self._counts["failures"] += 1
        if not is_told:
            _logger.warning(
                "Docker Engine at %s is not available, will try again: %s;"
                " what is known of containers stays in force",
                self._socket,
                reason,
            )

    def _observe(self, event: Json) -> None:
        with self._changed:
            self._counts["events"] += 1
        subject = event.get("Actor") or {}
        container_id = subject.get("ID")
        action = event.get("Action")
        if not container_id:
            return
        if event.get("Type") == "network":
            container_id = (subject.get("Attributes") or {}).get("container")
            # One that is being started is inspected once it runs, one that has ended has no addresses.
            if container_id and self._table.is_inspected(container_id):
                self._want(container_id)
        elif action in ("die", "destroy"):
            self._withdraw(container_id)
            self._table.end(container_id)
        else:
            described = describe_event(event, self._labels)
            if described is not None:
                self._table.introduce(described)
            # It is inspected once it runs and has its addresses.
            if action != "create":
                self._want(container_id)
        self._since_unix_ns = event.get("timeNano", self._since_unix_ns)

    def _withdraw(self, container_id: str) -> None:
        """Inspect no container that has ended, unless an answer on its way may say that it runs."""
        with self._changed:
            self._wanted.pop(container_id, None)
            if self._in_flight == container_id:
                self._wanted[container_id] = None

    # The thread of inspections.

    def _inspect(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while container_id := self._next_wanted():
            try:
                self._inspect_one(container_id)
                backoff = FIRST_BACKOFF_SECONDS
            except (EngineUnreachableError, EngineRefusalError):
                with self._changed:
                    self._counts["failures"] += 1
                self._pause(backoff)
                backoff = min(backoff * BACKOFF_FACTOR, MAX_BACKOFF_SECONDS)

    def _next_wanted(self) -> str | None:
        """Wait for a container to inspect and take it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._wanted)
            if self._closing:
                return None
            self._in_flight, _ = self._wanted.popitem(last=False)
            return self._in_flight

    def _inspect_one(self, container_id: str) -> None:
        try:
            try:
                self._table.learn(describe_inspected(self._client.inspect(container_id), self._labels))
            except NoSuchContainerError:
                self._table.deny(container_id)
            with self._changed:
                self._counts["inspections"] += 1
        except EngineUnreachableError:
            # Others first: it may be this container that keeps the Engine from answering. One that the Engine
            # refuses to inspect is asked for again when it is needed.
            with self._changed:
                self._wanted[container_id] = None
            raise
        finally:
            with self._changed:
                self._in_flight = None
