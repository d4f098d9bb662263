from __future__ import annotations

import gzip
import os
import random
import zlib

import brotli
import pytest
import zstandard

from parsers.content import build_body, cut_on_boundary, find_charset
from parsers.exchange import Body, Truncation

LIMIT = 10_000
TEXT = b"".join(b"line %d of a text that compresses well\n" % number for number in range(100))
NOISE = random.Random(1).randbytes(3000)


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


ENCODERS = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": brotli.compress,
    b"zstd": zstandard.compress,
}
every_coding = pytest.mark.parametrize("coding", list(ENCODERS))


def decode(coded: bytes, *codings: bytes, cut: Truncation | None = None, limit: int = LIMIT) -> Body:
    return build_body(coded, len(coded), cut, list(codings), b"text/plain", limit)


@every_coding
def test_a_coding_is_removed(coding: bytes) -> None:
    coded = ENCODERS[coding](TEXT)
    assert decode(coded, coding) == Body(len(coded), TEXT, "utf-8", None, len(coded))


def test_deflate_without_its_header_is_removed() -> None:
    assert decode(raw_deflate(TEXT), b"deflate").content == TEXT


def test_two_layers_are_removed() -> None:
    assert decode(gzip.compress(brotli.compress(TEXT)), b"br", b"gzip").content == TEXT


def test_three_layers_are_not() -> None:
    coded = gzip.compress(TEXT)
    assert decode(coded, b"gzip", b"gzip", b"gzip") == Body(
        len(coded), coded, None, Truncation.DECODE_ERROR, len(coded)
    )


def test_gzip_members_are_joined_and_padding_is_ignored() -> None:
    assert decode(gzip.compress(b"one ") + gzip.compress(b"two") + b"\0\0", b"gzip").content == b"one two"


def test_zstd_frames_are_joined() -> None:
    assert decode(zstandard.compress(b"one ") + zstandard.compress(b"two"), b"zstd").content == b"one two"


@every_coding
def test_a_cut_body_decodes_as_far_as_it_goes(coding: bytes) -> None:
    coded = ENCODERS[coding](NOISE * 100)[:150_000]
    body = decode(coded, coding, cut=Truncation.GAP, limit=1_000_000)
    assert body.truncation is Truncation.GAP
    assert len(body.content) > 100_000
    assert (NOISE * 100).startswith(body.content) or coding == b"zstd"


@every_coding
def test_a_coding_that_does_not_end_although_the_body_does_is_an_error(coding: bytes) -> None:
    body = decode(ENCODERS[coding](NOISE)[:-4], coding)
    assert body.truncation is Truncation.DECODE_ERROR
    assert NOISE.startswith(body.content) or body.charset is None


@every_coding
def test_bytes_that_are_not_in_the_coding_are_kept_as_they_are(coding: bytes) -> None:
    assert decode(b"not coded at all, certainly", coding) == Body(
        27, b"not coded at all, certainly", None, Truncation.DECODE_ERROR, 27
    )


@every_coding
def test_what_decoded_before_the_error_is_kept(coding: bytes) -> None:
    random_lines = b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(9_000))
    encode = zstandard.ZstdCompressor(write_checksum=True).compress if coding == b"zstd" else ENCODERS[coding]
    coded = bytearray(encode(random_lines))
    place = len(coded) * 3 // 4
    coded[place : place + 40] = b"\xff" * 40
    body = decode(bytes(coded), coding, limit=1_000_000)
    assert body.truncation is Truncation.DECODE_ERROR
    assert body.content
    assert random_lines.startswith(body.content[:100_000])


@every_coding
def test_output_is_bounded_and_says_so(coding: bytes) -> None:
    coded = ENCODERS[coding](NOISE.hex().encode() * 5)
    body = decode(coded, coding)
    assert (len(body.content), body.truncation) == (LIMIT, Truncation.LIMIT)


@every_coding
def test_output_of_exactly_the_bound_is_whole(coding: bytes) -> None:
    body = decode(ENCODERS[coding](b"x" * LIMIT), coding)
    assert (len(body.content), body.truncation) == (LIMIT, None)


