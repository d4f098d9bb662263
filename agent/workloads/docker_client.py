"""Four questions to the Docker Engine over its Unix socket.

Owns the traffic with the Engine, as the only importer of `docker`. It must not know what the answers are used
for. Contract: each failure is one of two exceptions with a reason for people to read. Not thread-safe: each
thread opens a client of its own.

`docker` negotiates the version of the API, finds the socket of a stream to cancel, and splits a stream into
events. It takes 9 MB beside the gRPC exporter (3 MB where the one over HTTP has brought `requests` in) and
90 ms to import, so whoever imports this module does it late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound, StreamParseError
from urllib3.exceptions import HTTPError

REQUEST_SECONDS = 10.0
"""How long one answer may take. An inspection takes milliseconds, and longer while its container is being
started or removed."""

EVENTS = {
    "type": ["container", "network"],
    "event": ["create", "start", "rename", "die", "destroy", "connect", "disconnect"],
}
"""Events asked for. Others come often and change nothing here: a health check makes three `exec_…`."""


class EngineUnreachableError(Exception):
    """The Engine does not answer, or what answers is no Docker Engine."""


class EngineRefusalError(Exception):
    """The Engine answers that it can't do what it was asked."""


class EngineClient:
    """A client of the Engine at one socket. The constructor asks for the version of its API."""

    def __init__(self, socket: Path) -> None:
        with _translated():
            self._api = docker.APIClient(f"unix://{socket}", version="auto", timeout=REQUEST_SECONDS)

    def running(self) -> list[str]:
        """Return the ids of the containers that run."""
        with _translated():
            return [container["Id"] for container in self._api.containers(quiet=True)]

    def inspect(self, container_id: str) -> Mapping[str, Any] | None:
        """Return what `docker inspect` shows, or None when there is no such container."""
        with _translated():
            try:
                answer: Mapping[str, Any] = self._api.inspect_container(container_id)
            except NotFound:
                return None
            return answer

    def events(self, since_unix_ns: int) -> EventStream:
        """Return the events from a moment on: those that the Engine remembers, then each as it happens."""
        since = f"{since_unix_ns // 1_000_000_000}.{since_unix_ns % 1_000_000_000:09}"
        with _translated():
            return EventStream(self._api.events(since=since, filters=EVENTS, decode=True))

    def close(self) -> None:
        """Close the connections."""
        self._api.close()


class EventStream:
    """Events as they happen, until the Engine stops or `close` is called, by whatever thread."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Return the events; raises EngineUnreachableError when they can't be read."""
        with _translated():
            yield from self._stream

    def close(self) -> None:
        """End the iteration. Idempotent."""
        # It may end by itself at the same time: then its socket, or the way to it, is gone already.
        with suppress(OSError, AttributeError):
            self._stream.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the layers below raise (docker, requests, urllib3, sockets, JSON) into this module's."""
    try:
        yield
    except APIError as error:
        raise EngineRefusalError(error.explanation or str(error)) from None
    except (DockerException, StreamParseError, HTTPError, OSError, ValueError) as error:
        raise EngineUnreachableError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Return the innermost message: the layers above only wrap it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
