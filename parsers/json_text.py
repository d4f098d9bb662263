"""JSON of a message body, also where its end is missing.

Owns the reading of a JSON text whole, else of the members and items before its cut. It must not know what the
members mean.

Contract: nothing on the wire raises. What is returned was sent as it is; a value that the cut may have
shortened is left out, but a string's beginning is returned as one (`CutText`). Time is linear in the text:
nesting beyond Python's own bound of recursion, and numbers beyond its bound of digits, end the reading.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_CUT_VALUES = 4_096
"""Items and members that are read one by one of a text that is not whole. A request has a few; so many take
some milliseconds."""

_DECODER = json.JSONDecoder()
# RFC 8259 §2.
_SPACE = re.compile(r"[ \t\n\r]*+")
_DELIMITERS = frozenset(",:]}")
# RFC 8259 §7. What may be left after it is an escape that the cut divided. The group repeats within an atomic
# one: Python before 3.11.5 loses its place when a group repeats possessively.
_STRING_BEGINNING = re.compile(r'(?>(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*)')
_DIVIDED_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?")


@dataclass(frozen=True, slots=True)
class CutText:
    """The beginning of a string whose end is missing."""

    text: str


class JsonReading(NamedTuple):
    """What was read of a JSON text."""

    value: Any
    """A dict or a list where it is not whole; `CutText` may stand for the last member's value."""
    whole: bool
    too_large: bool = False
    """Not whole because of its nesting, the digits of a number, or MAX_CUT_VALUES."""


def read_json(text: str, *, cut: bool) -> JsonReading | None:
    """Read a JSON text; None when it is none.

    `cut` says that its end may be missing: then the members, or items, before the end are read.
    """
    # RFC 8259 §8.1: a reader may ignore a byte order mark.
    text = text.removeprefix("\ufeff")
    too_large = False
    try:
        return JsonReading(_DECODER.decode(text), True)
    except json.JSONDecodeError:
        if not cut:
            return None
    except (RecursionError, ValueError):
        too_large = True
    beginning = _Beginning(text)
    if beginning.mark == "{":
        value: Any = beginning.read_members()
    elif beginning.mark == "[":
        value = beginning.read_items()
    else:
        return None
    return JsonReading(value, False, too_large or beginning.room <= 0)


class _Beginning:
    """Reads value by value up to where the text ends, or stops being JSON."""

    __slots__ = ("mark", "place", "room", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.mark = ""
        """The character at `place`, which is no white space; empty at the end."""
        self.room = MAX_CUT_VALUES
        """How many more values are read."""
        self._go_to(0)

    def read_items(self) -> list[Any]:
        """Return the items of the array here that are whole, and what there is of an object after them."""
        items: list[Any] = []
        while self.mark in ("[", ",") and self.room > 0:
            self._go_to(self.place + 1)
            begin, is_object = self.place, self.mark == "{"
            is_whole, value = self._read_value()
            if is_whole:
                items.append(value)
            elif is_object:
                self._go_to(begin)
                items.append(self.read_members())
                break
        return items

    def read_members(self) -> dict[str, Any]:
        """Return the members of the object here that are whole, and the beginning of a string after them."""
        members: dict[str, Any] = {}
        while self.mark in ("{", ",") and self.room > 0:
            self._go_to(self.place + 1)
            is_whole, name = self._read_value()
            if not (is_whole and isinstance(name, str) and self.mark == ":"):
                break
            self._go_to(self.place + 1)
            begin = self.place
            is_whole, value = self._read_value()
            if is_whole:
                members[name] = value
            elif (cut_text := self._read_cut_text(begin)) is not None:
                members[name] = cut_text
        return members

    def _go_to(self, place: int) -> None:
        """Go to the mark at or after a place."""
        found = _SPACE.match(self.text, place)
        assert found is not None, "the expression matches nothing as well"
        self.place = found.end()
        self.mark = self.text[self.place : self.place + 1]

    def _read_value(self) -> tuple[bool, Any]:
        """Read the value here, and go to the mark after it; return whether it is whole, and the value."""
        self.room -= 1
        try:
            value, end = _DECODER.raw_decode(self.text, self.place)
        except (RecursionError, ValueError):
            self.mark = ""
            return False, None
        self._go_to(end)
        # A number that nothing delimits may have had more digits, or an exponent.
        return self.mark in _DELIMITERS or isinstance(value, dict | list | str), value

    def _read_cut_text(self, place: int) -> CutText | None:
        """Return the beginning of the string at a place; None when it is none, or wrong before the cut."""
        text = self.text
        if not text.startswith('"', place):
            return None
        found = _STRING_BEGINNING.match(text, place + 1)
        assert found is not None, "the expression matches nothing as well"
        end = found.end()
        if end < len(text) and _DIVIDED_ESCAPE.fullmatch(text, end) is None:
            return None
        beginning: str = _DECODER.decode(f'"{found[0]}"')
        # The cut may also have divided the two escapes of one character (RFC 8259 §7).
        return CutText(beginning[:-1] if "\ud800" <= beginning[-1:] <= "\udbff" else beginning)
