from __future__ import annotations

import pytest

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.spans.request_target import (
    MAX_REMEMBERED_TARGET_LENGTH,
    MAX_TARGETS_REMEMBERED,
    RequestTarget,
    TargetReader,
)

RULES = Redactor()


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/a/b?c=d", RequestTarget("", "", "/a/b", "?", "c=d")),
        (b"GET", b"/a?", RequestTarget("", "", "/a", "?", "")),
        (b"GET", b"HTTP://h:1/a?b", RequestTarget("http", "h:1", "/a", "?", "b")),
        (b"GET", b"http://h?b", RequestTarget("http", "h", "", "?", "b")),
        (b"GET", b"http://h", RequestTarget("http", "h", "/", "", "")),
        (b"OPTIONS", b"*", RequestTarget("", "", "*", "", "")),
        (b"CONNECT", b"h:443", RequestTarget("", "h:443", "", "", "")),
        (b"GET", b"h:443", RequestTarget("", "", "h:443", "", "")),
    ],
)
def test_the_forms_of_a_target_first_and_again(method: bytes, target: bytes, expected: RequestTarget) -> None:
    reader = TargetReader(RULES)
    assert reader.read(method, target) == (expected, 0)
    assert reader.read(method, target) == (expected, 0)
    assert TargetReader(None).read(method, target) == (expected, 0)
    assert list(reader.remembered) == [(method, target)]


def test_the_same_bytes_mean_another_thing_to_connect() -> None:
    reader = TargetReader(RULES)
    assert reader.read(b"GET", b"h:443")[0].path == "h:443"
    assert reader.read(b"CONNECT", b"h:443")[0].authority == "h:443"


@pytest.mark.parametrize(
    ("target", "redacted"),
    [
        (b"/a?token=t", 1),
        (b"/a;session=1?card=4111111111111111", 2),
        (b"http://user:pass@h/", 0),
        (b"/" + b"a" * MAX_REMEMBERED_TARGET_LENGTH, 0),
    ],
)
def test_credentials_and_long_targets_are_not_remembered(target: bytes, redacted: int) -> None:
    reader = TargetReader(RULES)
    first = reader.read(b"GET", target)
    assert first[1] == redacted
    assert not reader.remembered
    assert reader.read(b"GET", target) == first


def test_nothing_is_remembered_of_targets_that_nobody_judged() -> None:
    reader = TargetReader(None)
    assert reader.read(b"GET", b"/a?token=t") == (RequestTarget("", "", "/a", "?", "token=t"), 0)
    assert not reader.remembered


def test_the_memory_is_bounded() -> None:
    reader = TargetReader(RULES)
    largest = 0
    for number in range(MAX_TARGETS_REMEMBERED + 10):
        assert reader.read(b"GET", b"/a/%d" % number)[0].path == f"/a/{number}"
        largest = max(largest, len(reader.remembered))
    assert largest == MAX_TARGETS_REMEMBERED
    assert 0 < len(reader.remembered) <= 10
