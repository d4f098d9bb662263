from __future__ import annotations

import zlib

import pytest

from parsers.http_exchange import Truncation
from parsers.websocket.deflate import Compression, MessageInflater, Negotiated, read_extensions

BOTH = Compression()
TAIL = b"\x00\x00\xff\xff"
ROOM = 10_000


class Deflater:
    """Compresses messages as a sender with context takeover does."""

    def __init__(self, bits: int = 15) -> None:
        self._compressor = zlib.compressobj(wbits=-bits)

    def message(self, content: bytes) -> bytes:
        data = self._compressor.compress(content) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        assert data.endswith(TAIL)
        return data[:-4]


def inflated(inflater: MessageInflater, data: bytes, room: int = ROOM) -> bytes:
    inflater.begin()
    content = inflater.inflate(data, room)
    return content + inflater.end(room - len(content))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", Negotiated()),
        (b"permessage-deflate", Negotiated(BOTH, BOTH)),
        (b" , permessage-deflate ", Negotiated(BOTH, BOTH)),
        (
            b'Permessage-Deflate; server_no_context_takeover; client_max_window_bits="10"',
            Negotiated(Compression(10, True), Compression(15, False)),
        ),
        (
            b"permessage-deflate;client_no_context_takeover;client_max_window_bits;server_max_window_bits=8",
            Negotiated(Compression(15, False), Compression(9, True)),
        ),
        (b"permessage-deflate; server_max_window_bits=16", Negotiated(unknown=True)),
        (b"permessage-deflate; server_max_window_bits=7", Negotiated(unknown=True)),
        (b"permessage-deflate; server_max_window_bits=x", Negotiated(unknown=True)),
        (b"permessage-deflate; server_other", Negotiated(unknown=True)),
        (b"permessage-deflate; proxy_no_context_takeover", Negotiated(unknown=True)),
        (b"permessage-deflate, permessage-deflate", Negotiated(unknown=True)),
        (b"permessage-deflate, x-mux", Negotiated(unknown=True)),
        (b"x-webkit-deflate-frame", Negotiated(unknown=True)),
    ],
)
def test_the_response_says_what_was_agreed_on(value: bytes, expected: Negotiated) -> None:
    assert read_extensions([(b"Sec-WebSocket-Extensions", value), (b"Other", b"x-mux")]) == expected


def test_extensions_may_stand_in_several_lines() -> None:
    lines = [(b"sec-websocket-extensions", b"permessage-deflate"), (b"Sec-WebSocket-Extensions", b"x-mux")]
    assert read_extensions(lines) == Negotiated(unknown=True)


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_messages_refer_to_the_ones_before(bits: int) -> None:
    sender, inflater = Deflater(bits), MessageInflater(Compression(bits, True))
    for number in range(20):
        content = b"the same words each time, and number %d" % number
        assert inflated(inflater, sender.message(content)) == content
        assert inflater.truncation is None
    assert inflater.held_bytes > 1 << bits


def test_without_a_kept_window_each_message_stands_alone() -> None:
    inflater = MessageInflater(Compression(15, False))
    for _ in range(3):
        assert inflated(inflater, Deflater().message(b"hello hello")) == b"hello hello"
        assert inflater.held_bytes == 0


def test_behind_a_loss_a_message_is_right_or_nothing() -> None:
    sender, inflater = Deflater(), MessageInflater(BOTH)
    assert inflated(inflater, sender.message(b"a secret of bob")) == b"a secret of bob"
    inflater.lose(Truncation.GAP)
    assert inflater.held_bytes == 0
    assert inflated(inflater, sender.message(b"a secret of bob")) == b""
    assert inflater.truncation is Truncation.GAP
    assert inflated(inflater, sender.message(b"XYZ")) == b"XYZ"
    assert inflater.truncation is None
    # From here on the window is the sender's again, as far back as it goes.
    assert inflated(inflater, sender.message(b"XYZ")) == b"XYZ"
    assert inflated(inflater, sender.message(b"a secret of bob")) == b""
    assert inflater.truncation is Truncation.GAP


def test_a_loss_in_the_middle_of_a_message_ends_its_content() -> None:
    inflater = MessageInflater(Compression(15, False))
    data = Deflater().message(b"0123456789" * 3 + b"end")
    inflater.begin()
    head = inflater.inflate(data[:8], ROOM)
    inflater.lose(Truncation.SENDFILE)
    assert inflater.inflate(data[9:], ROOM) == inflater.end(ROOM) == b""
    assert inflater.truncation is Truncation.SENDFILE
    assert b"0123456789".startswith(head[:10])
    # No message needs the ones before.
    assert inflated(inflater, b"\xff" * 9) == b""
    assert inflater.truncation is Truncation.DECODE_ERROR


def test_wrong_bytes_are_a_decoding_error() -> None:
    inflater = MessageInflater(BOTH)
    assert inflated(inflater, b"\xff\xff\xff") == b""
    assert inflater.truncation is Truncation.DECODE_ERROR


def test_content_beyond_the_room_is_cut() -> None:
    sender, inflater = Deflater(), MessageInflater(BOTH)
    content = bytes(range(256)) * 2
    assert inflated(inflater, sender.message(content), 300) == content[:300]
    assert inflater.truncation is Truncation.LIMIT
    assert inflater.held_bytes == 0


def test_content_that_fits_exactly_is_whole() -> None:
    sender, inflater = Deflater(), MessageInflater(BOTH)
    content = bytes(range(256)) * 2
    assert inflated(inflater, sender.message(content), len(content)) == content
    assert inflater.truncation is None


def test_a_bomb_is_told_by_its_ratio_and_stops_at_the_room() -> None:
    inflater = MessageInflater(BOTH)
    data = Deflater().message(b"\x00" * 50_000_000)
    assert len(inflated(inflater, data[:300], 131_072)) == 131_072
    assert inflater.truncation is Truncation.BOMB


def final_block(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


@pytest.mark.parametrize("padding", [b"", b"\x00"])
def test_a_message_may_end_with_a_final_block(padding: bytes) -> None:
    inflater = MessageInflater(BOTH)
    for content in (b"one", b"two"):
        data = final_block(content) + padding
        for cut in (0, len(data) - 1, len(data)):
            inflater.begin()
            parts = [inflater.inflate(data[:cut], ROOM), inflater.inflate(data[cut:], ROOM)]
            assert b"".join([*parts, inflater.end(ROOM)]) == content
            assert inflater.truncation is None


def test_bytes_behind_a_final_block_are_a_decoding_error_and_held_nowhere() -> None:
    inflater = MessageInflater(BOTH)
    inflater.begin()
    assert inflater.inflate(final_block(b"one"), ROOM) == b"one"
    for _ in range(3):
        assert inflater.inflate(b"\x00" * 1000, ROOM) == b""
    assert inflater.end(ROOM) == b""
    assert inflater.truncation is Truncation.DECODE_ERROR
    assert inflated(inflater, final_block(b"two") + b"rest") == b"two"
    assert inflater.truncation is Truncation.DECODE_ERROR
