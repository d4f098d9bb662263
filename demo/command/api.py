"""The sample API: a small shop, served by the standard library as a process of its own.

Owns routes that show what a capture has to cope with: ids in paths, JSON both ways, credentials, errors, a
chunked response, a compressed one, an upload and a slow call. It listens on a free port of 127.0.0.1 and
says which one on its first line of output.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

SLOW_SECONDS = 0.25
PRODUCTS = [
    {
        "id": number,
        "name": f"Gadget {number}",
        "price": round(9.9 + number * 1.5, 2),
        "stock": number * 7 % 20,
    }
    for number in range(1, 41)
]

Answer: TypeAlias = tuple[int, object]
"""Status and what is sent as JSON."""


class ShopHandler(BaseHTTPRequestHandler):
    """One connection to the shop."""

    protocol_version = "HTTP/1.1"
    server_version = "demo-shop"
    sys_version = ""
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait for a delayed ACK

    def do_GET(self) -> None:
        """Products, the catalogue (compressed), events (chunked), reports (slow)."""
        path = self.path.partition("?")[0]
        if path == "/catalogue":
            self._send(200, gzip.compress(json.dumps(PRODUCTS).encode()), {"Content-Encoding": "gzip"})
        elif path == "/events":
            self._send_events()
        else:
            self._answer("GET")

    def do_POST(self) -> None:
        """Log in, or place an order."""
        self._answer("POST")

    def do_PUT(self) -> None:
        """Upload a product's description."""
        self._answer("PUT")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature is the library's)
        """Say nothing: what was asked for is shown by the spans."""

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = self.path.partition("?")[0]
        for route_method, pattern, route in ROUTES:
            if route_method == method and (match := pattern.fullmatch(path)):
                status, answer = route(int(match["id"]) if "id" in match.groupdict() else 0, body)
                break
        else:
            status, answer = 404, {"error": "no such route", "path": path}
        self._send(status, json.dumps(answer).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _send_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in ('{"event":"opened"}\n', '{"event":"sold","product":7}\n', '{"event":"closed"}\n'):
            self.wfile.write(f"{len(event):x}\r\n{event}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")


def _list_products(_: int, __: bytes) -> Answer:
    return 200, {"products": PRODUCTS[:10], "total": len(PRODUCTS)}


def _show_product(number: int, _: bytes) -> Answer:
    if not 1 <= number <= len(PRODUCTS):
        return 404, {"error": "no such product", "id": number}
    return 200, PRODUCTS[number - 1]


def _describe_product(number: int, body: bytes) -> Answer:
    return 200, {"id": number, "received_bytes": len(body)}


def _place_order(_: int, body: bytes) -> Answer:
    order = json.loads(body)
    return 201, {"order": 1000 + int(order["product"]), "status": "accepted"}


def _log_in(_: int, body: bytes) -> Answer:
    user = json.loads(body)["user"]
    return 200, {"user": user, "access_token": f"demo-token-of-{user}", "expires_in": 3600}


def _report(number: int, _: bytes) -> Answer:
    time.sleep(SLOW_SECONDS)
    return 200, {"report": number, "rows": 12}


def _fail(_: int, __: bytes) -> Answer:
    return 500, {"error": "the stock service does not answer"}


ROUTES: tuple[tuple[str, re.Pattern[str], Callable[[int, bytes], Answer]], ...] = (
    ("GET", re.compile(r"/products"), _list_products),
    ("GET", re.compile(r"/products/(?P<id>\d+)"), _show_product),
    ("PUT", re.compile(r"/products/(?P<id>\d+)/description"), _describe_product),
    ("POST", re.compile(r"/orders"), _place_order),
    ("POST", re.compile(r"/login"), _log_in),
    ("GET", re.compile(r"/reports/(?P<id>\d+)"), _report),
    ("GET", re.compile(r"/stock"), _fail),
)


def main() -> None:
    """Serve until ended by a signal."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ShopHandler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
