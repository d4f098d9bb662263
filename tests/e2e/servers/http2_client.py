"""A client that keeps one HTTP/2 connection (prior knowledge) for as long as a test wants it."""

from __future__ import annotations

import socket
from types import TracebackType

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded


class Http2Client:
    """One connection to a server on the loopback interface; a context manager that closes it."""

    def __init__(self, port: int) -> None:
        self._endpoint = socket.create_connection(("127.0.0.1", port))
        self._endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = H2Connection(H2Configuration())
        self._authority = f"127.0.0.1:{port}"
        self._connection.initiate_connection()
        self._send()

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._endpoint.close()

    def get(self, paths: list[str]) -> list[str]:
        """Ask for all of these at once, and return the bodies in that order."""
        bodies: dict[int, bytes] = {}
        for path in paths:
            stream = self._connection.get_next_available_stream_id()
            head = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", self._authority)]
            self._connection.send_headers(stream, head, end_stream=True)
            bodies[stream] = b""
        self._send()
        open_streams = len(paths)
        while open_streams:
            for event in self._connection.receive_data(self._endpoint.recv(65_536)):
                if isinstance(event, DataReceived):
                    bodies[event.stream_id] += event.data
                    self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    open_streams -= 1
            self._send()
        return [body.decode() for body in bodies.values()]

    def _send(self) -> None:
        self._endpoint.sendall(self._connection.data_to_send())
