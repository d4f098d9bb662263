"""A small HTTP/2 server for the end-to-end tests: `python -m tests.e2e.servers.http2_server`.

The first line of output is its port. It takes the preface, or HTTP/1.1 with `Upgrade: h2c` (RFC 7540 section
3.2). It answers with a text that holds method, path and size of the request, `/status/NNN` with that status
and nothing more, and `/trailers/…` with a trailer that holds the path as well.
"""

import socket
import sys
import threading
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset

END_OF_HEAD = b"\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@dataclass
class Request:
    """One request, as far as it has come."""

    method: str
    path: str
    size: int = 0


class Conversation:
    """One connection."""

    def __init__(self, endpoint: socket.socket) -> None:
        self.endpoint = endpoint
        self.connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, Request] = {}

    def hold(self) -> None:
        """Answer everything until the client goes."""
        received = self.endpoint.recv(65_536)
        if received.startswith(b"GET "):
            received = self.upgrade(received)
        else:
            self.connection.initiate_connection()
        while received:
            for event in self.connection.receive_data(received):
                self.react(event)
            self.endpoint.sendall(self.connection.data_to_send())
            received = self.endpoint.recv(65_536)

    def upgrade(self, received: bytes) -> bytes:
        """Switch to HTTP/2, answer the request as stream 1, and return what follows it."""
        while END_OF_HEAD not in received:
            received += self.endpoint.recv(65_536)
        head, _, rest = received.partition(END_OF_HEAD)
        request, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.connection.initiate_upgrade_connection(fields["http2-settings"].encode())
        self.endpoint.sendall(SWITCH)
        self.answer(1, Request("GET", request.split(" ")[1]))
        self.endpoint.sendall(self.connection.data_to_send())
        return rest or self.endpoint.recv(65_536)

    def react(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            self.requests[event.stream_id] = Request(fields[":method"], fields[":path"])
        elif isinstance(event, DataReceived):
            self.requests[event.stream_id].size += len(event.data)
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.answer(event.stream_id, self.requests.pop(event.stream_id))
        elif isinstance(event, StreamReset):
            self.requests.pop(event.stream_id, None)

    def answer(self, stream: int, request: Request) -> None:
        _, kind, name, *_ = f"{request.path}//".split("/")
        send_head, send_data = self.connection.send_headers, self.connection.send_data
        if kind == "status":
            send_head(stream, [(":status", name)], end_stream=True)
            return
        body = f"{request.method} {request.path} {request.size}\n".encode()
        head = [(":status", "200"), ("content-type", "text/plain"), ("content-length", str(len(body)))]
        send_head(stream, head, end_stream=request.method == "HEAD")
        if request.method != "HEAD":
            send_data(stream, body, end_stream=kind != "trailers")
            if kind == "trailers":
                send_head(stream, [("x-path", request.path)], end_stream=True)


def hold(endpoint: socket.socket) -> None:
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with endpoint:
        Conversation(endpoint).hold()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            endpoint, _address = listener.accept()
            threading.Thread(target=hold, args=(endpoint,), daemon=True).start()


if __name__ == "__main__":
    main()
