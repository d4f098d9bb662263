"""Ends connections in the way that the path of a request names, on a free port that it prints."""

from __future__ import annotations

import socket
import struct
import sys
import threading

UNTIL_END = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate"
_RESET = struct.pack("ii", 1, 0)


def reset(connection: socket.socket) -> None:
    """Close with RST in place of FIN (SO_LINGER with no time)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection, each in one call, and end it as asked for."""
    while data := connection.recv(65_536):
        path = data.split(b" ")[1]
        if path.startswith(b"/half"):
            connection.sendall(UNTIL_END + b"half")
        elif path.startswith(b"/kept"):
            connection.sendall(KEPT)
            continue
        elif path == b"/idle":
            connection.sendall(KEPT)
            connection.sendall(TIMED_OUT)
        if path == b"/half-reset":
            # Only once the client has what was sent, and says so: else the reset may overtake it.
            connection.recv(1)
        if path.endswith(b"reset"):
            reset(connection)
            return
        connection.shutdown(socket.SHUT_WR)
    connection.close()


def main() -> None:
    """Serve until killed."""
    with socket.create_server((sys.argv[1], 0)) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - how the test learns the port
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
