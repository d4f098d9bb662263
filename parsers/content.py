"""The content of a body: content coding removed, charset told, cut to the bound on a character boundary.

Owns what is kept of a body and why it is short. It must not know about framing: it gets the bytes that were
kept, the true size, and why bytes are missing.

Contract: never more than `limit` bytes come out, whatever the coding claims. A body that was cut decodes as
far as it goes and keeps the reason of the cut; only bytes that are wrong are a `DECODE_ERROR`.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import brotli
import zstandard

from parsers.exchange import Body, Truncation

MAX_CODING_LAYERS = 2
"""Codings undone on one body. A server applies one; more than two is an attack on whoever decodes."""
BOMB_RATIO = 250
"""A body that fills its bound with fewer than one coded byte per so many is a bomb; text stays below 100."""
MAX_ZSTD_WINDOW = 8 * 1024 * 1024
"""RFC 9659 §3: a decoder need not support a larger window, so this bounds its memory."""

_SALVAGE_STEP = 512
"""Coded bytes per step when a coding broke: the output up to the broken step is kept."""
_CHARSET = re.compile(rb";[ \t]*charset=[ \t]*\"?([A-Za-z0-9_.:+-]{1,40})", re.IGNORECASE)
_NOT_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"))
"""Python codecs that decode to text but are no charset; some take quadratic time."""


class _Decoded(NamedTuple):
    content: bytes
    """At most one byte more than the limit: that byte tells that there was more."""
    whole: bool
    """The coding says that it ended."""
    failed: bool = False


def build_body(
    kept: bytes,
    size: int | None,
    cut: Truncation | None,
    codings: list[bytes],
    content_type: bytes | None,
    limit: int,
) -> Body:
    """Build the record of a body of which `kept` bytes are known, from its beginning without a hole.

    `size` is its true size on the wire, in bytes; `cut` says why `kept` is shorter. `codings` are
    lower-cased content codings in the order they were applied.
    """
    if not kept:
        return Body(size, b"", None, cut)
    content = kept
    truncation = cut
    if codings:
        content, truncation = _remove_codings(kept, cut, codings, limit)
        if content is kept:
            # Still coded, so the charset says nothing about these bytes.
            return Body(size, kept, None, truncation, len(kept))
    charset = find_charset(content_type) if content_type else None
    if charset is not None and truncation is not None:
        content = cut_on_boundary(content, charset)
    return Body(size, content, charset, truncation, len(kept) if codings else len(content))


@lru_cache(maxsize=256)
def find_charset(content_type: bytes) -> str | None:
    """Return the Python codec name of a textual media type, None for a binary one.

    Textual is what the HTTP semantic conventions list for body content: text/*, JSON, XML, YAML and their
    suffixes, form data, and whatever declares a charset. The default is UTF-8. A charset that Python does
    not know is read as Latin-1, which keeps every byte.
    """
    match = _CHARSET.search(content_type)
    if match is None:
        return "utf-8" if _is_textual(content_type) else None
    label = match[1].decode("ascii").lower()
    try:
        name = codecs.lookup(label).name
        # Raises LookupError for codecs between bytes and bytes, which are no charset either.
        b"x".decode(name, "replace")
    except (LookupError, UnicodeError):
        return "latin-1"
    return "latin-1" if name in _NOT_CHARSETS else name


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
    decoder.decode(content)
    pending = decoder.getstate()[0]
    return content[: len(content) - len(pending)] if pending else content


def _is_textual(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    kind, _, subtype = media_type.partition(b"/")
    return (
        kind == b"text"
        or subtype in (b"json", b"xml", b"yaml", b"x-www-form-urlencoded", b"graphql")
        or subtype.endswith((b"+json", b"+xml", b"+yaml"))
    )


def _remove_codings(
    kept: bytes, cut: Truncation | None, codings: list[bytes], limit: int
) -> tuple[bytes, Truncation | None]:
    """Undo the codings, last applied first; return `kept` itself when nothing could be undone."""
    if len(codings) > MAX_CODING_LAYERS:
        return kept, Truncation.DECODE_ERROR
    content = kept
    truncation = cut
    for coding in reversed(codings):
        decode = _DECODERS.get(coding)
        if decode is None:
            return kept, Truncation.DECODE_ERROR
        decoded = decode(content, limit + 1)
        if decoded.failed:
            return decoded.content[:limit] or kept, Truncation.DECODE_ERROR
        content = decoded.content
        if len(content) > limit:
            content = content[:limit]
            truncation = Truncation.BOMB if len(kept) * BOMB_RATIO < limit else Truncation.LIMIT
        elif not decoded.whole and truncation is None:
            truncation = Truncation.DECODE_ERROR
    return content, truncation


def _decode_gzip(data: bytes, limit: int) -> _Decoded:
    return _inflate(data, limit, zlib.MAX_WBITS | 16)


def _decode_deflate(data: bytes, limit: int) -> _Decoded:
    # RFC 9110 §8.4.1.2: the zlib format, but some senders leave out its header; RFC 1950 §2.2 tells them
    # apart.
    has_header = len(data) < 2 or (data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0)
    return _inflate(data, limit, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _inflate(data: bytes, limit: int, window_bits: int) -> _Decoded:
    content = b""
    rest = data
    while True:
        decoder = zlib.decompressobj(window_bits)
        room = limit - len(content)
        try:
            content += decoder.decompress(rest, room)
        except zlib.error:
            again = zlib.decompressobj(window_bits)
            return _Decoded(content + _salvage(again.decompress, rest, room), False, True)
        rest = decoder.unused_data
        # RFC 1952 §2.2: a gzip file is a series of members; anything else after the end is padding.
        if not decoder.eof or not rest.startswith(b"\x1f\x8b") or len(content) >= limit:
            return _Decoded(content, decoder.eof)


def _decode_brotli(data: bytes, limit: int) -> _Decoded:
    decoder = brotli.Decompressor()
    try:
        # The bound is where the output stops growing, in blocks; what is beyond it is cut off here.
        content = decoder.process(data, output_buffer_limit=limit)
    except brotli.error:
        again = brotli.Decompressor()
        kept = _salvage(lambda step, room: again.process(step, output_buffer_limit=room), data, limit)
        return _Decoded(kept, False, True)
    return _Decoded(content[:limit], decoder.is_finished())


def _decode_zstd(data: bytes, limit: int) -> _Decoded:
    try:
        content = _open_zstd(data).read(limit)
    except zstandard.ZstdError:
        reader = _open_zstd(data)
        return _Decoded(
            _salvage(lambda _, room: reader.read(min(room, _SALVAGE_STEP)), data, limit), False, True
        )
    if len(content) == limit:
        return _Decoded(content, False)
    # The bounded reader does not tell a cut frame from a whole one; the output being short, no bound is
    # needed here.
    rest = data
    while rest:
        decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()
        decoder.decompress(rest)
        if not decoder.eof:
            return _Decoded(content, False)
        rest = decoder.unused_data
    return _Decoded(content, True)


def _open_zstd(data: bytes) -> zstandard.ZstdDecompressionReader:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    return decompressor.stream_reader(data, read_across_frames=True)


def _salvage(decode: Callable[[bytes, int], bytes], data: bytes, limit: int) -> bytes:
    """Return the output up to the step in which the coding broke."""
    content = b""
    for start in range(0, len(data), _SALVAGE_STEP):
        try:
            content += decode(data[start : start + _SALVAGE_STEP], limit - len(content))
        except (zlib.error, brotli.error, zstandard.ZstdError):
            break
        if len(content) >= limit:
            break
    return content[:limit]


_DECODERS: dict[bytes, Callable[[bytes, int], _Decoded]] = {
    b"gzip": _decode_gzip,
    b"x-gzip": _decode_gzip,
    b"deflate": _decode_deflate,
    b"br": _decode_brotli,
    b"zstd": _decode_zstd,
}
