"""The end of one attempt over HTTP, however slowly its bytes come.

A time-out of a socket is for one read, so an answer that drips holds an attempt without end. Owns the
shutting down of the connection that an attempt uses when its time is over. It must not read answers.

Contract: `mount` makes a session open only connections that are watched. Within `after(seconds)` the latest
of them is shut down once the seconds are over, in its TLS handshake as well; what waits for its bytes then
ends with an error. `is_over` says afterwards whether that happened. One attempt at a time. Looking up a name
is not bounded, because no other thread can end that.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class AttemptDeadline:
    """Watches the connection of one session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._descriptor: socket.socket | None = None
        """Of the watched connection, of its own, because TLS takes the socket over."""
        self._is_running = False
        self.is_over = False

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Shut the connection down when the block takes longer than that."""
        with self._lock:
            self.is_over = False
            self._is_running = True
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._is_running = False
                if self._connection is not None and self._connection.sock is None:
                    # It was closed; a descriptor that is still open would keep it from ending.
                    self._forget()

    def watch(self, connection: HTTPConnection, opened: socket.socket) -> None:
        """Take a connection that was just opened; the one before it is watched no longer."""
        with self._lock:
            self._forget()
            self._connection = connection
            self._descriptor = opened.dup()

    def close(self) -> None:
        """Watch no connection any longer."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._connection = None
        if self._descriptor is not None:
            self._descriptor.close()
            self._descriptor = None

    def _end(self) -> None:
        with self._lock:
            if self._is_running:
                self.is_over = True
                if self._descriptor is not None:
                    with suppress(OSError):
                        self._descriptor.shutdown(socket.SHUT_RDWR)


def mount(session: requests.Session, deadline: AttemptDeadline) -> None:
    """Let a session open only connections that the deadline watches."""

    class WatchedConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            opened = super()._new_conn()
            deadline.watch(self, opened)
            return opened

    class WatchedTlsConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            opened = super()._new_conn()
            deadline.watch(self, opened)
            return opened

    class WatchedPool(HTTPConnectionPool):
        ConnectionCls = WatchedConnection

    class WatchedTlsPool(HTTPSConnectionPool):
        ConnectionCls = WatchedTlsConnection

    pools = {"http": WatchedPool, "https": WatchedTlsPool}

    class WatchedAdapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*arguments, **options)
            manager.pool_classes_by_scheme = pools
            return manager

    for scheme in ("http://", "https://"):
        session.mount(scheme, WatchedAdapter())
