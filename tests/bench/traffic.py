"""Traffic of a shop's API, each exchange different from the others, as the exchanges of a real API are.

Ids in paths and queries, trace ids, tokens, cookies, entity tags and bodies differ. Methods, statuses, sizes
and framings are mixed. A user agent or a date recurs as often as it would. Owns fields and bodies. It must
not choose bytes on the wire (`wire`).

Contract: the seed alone decides the traffic, on any machine and with any version of the product.
"""

from __future__ import annotations

import json
import math
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

_T = TypeVar("_T")

Fields = list[tuple[str, str]]

AUTHORITY = "shop.example:8080"
EXCHANGES_PER_SECOND = 200
"""By the dates in the responses: that many have the same."""
USER_AGENTS = 60
_START = datetime(2026, 11, 28, tzinfo=UTC)
_WORDS = """
    amber birch cedar delta ember fjord grove heath inlet jetty knoll lagoon marsh north ocean pine quay river
    stone tidal
""".split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    409: "Conflict",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One request or response."""

    fields: Fields
    """Names in lower case, without those of the framing."""
    body: bytes
    pieces: tuple[int, ...] = ()
    """Where a body of unknown length is cut into chunks; () for one whose length is announced."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response, before they are bytes."""

    method: str
    target: str
    request: Message
    status: int
    response: Message

    @property
    def reason(self) -> str:
        """The phrase of the status."""
        return _REASONS[self.status]


