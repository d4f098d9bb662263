"""One plain field line at a time; those that recur are read once.

Owns what a plain field line is, which fields framing asks for, and the memory of lines read before. It must
not decide what a field means, and it has no say over lines that are not plain: `head` has its other
lanes for them.

Contract: what is remembered can hold no credential. Only lines of the fields in `RECURRING_FIELDS` are
kept, whose values are sent to everybody; a list of names to leave out would miss the next vendor's. What is
remembered is immutable, because messages share it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from parsers.http1.disputes import is_plain_announcement, is_plain_expectation, is_plain_host

FieldLine: TypeAlias = tuple[tuple[bytes, bytes], bytes | None]
"""Name and value as sent; then the lower-cased name when it is one of `FRAMING_FIELDS` or Host, else None."""

FRAMING_FIELDS = frozenset(
    (
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that decide where a message ends or how its body reads."""

SINGLE_FIELDS = frozenset((b"content-type", b"expect"))
"""Fields that a message has once: servers take a second one differently."""

HOST: Final = b"host"
"""The key of a Host line: the same object for each, so that identity shows it."""

RECURRING_FIELDS = frozenset(
    b"""
        accept accept-charset accept-encoding accept-language accept-ranges
        access-control-allow-credentials access-control-allow-headers access-control-allow-methods
        access-control-allow-origin access-control-expose-headers access-control-max-age age allow
        alt-svc cache-control connection content-encoding content-language content-length
        content-type cross-origin-opener-policy cross-origin-resource-policy date dnt expect expires
        host keep-alive last-modified origin-agent-cluster permissions-policy pragma priority
        referrer-policy sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode
        sec-fetch-site sec-fetch-user server strict-transport-security te trailer transfer-encoding
        upgrade upgrade-insecure-requests user-agent vary via x-content-type-options
        x-dns-prefetch-control x-download-options x-forwarded-port x-forwarded-proto x-frame-options
        x-permitted-cross-domain-policies x-powered-by x-xss-protection
    """.split()
)
"""Fields whose lines are remembered: they repeat from message to message and carry no credential."""

MAX_REMEMBERED_LINES = 2_048
"""Lines kept. A service has tens; when lengths, dates and invented values fill it, it starts over: the lines
that recur are back with the next message."""
MAX_REMEMBERED_BYTES = 256
"""Longest line kept: a browser's User-Agent fits. All that is remembered stays below 2 MiB."""

_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PRINTABLE_ASCII = bytes(range(0x20, 0x7F))
_KEYS: dict[bytes, bytes] = {key: key for key in (*FRAMING_FIELDS, HOST)}

remembered_lines: dict[bytes, FieldLine] = {}
"""Lines read before; read here first, then by `read_field_line`."""


def is_token(name: bytes) -> bool:
    """Whether the bytes are a token (RFC 9110 §5.6.2), or nothing."""
    return not name.translate(None, _TOKEN_BYTES)


def _is_undisputed(key: bytes, value: bytes) -> bool:
    """Whether all servers take the value of such a field; `head` checks lengths and codings."""
    if key is HOST:
        return is_plain_host(value)
    if key == b"expect":
        return is_plain_expectation(value)
    return key != b"trailer" or is_plain_announcement(value)


def read_field_line(line: bytes) -> FieldLine | None:
    """Read a line without its end; None when it is not plain.

    Plain is: a token, a colon, one space, and printable ASCII that neither begins nor ends with a space.
    """
    name, _, value = line.partition(b": ")
    key = name.lower()
    if (
        not value
        or value[0] == 0x20
        or value[-1] == 0x20
        or value.translate(None, _PRINTABLE_ASCII)
        or not key
        or key.translate(None, _TOKEN_BYTES)
    ):
        return None
    known = _KEYS.get(key)
    if known is not None and not _is_undisputed(known, value):
        return None
    read = ((name, value), known)
    if key in RECURRING_FIELDS and len(line) <= MAX_REMEMBERED_BYTES:
        if len(remembered_lines) >= MAX_REMEMBERED_LINES:
            remembered_lines.clear()
        remembered_lines[line] = read
    return read
