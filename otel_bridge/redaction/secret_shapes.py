"""Credentials that give themselves away by their shape: JWTs, PEM blocks, card numbers, URL user info.

Owns those shapes, wherever they stand. It must not look at names (`redaction`) or at the structure of a body
(`body_redaction`).

Contract: time is linear in the text. Most texts hold nothing, so a few substring searches decide first. A
truncated text may end inside a secret: what could be the beginning of one at its very end goes as well.
"""

from __future__ import annotations

import re

from otel_bridge.redaction.text_folding import fold_text

REDACTED = "REDACTED"
"""What stands in place of a redacted value (semantic conventions, `url.full` and `url.query`)."""

# A number in groups, as people write cards. ISO/IEC 7812: 13 to 19 digits; major industry identifiers 2 to 6
# cover all payment networks. Leading 1 is left out on purpose: a tenth of all millisecond timestamps passes
# Luhn.
_CARD = re.compile(r"(?<![0-9A-Za-z.])[2-6](?:[ +-]?[0-9]){12,18}(?![0-9A-Za-z])")
# Looking for this in the folded copy takes a quarter of the time that the expression takes to say no.
_THIRTEEN_DIGITS = b"0" * 13
# More than the six digits that may be shown of a card (PCI DSS 3.4), cut off by the end of the text.
_CARD_BEGINNING = re.compile(r"(?<![0-9A-Za-z.])[2-6](?:[ +-]?[0-9]){6,18}[ +-]?\Z")
_CARD_SEPARATORS = re.compile(r"[ +-]")
_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_TOKEN_RUN = re.compile(r"[A-Za-z0-9_-]+")
# RFC 7515 §7.1: header.payload.signature; RFC 7516 has five parts. `eyJ` is the coding of `{"`.
_JWT_REST = re.compile(r"(?:\.[A-Za-z0-9_-]*){1,4}")
_JWT_HEADER_MIN = 8

_PEM_BEGIN = "-----BEGIN"
_PEM_END = re.compile(r"-----END[^-]{0,80}(?:-{1,5}|\Z)")

# RFC 3986 §3.2.1. PHP and others escape the slashes in JSON.
_USER_INFO = re.compile(r"(:\\?/\\?/)([^/\\\s?#\"'<>]*)@")


def redact_shapes(text: str, folded: bytes | None = None, *, truncated: bool = False) -> tuple[str, int]:
    """Return the text with every such credential replaced, and how many were.

    `folded` is the folded copy of the text where there is one already; that of the text before other values
    in it were replaced will do, since replacing adds no digits.
    """
    count = 0
    # One rare character is looked for eight times as fast as three.
    if "J" in text and "eyJ" in text:
        text, found = _redact_jwts(text, truncated=truncated)
        count += found
    if _PEM_BEGIN in text:
        text, found = _redact_pem_blocks(text)
        count += found
    if "@" in text and ":" in text:
        text, found = _USER_INFO.subn(_user_info, text)
        count += found
    if _THIRTEEN_DIGITS in (fold_text(text) if folded is None else folded):
        text, found = _redact_cards(text)
        count += found
    if truncated and text and text[-1] in "0123456789 +-":
        text, found = _CARD_BEGINNING.subn(REDACTED, text)
        count += found
    return text, count


def _redact_jwts(text: str, *, truncated: bool) -> tuple[str, int]:
    out: list[str] = []
    count = 0
    copied = 0
    begin = text.find("eyJ")
    while begin >= 0:
        header = _TOKEN_RUN.match(text, begin)
        assert header is not None
        end = header.end()
        rest = _JWT_REST.match(text, end)
        rest_end = end if rest is None else rest.end()
        is_cut = truncated and rest_end == len(text)
        if is_cut or (end - begin >= _JWT_HEADER_MIN and rest_end - end > 1):
            end = rest_end
            out += (text[copied:begin], REDACTED)
            copied = end
            count += 1
        # The whole run is behind us, so a run without a dot is read once however often `eyJ` occurs in it.
        begin = text.find("eyJ", end)
    return "".join((*out, text[copied:])), count


def _redact_pem_blocks(text: str) -> tuple[str, int]:
    out: list[str] = []
    count = 0
    copied = 0
    begin = text.find(_PEM_BEGIN)
    while begin >= 0:
        closing = _PEM_END.search(text, begin)
        end = closing.end() if closing is not None else len(text)
        out += (text[copied:begin], REDACTED)
        copied = end
        count += 1
        begin = text.find(_PEM_BEGIN, end)
    return "".join((*out, text[copied:])), count


def _user_info(match: re.Match[str]) -> str:
    return f"{match[1]}{REDACTED}:{REDACTED}@" if ":" in match[2] else f"{match[1]}{REDACTED}@"


def _redact_cards(text: str) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not _passes_luhn(_CARD_SEPARATORS.sub("", match[0])):
            return match[0]
        count += 1
        return REDACTED

    return _CARD.sub(replace, text), count


def _passes_luhn(digits: str) -> bool:
    """Whether the digits pass the check of ISO/IEC 7812-1 annex B."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        total += _LUHN_DOUBLED[value] if position % 2 else value
    return total % 10 == 0
