"""A way to the API server that a test can cut: bytes are passed on as they come."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

CHUNK_BYTES = 65_536


class Relay:
    """Listens on loopback and passes each connection on to a port there."""

    def __init__(self, port: int, *, listen: int = 0) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", listen))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections that are open now."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # A thread that waits in accept() holds the port until it is woken.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(accepted,), daemon=True).start()

    def _pass_on(self, accepted: socket.socket) -> None:
        with (
            accepted,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._target)) as onward,
        ):
            with self._lock:
                self._open |= {accepted, onward}
            try:
                self._copy(accepted, onward)
            finally:
                with self._lock:
                    self._open -= {accepted, onward}

    @staticmethod
    def _copy(accepted: socket.socket, onward: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(accepted, selectors.EVENT_READ, onward)
            ready.register(onward, selectors.EVENT_READ, accepted)
            while True:
                for key, _ in ready.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(CHUNK_BYTES)
                    if not data:
                        return
                    key.data.sendall(data)
