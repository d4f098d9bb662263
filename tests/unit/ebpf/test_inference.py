from __future__ import annotations

import pytest

from ebpf.http_prefixes import HTTP_PREFIXES
from ebpf.inference import MAX_FRAME_PAYLOAD, Inference, frame_bytes, infer, infer_frames, infer_settings

HEAD = b"\0\0\3\1\4\0\0\0\3"
PING = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)


def test_every_prefix_is_recognised_and_every_beginning_of_it_awaits_more() -> None:
    for prefix, meaning in HTTP_PREFIXES:
        assert infer(prefix + b"rest") is Inference[meaning.removeprefix("INFERENCE_")]
        for end in range(len(prefix)):
            assert infer(prefix[:end]) is Inference.NEED_MORE


@pytest.mark.parametrize(
    ("first", "meaning"),
    [
        (b"\r\nGET / HTTP/1.1", Inference.REQUEST),
        (b"\r\n" * 4 + b"GET / HTTP/1.1", Inference.REQUEST),
        (b"\r\n" * 5 + b"GET / HTTP/1.1", Inference.NO_MATCH),
        (b"\r\n", Inference.NEED_MORE),
        (b"\x16\x03\x01", Inference.TLS),
        (b"get /", Inference.POSSIBLE_REQUEST),
        (b"SSH-2.0-", Inference.POSSIBLE_REQUEST),
        (b"SSH-2.0-OpenSSH\r\n", Inference.NO_MATCH),
        (b"\0", Inference.NO_MATCH),
    ],
)
def test_first_bytes(first: bytes, meaning: Inference) -> None:
    assert infer(first) is meaning


@pytest.mark.parametrize(
    ("first", "meaning"),
    [
        (b"\0\0\x06\4\0\0\0\0\0\0\3", Inference.HTTP2_RESPONSE),
        (b"\0\0\0\4\0\0\0\0\0", Inference.HTTP2_RESPONSE),
        (b"\0\0", Inference.NEED_MORE),
        (b"\0\0\x06\4\0\0\0\0", Inference.NEED_MORE),
        (b"", Inference.NO_MATCH),
        (b"\0\0\x05\4\0\0\0\0\0", Inference.NO_MATCH),
        (b"\0\0\x42\4\0\0\0\0\0", Inference.NO_MATCH),
        (b"\0\0\x06\4\1\0\0\0\0", Inference.NO_MATCH),
        (b"\0\0\x06\4\0\0\0\0\1", Inference.NO_MATCH),
        (b"\1", Inference.NO_MATCH),
    ],
)
def test_a_server_that_speaks_first(first: bytes, meaning: Inference) -> None:
    assert infer_settings(first) is meaning


def frame(length: int, kind: int, flags: int, stream: int) -> bytes:
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("length", "kind", "flags", "stream"),
    [
        (5, 0, 0, 1),
        (0, 0, 1, 3),
        (5, 0, 9, 1),
        (9, 1, 0x2D, 1),
        (4, 3, 0, 1),
        (12, 4, 0, 0),
        (0, 4, 1, 0),
        (8, 6, 0, 0),
        (8, 6, 1, 0),
        (8, 7, 0, 0),
        (4, 8, 0, 0),
        (4, 8, 0, 5),
        (MAX_FRAME_PAYLOAD, 0, 0, 1),
    ],
)
def test_legal_frames(length: int, kind: int, flags: int, stream: int) -> None:
    assert frame_bytes(frame(length, kind, flags, stream)) == 9 + length


@pytest.mark.parametrize(
    ("length", "kind", "flags", "stream"),
    [
        (5, 0, 0, 0),
        (5, 0, 0, 2),
        (0, 0, 0, 1),
        (5, 0, 2, 1),
        (5, 0, 0, 2**31 + 1),
        (0, 1, 4, 1),
        (9, 1, 0x40, 1),
        (5, 3, 0, 1),
        (4, 3, 1, 1),
        (7, 4, 0, 0),
        (0, 4, 0, 0),
        (6, 4, 1, 0),
        (6, 4, 0, 1),
        (8, 6, 2, 0),
        (7, 6, 0, 0),
        (7, 7, 0, 0),
        (4, 8, 0, 2),
        (4, 8, 1, 1),
        (5, 2, 0, 1),
        (5, 9, 0, 1),
        (5, 200, 0, 1),
        (MAX_FRAME_PAYLOAD + 1, 0, 0, 1),
    ],
)
def test_illegal_frames(length: int, kind: int, flags: int, stream: int) -> None:
    assert frame_bytes(frame(length, kind, flags, stream)) == 0


def test_a_header_that_is_cut_is_none() -> None:
    assert frame_bytes(frame(5, 0, 0, 1)[:8]) == 0


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (HEAD + b"\x82\x86\x84", Inference.HTTP2_REQUEST),
        (HEAD + b"\x88\xbe\xbf", Inference.HTTP2_RESPONSE),
        (HEAD + b"\x48\x03\x32", Inference.HTTP2_RESPONSE),
        (HEAD + b"\x04\x02\x2f", Inference.HTTP2_REQUEST),
        (HEAD + b"\xbe\xbf\xc0", Inference.HTTP2_FRAMES),
        (HEAD + b"\xff\x82\x82", Inference.HTTP2_FRAMES),
        (HEAD + b"\x40\x82\x82", Inference.HTTP2_FRAMES),
        (b"\0\0\5\1\x0c\0\0\0\3\1\x83\xc0\xc0\0", Inference.HTTP2_REQUEST),
        (b"\0\0\6\1\x24\0\0\0\3\0\0\0\0\x10\x88", Inference.HTTP2_RESPONSE),
        (PING, Inference.HTTP2_FRAMES),
        (PING + HEAD + b"\x82\x86\x84 and more", Inference.HTTP2_REQUEST),
        (PING + b"\0", Inference.NO_MATCH),
        (PING[:-1], Inference.NO_MATCH),
        (b"J\0\0\0\n8.0.36\0", Inference.NO_MATCH),
        (b"*1\r\n$4\r\nPING\r\n", Inference.NO_MATCH),
        (b"AMQP\0\0\x09\1", Inference.NO_MATCH),
        (b"R\0\0\0\x08\0\0\0\0", Inference.NO_MATCH),
        (b"\x17\x03\x03\0\x20" + bytes(32), Inference.NO_MATCH),
        (b"", Inference.NO_MATCH),
    ],
)
def test_records_in_the_middle_of_a_connection(data: bytes, meaning: Inference) -> None:
    assert infer_frames(data, len(data)) is meaning
