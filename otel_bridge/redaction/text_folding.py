"""A coarser copy of a text, in which one substring search stands for all the spellings of a thing.

Owns what the copy leaves out. It must not know what is searched for.

Contract: if a text holds a word or a number in any letter case, with any digits and with any separators
between its parts, then its folded copy holds the folded word or number. The converse does not hold: a hit
says "look closer". Making the copy and searching it run in C at a microsecond or so a kibibyte, and most
bodies then pass the redaction without a regular expression being tried on them.
"""

from __future__ import annotations

_LEFT_OUT = b" \t\r\n+-_\\"
"""Separators in card numbers and names, white space between the name of a JSON member and its colon; in JSON
within JSON, quotes carry backslashes."""

_FOLD = bytes(ord("0") if byte in b"0123456789" else byte for byte in bytes(range(256)).lower())


def fold_text(text: str) -> bytes:
    """Return the UTF-8 of a text in lower case, every digit a `0`, without white space and separators."""
    if not text.isascii():
        text = text.lower()
    return text.encode("utf-8", "surrogatepass").translate(_FOLD, _LEFT_OUT)
