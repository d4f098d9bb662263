"""The content of a body: content coding removed, charset found, cut to the bound on a character boundary.

Owns what is kept of a body and why it is short. It must not know about framing: it gets the bytes that were
kept, the true size, and why bytes are missing.

Contract: never more than `limit` bytes come out, whatever the coding claims. A body that was cut decodes as
far as it goes and keeps the reason of the cut; only bytes that are wrong are a `DECODE_ERROR`. A coding that
is unknown, or that the sender declared without applying it, costs no byte: the content is what was sent, and
`Body.coding` says so.
"""

from __future__ import annotations

import codecs
import re
from typing import Final, NamedTuple

from parsers.content_codings import CODINGS, MAX_CODING_LAYERS, Coding, Decoded, order_codings
from parsers.http_exchange import Body, DeclaredCoding, Truncation
from parsers.media_types import UTF_8, ContentType, find_charset, read_content_type

BOMB_RATIO: Final = 250
"""A body that fills its bound with fewer than one coded byte per so many is a bomb; text stays below 100."""
MAX_CODING_NAME: Final = 128
"""Characters kept of the names of codings; those of known ones are short."""
MIN_PLAIN_CUT: Final = 32
"""Bytes that the beginning of a body needs to be taken for plain text although a coding is declared that has
no marks of its own; by chance coded bytes read as text for a few."""

# How JSON begins that is worth a reader's eyes: an object, an array, or a string.
_JSON_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\n\r]*+[{\[\"]")
_NO_TYPE: Final = ContentType("", UTF_8, False)
# Text has white space and, in some charsets, escapes; no other control characters.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class _Removed(NamedTuple):
    content: bytes
    truncation: Truncation | None
    coding: DeclaredCoding | None = None
    is_coded: bool = False
    """The charset says nothing about the content: it is still coded, or wrong."""


def build_body(
    kept: bytes,
    size: int | None,
    cut: Truncation | None,
    codings: list[bytes],
    content_type: bytes | None,
    limit: int,
) -> Body:
    """Build the record of a body; `kept` bytes of it are known, from its beginning without a hole.

    `size` is its true size on the wire, in bytes; `cut` says why `kept` is shorter. `codings` are
    lower-cased content codings in the order they were applied.
    """
    if not kept:
        return Body(size, b"", None, cut)
    if codings:
        return _build_decoded(kept, size, cut, codings, content_type, limit)
    charset = find_charset(content_type) if content_type else None
    if charset is None:
        charset = _find_proven_charset(kept, content_type, is_cut=cut is not None)
    content = kept if charset is None or cut is None else cut_on_boundary(kept, charset)
    return Body(size, content, charset, cut, len(content))


def _build_decoded(
    kept: bytes,
    size: int | None,
    cut: Truncation | None,
    codings: list[bytes],
    content_type: bytes | None,
    limit: int,
) -> Body:
    read = read_content_type(content_type) if content_type else _NO_TYPE
    content, truncation, coding, is_coded = _remove_codings(kept, cut, codings, read, limit)
    charset = None
    if not is_coded:
        is_cut = truncation is not None
        charset = read.charset
        if not read.is_text:
            charset = _find_proven_charset(content, content_type, is_cut=is_cut)
        if charset is not None and is_cut:
            content = cut_on_boundary(content, charset)
    return Body(size, content, charset, truncation, len(kept), coding)


def cut_on_boundary(content: bytes, charset: str) -> bytes:
    """Return `content` without an unfinished character at its end."""
    if charset == "utf-8":
        for back in range(1, min(4, len(content)) + 1):
            byte = content[-back]
            if byte < 0x80:
                return content
            if byte >= 0xC0:
                wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                return content[:-back] if back < wanted else content
        return content
    decoder = codecs.getincrementaldecoder(charset)("replace")
    try:
        decoder.decode(content)
    except UnicodeError:
        return content  # UTF-16 or UTF-32 without the mark of its byte order
    pending = decoder.getstate()[0]
    return content[: len(content) - len(pending)] if pending else content


def _find_proven_charset(content: bytes, content_type: bytes | None, *, is_cut: bool) -> str | None:
    """Return the charset of content that its type does not make text; None where it is not proven to be text.

    Content without a type is text only where it begins as JSON does: of other text it is unknown where names
    and values stand, and so what in it is a credential.
    """
    media_type, charset, _ = read_content_type(content_type) if content_type else _NO_TYPE
    if charset is None or (not media_type and charset == UTF_8 and _JSON_BEGINNING.match(content) is None):
        return None
    return charset if _reads_as_text(content, charset, is_cut=is_cut) else None


def _reads_as_text(content: bytes, charset: str, *, is_cut: bool) -> bool:
    """Whether all of the content is text in a charset, which it then also stays."""
    try:
        text = (cut_on_boundary(content, charset) if is_cut else content).decode(charset)
    except (LookupError, ValueError):
        return False
    return _CONTROL.search(text) is None


def _remove_codings(
    kept: bytes, cut: Truncation | None, codings: list[bytes], read: ContentType, limit: int
) -> _Removed:
    """Undo the codings, last applied first."""
    if len(codings) > MAX_CODING_LAYERS:
        return _Removed(kept, cut, _declare(codings, is_applied=True), True)
    content = kept
    truncation = cut
    false: list[bytes] = []
    order = order_codings(codings, kept)
    for place, name in enumerate(order):
        coding = CODINGS.get(name)
        if coding is None:
            return _Removed(content, truncation, _declare(order[place:][::-1], is_applied=True), True)
        decoded = None if not coding.may_begin(content) else coding.decode(content, limit + 1)
        if decoded is None or _is_plain(content, decoded, coding, read, is_cut=truncation is not None):
            false.append(name)
            continue
        if decoded.failed or not (decoded.whole or decoded.content or truncation):
            partial = decoded.content[:limit]
            return _Removed(partial or kept, Truncation.DECODE_ERROR, None, not partial)
        content = decoded.content
        if len(content) > limit:
            content = content[:limit]
            truncation = Truncation.BOMB if len(kept) * BOMB_RATIO < limit else Truncation.LIMIT
        elif not decoded.whole and truncation is None:
            truncation = Truncation.DECODE_ERROR
    if not false:
        return _Removed(content, truncation, None, content is kept)
    if read.is_text and not _reads_as_text(content, read.charset or UTF_8, is_cut=truncation is not None):
        return _Removed(kept, Truncation.DECODE_ERROR, None, True)
    return _Removed(content, truncation, _declare(false[::-1], is_applied=False))


def _is_plain(content: bytes, decoded: Decoded, coding: Coding, read: ContentType, *, is_cut: bool) -> bool:
    """Whether content that has a coding declared is plain text instead.

    A coding without marks at its beginning takes some of any content for its own before it breaks.
    """
    ended_well = decoded.whole and not decoded.leftover and (decoded.content or len(content) < 2)
    if ended_well or not coding.may_begin(b"{}{}") or (is_cut and len(content) < MIN_PLAIN_CUT):
        return False
    return _reads_as_text(content, read.charset or UTF_8, is_cut=is_cut)


def _declare(codings: list[bytes], *, is_applied: bool) -> DeclaredCoding:
    return DeclaredCoding(b", ".join(codings).decode("latin-1")[:MAX_CODING_NAME], is_applied)
