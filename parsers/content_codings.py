"""Content codings: which ones a message declares, and how they are undone.

Owns the names that senders use, the order in which codings come off, and the decoders. It must not know about
framing, charsets or why a body is short.

Contract: a decoder's output is bounded, and its time is linear in what goes in and comes out. Wrong bytes are
an outcome, never an exception.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

import brotli
import zstandard

MAX_CODING_LAYERS: Final = 2
"""Codings undone on one body. A server applies one; more than two is an attack on any decoder."""
MAX_ZSTD_WINDOW: Final = 8 * 1024 * 1024
"""RFC 9659 §3: a decoder need not support a larger window, so this bounds its memory."""
MAX_AWS_CHUNK_LINE: Final = 1_024
"""Bytes of a size line of aws-chunked. A signature makes it 86 bytes long, or 164 with the longer kind."""

_SALVAGE_STEP: Final = 512
"""Coded bytes per step when a coding broke: the output up to the broken step is kept."""

NO_CODINGS: Final[dict[bytes, str]] = {
    b"identity": "no coding, by definition (RFC 9110 §12.5.3)",
    b"none": "means the same, in no specification",
    b"null": "a value that was not there, as text",
    b"undefined": "likewise",
    b"chunked": "a transfer coding, in the field of content codings; framing has undone it",
    b"7bit": "a transfer encoding of mail that changes nothing (RFC 2045 §6.2)",
    b"8bit": "likewise",
    b"binary": "likewise",
    b"utf-8": "a charset; senders confuse Content-Encoding with it",
    b"utf8": "likewise",
    b"utf-16": "likewise",
    b"ascii": "likewise",
    b"us-ascii": "likewise",
    b"iso-8859-1": "likewise",
    b"latin1": "likewise",
    b"windows-1252": "likewise",
    b"amz-1.0": "sent by AWS clients of JSON services; changes nothing",
}
"""Names that stand in Content-Encoding without a byte being changed, and why each is here. A media type in
that field (`application/json`) changes nothing either; its slash gives it away."""

_AWS_CHUNKED: Final = b"aws-chunked"
_AWS_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[!-~]*)?\r\n")
# What follows the last chunk: checksums and their signature, by some clients with a line feed of their own.
# The last line may be cut.
_AWS_TRAILERS = re.compile(rb"(?:[!-9;-~]+:[\t -~]*\n?\r\n)*(?:[!-9;-~]+(?::[\t -~]*)?)?[\r\n]*")


class Decoded(NamedTuple):
    """What a decoder made of coded bytes."""

    content: bytes
    """At most one byte more than the limit: that byte says that there was more."""
    whole: bool
    """The coding says that it ended."""
    failed: bool = False
    leftover: bool = False
    """Bytes follow its end that do not belong to it."""


class Coding(NamedTuple):
    """A coding that can be undone."""

    decode: Callable[[bytes, int], Decoded]
    """Takes the coded bytes and the limit of the output, in bytes."""
    may_begin: Callable[[bytes], bool]
    """Whether coded bytes may begin so; a beginning that is too short to say may."""


def split_content_codings(value: bytes) -> list[bytes]:
    """Return the codings of a Content-Encoding field, lower-cased, in the order in which they were applied.

    Quotes and parameters, as in Accept-Encoding, are left out, and so are names that stand for no coding.
    """
    names = [member.partition(b";")[0].strip(b" \t\"'").lower() for member in value.split(b",")]
    return [name for name in names if name and name not in NO_CODINGS and b"/" not in name]


def order_codings(codings: list[bytes], coded: bytes) -> list[bytes]:
    """Return the codings in the order in which they come off.

    That is last applied first (RFC 9110 §8.4), but that aws-chunked is outermost wherever it stands: AWS
    documents `aws-chunked,gzip` for a gzip file that is uploaded in chunks, and clients write either order.
    """
    order = codings[::-1]
    if _AWS_CHUNKED in order[1:] and _may_begin_aws_chunked(coded):
        order.remove(_AWS_CHUNKED)
        order.insert(0, _AWS_CHUNKED)
    return order


def _decode_gzip(data: bytes, limit: int) -> Decoded:
    return _inflate(data, limit, zlib.MAX_WBITS | 16)


def _decode_deflate(data: bytes, limit: int) -> Decoded:
    # RFC 9110 §8.4.1.2: the zlib format, but some senders leave out its header; RFC 1950 §2.2 separates them.
    has_header = len(data) < 2 or (data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0)
    return _inflate(data, limit, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _inflate(data: bytes, limit: int, window_bits: int) -> Decoded:
    content = b""
    rest = data
    while True:
        decoder = zlib.decompressobj(window_bits)
        room = limit - len(content)
        try:
            content += decoder.decompress(rest, room)
        except zlib.error:
            again = zlib.decompressobj(window_bits)
            return Decoded(content + _salvage(again.decompress, rest, room), False, True)
        rest = decoder.unused_data
        # RFC 1952 §2.2: a gzip file is a series of members; anything else after the end is padding.
        if not decoder.eof or not rest.startswith(b"\x1f\x8b") or len(content) >= limit:
            return Decoded(content, decoder.eof, leftover=bool(rest))


def _decode_brotli(data: bytes, limit: int) -> Decoded:
    decoder = brotli.Decompressor()
    try:
        # The bound is where the output stops growing, in blocks; what is beyond it is cut off here.
        content = decoder.process(data, output_buffer_limit=limit)
    except brotli.error:
        again = brotli.Decompressor()
        kept = _salvage(lambda step, room: again.process(step, output_buffer_limit=room), data, limit)
        return Decoded(kept, False, True)
    return Decoded(content[:limit], decoder.is_finished())


def _decode_zstd(data: bytes, limit: int) -> Decoded:
    try:
        content = _open_zstd(data).read(limit)
    except zstandard.ZstdError:
        reader = _open_zstd(data)
        return Decoded(
            _salvage(lambda _, room: reader.read(min(room, _SALVAGE_STEP)), data, limit), False, True
        )
    if len(content) == limit:
        return Decoded(content, False)
    # To the bounded reader a cut frame is like a whole one; the output being short, no bound is needed here.
    rest = data
    while rest:
        decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()
        decoder.decompress(rest)
        if not decoder.eof:
            return Decoded(content, False)
        rest = decoder.unused_data
    return Decoded(content, True)


def _open_zstd(data: bytes) -> zstandard.ZstdDecompressionReader:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    return decompressor.stream_reader(data, read_across_frames=True)


def _decode_aws_chunked(data: bytes, limit: int) -> Decoded:
    """Undo the chunks of an upload to S3 (Signature Version 4, "Transferring payload in multiple chunks").

    Chunks are signed or not, and trailers may follow the last one. Wrong chunks leave nothing decoded: what
    was taken for a size may have been content.
    """
    parts: list[bytes] = []
    size = place = 0
    while size < limit:
        line = _AWS_CHUNK_LINE.match(data, place, place + MAX_AWS_CHUNK_LINE)
        if line is None:
            is_cut = len(data) - place < MAX_AWS_CHUNK_LINE and b"\n" not in data[place:]
            return Decoded(b"".join(parts), False) if is_cut else Decoded(b"", False, True)
        length, place = int(line[1], 16), line.end()
        if not length:
            ended_well = _AWS_TRAILERS.fullmatch(data, place) is not None
            return Decoded(b"".join(parts), True) if ended_well else Decoded(b"", False, True)
        part = data[place : place + length]
        parts.append(part)
        size += len(part)
        place += length
        end = data[place : place + 2]
        if not b"\r\n".startswith(end):
            return Decoded(b"", False, True)
        if len(end) < 2:
            return Decoded(b"".join(parts)[:limit], False)
        place += 2
    return Decoded(b"".join(parts)[:limit], False)


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


def _may_begin_gzip(data: bytes) -> bool:
    # RFC 1952 §2.3.1.
    return b"\x1f\x8b".startswith(data[:2])


def _may_begin_zstd(data: bytes) -> bool:
    # RFC 8878 §3.1.1 and §3.1.2: a frame, or one to be skipped.
    if b"\x28\xb5\x2f\xfd".startswith(data[:4]):
        return True
    return 0x50 <= data[0] <= 0x5F and b"\x2a\x4d\x18".startswith(data[1:4])


def _may_begin_aws_chunked(data: bytes) -> bool:
    line, line_end, _ = data[:MAX_AWS_CHUNK_LINE].partition(b"\n")
    # Too short to end the line.
    complete = line + line_end if line_end else line.removesuffix(b"\r") + b"\r\n"
    return _AWS_CHUNK_LINE.fullmatch(complete) is not None


def _may_begin_anyhow(_: bytes) -> bool:
    return True


_GZIP: Final = Coding(_decode_gzip, _may_begin_gzip)
_DEFLATE: Final = Coding(_decode_deflate, _may_begin_anyhow)
CODINGS: Final[dict[bytes, Coding]] = {
    b"gzip": _GZIP,
    b"x-gzip": _GZIP,
    b"deflate": _DEFLATE,
    b"x-deflate": _DEFLATE,
    b"zlib": _DEFLATE,
    b"br": Coding(_decode_brotli, _may_begin_anyhow),
    b"zstd": Coding(_decode_zstd, _may_begin_zstd),
    _AWS_CHUNKED: Coding(_decode_aws_chunked, _may_begin_aws_chunked),
}
"""What can be undone, by its name in lower case. `compress` can not: its decoder is in no maintained library.
`dcb` and `dcz` need a dictionary that passed another time (RFC 9842)."""
