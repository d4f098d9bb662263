from __future__ import annotations

from otel_bridge.otlp.attribute_memory import (
    MAX_ATTRIBUTES_REMEMBERED,
    MAX_REMEMBERED_LENGTH,
    AttributeMemory,
)
from otel_bridge.span import AttributeValue


def build() -> tuple[AttributeMemory[str], list[str]]:
    """Return a memory, and the names of the attributes that it had to encode."""
    encoded: list[str] = []

    def encode(name: str, value: AttributeValue) -> str:
        encoded.append(name)
        return f"{name}={value!r}"

    return AttributeMemory(encode), encoded


def test_an_attribute_is_encoded_once() -> None:
    memory, encoded = build()
    for _ in range(3):
        assert [memory["a", 200], memory["a", "b"], memory["c", ("d", "e")]] == [
            "a=200",
            "a='b'",
            "c=('d', 'e')",
        ]
    assert encoded == ["a", "a", "c"]


def test_numbers_and_truths_that_are_equal_are_told_apart() -> None:
    memory, _ = build()
    for _ in range(2):
        assert [memory["a", value] for value in (1, True, 0, False)] == ["a=1", "a=True", "a=0", "a=False"]


def test_long_ones_are_not_remembered() -> None:
    memory, encoded = build()
    for _ in range(2):
        assert len(memory["a", "x" * MAX_REMEMBERED_LENGTH]) > MAX_REMEMBERED_LENGTH
        assert memory["b", "x" * (MAX_REMEMBERED_LENGTH - 4)]
    assert encoded == ["a", "b", "a"]


def test_their_number_is_bounded() -> None:
    memory, _ = build()
    for number in range(2, 2 + MAX_ATTRIBUTES_REMEMBERED):
        assert memory["n", number] == f"n={number}"
    assert len(memory) == MAX_ATTRIBUTES_REMEMBERED
    assert memory["n", -1] == "n=-1"
    assert len(memory) == 1
