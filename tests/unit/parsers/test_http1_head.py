from __future__ import annotations

from collections.abc import Callable

import pytest

from parsers.http1.head import (
    RequestHead,
    is_request_start,
    is_response_start,
    parse_plain_request,
    parse_plain_response,
    parse_request_head,
    parse_response_head,
    parse_trailers,
)
from tests.growth import FACTOR, assert_not_quadratic


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    return b"\r\n".join((start, *([b"Host: a"] if host else []), *lines))


def anomalies(block: bytes) -> list[str]:
    head = parse_request_head(block)
    assert head is not None
    return head.fields.anomalies


PLAIN_REQUESTS = [
    request(b"Accept: */*", b"Content-Length: 5", b"Connection: close", b"connection: TE"),
    request(start=b"GET /a?b=c HTTP/1.0", host=False),
    request(start=b"M-SEARCH / HTTP/1.1"),
    request(start=b"GET /a.b/.c?%zz/../c%20d HTTP/1.1"),
    request(start=b"GET /%41%2f.%2F?a=b HTTP/1.1"),
    request(start=b"GET http://A:81?b HTTP/1.1"),
    request(b"Transfer-Encoding: Chunked", start=b"POST http://a/b HTTP/1.1"),
    request(b"Expect: 100-Continue", b"Trailer: X-Sum"),
]
NOT_PLAIN_REQUESTS = [
    request(b"X:no-space"),
    request(b"X:  two spaces"),
    request(b"X: trailing "),
    request(b"X: trailing ", b"Y: 1"),
    request(b"X: \xff"),
    request(b"X: tab\there"),
    request(b"X:"),
    request(b"X: a", b" folded"),
    request(b"Content-Length: +5"),
    request(b"Content-Length: 5", b"Content-Length: 5"),
    request(b"Content-Length: 1234567890123456789"),
    request(b"Transfer-Encoding: gzip, chunked"),
    request(host=False),
    request(b"host: b"),
    request(b"host: b", start=b"GET / HTTP/1.0"),
    request(b"bad name: x"),
    request(b": x"),
    request(start=b"GET  / HTTP/1.1"),
    request(start=b"GET / HTTP/1.7"),
    request(start=b"FROB / HTTP/1.1"),
    request(start=b"get / HTTP/1.1"),
    request(start=b"OPTIONS * HTTP/1.1"),
    request(start=b"GET a HTTP/1.1"),
    request(start=b"GET /a#b HTTP/1.1"),
    request(start=b"GET /a?b#c HTTP/1.1"),
    request(start=b"GET /../a HTTP/1.1"),
    request(start=b"GET /%2e%2E/a HTTP/1.1"),
    request(start=b"GET /%zz HTTP/1.1"),
    request(start=b"GET /%00 HTTP/1.1"),
    request(start=b"GET http://b/ HTTP/1.1"),
    request(start=b"GET http://a@b/ HTTP/1.1"),
    request(start=b"GET http:/// HTTP/1.1"),
    request(start=b"GET ftp://a/ HTTP/1.1"),
    request(b"Host: a b", host=False),
    request(b"Host: a:99999", host=False),
    request(b"Expect: x"),
    request(b"Expect: 100-continue", b"Expect: 100-continue"),
    request(b"Content-Type: a/b", b"Content-Type: a/b"),
    request(b"Trailer: Content-Length"),
]


@pytest.mark.parametrize("block", PLAIN_REQUESTS)
def test_plain_heads_take_the_fast_lane(block: bytes) -> None:
    assert parse_plain_request(block) is not None
    assert anomalies(block) == []


@pytest.mark.parametrize("block", NOT_PLAIN_REQUESTS)
def test_doubtful_heads_do_not(block: bytes) -> None:
    assert parse_plain_request(block) is None
    assert isinstance(parse_request_head(block), RequestHead)


