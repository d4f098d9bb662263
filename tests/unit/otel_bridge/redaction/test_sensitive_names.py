"""The quick look at a folded text must never miss what `is_sensitive` finds in full."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.redaction.sensitive_names import (
    MAX_NAMES_REMEMBERED,
    MAX_REMEMBERED_NAME_LENGTH,
    SensitiveNames,
)
from otel_bridge.redaction.text_folding import fold_text

EXTRA = ("Geheimzahl", "clé", "x2-y3", "-")
NAMES = SensitiveNames(EXTRA)
REDACTOR = Redactor(EXTRA)

fragments = st.sampled_from(
    [
        *("pin", "pwd", "PASS", "cvv2", "pan", "access_key", "sid", "token", "to\u212aen", "JWT"),
        *("api-key", "Api_Key", "apikey", "geheimzahl", "CLÉ", "X2-Y3"),
        *(".", "[", "]", " ", "-", "a", "s", "ss", "n", "é", "7"),
    ]
)


@given(st.lists(fragments, min_size=1, max_size=4).map("".join), st.integers(0, 2))
def test_no_sensitive_name_is_missed(name: str, depth: int) -> None:
    text = json.dumps({"a": 1, name: "value"}, ensure_ascii=False)
    for _ in range(depth):
        text = json.dumps({"nested": text}, ensure_ascii=False)
    if NAMES.is_sensitive(name):
        assert NAMES.may_name_member(fold_text(text))
        assert REDACTOR.text(text, "application/json", truncated=False)[1] == 1


def test_long_names_are_recognised_and_not_remembered() -> None:
    names = SensitiveNames()
    long = "a" * MAX_REMEMBERED_NAME_LENGTH
    assert [names.is_sensitive(name) for name in (f"{long}.pin", f"{long}token", f"{long}x")] == [
        True,
        True,
        False,
    ]
    assert names.remembered == (0, 0)
    for number in range(MAX_NAMES_REMEMBERED + 1):
        assert not names.is_sensitive(f"n{number}")
    assert names.remembered == (MAX_NAMES_REMEMBERED, 0)


def test_names_of_members_are_remembered_within_bounds_and_only_harmless_ones() -> None:
    names = SensitiveNames()
    for text in ('{"order":1}', '{"order":2,"%s":3}' % ("x" * (MAX_REMEMBERED_NAME_LENGTH + 1))):
        assert not names.may_name_member(fold_text(text))
    assert names.remembered == (0, 1)
    for _ in range(2):
        assert names.may_name_member(fold_text('{"other":1,"session":2}'))
    assert names.remembered == (0, 1)
    letters = str.maketrans("0123456789", "bcdfghklmn")  # digits fold into one
    for number in range(MAX_NAMES_REMEMBERED):
        name = "n" + str(number).translate(letters)
        assert not names.may_name_member(fold_text(f'{{"{name}":1}}'))
    assert names.remembered == (0, 1)
    assert not names.may_name_member(fold_text('{"order":1}'))
    assert names.remembered == (0, 2)


@pytest.mark.parametrize("blank", [" ", "\t", "\r\n", "  \n "])
def test_white_space_around_the_colon_hides_no_name(blank: str) -> None:
    assert REDACTOR.text(f'{{"pin"{blank}:{blank}"1234"}}', "application/json", truncated=False) == (
        f'{{"pin"{blank}:{blank}"REDACTED"}}',
        1,
    )


@pytest.mark.parametrize("name", ["card.pin", "user[pwd]", "items[0][pin]", "pin.old", "a.pin[0]", "pin[0]"])
def test_a_short_name_is_found_as_a_part_of_a_name(name: str) -> None:
    assert REDACTOR.text(f'{{"{name}":"1234"}}', "application/json", truncated=False) == (
        f'{{"{name}":"REDACTED"}}',
        1,
    )


@pytest.mark.parametrize(
    "text",
    ['{"spin": 1, "pins": 2}', '{"a": "pin"}x', "pin", '{"passenger.pinned": [1]}', "[pin]", ".pin."],
)
def test_what_looks_like_a_name_at_most_is_left_alone(text: str) -> None:
    assert REDACTOR.text(text, "application/json", truncated=False) == (text, 0)


def test_most_texts_are_recognised_as_harmless() -> None:
    harmless = json.dumps([{"id": n, "name": "Widget", "tags": ["home.garden", "pinned"]} for n in range(9)])
    assert not SensitiveNames().may_name_member(fold_text(harmless))


def test_only_two_characters_beyond_ascii_fold_into_it() -> None:
    # The reason for lower case before folding: `toKen` with a Kelvin sign is a name like any other.
    folding = [chr(code) for code in range(128, 0x110000) if chr(code).lower()[0].isascii()]
    assert folding == ["\u0130", "\u212a"]
    assert fold_text("TO\u212aEN-1 \\n") == b"token0n"
