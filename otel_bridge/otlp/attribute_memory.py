"""Attributes that were encoded before: traffic repeats itself, and so do most attributes of its spans.

Owns what is remembered, and for how long. It must not know an encoding.

Contract: an attribute is found by name and value, without a step of Python in between; what is not there is
encoded, and remembered within the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import AnyStr, Generic, TypeAlias

from otel_bridge.span import AttributeValue

MAX_ATTRIBUTES_REMEMBERED = 4096
"""Attributes kept; a full memory starts afresh. With the next bound below 4 MiB."""

MAX_REMEMBERED_LENGTH = 256
"""Length of an encoded attribute that is kept; longer ones rarely recur."""

Attribute: TypeAlias = tuple[str, AttributeValue]


class AttributeMemory(dict[Attribute, AnyStr], Generic[AnyStr]):
    """Encoded attributes by name and value: `memory[name, value]`, for every attribute."""

    __slots__ = ("_encode",)

    _encode: Callable[[str, AttributeValue], AnyStr]

    def __init__(self, encode: Callable[[str, AttributeValue], AnyStr]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, attribute: Attribute) -> AnyStr:
        """Encode an attribute that is not remembered."""
        name, value = attribute
        encoded = self._encode(name, value)
        # As keys True and 1 are the same, and False and 0: none of the four may be found for another.
        if len(encoded) <= MAX_REMEMBERED_LENGTH and value not in (0, 1):
            if len(self) >= MAX_ATTRIBUTES_REMEMBERED:
                self.clear()
            self[attribute] = encoded
        return encoded
