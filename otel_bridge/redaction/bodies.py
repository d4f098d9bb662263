"""Credentials in bodies, by the name of the member or field that holds them.

Owns the reading of JSON, event streams, forms and multipart text for that purpose. It must not decide which
names are sensitive (`sensitive_names`) or change anything but values.

Contract: works on text, not on a parsed document, so that a body cut anywhere, also in the middle of a
secret, is redacted as far as it goes, and everything else stays byte for byte as it was. Time is linear in
the text.
"""

from __future__ import annotations

import re

from otel_bridge.redaction.secret_shapes import REDACTED
from otel_bridge.redaction.sensitive_names import SensitiveNames

MAX_NAME_LENGTH = 128
"""Characters of a name that is looked at; no convention has longer ones, and it bounds every search below."""

# A quoted name before a colon, and white space as JSON has it (RFC 8259 §2). Tried at every quote, so stray
# quotes elsewhere cannot hide a name.
_MEMBER = re.compile(rf'"([^"\n]{{1,{MAX_NAME_LENGTH}}}+)"[ \t\r\n]*+:[ \t\r\n]*+')
# The same where lines of server-sent events divide the member: each begins with the name of the field, and a
# few lines of other fields may stand between.
_NEXT_DATA = r"[\r\n]++(?>(?:(?!data:)[^\r\n]{1,256}+[\r\n]++){0,4})data:"
_DIVIDED_SPACE = rf"(?>(?:[ \t]|{_NEXT_DATA})*)"
_DIVIDED_MEMBER = re.compile(rf'"([^"\n]{{1,{MAX_NAME_LENGTH}}}+)"{_DIVIDED_SPACE}:{_DIVIDED_SPACE}')
_DIVISION = re.compile(rf'"[ \t]*+(?::[ \t]*+)?{_NEXT_DATA}')
_BARE_VALUE = re.compile(r"[^\s,}\]\\\"]+")
_HARMLESS = frozenset({"true", "false", "null"})
_BRACKET_OR_QUOTE = re.compile(r'[{}\[\]]|\\*"')
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")

# `name=` inside a URL inside a text; a value may hold another URL, so it is no part of this.
_URL_PARAMETER = re.compile(
    # A plain set comes first so that the search skips to one of its characters; 6 ends an escaped &.
    rf"[?&;6](?:(?<=[?&;])|(?<=\\u0026))([^=&?#;\s\"'<>\\]{{1,{MAX_NAME_LENGTH}}})="
)
_URL_VALUE = re.compile(r"[^&#;\s\"'<>\\]+")

