"""A server of server-sent events: `python -m tests.e2e.servers.event_server ADDRESS`; it prints its port.

GET /chunked/COUNT and GET /until-close/COUNT send so many events, one write each, in that framing; with
`?pauses=N`, as many pauses of PAUSE_SECONDS come between them.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAUSE_SECONDS = 0.7


def build_event(number: int) -> bytes:
    return f"id: {number}\nevent: tick\ndata: the price is {number * 7}\n\n".encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path, _, pauses = self.path.partition("?pauses=")
        _, framing, count = path.split("/")
        between_pauses = int(count) // (int(pauses or 0) + 1) + 1
        chunked = framing == "chunked"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        for number in range(int(count)):
            if number and number % between_pauses == 0:
                time.sleep(PAUSE_SECONDS)
            event = build_event(number)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Keep standard error for what goes wrong."""


if __name__ == "__main__":
    with ThreadingHTTPServer((sys.argv[1], 0), Handler) as server:
        print(server.server_port, flush=True)  # noqa: T201 - the test that started the server reads the port
        server.serve_forever()
