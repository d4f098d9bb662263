from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_bridge.redaction.secret_shapes import redact_shapes

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nx+/=\n-----END RSA PRIVATE KEY-----"
CARDS = ["4111111111111111", "5555 5555 5555 4444", "3782-822463-10005", "6011111111111117", "4222222222222"]

surroundings = st.text(
    st.characters(exclude_characters="-eyJ@:0123456789.+", exclude_categories=["Cs", "L", "N"]), max_size=20
)


@given(st.sampled_from([JWT, PEM, *CARDS]), surroundings, surroundings)
def test_secrets_are_found_wherever_they_stand(secret: str, before: str, after: str) -> None:
    before, after = before + " ", " " + after
    assert redact_shapes(f"{before}{secret}{after}") == (f"{before}REDACTED{after}", 1)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # fails Luhn
        "1700000000006",  # a timestamp in milliseconds that passes Luhn
        "0.4111111111111111",  # a fraction
        "a4111111111111111b",  # part of a longer word
        "41111111111111114111111111111111",  # too long for a card
        "550e8400-e29b-41d4-a716-446655440000",
        "eyJ and nothing more",
        "eyJhbGciOiJIUzI1NiJ9",
        "mail@example.com: hello",
        "2026-11-22 14:46:53",
    ],
)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    assert redact_shapes(text) == (text, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pa%40ss@host/x", "https://REDACTED:REDACTED@host/x"),
        ("amqp://user:p@ss@host", "amqp://REDACTED:REDACTED@host"),
        ('{"u":"http:\\/\\/user:pw@host"}', '{"u":"http:\\/\\/REDACTED:REDACTED@host"}'),
        ("https://host/path@2", "https://host/path@2"),
    ],
)
def test_user_info_of_urls_is_replaced(text: str, expected: str) -> None:
    assert redact_shapes(text)[0] == expected


@given(st.sampled_from([JWT, PEM, "4111111111111111"]), st.data())
def test_a_secret_cut_by_the_end_vanishes(secret: str, data: st.DataObject) -> None:
    shortest = {JWT: 4, PEM: 12}.get(secret, 7)
    cut = secret[: data.draw(st.integers(shortest, len(secret)))]
    redacted, count = redact_shapes(f"x: {cut}", truncated=True)
    assert (redacted, count) == ("x: REDACTED", 1)


def test_several_secrets_are_counted_one_by_one() -> None:
    redacted, count = redact_shapes(f"{JWT} {CARDS[0]} {PEM} {JWT}")
    assert (redacted, count) == ("REDACTED REDACTED REDACTED REDACTED", 4)