# RFC 7578 §4.2: a part's header names the field; its value follows the empty line and ends at the next
# boundary.
_PART_HEADER = re.compile(r"^content-disposition:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_PART_NAME = re.compile(r'(?<![\w*])name=(?:"([^"]*)"|([^\s;"]*))', re.IGNORECASE)
_EMPTY_LINE = re.compile(r"\r?\n\r?\n")
_PART_END = re.compile(r"\r?\n--")


def redact_event_members(text: str, folded: bytes, names: SensitiveNames) -> tuple[str, int]:
    """Do what `redact_members` does to JSON in server-sent events, which may take several lines of data."""
    if _DIVISION.search(text) is None:
        return redact_members(text, folded, names)
    return _redact_members(text, names, _DIVIDED_MEMBER)


def redact_members(text: str, folded: bytes, names: SensitiveNames) -> tuple[str, int]:
    """Replace the value of every JSON member with a sensitive name, at any depth; return text and count.

    `folded` is the folded copy of the text. An object or array under such a name goes as a whole; `true`,
    `false` and `null` stay, they reveal nothing.
    """
    # An escape may hide any letter of a name.
    if not (names.may_name_member(folded) or "\\u00" in text):
        return text, 0
    return _redact_members(text, names, _MEMBER)


def _redact_members(text: str, names: SensitiveNames, pattern: re.Pattern[str]) -> tuple[str, int]:
    out: list[str] = []
    count = 0
    copied = 0
    member = pattern.search(text)
    while member is not None:
        end = member.end()
        name = member[1]
        if names.is_sensitive(_unescaped(name)):
            # In JSON within a JSON string the closing quote carries backslashes, and so must the new ones.
            escape = name[len(name.rstrip("\\")) :]
            begin, end, replacement = _value_span(text, end, escape)
            if replacement:
                out += (text[copied:begin], replacement)
                copied = end
                count += 1
        member = pattern.search(text, end)
    return ("".join((*out, text[copied:])) if count else text), count


def _unescaped(name: str) -> str:
    if "\\" not in name:
        return name
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name).replace("\\", "")


def _value_span(text: str, begin: int, escape: str) -> tuple[int, int, str]:
    """Return where the value at `begin` starts and ends, and what replaces it; "" keeps it.

    `escape` is the backslashes that a quote carries at this level.
    """
    quote = begin
    while text.startswith("\\", quote):
        quote += 1
    if text.startswith('"', quote):
        content = quote + 1
        end = _string_end(text, content, quote - begin)
        return content, end, REDACTED if end > content else ""
    if text.startswith(("{", "["), begin):
        return begin, _container_end(text, begin), f'{escape}"{REDACTED}{escape}"'
    bare = _BARE_VALUE.match(text, begin)
    if bare is None or bare[0] in _HARMLESS:
        return begin, begin, ""
    return begin, bare.end(), f'{escape}"{REDACTED}{escape}"'


def _string_end(text: str, begin: int, backslashes: int) -> int:
    """Return where the content of a string ends whose opening quote carried so many backslashes.

    One level down, each backslash and quote is escaped once more: with k backslashes on the opening quote, a
    run of k modulo 2(k+1) of them before a quote closes the string, any other longer run is an escaped quote
    in it.
    """
    period = 2 * (backslashes + 1)
    quote = text.find('"', begin)
    while quote >= 0:
        first = quote
        while first > begin and text[first - 1] == "\\":
            first -= 1
        run = quote - first
        if run < backslashes or run % period == backslashes:
            return quote - min(run, backslashes)
        quote = text.find('"', quote + 1)
    return len(text)


def _container_end(text: str, begin: int) -> int:
    depth = 0
    token = _BRACKET_OR_QUOTE.search(text, begin)
    while token is not None:
        symbol = token[0]
        end = token.end()
        if symbol in "{[":
            depth += 1
        elif symbol in "}]":
            depth -= 1
            if depth == 0:
                return end
        else:
            backslashes = len(symbol) - 1
            end = min(_string_end(text, end, backslashes) + backslashes + 1, len(text))
        token = _BRACKET_OR_QUOTE.search(text, end)
    return len(text)


def redact_url_parameters(text: str, names: SensitiveNames) -> tuple[str, int]:
    """Replace the values of sensitive query parameters of URLs that occur in a text."""
    if "=" not in text or not ("?" in text or "&" in text or ";" in text or "\\u0026" in text):
        return text, 0
    out: list[str] = []
    count = 0
    copied = 0
    parameter = _URL_PARAMETER.search(text)
    while parameter is not None:
        begin = end = parameter.end()
        if names.is_sensitive(parameter[1]) and (value := _URL_VALUE.match(text, begin)) is not None:
            end = value.end()
            out += (text[copied:begin], REDACTED)
            copied = end
            count += 1
        parameter = _URL_PARAMETER.search(text, end)
    return ("".join((*out, text[copied:])) if count else text), count


def redact_form_parts(text: str, names: SensitiveNames) -> tuple[str, int]:
    """Replace the values of sensitive fields of a multipart/form-data body."""
    out: list[str] = []
    count = 0
    copied = 0
    header = _PART_HEADER.search(text)
    while header is not None:
        end = header.end()
        name = _PART_NAME.search(header[1])
        empty_line = _EMPTY_LINE.search(text, end)
        if empty_line is None:
            break
        begin = end = empty_line.end()
        if name is not None and names.is_sensitive(name[1] or name[2] or ""):
            closing = _PART_END.search(text, begin)
            end = closing.start() if closing is not None else len(text)
            out += (text[copied:begin], REDACTED)
            copied = end
            count += 1
        header = _PART_HEADER.search(text, end)
    return ("".join((*out, text[copied:])) if count else text), count
