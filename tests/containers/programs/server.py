"""Answers HTTP requests inside a container: `server.py PORT [REQUESTS]`, ending after so many.

With TLS where CERTIFICATE and KEY name files of these. With FORKS each connection is served by a child.
"""

import os
import signal
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ForkingMixIn


class Handler(BaseHTTPRequestHandler):
    """Says which path was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.server.server_name} has {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = len(sys.argv) > 2

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


class Server(HTTPServer):
    def server_bind(self) -> None:
        # The library would ask a name server what it is called.
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "server", self.server_address[1]


class ForkingServer(ForkingMixIn, Server):
    """As `Server`, in children of it."""


# The first process of a container ignores a signal that it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = (ForkingServer if "FORKS" in os.environ else Server)(("", int(sys.argv[1])), Handler)
if "CERTIFICATE" in os.environ:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
sys.stdout.write("listening\n")
sys.stdout.flush()
if len(sys.argv) > 2:
    for _ in range(int(sys.argv[2])):
        server.handle_request()
else:
    server.serve_forever()
