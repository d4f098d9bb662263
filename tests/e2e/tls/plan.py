"""What clients of all languages ask, and what servers of all languages answer: no two messages are alike.

Owns the plan by which a span is compared with what was really said. `programs/https_client.js` and
`go_peer/main.go` follow the same plan in their languages. It has no imports from the tests: client programs
run it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CONNECTIONS = 50
REQUESTS_PER_CONNECTION = 20
REPEATS_PER_NUMBER = 25
"""So that bodies are of all lengths up to 4 KiB."""


HEADERS = {"content-type": "text/plain"}
"""Of each request: a body of no type is exported as bytes."""


@dataclass(frozen=True)
class Request:
    """One request, and the answer that belongs to it alone."""

    method: str
    path: str
    body: str

    @property
    def answer(self) -> str:
        """The body of the response."""
        return f'{{"method":"{self.method}","path":"{self.path}","body":"{self.body}"}}'


def build_request(connection: int, number: int) -> Request:
    """Return the request with this number among those of a connection: GET and POST in turns."""
    path = f"/echo/{connection}/{number}"
    if number % 2 == 0:
        return Request("GET", path, "")
    return Request("POST", path, f"c{connection}n{number}." * (1 + REPEATS_PER_NUMBER * number))


def build_requests(connection: int, count: int = REQUESTS_PER_CONNECTION) -> list[Request]:
    """Return what one connection asks, in order."""
    return [build_request(connection, number) for number in range(count)]


def build_connection_of_wget(connection: int) -> list[Request]:
    """Return what one run of wget asks: it sends one body to all URLs that it is given, or none."""
    body = "" if connection % 2 == 0 else f"c{connection}." * (1 + REPEATS_PER_NUMBER * connection)
    method = "POST" if body else "GET"
    return [
        Request(method, f"/echo/{connection}/{number}", body) for number in range(REQUESTS_PER_CONNECTION)
    ]


def build_all() -> Iterator[Request]:
    """Yield what all connections together ask."""
    for connection in range(CONNECTIONS):
        yield from build_requests(connection)