class Traffic:
    """An endless supply of exchanges."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._made = 0
        self._agents = [
            f"shop-{self._choose('ios', 'android', 'web')}/{number}.{self._below(99)}.{self._below(9)}"
            f" (build {self._below(1_000_000)})"
            for number in range(USER_AGENTS)
        ]

    def change(self) -> Exchange:
        """Return a request that changes something; nearly all have bodies of about 1 KiB both ways."""
        method = self._weighted({"POST": 70, "PUT": 15, "PATCH": 10, "DELETE": 5})
        target = f"/v1/customers/{self._below(10**6)}/orders/{self._below(10**7)}"
        if self._is_so(0.6):
            target += f"?page={self._below(100)}&sort={self._choose('date', 'price')}"
        fields = self._request_fields()
        if method == "DELETE":
            request = Message(fields, b"")
            status = self._weighted({204: 90, 404: 10})
        else:
            content_type, body = self._form() if self._is_so(0.05) else ("application/json", self._order())
            request = self._frame([*fields, ("content-type", content_type)], body, chunked=0.08)
            status = self._weighted({200: 65, 201: 20, 400: 4, 404: 4, 409: 3, 500: 4})
        return self._answered(method, target, request, status, self._order)

    def lookup(self) -> Exchange:
        """Return a request that asks for something small by its id, or for a page of what is found."""
        number = self._below(10**7)
        target = self._choose(
            f"/v1/customers/{self._below(10**6)}/orders/{number}",
            f"/v1/products/S-{self._below(10**5)}",
            f"/v1/accounts/{self._uuid()}/profile",
            f"/v2/search?q={self._choose(*_WORDS)}+{self._choose(*_WORDS)}&page={self._below(100)}&size=20",
        )
        fields = [*self._request_fields(), ("accept-language", self._choose("de", "en", "fr"))]
        status = self._weighted({200: 88, 304: 5, 404: 6, 500: 1})
        if status == 304:
            fields.append(("if-none-match", f'"{self._hex(64)}"'))
        return self._answered("GET", target, Message(fields, b""), status, self._entry)

    def _answered(
        self, method: str, target: str, request: Message, status: int, make_body: Callable[[], bytes]
    ) -> Exchange:
        request_id = dict(request.fields)["x-request-id"]
        self._made += 1
        date = _START + timedelta(seconds=self._made // EXCHANGES_PER_SECOND)
        fields = [
            ("server", "shop/2.1"),
            ("date", date.strftime("%a, %d %b %Y %H:%M:%S GMT")),
            ("cache-control", "no-store"),
            ("x-request-id", request_id),
            ("x-runtime-ms", str(self._below(5000))),
        ]
        if self._is_so(0.03):
            fields.append(("set-cookie", f"session={self._hex(128)}; Path=/; HttpOnly"))
        if status in (204, 304):
            return Exchange(method, target, request, status, Message(fields, b""))
        if status >= 400:
            content_type, body = "application/problem+json", self._problem(status, target)
        else:
            content_type, body = "application/json", make_body()
            fields.append(("etag", f'"{self._hex(64)}"'))
            if status == 201:
                fields.append(("location", f"/v1/orders/{self._below(10**7)}"))
        response = self._frame([*fields, ("content-type", content_type)], body, chunked=0.25)
        return Exchange(method, target, request, status, response)

    def _request_fields(self) -> Fields:
        fields = [
            ("user-agent", self._choose(*self._agents)),
            ("accept", "application/json"),
            ("x-request-id", self._uuid()),
        ]
        if self._is_so(0.8):
            fields.append(("authorization", f"Bearer {self._hex(200)}"))
        else:
            fields.append(("cookie", f"session={self._hex(128)}; theme={self._choose('dark', 'light')}"))
        if self._is_so(0.9):
            fields.append(("traceparent", f"00-{self._hex(128)}-{self._hex(64)}-01"))
        return fields

    def _order(self) -> bytes:
        """Return JSON of about 1 KiB, one in twenty with a credential."""
        size = self._size(900)
        order: dict[str, object] = {
            "id": self._uuid(),
            "customer": {
                "id": self._below(10**6),
                "name": self._text(2),
                "email": f"{self._text(1)}{self._below(10**4)}@example.com",
            },
            "currency": self._choose("EUR", "USD"),
            "created_at": f"2026-11-{1 + self._below(28):02}T{self._below(24):02}:{self._below(60):02}:00Z",
        }
        if self._is_so(0.05):
            order["access_token"] = self._hex(160)
        lines: list[dict[str, object]] = []
        order["lines"] = lines
        length = len(json.dumps(order))
        while length < size:
            lines.append(
                {
                    "sku": f"S-{self._below(10**5)}",
                    "quantity": 1 + self._below(9),
                    "price": self._below(10**4) / 100,
                    "note": self._text(3),
                    "in_stock": self._is_so(0.8),
                }
            )
            length += len(json.dumps(lines[-1])) + 2
        return json.dumps(order).encode()

    def _entry(self) -> bytes:
        """Return JSON of about 300 bytes."""
        size = self._size(250)
        entry: dict[str, object] = {
            "id": self._below(10**6),
            "state": self._text(1),
            "total": self._below(10**6) / 100,
        }
        if size > 80:
            entry["items"] = [
                {"sku": f"S-{self._below(10**5)}", "title": self._text(2)} for _ in range((size - 50) // 50)
            ]
        return json.dumps(entry).encode()

    def _problem(self, status: int, target: str) -> bytes:
        """Return what RFC 9457 has a server say of a failure."""
        problem = {"title": _REASONS[status], "status": status, "detail": self._text(6), "instance": target}
        return json.dumps({"type": "about:blank", **problem}).encode()

    def _form(self) -> tuple[str, bytes]:
        fields = f"user={self._text(1)}{self._below(10**4)}&password={self._hex(64)}&note={self._text(3)}"
        return "application/x-www-form-urlencoded", fields.replace(" ", "+").encode()

    def _frame(self, fields: Fields, body: bytes, *, chunked: float) -> Message:
        if not self._is_so(chunked):
            return Message(fields, body)
        inner = sorted({1 + self._below(len(body) - 1) for _ in range(self._below(3))})
        return Message(fields, body, (*inner, len(body)))

    def _size(self, median: int) -> int:
        """Return a size: most are near the median, a few are many times as large."""
        return min(16_000, int(median * math.exp(self._random.gauss(0, 0.6))))

    def _text(self, words: int) -> str:
        return " ".join(self._choose(*_WORDS) for _ in range(words))

    def _hex(self, bits: int) -> str:
        return f"{self._random.getrandbits(bits):0{bits // 4}x}"

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128)))

    def _below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def _is_so(self, probability: float) -> bool:
        return self._random.random() < probability

    def _choose(self, *values: str) -> str:
        return self._random.choice(values)

    def _weighted(self, weights: Mapping[_T, int]) -> _T:
        return self._random.choices(list(weights), list(weights.values()))[0]