def test_fields_are_kept_as_sent() -> None:
    head = parse_request_head(request(b"x-UPPER: a: b", b"Connection: keep-alive", b"Connection: Upgrade"))
    assert head is not None
    assert head.fields.headers == (
        (b"Host", b"a"),
        (b"x-UPPER", b"a: b"),
        (b"Connection", b"keep-alive"),
        (b"Connection", b"Upgrade"),
    )
    assert head.fields.framing == {b"connection": b"keep-alive, Upgrade"}


@pytest.mark.parametrize(
    "block",
    [
        request(b"X:no-space", b"Y:\ttab\t", b"Empty:"),
        request(b"X: \xff\x80"),
        request(b"Transfer-Encoding: chunked", b"X:y"),
    ],
)
def test_h11_takes_what_is_valid_but_not_plain(block: bytes) -> None:
    head = parse_request_head(block)
    assert head is not None
    assert head.fields.anomalies == []
    assert all(value == value.strip() for _, value in head.fields.headers)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (request(b"X: a", b"  b", b"\tc"), ["obs_fold"]),
        (request(b"X: a", b" b", b"Y : 1"), ["obs_fold", "space_before_colon"]),
        (b"GET / HTTP/1.1\nHost: a", ["bare_lf"]),
        (b"GET / HTTP/1.1\nHost : a", ["bare_lf", "space_before_colon"]),
        (b"GET / HTTP/1.1\r\n X: folded onto nothing\r\nHost: a", ["leading_whitespace"]),
        (request(b"X: a\x00b"), ["invalid_field_value"]),
        (request(b"X: a\rb"), ["invalid_field_value"]),
        (request(b"bad name: x"), ["invalid_field_name"]),
        (request(b": x"), ["invalid_field_name"]),
        (request(b"no colon"), ["field_without_colon"]),
        (request(host=False), ["missing_host"]),
        (b"GET / HTTP/1.1", ["missing_host"]),
        (request(b"Host: b"), ["duplicate_host"]),
        (request(start=b"GET /a b HTTP/1.1"), ["space_in_target"]),
        (request(start=b"GET /\xc3\xa4 HTTP/1.1"), ["non_ascii_target"]),
        (request(start=b"GET / HTTP/1.1 "), ["not_strict"]),
        (request(b"Content-Length: 5", start=b"POST / HTTP/1.1 "), ["not_strict"]),
        (request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1 "), ["not_strict"]),
        (request(b"Content-Length: " + b"0" * 40 + b"5", start=b"POST / HTTP/1.1"), []),
        (request(b"X: a\x01b"), ["invalid_field_value"]),
        (request(b"X: a\x7f", b"Y : 1"), ["invalid_field_value", "space_before_colon"]),
        (request(start=b"FROB / HTTP/1.1"), ["uncommon_method"]),
        (request(start=b"Get / HTTP/1.1"), ["uncommon_method"]),
        (request(start=b"GET / HTTP/1.2"), ["unusual_version"]),
        (request(b"Content-Length: 5", start=b"POST /\x01 HTTP/1.1"), ["invalid_target"]),
        (request(start=b"GET /a#b HTTP/1.1"), ["invalid_target"]),
        (request(start=b"GET /%4 HTTP/1.1"), ["invalid_target"]),
        (request(start=b"GET /a%00 HTTP/1.1"), ["invalid_target"]),
        (request(start=b"GET /a?%zz%00/../.. HTTP/1.1"), []),
        (request(start=b"GET /a/../../b HTTP/1.1"), ["target_above_root"]),
        (request(start=b"GET /.%2e/b HTTP/1.1"), ["target_above_root"]),
        (request(start=b"GET /a/../b HTTP/1.1"), []),
        (request(start=b"GET /..a HTTP/1.1"), []),
        (request(start=b"OPTIONS * HTTP/1.1"), ["unusual_target_form"]),
        (request(start=b"GET a HTTP/1.1"), ["unusual_target_form"]),
        (request(start=b"CONNECT b:443 HTTP/1.1"), []),
        (request(start=b"GET x://a/ HTTP/1.1"), ["unusual_target_form"]),
        (request(start=b"GET http://b/ HTTP/1.1"), ["target_host_mismatch"]),
        (request(start=b"GET https://a.:99999/ HTTP/1.1"), []),
        (request(start=b"GET http://u@a/ HTTP/1.1"), ["invalid_target"]),
        (request(start=b"GET http://a@b/ HTTP/1.1"), ["target_host_mismatch"]),
        (request(start=b"GET http:///b HTTP/1.1"), ["target_host_mismatch"]),
        (request(start=b"GET http://a/ HTTP/1.0", host=False), ["target_host_mismatch"]),
        (request(b"Host:\ta", host=False), ["tab_around_value"]),
        (request(b"Content-Length: 5\t"), ["tab_around_value"]),
        (request(b"Transfer-Encoding: chunked\t"), ["tab_around_coding"]),
        (request(b"X:\ta\t"), []),
        (request(b"Expect: 100-continue, x"), ["unknown_expectation"]),
        (request(b"Expect: 100-continue", b"Expect: 100-continue"), ["duplicate_expect"]),
        (request(b"Content-Type: a/b", b"Content-Type: a/b"), ["duplicate_content_type"]),
        (request(b"Trailer: a, Content-Length", b"Transfer-Encoding: chunked"), ["forbidden_trailer"]),
        (request(b"Trailer: Content-Length"), []),
        # Framing names what is wrong with these (test_http1_framing).
        (request(b"Content-Length: 5", b"Content-Length: 6"), []),
    ],
)
def test_what_servers_accept_against_the_grammar_is_named(block: bytes, expected: list[str]) -> None:
    assert anomalies(block) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, []) for value in (b"a", b"A.b.", b"a_b", b"-a", b".a", b"a:80", b"a:00080", b"1.2.3.4:1")),
        *((value, []) for value in (b"256.1.1.1", b"[::1]", b"[2001:DB8::1]:8080", b"[::ffff:1.2.3.4]")),
        *(
            (value, ["invalid_host"])
            for value in (b"", b".", b"a..b", b"a/b", b"a,b", b"<a>", b"\xe4", b"a%20b")
        ),
        *(
            (value, ["invalid_host"])
            for value in (b"1", b"1.2.3", b"01.2.3.4", b"0x7f.1", b"a.1b", b"[]", b"[::g]")
        ),
        *(
            (value, ["invalid_host"])
            for value in (b"a:", b"a:0", b"a:65536", b":80", b"[::1", b"[fe80::1%25a]")
        ),
        *(
            (value, ["disputed_host"])
            for value in (b"a:b", b"u@a", b"u:p@a", b"a:1:2", b"[::1]x", b"[::1]:x")
        ),
    ],
)
def test_hosts_that_servers_take_differently_are_named(value: bytes, expected: list[str]) -> None:
    assert anomalies(request(b"Host: " + value, host=False)) == expected


