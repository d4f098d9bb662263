from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.spans.message_text import (
    MAX_FIELDS_REMEMBERED,
    MAX_HEADS_REMEMBERED,
    MAX_REMEMBERED_FIELD_LENGTH,
    FieldReader,
)
from parsers.http_exchange import Headers

RULES = Redactor(("badge",))


def test_fields_keep_their_order_and_repeated_ones_their_values() -> None:
    headers = [(b"Host", b"a"), (b"X-Tag", b"1"), (b"Authorization", b"Basic eA=="), (b"x-tag", b"2")]
    sent, redacted, count = FieldReader("label.", RULES).read(headers)
    assert list(sent.items()) == [("host", ("a",)), ("x-tag", ("1", "2")), ("authorization", ("Basic eA==",))]
    assert list(redacted.items()) == [
        ("label.host", ("a",)),
        ("label.x-tag", ("1", "2")),
        ("label.authorization", ("Basic REDACTED",)),
    ]
    assert count == 1


@pytest.mark.parametrize(
    "field",
    [
        (b"Authorization", b"Bearer abc"),
        (b"Cookie", b"a=b"),
        (b"X-Api-Key", b"k"),
        # Nothing is redacted in these, but their names say what may stand there.
        (b"X-Session-Id", b""),
        (b"Badge", b"7"),
        (b"Referer", b"https://a.example/?token=t"),
        (b"X-Forwarded-Host", b"https://user:pass@a.example/"),
        (b"X-Note", b"4111 1111 1111 1111"),
        (b"X-Note", b"a" * (MAX_REMEMBERED_FIELD_LENGTH - 5)),
        (b"X" * MAX_REMEMBERED_FIELD_LENGTH, b"a"),
    ],
)
def test_credentials_and_long_values_are_not_remembered(field: tuple[bytes, bytes]) -> None:
    reader = FieldReader("", RULES)
    first = reader.read([field, (b"Accept", b"*/*")])
    assert list(reader.remembered) == [(b"Accept", b"*/*")]
    assert reader.read([field, (b"Accept", b"*/*")]) == first


def test_nothing_is_remembered_of_fields_that_nobody_judged() -> None:
    reader = FieldReader("", None)
    assert reader.read([(b"Authorization", b"Bearer abc")]) == (
        {"authorization": ("Bearer abc",)},
        {"authorization": ("Bearer abc",)},
        0,
    )
    assert not reader.remembered


def test_the_memory_is_bounded() -> None:
    reader = FieldReader("", RULES)
    largest = 0
    for number in range(MAX_FIELDS_REMEMBERED + 10):
        assert reader.read([(b"X-Number", b"%d" % number)])[0] == {"x-number": (str(number),)}
        largest = max(largest, len(reader.remembered))
    assert largest == MAX_FIELDS_REMEMBERED
    assert 0 < len(reader.remembered) <= 10


names = st.sampled_from([b"Host", b"host", b"Cookie", b"Referer", b"Authorization", b"X-Caf\xe9"])
values = st.sampled_from([b"", b"a", b"?token=1", b"Basic x", b"\xff", "é".encode()]) | st.binary(max_size=20)


@given(st.lists(st.lists(st.tuples(names, values), max_size=6).map(tuple), max_size=6))
def test_a_reader_with_a_memory_reads_as_one_without(messages: list[Headers]) -> None:
    remembering = FieldReader("x.", RULES)
    for headers in messages:
        for form in (headers, list(headers), headers):
            assert remembering.read(form) == FieldReader("x.", RULES).read(form)


def test_heads_that_recur_are_read_once_unless_something_was_redacted() -> None:
    reader = FieldReader("", RULES)
    plain = ((b"Host", b"a"), (b"Accept", b"b"))
    assert reader.read(plain) is reader.read((*plain,))
    assert set(reader.remembered_heads) == {plain}
    for headers in (
        ((b"Host", b"a"), (b"Authorization", b"Bearer b")),
        ((b"Referer", b"http://a/?token=1"),),
    ):
        assert reader.read(headers) == FieldReader("", RULES).read(headers)
    assert set(reader.remembered_heads) == {plain}
    unjudged = FieldReader("", None)
    unjudged.read(plain)
    assert not unjudged.remembered_heads


def test_the_memory_of_heads_is_bounded() -> None:
    reader = FieldReader("", RULES)
    for number in range(MAX_HEADS_REMEMBERED + 10):
        reader.read(((b"X-Number", b"%d" % number),))
        assert len(reader.remembered_heads) <= MAX_HEADS_REMEMBERED
    assert 0 < len(reader.remembered_heads) <= 10
