from __future__ import annotations

import gzip
import os
import random
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from parsers.content import MAX_CODING_NAME, build_body, cut_on_boundary
from parsers.http_exchange import Body, DeclaredCoding, Truncation

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
        len(coded), coded, None, None, len(coded), DeclaredCoding("gzip, gzip, gzip", is_applied=True)
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
@pytest.mark.parametrize("sent", [b"not coded at all, certainly", b'{"a": 1}', b"ok", "größe".encode(), TEXT])
def test_text_that_was_never_coded_is_whole_text_and_says_so(coding: bytes, sent: bytes) -> None:
    declared = DeclaredCoding(coding.decode(), is_applied=False)
    assert decode(sent, coding) == Body(len(sent), sent, "utf-8", None, len(sent), declared)


@every_coding
def test_bytes_that_are_neither_coded_nor_text_are_kept_as_they_are(coding: bytes) -> None:
    wrong = b"\x89PNG\x00\xff\x00\xff"
    assert decode(wrong, coding) == Body(8, wrong, None, Truncation.DECODE_ERROR, 8)


@every_coding
def test_the_beginning_of_text_that_was_never_coded_is_text(coding: bytes) -> None:
    body = decode(TEXT[:500], coding, cut=Truncation.GAP)
    assert (body.content, body.charset, body.truncation) == (TEXT[:500], "utf-8", Truncation.GAP)
    assert body.coding == DeclaredCoding(coding.decode(), is_applied=False)


@every_coding
@pytest.mark.parametrize("length", [1, 2, 3, 5, 10, 20])
def test_the_first_bytes_of_a_coding_are_never_taken_for_text(coding: bytes, length: int) -> None:
    body = decode(ENCODERS[coding](TEXT)[:length], coding, cut=Truncation.GAP)
    assert body.coding is None
    assert body.truncation in (Truncation.GAP, Truncation.DECODE_ERROR)


def test_an_image_that_was_never_coded_is_whole() -> None:
    image = b"\x89PNG\r\n\x1a\n\x00\x01"
    declared = DeclaredCoding("gzip", is_applied=False)
    assert build_body(image, 10, None, [b"gzip"], b"image/png", LIMIT) == Body(
        10, image, None, None, 10, declared
    )


def test_what_one_of_two_declared_codings_was_never_applied_to_is_decoded_by_the_other() -> None:
    for codings in ((b"br", b"gzip"), (b"gzip", b"zstd"), (b"aws-chunked", b"gzip")):
        body = decode(gzip.compress(TEXT), *codings)
        (false,) = {*codings} - {b"gzip"}
        assert (body.content, body.charset, body.truncation) == (TEXT, "utf-8", None)
        assert body.coding == DeclaredCoding(false.decode(), is_applied=False)


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


