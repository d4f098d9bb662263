from __future__ import annotations

from collections.abc import Iterator

import pytest

from parsers.http1 import field_lines
from parsers.http1 import head as http1_head
from parsers.http1.field_lines import (
    MAX_REMEMBERED_BYTES,
    RECURRING_FIELDS,
    read_field_line,
    remembered_lines,
)
from parsers.http1.head import parse_plain_request, parse_plain_response, remembered_sections

CREDENTIALS = [
    b"Authorization: Basic dTpw",
    b"Proxy-Authorization: Bearer abc",
    b"Cookie: sid=1",
    b"Set-Cookie: sid=1; HttpOnly",
    b"X-Api-Key: abc",
    b"X-Invented: abc",
    b"Referer: http://a/?token=abc",
    b"Location: /reset/abc",
]


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    remembered_lines.clear()
    remembered_sections.clear()
    yield
    remembered_lines.clear()
    remembered_sections.clear()


def test_a_line_is_read_as_sent_with_its_key() -> None:
    assert read_field_line(b"CONTENT-Length: 5") == ((b"CONTENT-Length", b"5"), b"content-length")
    assert read_field_line(b"X-A: b: c") == ((b"X-A", b"b: c"), None)
    first, second = read_field_line(b"Host: a"), read_field_line(b"host: b")
    assert first is not None
    assert second is not None
    assert first[1] is second[1] is field_lines.HOST


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"X",
        b"X:",
        b"X: ",
        b"X:a",
        b"X:  a",
        b"X: a ",
        b": a",
        b"X : a",
        b" X: a",
        b"X: \xe4",
        b"X: a\tb",
    ],
)
def test_a_line_that_is_not_plain_is_not_read(line: bytes) -> None:
    assert read_field_line(line) is None
    assert remembered_lines == {}


@pytest.mark.parametrize("line", CREDENTIALS)
def test_nothing_that_may_hold_a_credential_is_remembered(line: bytes) -> None:
    for _ in range(3):
        assert parse_plain_request(b"GET /?token=abc HTTP/1.1\r\nHost: a\r\n" + line) is not None
        assert parse_plain_response(b"HTTP/1.1 200 OK\r\nServer: a\r\n" + line) is not None
    assert set(remembered_lines) == {b"Host: a", b"Server: a"}
    assert not remembered_sections


def test_the_fields_remembered_are_no_credentials() -> None:
    telling = ("auth", "cookie", "token", "secret", "key", "session", "password")
    assert not [name for name in RECURRING_FIELDS if any(word in name.decode() for word in telling)]


def test_the_lines_remembered_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_lines, "MAX_REMEMBERED_LINES", 10)
    for number in range(1_000):
        read_field_line(b"Content-Length: %d" % number)
        assert len(remembered_lines) <= 10
    assert b"Content-Length: 999" in remembered_lines


def test_the_lines_remembered_are_bounded_in_length() -> None:
    prefix = b"User-Agent: "
    longest = prefix.ljust(MAX_REMEMBERED_BYTES, b"a")
    assert read_field_line(longest + b"a") is not None
    assert remembered_lines == {}
    read_field_line(longest)
    assert set(remembered_lines) == {longest}


def test_a_section_of_remembered_lines_is_remembered() -> None:
    block = b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 5\r\ncontent-length: 5"
    assert parse_plain_response(block) is None, "two lengths are not plain"
    assert not remembered_sections
    block = block.removesuffix(b"\r\ncontent-length: 5")
    heads = [parse_plain_response(block) for _ in range(3)]
    assert set(remembered_sections) == {b"Server: a\r\nContent-Length: 5"}
    assert heads[0] == heads[1] == heads[2]


def test_messages_with_the_same_section_share_their_fields_and_nothing_that_can_change() -> None:
    block = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: b"
    heads = [parse_plain_request(block) for _ in range(4)]
    assert remembered_sections
    for head in heads:
        assert head is not None
        assert head.fields.headers == ((b"Host", b"a"), (b"Accept", b"b"))
        assert head.fields.anomalies == []
        head.fields.anomalies.append("bare_lf")
    assert heads[-1] is not None
    assert heads[-2] is not None
    assert heads[-1].fields.headers is heads[-2].fields.headers


def test_a_remembered_section_is_judged_anew_by_the_start_line_above_it() -> None:
    for _ in range(3):
        assert parse_plain_request(b"GET / HTTP/1.0\r\nAccept: b") is not None
        assert parse_plain_request(b"GET / HTTP/1.1\r\nAccept: b") is None, "HTTP/1.1 wants a Host"
        assert parse_plain_response(b"HTTP/1.1 200 OK\r\nHost: a\r\nHost: a") is not None
        assert parse_plain_request(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a") is None


def test_the_sections_remembered_are_bounded_in_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_head, "MAX_SECTIONS", 10)
    monkeypatch.setattr(http1_head, "MAX_SECTION_BYTES", 40)
    for number in range(100):
        for _ in range(2):
            parse_plain_response(b"HTTP/1.1 200 OK\r\nContent-Length: %d" % number)
            parse_plain_response(b"HTTP/1.1 200 OK\r\nServer: %s\r\nAge: %d" % (b"a" * 40, number))
        assert 0 < len(remembered_sections) <= 10
    assert all(len(section) <= 40 for section in remembered_sections)


def test_the_status_lines_remembered_are_bounded() -> None:
    remembered = http1_head.read_recurring_status_line
    remembered.cache_clear()
    long = b"x" * http1_head.MAX_STATUS_LINE_BYTES
    head = parse_plain_response(b"HTTP/1.1 200 " + long)
    assert head is not None
    assert head.reason == long
    assert remembered.cache_info().currsize == 0
    for number in range(2 * http1_head.MAX_STATUS_LINES):
        head = parse_plain_response(b"HTTP/1.1 200 %d" % number)
        assert head is not None
        assert head.reason == b"%d" % number
    assert remembered.cache_info().currsize == http1_head.MAX_STATUS_LINES
