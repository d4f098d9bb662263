"""HTTP servers that answer in children: `python -m tests.e2e.servers.forking_server KIND`.

KIND is a name in `KINDS`. The first line of output is the port. Each answers any request with the id of the
process that answered, in a header, and ends the connection.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ForkingMixIn

BACKLOG = 600
WORKERS = 3
LIFETIME_SECONDS = 300
"""Processes that the test does not know end by themselves after that."""
PERL = "/usr/bin/perl"
PERL_ANSWER = r"""
sysread STDIN, $head, 65536;
syswrite STDOUT, "HTTP/1.1 200 OK\r\nX-Pid: $$\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
"""


def answer(connection: socket.socket) -> None:
    """Read one request and answer it."""
    head = b""
    while b"\r\n\r\n" not in head:
        read = connection.recv(65_536)
        if not read:
            return
        head += read
    lines = (b"HTTP/1.1 200 OK", b"X-Pid: %d" % os.getpid(), b"Content-Length: 2", b"Connection: close")
    connection.sendall(b"\r\n".join(lines) + b"\r\n\r\nok")


def answer_and_end(connection: socket.socket) -> None:
    """Answer, and be gone at once, without any of an interpreter's end."""
    answer(connection)
    os._exit(0)


def fork_for_each(listener: socket.socket, child: Callable[[socket.socket], None]) -> None:
    """Accept for ever; each connection is given to a child that ends with it."""
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            try:
                child(connection)
            finally:
                os._exit(0)
        connection.close()


def mixin(listener: socket.socket) -> None:
    """`http.server` with `ForkingMixIn`, whose ended children are waited for at the next connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Pid", str(os.getpid()))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's signature)
            pass

    class Server(ForkingMixIn, HTTPServer):
        max_children = BACKLOG

    server = Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()


def zombies(listener: socket.socket) -> None:
    """A fork for each connection; nothing ever waits for the children."""
    fork_for_each(listener, answer_and_end)


def reaped(listener: socket.socket) -> None:
    """A fork for each connection; the kernel reaps the children as they end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    fork_for_each(listener, answer_and_end)


def double_fork(listener: socket.socket) -> None:
    """The grandchild answers; its parent ends before."""

    def child(connection: socket.socket) -> None:
        if os.fork() == 0:
            while os.getppid() == parent:
                os.sched_yield()
            answer_and_end(connection)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def with_parent(connection: socket.socket) -> None:
        nonlocal parent
        parent = os.getpid()
        child(connection)

    parent = 0
    fork_for_each(listener, with_parent)


def nested(listener: socket.socket) -> None:
    """A child of a child of a child answers."""

    def child(connection: socket.socket, depth: int = 3) -> None:
        if depth == 0:
            answer_and_end(connection)
        if (pid := os.fork()) == 0:
            child(connection, depth - 1)
        os.waitpid(pid, 0)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    fork_for_each(listener, child)


def in_thread(listener: socket.socket) -> None:
    """A thread forks, and its child answers."""

    def serve(connection: socket.socket) -> None:
        if os.fork() == 0:
            answer_and_end(connection)
        connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,)).start()


def pre_fork(listener: socket.socket) -> None:
    """Workers that exist before the first connection accept and answer."""
    for _ in range(WORKERS):
        if os.fork() == 0:
            signal.alarm(LIFETIME_SECONDS)
            while True:
                connection, _ = listener.accept()
                with connection:
                    answer(connection)
    signal.pause()


def orphans(listener: socket.socket) -> None:
    """A daemon: the process that was started forks the server, which forks for each connection."""
    if os.fork():
        os._exit(0)
    signal.alarm(LIFETIME_SECONDS)
    reaped(listener)


def fork_exec(listener: socket.socket) -> None:
    """As inetd: the child executes Perl, which answers on its standard input and output."""

    def child(connection: socket.socket) -> None:
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 1)
        os.execv(PERL, [PERL, "-e", PERL_ANSWER])

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    fork_for_each(listener, child)


def spawn(listener: socket.socket) -> None:
    """As `fork_exec`, by posix_spawn, which forks as vfork does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        actions = [(os.POSIX_SPAWN_DUP2, connection.fileno(), number) for number in (0, 1)]
        os.posix_spawn(PERL, [PERL, "-e", PERL_ANSWER], os.environ, file_actions=actions)
        connection.close()


def answer_then_exec(listener: socket.socket) -> None:
    """The child answers as itself, and then executes another program."""

    def child(connection: socket.socket) -> None:
        answer(connection)
        connection.close()
        os.execv("/bin/true", ["true"])

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    fork_for_each(listener, child)


KINDS = {
    kind.__name__: kind
    for kind in (
        mixin,
        zombies,
        reaped,
        double_fork,
        nested,
        in_thread,
        pre_fork,
        orphans,
        fork_exec,
        spawn,
        answer_then_exec,
    )
}


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        KINDS[sys.argv[1]](listener)


if __name__ == "__main__":
    main()
