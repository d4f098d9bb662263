"""The bytes of messages as text, and without credentials.

Owns the decoding of header values and bodies, and the order in which a message goes through redaction. It
must not know what becomes an attribute.

Contract: text that leaves here has no lone surrogates, so that every encoder takes it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from otel_bridge.redaction import Redactor
from parsers.exchange import Headers

MAX_HEADER_NAMES_REMEMBERED = 4096
"""Header names kept decoded; rare ones push each other out."""

# Codecs that cannot produce a lone surrogate, which no UTF-8 encoder takes.
_SAFE_CODECS = frozenset(
    {"utf-8", "utf8", "ascii", "us-ascii", "latin-1", "iso-8859-1", "iso8859-1", "cp1252"}
)


@lru_cache(maxsize=MAX_HEADER_NAMES_REMEMBERED)
def _lower_name(name: bytes) -> str:
    return name.decode("latin-1").lower()


def decode_value(value: bytes) -> str:
    """Return bytes of a head as text: UTF-8 if they are, else one character a byte (RFC 9110 §5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


Fields: TypeAlias = dict[str, list[str]]
"""Headers by lower-case name, repeated ones in order of arrival."""


def group_fields(headers: Headers) -> Fields:
    """Return the headers by name, in order of first appearance."""
    fields: Fields = {}
    for name, value in headers:
        lowered = _lower_name(name)
        known = fields.get(lowered)
        if known is None:
            fields[lowered] = [decode_value(value)]
        else:
            known.append(decode_value(value))
    return fields


class Redaction:
    """The redaction of one span: applies the rules, or none of them, and adds up what they replaced."""

    __slots__ = ("count", "rules")

    def __init__(self, rules: Redactor | None) -> None:
        self.rules = rules
        self.count = 0

    def fields(self, fields: Fields) -> Fields:
        """Return the fields with their credentials replaced."""
        rules = self.rules
        if rules is None or not fields:
            return fields
        out = dict(fields)
        harmless: list[str] = []
        for name, values in fields.items():
            if rules.is_sensitive_header(name):
                out[name] = [self._counted(rules.sensitive_header(name, value)) for value in values]
            else:
                harmless += values
        # One look at all values together: most exchanges have nothing to hide in them.
        if rules.may_hold_secret("\n".join(harmless)):
            for name, values in fields.items():
                if out[name] is values:
                    out[name] = [self._counted(rules.header(value)) for value in values]
        return out

    def _counted(self, redacted: tuple[str, int]) -> str:
        self.count += redacted[1]
        return redacted[0]

    def path(self, path: str) -> str:
        """Return a URL path without credentials."""
        return path if self.rules is None else self._counted(self.rules.path(path))

    def query(self, query: str) -> str:
        """Return a URL query without credentials."""
        return query if self.rules is None else self._counted(self.rules.query(query))

    def content(self, content: str | bytes, content_type: str, *, truncated: bool) -> str | bytes:
        """Return a body without credentials."""
        if self.rules is None:
            return content
        redacted: str | bytes
        if isinstance(content, str):
            redacted, count = self.rules.text(content, content_type, truncated=truncated)
        else:
            redacted, count = self.rules.binary(content, content_type, truncated=truncated)
        self.count += count
        return redacted


def decode_text(content: bytes, charset: str) -> str:
    """Return a textual body; what its charset lacks becomes U+FFFD, an unusable charset means UTF-8."""
    try:
        text = content.decode(charset, "replace")
    except (LookupError, ValueError):
        # A codec this Python lacks, one that is not between bytes and text, or one that cannot replace.
        text = content.decode("utf-8", "replace")
    if charset not in _SAFE_CODECS and not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text
