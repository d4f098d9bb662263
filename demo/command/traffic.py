"""Traffic to the sample API, from a process of its own: a shopper on one kept-alive connection.

Usage: `python -m demo.command.traffic PORT REQUESTS SECONDS`. It waits for a line on its standard input
before the first request, so that the capture is ready, and ends with a tally as JSON: [[method, route,
status, count], …].
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import sys
import time
from collections import Counter

TIMEOUT_SECONDS = 10.0
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRoZS1kZW1v"  # noqa: S105 (a sample that opens nothing)
DESCRIPTION = json.dumps({"text": "A gadget to remember. " * 400}).encode()

SCENARIO: tuple[tuple[str, str, bytes], ...] = (
    ("POST", "/login", json.dumps({"user": "alice", "password": "correct horse battery staple"}).encode()),
    ("GET", "/products?page=1", b""),
    ("GET", "/products/7", b""),
    ("POST", "/orders", json.dumps({"product": 7, "card": "4111 1111 1111 1111", "quantity": 2}).encode()),
    ("GET", "/catalogue", b""),
    ("GET", "/events", b""),
    ("PUT", "/products/7/description", DESCRIPTION),
    ("GET", "/products/4711", b""),
    ("GET", "/stock?api_key=k-123456", b""),
    ("GET", "/reports/3", b""),
    ("GET", "/products/12", b""),
    ("GET", "/nowhere", b""),
)
"""Requests in their order, over and over."""


def route_of(path: str) -> str:
    """Return the path without query, numbers replaced by `{id}`."""
    return re.sub(r"/\d+", "/{id}", path.partition("?")[0])


def send_requests(port: int, requests: int, seconds: float) -> Counter[tuple[str, str, int]]:
    """Send `requests` requests spread over `seconds`; return how often (method, route, status) occurred."""
    tally: Counter[tuple[str, str, int]] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Accept-Encoding": "gzip",
        "User-Agent": "wirespan-demo",
        "Content-Type": "application/json",
    }
    started_at = time.monotonic()
    for number, (method, path, body) in enumerate(itertools.islice(itertools.cycle(SCENARIO), requests)):
        time.sleep(max(0.0, started_at + number * seconds / requests - time.monotonic()))
        connection.request(method, path, body=body or None, headers=headers)
        response = connection.getresponse()
        response.read()
        tally[method, route_of(path), response.status] += 1
    connection.close()
    return tally


def main() -> None:
    """Wait for the start, send, report."""
    port, requests, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sys.stdin.readline()
    tally = send_requests(port, requests, seconds)
    json.dump([[*key, count] for key, count in tally.items()], sys.stdout)


if __name__ == "__main__":
    main()
