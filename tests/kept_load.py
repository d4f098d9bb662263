"""A load over kept connections, each request with a path of its own, checked one by one."""

from __future__ import annotations

import contextlib
import http.client
import threading

CONNECTIONS = 7
WAIT_SECONDS = 60.0


class KeptLoad:
    """Asks a server that answers `you asked for PATH`, until it is told to end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent: dict[int, int] = dict.fromkeys(range(CONNECTIONS), 0)
        """Requests that were answered, by connection."""
        self.failures: list[str] = []
        """What went wrong, which ends a connection's requests."""
        self._enough = threading.Event()
        self._progress = threading.Condition()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in self.sent]
        for thread in self._threads:
            thread.start()

    def wait_for(self, requests: int) -> None:
        """Wait until each connection has made so many more requests."""
        with self._progress:
            wanted = {number: sent + requests for number, sent in self.sent.items()}
            assert self._progress.wait_for(
                lambda: all(self.sent[number] >= many for number, many in wanted.items()) or self.failures,
                WAIT_SECONDS,
            ), "the load does not get on"
        assert self.failures == []

    def end(self) -> None:
        """Let what is in flight finish."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            while not self._enough.is_set():
                path = f"/{number}/{self.sent[number]}"
                failure = None
                try:
                    connection.request("GET", path)
                    answer = connection.getresponse().read()
                    if answer != f"you asked for {path}\n".encode():
                        failure = f"{path} was answered {answer!r}"
                except (OSError, http.client.HTTPException) as error:
                    failure = f"{path}: {error!r}"
                with self._progress:
                    if failure is None:
                        self.sent[number] += 1
                    else:
                        self.failures.append(failure)
                    self._progress.notify_all()
                if failure is not None:
                    return
