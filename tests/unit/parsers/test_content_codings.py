from __future__ import annotations

import gzip
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.content import build_body
from parsers.content_codings import MAX_AWS_CHUNK_LINE, NO_CODINGS, split_content_codings
from parsers.http_exchange import Body, DeclaredCoding, Truncation

CONTENT = b'{"name": "kettle", "note": "a text of some length"}'
SIGNED = b";chunk-signature=" + b"ad" * 32
TRAILERS = [
    b"\r\n",
    b"",
    b"x-amz-checksum-crc32:AAAA==\r\n\r\n",
    b"x-amz-checksum-crc32c:wdBDMA==\r\nx-amz-trailer-signature:" + b"63" * 32 + b"\r\n\r\n",
    b"x-amz-checksum-sha256:abc=\n\r\nx-amz-trailer-signature:63\n\r\n\r\n",
]


def chunked(content: bytes, *places: int, extension: bytes = b"", end: bytes = b"\r\n") -> bytes:
    """Return content in aws-chunked, divided at these places."""
    sizes = [content[start:stop] for start, stop in pairwise((0, *places, len(content)))]
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in sizes if part]
    return b"".join(chunks) + b"0%b\r\n%b" % (extension, end)


def decode(coded: bytes, encoding: bytes, cut: Truncation | None = None) -> Body:
    return build_body(coded, len(coded), cut, split_content_codings(encoding), b"application/json", 10_000)


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (b"gzip", [b"gzip"]),
        (b"GZip , br", [b"gzip", b"br"]),
        (b",, gzip,\t,", [b"gzip"]),
        (b'"gzip"', [b"gzip"]),
        (b"gzip;q=1.0", [b"gzip"]),
        (b"identity, gzip", [b"gzip"]),
        (b"application/json", []),
        (b"Foo-Bar", [b"foo-bar"]),
        (b"", []),
        *[(name.upper(), []) for name in NO_CODINGS],
    ],
)
def test_codings_are_read_as_senders_write_them(value: bytes, codings: list[bytes]) -> None:
    assert split_content_codings(value) == codings


@pytest.mark.parametrize("name", NO_CODINGS)
def test_a_name_that_stands_for_no_coding_leaves_text_text(name: bytes) -> None:
    assert decode(CONTENT, name) == Body(len(CONTENT), CONTENT, "utf-8", None, len(CONTENT))


@pytest.mark.parametrize("extension", [b"", SIGNED, b";chunk-signature=" + b"0" * 144])
@pytest.mark.parametrize("end", TRAILERS)
@pytest.mark.parametrize("places", [(), (10,), (1, 2, 3), (7, 30)])
def test_aws_chunks_are_joined(extension: bytes, end: bytes, places: tuple[int, ...]) -> None:
    coded = chunked(CONTENT, *places, extension=extension, end=end)
    assert decode(coded, b"aws-chunked") == Body(len(coded), CONTENT, "utf-8", None, len(coded))


@pytest.mark.parametrize("encoding", [b"aws-chunked,gzip", b"gzip, aws-chunked", b"AWS-Chunked, GZIP"])
def test_aws_chunks_are_outside_in_either_order(encoding: bytes) -> None:
    coded = chunked(gzip.compress(CONTENT), 20, 40, extension=SIGNED, end=TRAILERS[3])
    assert decode(coded, encoding) == Body(len(coded), CONTENT, "utf-8", None, len(coded))


def test_aws_chunks_within_gzip_come_off_after_it() -> None:
    assert decode(gzip.compress(chunked(CONTENT, 5)), b"aws-chunked, gzip").content == CONTENT


def test_an_empty_upload_is_empty() -> None:
    assert decode(chunked(b"", extension=SIGNED), b"aws-chunked").content == b""


def test_an_object_that_only_declares_aws_chunked_is_whole() -> None:
    declared = DeclaredCoding("aws-chunked", is_applied=False)
    for sent in (CONTENT, b"zz\r\nhello", b"5 apples"):
        assert decode(sent, b"aws-chunked") == Body(len(sent), sent, "utf-8", None, len(sent), declared)


@pytest.mark.parametrize(
    "wrong",
    [
        chunked(CONTENT, 10).replace(b"\r\n0\r\n", b"\r\nx\r\n"),
        chunked(CONTENT, 10).replace(b"a\r\n", b"b\r\n", 1),
        b"10\r\n20\r\n30\r\n40\r\n50\r\n60\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        chunked(CONTENT) + b"\x00more",
        chunked(CONTENT, end=b"hello world\r\n"),
        b"5\r\nhello\r\n5" + b";" + b"x" * MAX_AWS_CHUNK_LINE + b"\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_chunks_that_are_wrong_stay_as_they_are_and_say_so(wrong: bytes) -> None:
    assert decode(wrong, b"aws-chunked") == Body(len(wrong), wrong, None, Truncation.DECODE_ERROR, len(wrong))


@pytest.mark.parametrize("length", range(1, 200, 3))
def test_chunks_that_are_cut_give_what_is_there(length: int) -> None:
    coded = chunked(CONTENT, 10, 30, extension=SIGNED, end=TRAILERS[3])[:length]
    body = decode(coded, b"aws-chunked", Truncation.LIMIT)
    assert CONTENT.startswith(body.content) or (body.coding is not None and not body.coding.is_applied)
    assert body.truncation is Truncation.LIMIT


def test_chunks_without_a_last_one_are_an_error_although_what_there_is_is_kept() -> None:
    body = decode(chunked(CONTENT, 10)[:20], b"aws-chunked")
    assert (body.content, body.truncation) == (CONTENT[:11], Truncation.DECODE_ERROR)


@given(
    st.binary(min_size=1, max_size=200),
    st.lists(st.integers(1, 199), max_size=5),
    st.sampled_from([b"", SIGNED]),
)
def test_any_division_gives_the_same(content: bytes, places: list[int], extension: bytes) -> None:
    inside = sorted({place for place in places if place < len(content)})
    coded = chunked(content, *inside, extension=extension)
    assert build_body(coded, len(coded), None, [b"aws-chunked"], b"image/png", 10_000).content == content
