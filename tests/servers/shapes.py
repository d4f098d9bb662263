"""Shapes of requests: a few plain ones, and what a grammar of mutations makes of each of their parts.

A request is a row of parts, and a mutation puts other bytes in the place of one part. Every mutation of every
plain request is a shape; so are pairs of mutations, drawn by a seed, until there are as many as asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20_260_101


@dataclass(frozen=True)
class Shape:
    """A request as bytes, and the name that says how it was made."""

    name: str
    data: bytes


_HEAD = {
    "before": b"",
    "method": b"GET",
    "gap": b" ",
    "target": b"/first?a=b",
    "gap2": b" ",
    "version": b"HTTP/1.1",
    "line_end": b"\r\n",
    "host": b"Host: first.test",
    "host_end": b"\r\n",
    "field": b"X-Field: value",
    "field_end": b"\r\n",
    "extra": b"",
    "framing": b"",
    "framing_end": b"",
    "head_end": b"\r\n",
}
_LENGTH = {
    **_HEAD,
    "method": b"POST",
    "framing": b"Content-Length: 5",
    "framing_end": b"\r\n",
    "length_body": b"hello",
}
_CHUNKED = {
    **_HEAD,
    "method": b"POST",
    "framing": b"Transfer-Encoding: chunked",
    "framing_end": b"\r\n",
    "size": b"5",
    "size_end": b"\r\n",
    "data": b"hello",
    "data_end": b"\r\n",
    "last": b"0",
    "last_end": b"\r\n",
    "trailer": b"",
    "trailer_end": b"",
    "body_end": b"\r\n",
}
_TRAILERS = {**_CHUNKED, "trailer": b"X-Sum: 1", "trailer_end": b"\r\n"}
_HTTP10 = {**_HEAD, "version": b"HTTP/1.0", "field": b"Connection: keep-alive"}
_HTTP10_LENGTH = {**_LENGTH, "version": b"HTTP/1.0", "field": b"Connection: keep-alive"}

BASES = {
    "get": _HEAD,
    "length": _LENGTH,
    "chunked": _CHUNKED,
    "trailers": _TRAILERS,
    "get10": _HTTP10,
    "length10": _HTTP10_LENGTH,
}

_FILE = Path(__file__).with_name("mutations.txt")
_FRAMING = {"length_body": "framing of a length", "size": "framing of a coding"}
"""Mutations of the framing field, by the part that only such a request has."""


def _read_mutations() -> dict[str, list[bytes]]:
    """Return the values that stand in the place of each part."""
    mutations: dict[str, list[bytes]] = {}
    values: list[bytes] = []
    for line in _FILE.read_text("ascii").splitlines():
        if line.startswith("["):
            values = mutations.setdefault(line[1:-1], [])
        elif line.startswith('"'):
            values.append(line[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1"))
    return mutations


MUTATIONS = _read_mutations()


def generate_shapes(count: int) -> Iterator[Shape]:
    """Yield that many different shapes: first the plain ones, then single mutations, then pairs."""
    seen: set[bytes] = set()
    for shape in _all_shapes():
        if shape.data in seen:
            continue
        seen.add(shape.data)
        yield shape
        if len(seen) >= count:
            return


def _all_shapes() -> Iterator[Shape]:
    for name, base in BASES.items():
        yield Shape(name, b"".join(base.values()))
    for name in BASES:
        for part, values in _mutations_of(name):
            for number, value in enumerate(values):
                yield _mutate(name, {part: (number, value)})
    draw = random.Random(SEED)
    while True:
        name = draw.choice(list(BASES))
        mutations = _mutations_of(name)
        chosen = draw.sample(mutations, 2)
        drawn = {}
        for part, values in chosen:
            number = draw.randrange(len(values))
            drawn[part] = (number, values[number])
        yield _mutate(name, drawn)


def _mutations_of(name: str) -> list[tuple[str, list[bytes]]]:
    base = BASES[name]
    mutations = [(part, values) for part, values in MUTATIONS.items() if part in base]
    mutations += [("framing", MUTATIONS[group]) for part, group in _FRAMING.items() if part in base]
    return mutations


def _mutate(name: str, mutations: dict[str, tuple[int, bytes]]) -> Shape:
    parts = {**BASES[name], **{part: value for part, (_, value) in mutations.items()}}
    label = "+".join(f"{part}{number}" for part, (number, _) in mutations.items())
    return Shape(f"{name}:{label}", b"".join(parts.values()))
