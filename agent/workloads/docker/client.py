"""Questions to the Docker Engine over its Unix socket.

Owns the traffic with the Engine. It must not know what the answers are used for. Contract: each failure is
one of two exceptions with a reason for people to read; any thread may ask, and any may cancel what others
wait for.

Four GET requests don't pay for the `docker` package: 9 MB where the gRPC exporter is in use, against 0.8, and
90 ms to import. It also leaves the socket of a refused connection to the garbage collector, and can't cancel
a request. A connection for each request costs little, and is never one that a restarted Engine has closed.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

Answer: TypeAlias = Mapping[str, Any]

REQUEST_SECONDS = 10.0
"""How long one answer may take. An inspection takes milliseconds, and longer while its container is being
started or removed."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Length of an answer: the list of running containers has 1 to 2 KiB for each."""
MAX_EVENT_BYTES = 1024 * 1024
"""Length of an event, which holds all labels of its container."""

EVENTS = {
    "type": ["container", "network"],
    "event": ["create", "start", "rename", "die", "destroy", "connect", "disconnect"],
}
"""Events asked for. Others come often and change nothing here: a health check makes three `exec_…`."""


class EngineUnreachableError(Exception):
    """The Engine does not answer, or what answers is no Docker Engine."""


class EngineRefusalError(Exception):
    """The Engine answers that it can't do what it was asked."""


class NoSuchContainerError(EngineRefusalError):
    """The Engine has no such container."""


class EngineClient:
    """A client of the Engine at one socket. Nothing is asked by the constructor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._prefix = ""
        # Guards what follows.
        self._lock = threading.Lock()
        self._open: set[_UnixConnection] = set()
        self._is_cancelled = False

    def negotiate(self) -> None:
        """Speak the version of the API that the Engine speaks, from now on; before it is left open."""
        with self._asked("/_ping") as response:
            version = response.headers.get("Api-Version")
        self._prefix = f"/v{version}" if version else ""

    def running(self) -> list[str]:
        """Return the ids of the containers that run."""
        return [container["Id"] for container in self._ask("/containers/json")]

    def inspect(self, container_id: str) -> Answer:
        """Return what `docker inspect` shows. Raises NoSuchContainerError."""
        answer: Answer = self._ask(f"/containers/{container_id}/json")
        return answer

    @contextmanager
    def events(self, since_unix_ns: int) -> Iterator[Iterator[Answer]]:
        """Open the events from a moment on: those that the Engine remembers, then each as it happens.

        They end when the Engine stops. One longer than MAX_EVENT_BYTES is {}.
        """
        since = f"{since_unix_ns // 1_000_000_000}.{since_unix_ns % 1_000_000_000:09}"
        query = urlencode({"since": since, "filters": json.dumps(EVENTS)})
        with self._asked(f"{self._prefix}/events?{query}", is_stream=True) as response:
            yield _read_events(response)

    def cancel(self) -> None:
        """Break off all that is being asked, and answer no further question. Idempotent."""
        with self._lock:
            self._is_cancelled = True
            for connection in self._open:
                connection.shut_down()

    def _ask(self, path: str) -> Any:
        with self._asked(self._prefix + path) as response, _translated():
            return json.loads(_read_bounded(response))

    @contextmanager
    def _asked(self, target: str, *, is_stream: bool = False) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give its response, whose status is no error."""
        connection = _UnixConnection(self._path)
        try:
            with _translated():
                connection.connect()
                with self._lock:
                    if self._is_cancelled:
                        raise EngineUnreachableError("cancelled")
                    self._open.add(connection)
                connection.request("GET", target)
                response = connection.getresponse()
                if response.status >= http.HTTPStatus.BAD_REQUEST:
                    raise _refusal(response)
                if is_stream:
                    connection.sock.settimeout(None)
            yield response
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=REQUEST_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def shut_down(self) -> None:
        """Have every call that waits for this connection return, in whatever thread."""
        # The Engine may have hung up at the same time.
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _read_events(response: http.client.HTTPResponse) -> Iterator[Answer]:
    while True:
        with _translated():
            line = response.readline(MAX_EVENT_BYTES)
            if line.endswith(b"\n"):
                event: Answer = json.loads(line)
            elif len(line) < MAX_EVENT_BYTES:
                # The end, possibly in the middle of an event.
                return
            else:
                event = {}
                while line and not line.endswith(b"\n"):
                    line = response.readline(MAX_EVENT_BYTES)
        yield event


def _read_bounded(response: http.client.HTTPResponse) -> bytes:
    body = response.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise EngineRefusalError(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
    return body


def _refusal(response: http.client.HTTPResponse) -> EngineRefusalError:
    try:
        message = str(json.loads(_read_bounded(response))["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {response.status}"
    return (NoSuchContainerError if response.status == http.HTTPStatus.NOT_FOUND else EngineRefusalError)(
        message
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the layers below raise (sockets, HTTP, JSON) into this module's exceptions."""
    try:
        yield
    except OSError as error:
        raise EngineUnreachableError(error.strerror or str(error)) from None
    except http.client.HTTPException as error:
        raise EngineUnreachableError(f"not the HTTP of a Docker Engine: {error!r}") from None
    except ValueError:
        raise EngineUnreachableError("not the JSON of a Docker Engine") from None
