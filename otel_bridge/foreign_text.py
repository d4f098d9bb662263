"""Text of strangers on its way into a line that people, or readers of logs, take for ours.

Owns the escaping of what could forge a line, move a cursor or hide. It must not redact: `redaction` does.
"""

from __future__ import annotations

import re

MAX_QUOTED_CHARACTERS = 200
"""What a log line shows of a text."""

# C0, DEL, C1, and the characters that reorder or hide text (bidirectional controls, zero width, line
# separators).
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """Return the text in one line, with everything a terminal would act upon as an escape."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(escape_character, text)


def quote(text: str) -> str:
    """Return the beginning of the text, printable."""
    return printable(text[:MAX_QUOTED_CHARACTERS])


def escape_character(match: re.Match[str]) -> str:
    """Return the escape of a matched character, in the form of a Python string."""
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
