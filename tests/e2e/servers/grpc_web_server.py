"""A server that speaks gRPC-Web over HTTP/1.1: `python -m tests.e2e.servers.grpc_web_server ADDRESS`.

The first line of output is its port. By method:

| method | answer |
|---|---|
| `/shop.Orders/Echo` | the messages of the request, in chunks, then trailers with status 0 |
| `/shop.Orders/Find` | no message, and trailers with status 5 |
| any other | headers only, with status 12 |

A request of `application/grpc-web-text` is answered in kind, each frame base64 of its own.
"""

import sys
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRAILERS = 0x80


def build_frame(content: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return flag and content of each frame."""
    frames = []
    while data:
        end = 5 + int.from_bytes(data[1:5], "big")
        frames.append((data[0], data[5:end]))
        data = data[end:]
    return frames


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        content_type = self.headers["Content-Type"]
        is_text = content_type.startswith("application/grpc-web-text")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        messages = read_frames(b64decode(body) if is_text else body)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        if self.path == "/shop.Orders/Echo":
            frames = [build_frame(message, flag) for flag, message in messages]
            frames.append(build_frame(b"grpc-status:0\r\nx-served-by:a\r\n", TRAILERS))
        elif self.path == "/shop.Orders/Find":
            frames = [build_frame(b"grpc-status:5\r\ngrpc-message:no%20such%20order\r\n", TRAILERS)]
        else:
            self.send_header("grpc-status", "12")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for frame in frames:
            chunk = b64encode(frame) if is_text else frame
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Keep standard error for what goes wrong."""


if __name__ == "__main__":
    with ThreadingHTTPServer((sys.argv[1], 0), Handler) as server:
        print(server.server_port, flush=True)  # noqa: T201 - the test that started the server reads the port
        server.serve_forever()
