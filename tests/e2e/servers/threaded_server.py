"""A small HTTP server for the end-to-end tests: `python -m tests.e2e.servers.threaded_server ADDRESS`.

ADDRESS is an IPv4 or IPv6 address, or the path of a Unix socket. The first line of output is the port (0 for
a path). It answers any GET with a text that holds the path, and any POST with the body that it got, under the
content type that it came with.
"""

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait for a delayed ACK

    def do_GET(self) -> None:
        self.answer(f"you asked for {self.path}\n".encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])), self.headers["Content-Type"])

    def answer(self, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a client"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature is the library's)
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


def main(handler: type[Handler] = Handler) -> None:
    address = sys.argv[1]
    if "/" in address:
        Server.address_family = socket.AF_UNIX
        handler.disable_nagle_algorithm = False
        server = Server(address, handler)  # type: ignore[arg-type]  # the address of that family
        port = 0
    else:
        Server.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = Server((address, 0), handler)
        port = server.server_address[1]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
