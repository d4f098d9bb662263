"""The bytes of messages as text, and without credentials.

Owns the decoding of header values and bodies, and what is remembered of fields. It must not know what
becomes an attribute.

Contract: text that leaves here has no lone surrogates, so that every encoder takes it. Traffic repeats
itself, so what was made of a field is remembered, but only of fields in which nothing was redacted and whose
name announces no credential: no secret outlives its message here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from otel_bridge.redaction.redactor import Redactor
from parsers.http_exchange import Body, Headers

MAX_FIELDS_REMEMBERED = 4096
"""Fields (name and value) kept by one reader; a full memory starts afresh. With the next bound 3 MiB."""

MAX_REMEMBERED_FIELD_LENGTH = 256
"""Bytes of name and value; longer ones are cookies, tokens and policies, and few of them recur."""

MAX_HEADS_REMEMBERED = 512
"""Heads kept by one reader; the parsers share their fields. A full memory starts afresh. Their fields
are remembered ones, so they add 2 MiB at most."""

# Codecs that cannot produce a lone surrogate, which no UTF-8 encoder takes.
_SAFE_CODECS = frozenset(
    {"utf-8", "utf8", "ascii", "us-ascii", "latin-1", "iso-8859-1", "iso8859-1", "cp1252"}
)


def decode_value(value: bytes) -> str:
    """Return bytes of a head as text: UTF-8 if they are, else one character a byte (RFC 9110 §5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


Fields: TypeAlias = Mapping[str, tuple[str, ...]]
"""Values by name, repeated ones in order of arrival; shared by the messages that have the same."""


class _Field(NamedTuple):
    name: str
    labelled_name: str
    values: tuple[str]
    """The value as it was sent."""
    redacted_values: tuple[str]


class FieldReader:
    """Reads the headers of requests, or of responses; its memory serves all messages."""

    __slots__ = ("_label", "_rules", "remembered", "remembered_heads")

    def __init__(self, label: str, rules: Redactor | None) -> None:
        self._label = label
        self._rules = rules
        self.remembered: dict[tuple[bytes, bytes], _Field] = {}
        """What was made of fields, by name and value as sent; at most MAX_FIELDS_REMEMBERED."""
        self.remembered_heads: dict[Headers, tuple[Fields, Fields, int]] = {}
        """What was made of all fields of a head; at most MAX_HEADS_REMEMBERED."""

    def read(self, headers: Headers) -> tuple[Fields, Fields, int]:
        """Return the fields of a head in order of first appearance, twice, and the number of values redacted.

        First as they were sent, by name in lower case, for what they say about the message; then redacted, by
        that name after the label, for what leaves.
        """
        # A tuple is one of those that recur; no other sequence can be a key.
        if type(headers) is not tuple:
            return self._read_fields(headers)
        known = self.remembered_heads.get(headers)
        if known is None:
            known = self._read_fields(headers)
            if all(map(self.remembered.__contains__, headers)):
                if len(self.remembered_heads) >= MAX_HEADS_REMEMBERED:
                    self.remembered_heads.clear()
                self.remembered_heads[headers] = known
        return known

    def _read_fields(self, headers: Headers) -> tuple[Fields, Fields, int]:
        sent: dict[str, tuple[str, ...]] = {}
        redacted: dict[str, tuple[str, ...]] = {}
        count = 0
        remembered = self.remembered
        for field in headers:
            known = remembered.get(field)
            if known is None:
                known, found = self._read_field(field)
                count += found
            name, labelled_name, values, redacted_values = known
            if name in sent:
                sent[name] += values
                redacted[labelled_name] += redacted_values
            else:
                sent[name] = values
                redacted[labelled_name] = redacted_values
        return sent, redacted, count

    def _read_field(self, field: tuple[bytes, bytes]) -> tuple[_Field, int]:
        name = field[0].decode("latin-1").lower()
        value = decode_value(field[1])
        redacted, count, may_remember = value, 0, False
        rules = self._rules
        if rules is not None:
            if rules.is_sensitive_header(name):
                redacted, count = rules.sensitive_header(name, value)
            else:
                redacted, count = rules.header(value)
                may_remember = count == 0 and len(field[0]) + len(field[1]) <= MAX_REMEMBERED_FIELD_LENGTH
        read = _Field(name, self._label + name, (value,), (redacted,))
        if may_remember:
            if len(self.remembered) >= MAX_FIELDS_REMEMBERED:
                self.remembered.clear()
            self.remembered[field] = read
        return read, count


def read_content(
    body: Body, content_type: str, rules: Redactor | None, *, unfinished: bool
) -> tuple[str | bytes, int]:
    """Return what was kept of a body, text if it is textual, and the number of values redacted.

    `unfinished` says that the message may go on after what was seen of it.
    """
    truncated = unfinished or body.truncation is not None
    if body.charset is None:
        if rules is None:
            return body.content, 0
        return rules.binary(body.content, content_type, truncated=truncated)
    text = decode_text(body.content, body.charset)
    return (text, 0) if rules is None else rules.text(text, content_type, truncated=truncated)


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