def test_folded_values_are_joined_by_single_spaces() -> None:
    head = parse_request_head(request(b"X: a", b"   b ", b"\tc", b"Y : 1"))
    assert head is not None
    assert head.fields.headers[1] == (b"X", b"a b c")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"GET /",
        b"GET / HTTP/2.0",
        b"PRI * HTTP/2.0",
        b"HTTP/1.1 200 OK",
        b"GE\x00T / HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET HTTP/1.1",
        b" / HTTP/1.1",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_what_is_no_request_is_none(block: bytes) -> None:
    assert parse_request_head(block) is None


@pytest.mark.parametrize(
    ("block", "status", "reason", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b", 200, b"OK", []),
        (b"HTTP/1.0 404 Not Found\r\nContent-Length: 1\r\nContent-Length: 1", 404, b"Not Found", []),
        (b"HTTP/1.1 200", 200, b"", []),
        (b"HTTP/1.1 200 ", 200, b"", []),
        (b"HTTP/1.1 101 Switching Protocols\r\nX:y", 101, b"Switching Protocols", []),
        (b"HTTP/1.1 100 Continue\r\nX:y", 100, b"Continue", []),
        (b"HTTP/1.1 200 tr\xc3\xa8s bien", 200, b"tr\xc3\xa8s bien", []),
        (b"HTTP/1.1  200  OK", 200, b"OK", ["not_strict"]),
        (b"HTTP/1.1 200 OK\nX : y", 200, b"OK", ["bare_lf", "space_before_colon"]),
        (b"HTTP/1.1 999 Custom", 999, b"Custom", []),
    ],
)
def test_responses(block: bytes, status: int, reason: bytes, expected: list[str]) -> None:
    head = parse_response_head(block)
    assert head is not None
    assert (head.status, head.reason, head.fields.anomalies) == (status, reason, expected)


