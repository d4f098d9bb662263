"""Clients that live for one request: `python -m tests.e2e.servers.forking_client PORT CHILDREN`.

Waits for a line of input, and forks so many children. Each asks for `/NUMBER` and ends at once. Then it
writes a line `NUMBER PID` for each.
"""

import os
import signal
import socket
import sys


def ask(port: int, number: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /%d HTTP/1.1\r\nHost: forks.invalid\r\nConnection: close\r\n\r\n" % number)
        while connection.recv(65_536):
            pass


def main() -> None:
    port, children = int(sys.argv[1]), int(sys.argv[2])
    sys.stdin.readline()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in range(children):
        if (pid := os.fork()) == 0:
            ask(port, number)
            os._exit(0)
        sys.stdout.write(f"{number} {pid}\n")
    sys.stdout.close()


if __name__ == "__main__":
    main()
