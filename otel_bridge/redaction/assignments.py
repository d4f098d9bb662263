"""Credentials in text that gives names and values line by line, in code or as markup.

Owns the reading of `name: value`, `name = value`, what queries write instead, and XML elements. It must not
decide which names are sensitive, nor which bodies are of this kind (`redaction`).

Contract: a value goes up to where the most generous reading ends it, since what is left of one may be the
secret. Time is linear in the text: only places where one of the words occurs are looked at, each once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from otel_bridge.redaction.secret_shapes import REDACTED

MAX_NAME_LENGTH = 128
"""Characters of a name that is looked at; it bounds every search below."""
MAX_ATTRIBUTES = 1_024
"""Characters between the name of an element and the end of its tag; namespaces take a few hundred."""
MAX_INDENTATION = 256
"""Characters before a name that is the first of its line."""

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
_NAME_REST = re.compile(rf"[A-Za-z0-9_.-]{{0,{MAX_NAME_LENGTH}}}")
# Triples and some queries have nothing but space before the quote.
_SIGN = re.compile(r"[\"'>]?[ \t]*+(?::=|=>|[:=])[ \t]*+|>?[ \t]++(?=[\"'])")
_IDENTIFIED = "identified"
_BY = re.compile(r"[ \t\r\n]++by[ \t\r\n]++(?=[\"'])", re.IGNORECASE)
# Marks of lists, diffs and quotes may stand before the first name of a line, and what declares a variable.
_LINE_BEGINNING = re.compile(r"[ \t>*+-]*+(?:(?:export|const|let|var|set)[ \t]++)?[\"']?", re.IGNORECASE)
_QUOTED = re.compile(
    r"\"(?>(?:[^\"\\\r\n]|\\.)*)\"?|'(?>(?:[^'\\\r\n]|\\.)*)'?|`(?>(?:[^`\\]|\\.)*)`?", re.DOTALL
)
_BARE = re.compile(r"(?:(?:bearer|basic|digest|token|apikey)[ \t]++)?[^\s,;&\"'<>(){}\[\]]+", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"[ \t\r\n]*+=[ \t\r\n]*+([\"'])")
_TAG_BEGINNING = re.compile(r"<(?:[\w.-]+:)?\Z")
_TAG_REST = re.compile(rf"(?![\w.:-])[^<>]{{0,{MAX_ATTRIBUTES}}}>(?:[ \t\r\n]*+(<!\[CDATA\[))?")
_LINE_END = re.compile(r"\r?\n|\r|\Z")
_LONG_QUOTES = ('"""', "'''")
_HARMLESS = frozenset({"", REDACTED, "true", "false", "null"})
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def redact_assignments(
    text: str, words: Iterable[str], is_sensitive: Callable[[str], bool], *, is_code: bool
) -> tuple[str, int]:
    """Replace the values of sensitive names; return text and count.

    Every sensitive name contains one of the `words`, which are lower-cased. In code only a quoted value is
    one; what is not quoted there is the name of another thing.
    """
    out: list[str] = []
    count = 0
    copied = 0
    for place in _find_words(text, words):
        if place < copied:
            continue
        rest = _NAME_REST.match(text, place)
        assert rest is not None, "the expression matches nothing as well"
        by = _BY.match(text, rest.end())
        sign = by or _SIGN.match(text, rest.end())
        if sign is None:
            continue
        name_begin = _find_name(text, place, copied)
        name = text[name_begin : rest.end()]
        if not (is_sensitive(name) if by is None else name.lower() == _IDENTIFIED):
            continue
        begin = sign.end()
        indentation = None if is_code else _find_indentation(text, name_begin)
        begin, end = _find_value(text, begin, indentation, is_code=is_code)
        value = text[begin:end]
        if value.strip("\"'` \t\r\n") not in _HARMLESS:
            quote = value[0] if value[0] in "\"'`" and indentation is None else ""
            out += (text[copied:begin], quote, REDACTED, quote)
            copied = end
            count += 1
    return ("".join((*out, text[copied:])) if count else text), count


