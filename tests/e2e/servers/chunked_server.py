"""A server of chunked bodies: `python -m tests.e2e.servers.chunked_server ADDRESS`; it prints its port.

GET /COUNT answers with a JSON array of so many numbers in chunks of 16 KiB, the last of them after a pause.
POST takes a chunked body and answers with its size.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK_BYTES = 16_384
PAUSE_SECONDS = 0.3


def build_array(count: int) -> bytes:
    return b"[" + b",".join(b'{"number":%d}' % number for number in range(count)) + b"]"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = build_array(int(self.path[1:]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunks = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]
        for number, chunk in enumerate(chunks, 1):
            if number == len(chunks):
                time.sleep(PAUSE_SECONDS)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        size = 0
        while length := int(self.rfile.readline(), 16):
            size += len(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        answer = b"%d\n" % size
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep standard error for what goes wrong."""


if __name__ == "__main__":
    with ThreadingHTTPServer((sys.argv[1], 0), Handler) as server:
        print(server.server_port, flush=True)  # noqa: T201 - the test that started the server reads the port
        server.serve_forever()
