r"""Protobuf messages as text without their schema: field numbers, and values as far as the wire shows them.

Owns the reading of the wire format (protobuf documentation, "Encoding") and the choice of a form. It must not
know what is secret: the text is made so that a search for secrets finds in it what the bytes hold.

The form is `{1: "bob", 2: 150, 3: {1: 7}, 4: 0x3ff0000000000000 (1.0), 5: b"\<00ff>abc", 6: <9000 bytes>}`:

| on the wire | as text |
|---|---|
| varint | the unsigned number; with the signed one behind it where that is negative |
| 32 or 64 bits | hexadecimal, with the floating-point number behind it where that is of a usual size |
| UTF-8 without control characters other than line breaks and tabulators | a string |
| fields in fields, without a rest | a message |
| other bytes | a string in which `\<…>` holds bytes in hexadecimal; only their number when they are many |

Contract: what looks like a string or a message may be other bytes, so the bytes themselves stay beside the
text. A value is shown whole or not at all, never cut: a cut secret does not look like one. For the same
reason no letter or digit of an escape stands next to the text. Groups (proto2) are no part of the form. Time
is linear in the bytes times MAX_DEPTH, and bounded by the budget of a `ProtobufText`.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from parsers.content import cut_on_boundary

MAX_DEPTH: Final = 16
"""Messages within messages that are read; generated code nests a few, and parsers refuse a hundred."""

MAX_FIELDS: Final = 2_000
"""Fields read for one `ProtobufText`, those of attempts that failed included: some milliseconds."""

MAX_CHARACTERS: Final = 32_768
"""Characters of values that one `ProtobufText` makes. A person reads less, and programs take the bytes."""

MAX_BINARY: Final = 64
"""Bytes shown of a value that is no text: digests, keys and packed numbers; longer ones are files."""

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH_DELIMITED: Final = 2
_FIXED32: Final = 5

_CUT: Final = -1
"""Instead of a position: the bytes end before the value does."""
_WRONG: Final = -2
"""Instead of a position: this is not the wire format."""

_MAX_SIZE: Final = 2**31 - 1
"""Bytes of a message ("Proto limits")."""
_SIGN: Final = 1 << 63
_DOUBLE: Final = Struct("<d")
_FLOAT: Final = Struct("<f")
_USUAL: Final = (1e-6, 1e12)
_REST: Final = "…"
_NOTHING_WHOLE: Final = "{…}"

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_FIRST_TAG: Final = b"\n"
"""Of a message whose first field is a string with the number 1, as most are; text rarely begins with it."""
_UNPRINTABLE = re.compile(rb"[^ -~]+")


class ProtobufText:
    """Renders messages of one origin; the budget is for all of them together."""

    __slots__ = ("_characters", "_fields")

    def __init__(self, max_fields: int = MAX_FIELDS, max_characters: int = MAX_CHARACTERS) -> None:
        self._fields = max_fields
        self._characters = max_characters

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up; what is rendered from here on is empty."""
        return self._fields <= 0 or self._characters <= 0

    def render(self, data: bytes, size: int | None) -> str | None:
        """Return a message as text, None when it is not in the wire format.

        `size` is that of the whole message in bytes; `data` is its beginning. None when only the beginning is
        known. `…` stands for what is missing.
        """
        return self._render_fields(data, 0, len(data), _MAX_SIZE if size is None else size, 0)

    def _render_fields(self, data: bytes, at: int, end: int, whole_end: int, depth: int) -> str | None:
        """Render the fields from `at` to `end`; they would go on to `whole_end` if nothing were cut."""
        parts: list[str] = []
        while at < end:
            if self.is_spent:
                parts.append(_REST)
                return f"{{{', '.join(parts)}}}"
            self._fields -= 1
            tag, at = _read_varint(data, at, end)
            if at >= 0:
                number, kind = tag >> 3, tag & 7
                if not 0 < number < 1 << 29:
                    return None
                value, at = self._render_value(kind, data, at, end, whole_end, depth)
                if value:
                    part = f"{number}: {value}"
                    self._characters -= len(part) + 2
                    parts.append(part)
            if at < 0:
                if at == _WRONG or end == whole_end:
                    return None
                at = end
        if end < whole_end:
            parts.append(_REST)
        return f"{{{', '.join(parts)}}}"

    def _render_value(
        self, kind: int, data: bytes, at: int, end: int, whole_end: int, depth: int
    ) -> tuple[str, int]:
        """Return the text of a value and the position behind it, or _CUT or _WRONG.

        A value that is cut may have text all the same.
        """
        if kind == _VARINT:
            number, at = _read_varint(data, at, end)
            return (_render_number(number) if at >= 0 else ""), at
        if kind == _LENGTH_DELIMITED:
            size, at = _read_varint(data, at, end)
            if at < 0:
                return "", at
        elif kind == _FIXED64:
            size = 8
        elif kind == _FIXED32:
            size = 4
        else:
            return "", _WRONG
        value_end = at + size
        if value_end > whole_end:
            return "", _WRONG
        if kind != _LENGTH_DELIMITED:
            if value_end > end:
                return "", _CUT
            return _render_fixed(data[at:value_end]), value_end
        if value_end > end:
            return self._render_cut(data, at, end, value_end, depth), _CUT
        return self._render_bytes(data, at, value_end, depth), value_end

    def _render_bytes(self, data: bytes, at: int, end: int, depth: int) -> str:
        value = data[at:end]
        text = _decode_text(value)
        if text is None or value.startswith(_FIRST_TAG):
            nested = self._try_message(data, at, end, end, depth)
            if nested is not None:
                return nested
        if text is not None:
            rendered = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        elif len(value) <= MAX_BINARY:
            rendered = _render_binary(value)
        else:
            return _render_size(value)
        return rendered if len(rendered) <= self._characters else _render_size(value)

    def _render_cut(self, data: bytes, at: int, end: int, whole_end: int, depth: int) -> str:
        """Render the beginning of a value: only a message has parts that are whole."""
        value = cut_on_boundary(data[at:end], "utf-8")
        nested: str | None = None
        if _decode_text(value) is None or value.startswith(_FIRST_TAG):
            nested = self._try_message(data, at, end, whole_end, depth)
        return nested if nested not in (None, _NOTHING_WHOLE) else f"<{end - at} of {whole_end - at} bytes>"

    def _try_message(self, data: bytes, at: int, end: int, whole_end: int, depth: int) -> str | None:
        if depth >= MAX_DEPTH:
            return None
        characters = self._characters
        nested = self._render_fields(data, at, end, whole_end, depth + 1)
        # What it holds is counted with the field that it is in.
        self._characters = characters
        return nested


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of up to 64 bits and the position behind it, or _CUT or _WRONG."""
    number = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at if number < 1 << 64 else _WRONG
        shift += 7
        if shift > 63:
            return 0, _WRONG
    return 0, _CUT


def _render_number(number: int) -> str:
    return f"{number} ({number - (1 << 64)})" if number & _SIGN else str(number)


def _render_fixed(value: bytes) -> str:
    (number,) = (_DOUBLE if len(value) == 8 else _FLOAT).unpack(value)
    text = f"0x{value[::-1].hex()}"
    least, most = _USUAL
    # A double has 15 digits that hold, a float 6.
    digits = 15 if len(value) == 8 else 6
    return f"{text} ({number:.{digits}g})" if least <= abs(number) <= most else text


def _decode_text(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL_CHARACTERS.search(text) else text


def _render_binary(value: bytes) -> str:
    escaped = value.replace(b"\\", rb"\\").replace(b'"', rb"\"")
    return 'b"' + _UNPRINTABLE.sub(lambda match: rb"\<%b>" % match[0].hex().encode(), escaped).decode() + '"'


def _render_size(value: bytes) -> str:
    return f"<{len(value)} bytes>"