def redact_elements(text: str, words: Iterable[str], is_sensitive: Callable[[str], bool]) -> tuple[str, int]:
    """Replace the text of XML elements, and the values of attributes, under sensitive names.

    A prefix is no part of a name. Elements within a sensitive one keep their text unless their own name is
    sensitive.
    """
    out: list[str] = []
    count = 0
    copied = 0
    for place in _find_words(text, words):
        if place < copied:
            continue
        rest = _NAME_REST.match(text, place)
        assert rest is not None, "the expression matches nothing as well"
        name_begin = _find_name(text, place, copied)
        if not is_sensitive(text[name_begin : rest.end()]):
            continue
        begin, end = _find_markup_value(text, name_begin, rest.end())
        if text[begin:end].strip() not in _HARMLESS:
            out += (text[copied:begin], REDACTED)
            copied = end
            count += 1
    return ("".join((*out, text[copied:])) if count else text), count


def _find_markup_value(text: str, name_begin: int, name_end: int) -> tuple[int, int]:
    """Return where the value of an attribute or element is, without quotes and CDATA; empty without one."""
    attribute = _ATTRIBUTE.match(text, name_end)
    if attribute is not None:
        closing = text.find(attribute[1], attribute.end())
        return attribute.end(), closing if closing >= 0 else len(text)
    if _TAG_BEGINNING.search(text, max(0, name_begin - MAX_NAME_LENGTH), name_begin) is None:
        return name_end, name_end
    tag = _TAG_REST.match(text, name_end)
    if tag is None or tag[0].endswith("/>"):
        return name_end, name_end
    if tag[1] is not None:
        closing = text.find("]]>", tag.end())
        return tag.end(), closing if closing >= 0 else len(text)
    closing = text.find("<", tag.end())
    return tag.end(), closing if closing >= 0 else len(text)


def _find_words(text: str, words: Iterable[str]) -> list[int]:
    """Return where the words occur, in any letter case, in order."""
    lowered = text.lower()
    if len(lowered) != len(text):
        # One letter outside ASCII becomes two, and places would move.
        lowered = text.translate(_ASCII_LOWER)
    places: set[int] = set()
    for word in (*words, _IDENTIFIED):
        place = lowered.find(word)
        while place >= 0:
            places.add(place)
            place = lowered.find(word, place + len(word))
    return sorted(places)


def _find_name(text: str, place: int, first: int) -> int:
    """Return where the name begins that a place is in."""
    first = max(first, place - MAX_NAME_LENGTH)
    while place > first and text[place - 1].lower() in _NAME_CHARACTERS:
        place -= 1
    return place


def _find_indentation(text: str, name_begin: int) -> int | None:
    """Return how far a name that is the first of its line is indented; None when it is not the first."""
    earliest = max(0, name_begin - MAX_INDENTATION)
    line_begin = max(text.rfind("\n", earliest, name_begin), text.rfind("\r", earliest, name_begin)) + 1
    if line_begin == 0 and earliest > 0:
        return None
    before = text[line_begin:name_begin]
    if _LINE_BEGINNING.fullmatch(before) is None:
        return None
    return len(before) - len(before.lstrip(" \t>*+-"))


def _find_value(text: str, begin: int, indentation: int | None, *, is_code: bool) -> tuple[int, int]:
    if indentation is not None:
        return begin, _find_end_of_lines(text, begin, indentation)
    value = _QUOTED.match(text, begin)
    if value is None and not is_code:
        value = _BARE.match(text, begin)
    return (begin, begin) if value is None else value.span()


def _find_end_of_lines(text: str, begin: int, indentation: int) -> int:
    """Return where the value ends: with its line, its closing long quotes, or the lines indented further."""
    end = _end_of_line(text, begin)
    value = text[begin:end].strip()
    for quotes in _LONG_QUOTES:
        if value.startswith(quotes) and quotes not in value[3:]:
            closing = text.find(quotes, text.find(quotes, begin) + 3)
            return closing + 3 if closing >= 0 else len(text)
    place = end
    while place < len(text):
        following = place + (2 if text.startswith("\r\n", place) else 1)
        place = _end_of_line(text, following)
        line = text[following:place]
        content = line.lstrip(" \t")
        deeper = len(line) - len(content) - indentation
        # YAML may write the items of a list as deep as their name.
        is_item = deeper == 0 and not value and content.startswith("-")
        if content and deeper <= 0 and not is_item:
            break
        if content:
            end = place
    return end


def _end_of_line(text: str, begin: int) -> int:
    found = _LINE_END.search(text, begin)
    assert found is not None, "the expression matches the end as well"
    return found.start()
