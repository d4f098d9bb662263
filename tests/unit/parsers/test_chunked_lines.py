from __future__ import annotations

import pytest

from parsers.http1.chunked import ChunkedLines, Found
from parsers.http1.head import Fields
from parsers.limits import ParserLimits
from tests.growth import FACTOR, assert_not_quadratic


def read_size(line: bytes, limits: ParserLimits | None = None) -> tuple[Found, int, list[str]]:
    lines = ChunkedLines(limits or ParserLimits())
    fields = Fields([], {})
    found, _ = lines.read(line + b"\r\n", 0, fields)
    return found, lines.chunk_size, fields.anomalies


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"05",
        b"0" * 15 + b"5",
        b"5;a",
        b"5;a=b",
        b'5;a="b;\\"c"',
        b"5;a;b=c;d",
        b'5;a=""',
        b'5;a="\xff\t"',
    ],
)
def test_sizes_that_all_servers_take(line: bytes) -> None:
    assert read_size(line) == (Found.CHUNK, 5, [])


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"5 ",
            b"5\t",
            b" 5",
            b"5 ;a",
            b"5; a",
            b"5;",
            b"5;;",
            b"5;=",
            b"5;a=",
            b"5;a b",
            b"5;a=b=c",
            b"5;a/b",
        ),
        *(
            b'5;a="',
            b'5;a="b"c',
            b"5;a\x00",
            b"5;a\x01",
            b"5;a\rb",
            b"5;\xff",
            b"0" * 16 + b"5",
            b"0" * 99 + b"5",
        ),
    ],
)
def test_sizes_that_servers_dispute_are_named(line: bytes) -> None:
    assert read_size(line) == (Found.CHUNK, 5, ["malformed_chunk_size"])


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"0x5", b"+5", b"-5", b"5 5", b"5,", b"5\x0b", b"g", b";a", b"1" + b"0" * 15, b"f" * 99],
)
def test_what_is_no_size_is_invalid(line: bytes) -> None:
    assert read_size(line)[0] is Found.INVALID


def test_the_bound_counts_extensions_and_zeros() -> None:
    limits = ParserLimits(max_chunk_line=20)
    assert read_size(b"5;" + b"a" * 18, limits)[0] is Found.CHUNK
    assert read_size(b"5;" + b"a" * 19, limits)[0] is Found.INVALID
    assert read_size(b"0" * 20 + b"5", limits)[0] is Found.INVALID


@pytest.mark.parametrize(
    ("trailer", "expected"),
    [
        (b"X-Sum: 1", []),
        (b"content-LENGTH: 5", ["forbidden_trailer"]),
        (b"Host: a", ["forbidden_trailer"]),
        (b"TE: a", ["forbidden_trailer"]),
        (b"X: a\x01", ["invalid_field_value"]),
        (b"X : 1", ["space_before_colon"]),
    ],
)
def test_trailers_that_servers_dispute_are_named(trailer: bytes, expected: list[str]) -> None:
    lines = ChunkedLines(ParserLimits())
    fields = Fields([], {})
    data = b"0\r\n" + trailer + b"\r\n\r\n"
    found, at = Found.MORE, 0
    while found is Found.MORE:
        found, at = lines.read(data, at, fields)
    trailers = lines.take_trailers()
    assert found is Found.LAST
    assert trailers is not None
    assert trailers.anomalies == expected


@pytest.mark.growth
@pytest.mark.parametrize(
    ("head", "unit", "count"),
    [
        (b"", b";a", 30_000),
        (b';a="', b"\\", 60_000),
        (b"", b";a=", 20_000),
        (b"", b';a="b"', 10_000),
        (b"", b" ", 60_000),
    ],
)
def test_hostile_extensions_take_linear_time(head: bytes, unit: bytes, count: int) -> None:
    limits = ParserLimits(max_chunk_line=100_000)
    small, large = (b"5" + head + unit * number for number in (count // FACTOR, count))
    assert_not_quadratic(lambda: read_size(small, limits), lambda: read_size(large, limits))
