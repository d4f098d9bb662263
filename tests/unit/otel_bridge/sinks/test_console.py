from __future__ import annotations

import io
import re

import click
import pytest

from ebpf.events import Role
from otel_bridge.foreign_text import printable
from otel_bridge.sinks.console import MAX_BODY_CHARACTERS, ConsoleSink
from otel_bridge.span import AttributeValue, Span
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from tests.unit.otel_bridge.exchanges import body, exchange, request, response, span, span_of


def printed(*spans: Span, color: bool = False, verbose: bool = False) -> list[str]:
    stream = io.StringIO()
    sink = ConsoleSink(stream, color=color, verbose=verbose)
    for one in spans:
        sink.submit(one)
    return stream.getvalue().splitlines()


def test_a_server_and_a_client_line() -> None:
    server, client = printed(
        span_of(exchange()), span_of(exchange(Role.CLIENT, request(b"DELETE"), response(404)))
    )
    assert re.fullmatch(
        r"[\d:.]{12} ← 10\.0\.0\.1:50123 → shop:8080 +GET +/orders/17\?page=2 +200 +3 µs +0 B +0 B",
        server,
    )
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} → shop → shop\.example:8080 +DELETE +/orders/17\?page=2 +404 +3 µs +0 B +0 B",
        client,
    )
    for column in ("/orders", "µs"):
        assert server.index(column) == client.index(column)


@pytest.mark.parametrize(
    ("status", "color"),
    [(100, "blue"), (200, "green"), (302, "cyan"), (404, "yellow"), (503, "red"), (None, "magenta")],
)
def test_the_status_class_has_a_color_on_a_terminal_only(status: int | None, color: str) -> None:
    given = span_of(exchange(response_=None if status is None else response(status)))
    (line,) = printed(given, color=True)
    (plain,) = printed(given)
    assert click.style(str(status or "---"), fg=color, bold=given.is_error or None) in line
    assert click.unstyle(line) == plain
    assert "\x1b" not in plain


def test_an_incomplete_exchange_is_marked() -> None:
    cut = exchange(response_=None)
    cut.incomplete = Incomplete.CLOSED
    (line,) = printed(span_of(cut))
    assert line.endswith("---      1 µs      0 B        -  incomplete=closed error=connection_closed")


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"rpc.system.name": "grpc", "rpc.response.status_code": "NOT_FOUND"}, "grpc NOT_FOUND"),
        ({"rpc.system.name": "grpc"}, "grpc ?"),
        ({"rpc.system.name": "jsonrpc", "rpc.method": "add\x1b[1m"}, r"jsonrpc add\x1b[1m"),
        (
            {"rpc.system.name": "jsonrpc", "rpc.method": "add", "rpc.response.status_code": "-32601"},
            "jsonrpc add -32601",
        ),
        ({"rpc.system.name": "jsonrpc", "wirespan.jsonrpc.call_count": 3}, "jsonrpc 3 calls"),
        ({"graphql.operation.type": "query", "graphql.operation.name": "Shop"}, "graphql query Shop"),
        ({"graphql.operation.type": "mutation"}, "graphql mutation"),
        ({"graphql.operation.name": "Stored"}, "graphql ? Stored"),
        ({"wirespan.graphql.operation_count": 2}, "graphql 2 operations"),
    ],
)
def test_what_an_exchange_carries_stands_at_the_end(
    attributes: dict[str, AttributeValue], shown: str
) -> None:
    given = span_of(exchange())
    (plain,) = printed(given)
    given.attributes.update(attributes)
    (line,) = printed(given)
    assert line == f"{plain}  {shown}"


def test_sizes_and_durations_are_for_people() -> None:
    given = exchange(
        request_=request(content=body(size=1_500)), response_=response(content=body(size=300_000_000))
    )
    assert given.response is not None
    for nanoseconds, shown in ((12_345_000, "12.3 ms"), (2_500_000_000, "2.50 s")):
        given.response.end_ktime_ns = 1_000 + nanoseconds
        (line,) = printed(span_of(given))
        assert line.split("200", 1)[1].split() == [*shown.split(), "1.5", "kB", "300.0", "MB"]


def test_verbose_adds_headers_and_bodies() -> None:
    given = exchange(
        request_=request(headers=[(b"Host", b"h"), (b"Cookie", b"a=b")], content=body(b'{"a":\n1}')),
        response_=response(headers=[(b"X-A", b"1"), (b"X-A", b"2")], content=body(b"\x00\x01", None)),
    )
    assert [line.strip() for line in printed(span_of(given), verbose=True)[1:]] == [
        "> host: h",
        "> cookie: a=REDACTED",
        '> {"a":',
        "> 1}",
        "< x-a: 1",
        "< x-a: 2",
        "< (2 bytes, not text)",
    ]


def test_long_and_cut_bodies_say_what_is_missing() -> None:
    long = body(b"x" * (MAX_BODY_CHARACTERS + 7), size=1_048_576, truncation=Truncation.LIMIT)
    lines = printed(span_of(exchange(response_=response(content=long))), verbose=True)
    assert lines[-2].endswith("< " + "x" * MAX_BODY_CHARACTERS)
    assert lines[-1].endswith(
        f"< (7 more characters, captured {MAX_BODY_CHARACTERS + 7} of 1048576 bytes: limit)"
    )


HOSTILE = "a\x1b[31m\x07\r\x9b2J\u202e\u2066\u200b\ud800b"


def test_nothing_from_the_wire_acts_upon_the_terminal() -> None:
    assert printable(HOSTILE) == r"a\x1b[31m\x07\x0d\x9b2J\u202e\u2066\u200b\ud800b"
    assert printable("naïve 日本") == "naïve 日本"
    hostile = HOSTILE.replace("\ud800", "").encode()
    given = exchange(
        request_=request(
            hostile, b"/" + hostile, [(b"X-" + hostile, hostile)], body(hostile + b"\nsecond\tline")
        ),
        response_=response(content=body(hostile)),
    )
    lines = printed(span_of(given), verbose=True)
    assert len(lines) == 5
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\u200b]", "".join(lines))
    assert lines[3].endswith("> second\tline")


def test_an_unknown_method_and_target_leave_their_place() -> None:
    (line,) = printed(span_of(exchange(Role.CLIENT, None, response(200))))
    assert re.search(r"shop → 10\.0\.0\.2:8080 +\? +200", line)


def test_a_closed_pipe_is_counted_and_nothing_raises() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    sink.submit(span())
    stream.close()
    sink.submit(span())
    sink.submit(span())
    assert not sink.flush(0)
    assert sink.counters() == {"submitted": 3, "exported": 1, "queued": 0, "dropped_stream_closed": 2}
    sink.close(0)