@pytest.mark.parametrize(
    "coding",
    ["compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "aes128gcm", "snappy", "foo", "*"],
)
@pytest.mark.parametrize("cut", [None, Truncation.LIMIT, Truncation.GAP])
def test_an_unknown_coding_is_named_and_the_bytes_are_kept(coding: str, cut: Truncation | None) -> None:
    declared = DeclaredCoding(coding, is_applied=True)
    assert decode(b'{"a":1}', coding.encode(), cut=cut) == Body(7, b'{"a":1}', None, cut, 7, declared)


def test_codings_come_off_up_to_an_unknown_one() -> None:
    coded = gzip.compress(NOISE)
    declared = DeclaredCoding("dcb", is_applied=True)
    assert decode(coded, b"dcb", b"gzip") == Body(len(coded), NOISE, None, None, len(coded), declared)
    declared = DeclaredCoding("gzip, dcb", is_applied=True)
    assert decode(NOISE, b"gzip", b"dcb") == Body(3000, NOISE, None, None, 3000, declared)


def test_a_long_name_of_a_coding_is_cut() -> None:
    body = decode(b"abc", b"x" * 1_000)
    assert body.coding == DeclaredCoding("x" * MAX_CODING_NAME, is_applied=True)


@pytest.mark.parametrize(
    ("content_type", "content", "charset"),
    [
        (None, b'{"a": 1}', "utf-8"),
        (b"", b' \r\n["\xc3\xa9"]', "utf-8"),
        (b"json", b'"\xef\xbb\xbf"', "utf-8"),
        (None, b"\xef\xbb\xbf{}", "utf-8"),
        (None, b"password=hunter2", None),
        (None, b"OK", None),
        (None, b'{"a": "\xff"}', None),
        (None, b'{"a": "\x00"}', None),
        (None, b'{"a": "\xc3', None),
        (b"text/html, application/json", b"[1]", "utf-8"),
        (b"application/octet-stream", b'{"a": 1}', None),
        (b"application/octet-stream; charset=utf-8", b"plain", "utf-8"),
        (b"image/png; charset=utf-8", b"\x89PNG\r\n\x1a\n", None),
        (b"application/pdf; charset=latin-1", b"%PDF-1.7\n\x00\xe2", None),
        (b"multipart/form-data; boundary=x", b"--x\r\n\r\n\xc3\xa9\r\n--x--", "utf-8"),
        (b"multipart/form-data; boundary=x", b"--x\r\n\r\n\xff\xd8\r\n--x--", None),
        (b"message/rfc822", b"Subject: a\r\n\r\nb", "utf-8"),
        (b"application/http", b"GET / HTTP/1.1\r\n\r\n", "utf-8"),
        (b"application/http", b"HTTP/1.1 200 OK\r\n\r\n\x1f\x8b\x08", None),
        (b"text/plain", b"\xff", "utf-8"),
        (b"application/x-amz-cbor-1.1", b'{"a": 1}', None),
    ],
)
def test_content_is_text_by_its_type_or_by_proof(
    content_type: bytes | None, content: bytes, charset: str | None
) -> None:
    body = build_body(content, len(content), None, [], content_type, LIMIT)
    assert (body.content, body.charset, body.truncation) == (content, charset, None)
    if charset is not None and content_type != b"text/plain":
        assert content.decode(charset).encode(charset) == content


def test_proven_text_that_was_cut_ends_on_a_character_boundary() -> None:
    cut = '{"name": "größe"}'.encode()[:13]
    body = build_body(cut, 20, Truncation.LIMIT, [], None, LIMIT)
    assert (body.content, body.charset, body.captured_size) == (cut[:-1], "utf-8", 12)


@given(
    st.binary(max_size=60),
    st.sampled_from([None, b"multipart/x", b"application/octet-stream;charset=utf-16"]),
)
def test_what_is_text_by_proof_loses_no_byte(content: bytes, content_type: bytes | None) -> None:
    body = build_body(content, len(content), None, [], content_type, LIMIT)
    assert body.content == content
    if body.charset is not None:
        content.decode(body.charset)


@given(
    st.binary(max_size=80) | st.sampled_from([TEXT, b"5\r\nhello\r\n0\r\n\r\n", gzip.compress(TEXT)]),
    st.lists(st.sampled_from([*ENCODERS, b"aws-chunked", b"dcb", b"x"]), min_size=1, max_size=4),
    st.sampled_from([None, *Truncation]),
    st.sampled_from([None, b"text/plain", b"text/plain; charset=utf-16", b"image/png", b"multipart/x"]),
    st.integers(1, 100),
)
def test_no_bytes_are_a_bug_and_none_are_made_up(
    coded: bytes, codings: list[bytes], cut: Truncation | None, content_type: bytes | None, limit: int
) -> None:
    body = build_body(coded[:limit], len(coded), cut, codings, content_type, limit)
    assert len(body.content) <= limit
    if body.coding is not None and body.truncation is None and not body.coding.is_applied:
        assert body.coding.names
    if body.charset is None and body.coding is None and body.truncation is None and coded:
        assert content_type is None or b"text" not in content_type


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


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_content_without_the_mark_of_its_byte_order_is_kept(charset: str) -> None:
    assert cut_on_boundary(b"\x10P\x10P\x10P", charset) == b"\x10P\x10P\x10P"
    assert cut_on_boundary(b"", "utf-8") == b""
