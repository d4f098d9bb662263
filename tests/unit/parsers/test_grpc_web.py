from __future__ import annotations

from base64 import b64encode

import pytest

from parsers.grpc.web import Base64Decoder, parse_trailers


def decode(*chunks: bytes) -> bytes | None:
    decoder = Base64Decoder()
    out = b""
    for chunk in chunks:
        decoded = decoder.decode(chunk)
        if decoded is None:
            assert decoder.held_bytes == 0
            return None
        out += decoded
    return out


@pytest.mark.parametrize("size", range(1, 9))
def test_text_may_be_cut_anywhere(size: int) -> None:
    content = bytes(range(200))
    text = b64encode(content)
    assert decode(*(text[at : at + size] for at in range(0, len(text), size))) == content


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_padded_runs_follow_each_other(size: int) -> None:
    runs = [b"a", b"", b"bc", b"def", b"g", b"hi"]
    text = b"".join(b64encode(run) for run in runs)
    assert decode(*(text[at : at + size] for at in range(0, len(text), size))) == b"abcdefghi"


def test_an_unfinished_group_is_held() -> None:
    decoder = Base64Decoder()
    assert decoder.decode(b"YWJjZG") == b"abc"
    assert decoder.held_bytes == 2
    assert decoder.decode(b"VmZw==") == b"defg"
    assert decoder.held_bytes == 0


@pytest.mark.parametrize("text", [b"YW=j", b"====", b"Y===", b"YWJj=YWJ", b"YW!j", b"YW\njYWJj", b"YW-_"])
def test_what_is_no_base64_is_none(text: bytes) -> None:
    assert decode(text) is None


def test_trailers_are_field_lines() -> None:
    block = b"grpc-status: 5\r\nGrpc-Message:no such\t\r\nx-empty:\r\nX-Colon: a:b\n"
    assert parse_trailers(block, 128) == [
        (b"grpc-status", b"5"),
        (b"Grpc-Message", b"no such"),
        (b"x-empty", b""),
        (b"X-Colon", b"a:b"),
    ]


def test_lines_that_are_no_fields_are_left_out() -> None:
    assert parse_trailers(b"\r\nno colon\r\n: 1\r\na b: 2\r\nok: 3", 128) == [(b"ok", b"3")]


def test_trailers_are_bounded() -> None:
    assert len(parse_trailers(b"a: 1\r\n" * 1000, 7)) == 7