@pytest.mark.parametrize(
    "block", [b"", b"HTTP/1.1", b"HTTP/2 200", b"HTTP/1.1 2000", b"HTTP/1.1 abc OK", b"GET / HTTP/1.1"]
)
def test_what_is_no_response_is_none(block: bytes) -> None:
    assert parse_plain_response(block) is None
    assert parse_response_head(block) is None


def test_trailers_never_refuse() -> None:
    assert parse_trailers(b"X-Sum: 1\r\nY:2").headers == [(b"X-Sum", b"1"), (b"Y", b"2")]
    assert parse_trailers(b"nonsense").anomalies == ["field_without_colon"]


def test_message_starts_are_told() -> None:
    assert is_request_start(b"GET / HTTP/1.1\r\nHost", 100)
    assert is_request_start(b"GET / HTTP/1.1\n", 100)
    assert not is_request_start(b"GET / HTTP/1.1", 100)
    assert not is_request_start(b"GET / HTTP/1.1\r\n", 10)
    assert not is_request_start(b"\n", 100)
    assert is_response_start(b"HTTP/1.1 200 OK\r\n")
    assert is_response_start(b"HTTP/1.1 200\r\n")
    assert not is_response_start(b"HTTP/1.1 20")


@pytest.mark.growth
@pytest.mark.parametrize(
    "build",
    [
        lambda by: b"GET " + b" " * (60_000 // by) + b"x",
        lambda by: b"GET / HTTP/1.1\r\nA: " + b" \t" * (30_000 // by) + b"\x00",
        lambda by: b"GET / HTTP/1.1\r\n" + b" x\r\n" * (15_000 // by),
        lambda by: b"HTTP/1.1 " + b" \t" * (30_000 // by) + b"x",
        lambda by: b"HTTP/1.1 200 " + b" \t" * (30_000 // by) + b"\x00",
        lambda by: b"HTTP/1.1 200 OK\r\nA: " + b" \t" * (30_000 // by) + b"\x00",
        lambda by: b"GET / HTTP/1.1\r\nA: b" + b"\r\n c" * (15_000 // by) + b"\r\nX : 1",
        lambda by: b"GET /" + b"%2e%2e/" * (9_000 // by) + b" HTTP/1.1\r\nHost: a",
        lambda by: b"GET /" + b"%41" * (20_000 // by) + b"% HTTP/1.1\r\nHost: a",
        lambda by: b"GET /" + b"a/../" * (12_000 // by) + b" HTTP/1.1\r\nHost: a",
        lambda by: b"GET http://" + b"a:" * (30_000 // by) + b"/ HTTP/1.1\r\nHost: a",
        lambda by: b"GET http://" + b"@" * (60_000 // by) + b" HTTP/1.1\r\nHost: " + b"[" * (60_000 // by),
        lambda by: b"GET / HTTP/1.1\r\nHost: " + b"0." * (30_000 // by),
        lambda by: b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + b"," * (60_000 // by),
        lambda by: b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"0" * (60_000 // by),
        lambda by: b"GET / HTTP/1.1\r\nHost:" + b"\t" * (60_000 // by) + b"a",
        lambda by: b"GET / HTTP/1.1\r\n" + b"Host: a\r\n" * (9_000 // by),
        lambda by: b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + b"Trailer: a\r\n" * (6_000 // by),
    ],
)
def test_hostile_heads_take_linear_time(build: Callable[[int], bytes]) -> None:
    def parse(block: bytes) -> None:
        parse_request_head(block)
        parse_response_head(block)

    small, large = build(FACTOR), build(1)
    assert_not_quadratic(lambda: parse(small), lambda: parse(large))