@pytest.mark.parametrize("coding", [b"br", b"zstd"])
def test_a_bomb_is_named(coding: bytes) -> None:
    body = decode(ENCODERS[coding](b"\0" * 10_000_000)[:400], coding, cut=Truncation.LIMIT, limit=131_072)
    assert (len(body.content), body.truncation) == (131_072, Truncation.BOMB)


def test_a_bomb_within_a_layer_is_named() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 100_000_000))
    assert len(bomb) < 131_072 // 250
    body = decode(bomb, b"gzip", b"gzip", limit=131_072)
    assert (len(body.content), body.truncation) == (131_072, Truncation.BOMB)


def test_an_unknown_coding_keeps_the_bytes() -> None:
    assert decode(b"abc", b"compress") == Body(3, b"abc", None, Truncation.DECODE_ERROR, 3)


def test_an_empty_body_needs_no_decoding() -> None:
    assert decode(b"", b"gzip") == Body(0, b"", None, None, 0)


def test_uncoded_binary_content_is_kept_whole() -> None:
    assert build_body(b"\xff\xe4", 9, Truncation.GAP, [], b"image/png", 10) == Body(
        9, b"\xff\xe4", None, Truncation.GAP, 2
    )
    assert build_body(b"\xff\xe4", 2, None, [], None, 10) == Body(2, b"\xff\xe4", None, None, 2)


def test_cut_text_ends_on_a_character_boundary() -> None:
    body = build_body("aä".encode()[:2], 3, Truncation.LIMIT, [], b"text/plain", 10)
    assert (body.content, body.captured_size) == (b"a", 1)


def test_whole_text_is_not_cut_even_if_it_is_wrong() -> None:
    assert build_body(b"a\xc3", 2, None, [], b"text/plain", 10).content == b"a\xc3"


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (b"text/html", "utf-8"),
        (b"TEXT/HTML; Charset=ISO-8859-1", "iso8859-1"),
        (b'text/html; charset="utf-16"', "utf-16"),
        (b"application/json", "utf-8"),
        (b"application/problem+json ; a=b", "utf-8"),
        (b"application/soap+xml", "utf-8"),
        (b"application/yaml", "utf-8"),
        (b"application/x-www-form-urlencoded", "utf-8"),
        (b"application/octet-stream; charset=utf-8", "utf-8"),
        (b"application/octet-stream", None),
        (b"image/png", None),
        (b"multipart/form-data; boundary=x", None),
        (b"application/grpc", None),
        (b"", None),
        (b"text/plain; charset=klingon", "latin-1"),
        (b"text/plain; charset=base64", "latin-1"),
        (b"text/plain; charset=undefined", "latin-1"),
        (b"text/plain; charset=idna", "latin-1"),
        (b"text/plain; charset=unicode_escape", "latin-1"),
    ],
)
def test_charsets(content_type: bytes, charset: str | None) -> None:
    assert find_charset(content_type) == charset


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-16", "utf-16-le", "shift_jis", "gb18030", "euc_jp", "latin-1"]
)
def test_cutting_anywhere_leaves_whole_characters(charset: str) -> None:
    text = (
        "aé漢字"
        if charset in ("utf-8", "utf-16", "utf-16-le", "gb18030")
        else "aéb"
        if charset == "latin-1"
        else "a漢字"
    )
    whole = text.encode(charset)
    for length in range(len(whole) + 1):
        kept = cut_on_boundary(whole[:length], charset)
        assert text.startswith(kept.decode(charset))
        assert length - len(kept) < 4


def test_bytes_that_are_no_text_are_not_eaten() -> None:
    assert cut_on_boundary(b"\x80\x80\x80\x80\x80", "utf-8") == b"\x80\x80\x80\x80\x80"
    assert cut_on_boundary("😀".encode()[:3], "utf-8") == b""
    assert cut_on_boundary("a😀".encode(), "utf-8") == "a😀".encode()
    assert cut_on_boundary(b"", "utf-8") == b""
