from __future__ import annotations

import gzip
import struct
import zlib
from base64 import b64encode

import pytest

from ebpf.events import Missing
from parsers.counters import new_counters
from parsers.grpc.reader import GrpcReader
from parsers.http_exchange import GrpcMessage, MessageFlow, Truncation
from parsers.limits import ParserLimits

NOTHING = Missing(0)
UNCOUNTED = True


def frame(content: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(content)) + content


class Reading:
    """A reader with its counters."""

    def __init__(
        self,
        encoding: bytes = b"",
        *,
        web: bool = False,
        text: bool = False,
        max_body: int = 1000,
        max_messages: int = 64,
        max_headers: int = 128,
        capture_bodies: bool = True,
        max_header_block: int = 200,
    ) -> None:
        self.counts = new_counters()
        limits = ParserLimits(
            max_body=max_body,
            max_grpc_messages=max_messages,
            capture_bodies=capture_bodies,
            max_header_block=max_header_block,
            max_headers=max_headers,
        )
        self.reader = GrpcReader(encoding, limits, self.counts, web=web, text=text)

    def receive(self, *chunks: bytes) -> Reading:
        for chunk in chunks:
            self.reader.receive(chunk, 0)
        return self

    def miss(self, count: int | None, missing: Missing = NOTHING) -> Reading:
        self.reader.miss(count, missing, 0)
        return self

    def end(self) -> GrpcReader:
        self.reader.end(0)
        self.reader.end(0)
        return self.reader

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.items() if count}


def contents(reader: GrpcReader) -> list[bytes]:
    return [message.content for message in reader.messages]


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7, 100])
def test_messages_may_be_cut_anywhere(size: int) -> None:
    stream = frame(b"one") + frame(b"") + frame(b"three") + frame(b"4" * 20)
    reading = Reading().receive(*(stream[at : at + size] for at in range(0, len(stream), size)))
    reader = reading.end()
    assert contents(reader) == [b"one", b"", b"three", b"4" * 20]
    assert reader.messages[0] == GrpcMessage(3, b"one", compressed=False, truncation=None)
    assert reader.flow == MessageFlow(4, 28)
    assert reading.counted() == {}
    assert reader.held_bytes == 28


def test_nothing_is_no_message() -> None:
    assert Reading().receive(b"").end().flow == MessageFlow()


@pytest.mark.parametrize(("encoding", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_compressed_messages_are_decompressed(encoding: bytes, compress: object) -> None:
    assert callable(compress)
    coded = compress(b"text " * 50)
    reader = Reading(encoding).receive(frame(coded, 1) + frame(b"plain")).end()
    assert reader.messages == [
        GrpcMessage(len(coded), b"text " * 50, compressed=True, truncation=None),
        GrpcMessage(5, b"plain", compressed=False, truncation=None),
    ]
    assert reader.flow == MessageFlow(2, len(coded) + 5)


@pytest.mark.parametrize("encoding", [b"", b"identity", b"snappy"])
def test_a_compressed_message_without_a_known_coding_keeps_its_bytes(encoding: bytes) -> None:
    reading = Reading(encoding).receive(frame(b"coded", 1))
    reader = reading.end()
    assert reader.messages == [GrpcMessage(5, b"coded", compressed=True, truncation=Truncation.DECODE_ERROR)]
    assert reader.flow == MessageFlow(1, 5)
    assert reading.counted() == {"grpc_messages_cut": 1}


def test_a_bomb_stops_at_the_bound() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)[:400]
    reading = Reading(b"gzip", max_body=131_072)
    # 400 bytes of it fill the bound, as if the message had ended there.
    reader = reading.receive(frame(bomb, 1)).end()
    assert (len(reader.messages[0].content), reader.messages[0].truncation) == (131_072, Truncation.BOMB)
    assert reader.held_bytes == 131_072
    assert reading.counted() == {"grpc_messages_cut": 1}


def test_content_is_kept_within_the_body_limit_of_all_messages_together() -> None:
    reading = Reading(max_body=10).receive(frame(b"a" * 7) + frame(b"b" * 7) + frame(b"c" * 7) + frame(b""))
    reader = reading.end()
    assert reader.messages == [
        GrpcMessage(7, b"a" * 7, compressed=False, truncation=None),
        GrpcMessage(7, b"bbb", compressed=False, truncation=Truncation.LIMIT),
        GrpcMessage(0, b"", compressed=False, truncation=None),
    ]
    assert reader.flow == MessageFlow(4, 21)
    assert reading.counted() == {"grpc_messages_dropped": 1, "grpc_messages_cut": 1}


def test_what_a_long_message_holds_is_bounded_while_it_passes() -> None:
    reading = Reading(max_body=100).receive(struct.pack(">BI", 0, 2**32 - 1), *([b"x" * 60] * 50))
    assert reading.reader.held_bytes == 100
    reader = reading.end()
    assert reader.messages == [
        GrpcMessage(2**32 - 1, b"x" * 100, compressed=False, truncation=Truncation.LIMIT)
    ]
    assert reader.flow == MessageFlow(0, 0, UNCOUNTED)


def test_decompressed_content_counts_against_the_limit() -> None:
    coded = gzip.compress(b"z" * 900)
    reader = Reading(b"gzip").receive(frame(coded, 1) * 3).end()
    assert [(len(message.content), message.truncation) for message in reader.messages] == [
        (900, None),
        (100, Truncation.LIMIT),
    ]
    assert reader.flow.count == 3


def test_a_compressed_message_beyond_the_limit_decodes_as_far_as_it_goes() -> None:
    text = b"".join(b"%d," % number for number in range(2000))
    coded = gzip.compress(text)
    message = Reading(b"gzip").receive(frame(coded, 1)).end().messages[0]
    assert len(coded) > 1000
    assert (message.truncation, len(message.content)) == (Truncation.LIMIT, 1000)
    assert text.startswith(message.content)


def test_the_number_of_messages_kept_is_bounded() -> None:
    reading = Reading(max_messages=3).receive(frame(b"") * 50)
    reader = reading.end()
    assert (len(reader.messages), reader.flow.count) == (3, 50)
    assert reading.counted() == {"grpc_messages_dropped": 47}


def test_without_bodies_messages_are_only_counted() -> None:
    reading = Reading(capture_bodies=False).receive(frame(b"one") + frame(b"")).miss(0)
    assert reading.reader.held_bytes == 0
    reader = reading.end()
    assert (reader.messages, reader.flow) == ([], MessageFlow(2, 3))


@pytest.mark.parametrize(
    ("missing", "truncation"),
    [
        (NOTHING, Truncation.GAP),
        (Missing.RING_FULL, Truncation.GAP),
        (Missing.RING_FULL | Missing.BUDGET, Truncation.GAP),
        (Missing.SENDFILE, Truncation.SENDFILE),
        (Missing.BUDGET, Truncation.LIMIT),
        (Missing.BUDGET | Missing.SENDFILE, Truncation.SENDFILE),
    ],
)
def test_a_gap_in_a_message_is_stepped_over(missing: Missing, truncation: Truncation) -> None:
    reading = Reading().receive(struct.pack(">BI", 0, 10) + b"abc").miss(4, missing).miss(1)
    reader = reading.receive(b"xx" + frame(b"next")).end()
    assert reader.messages == [
        GrpcMessage(10, b"abc", compressed=False, truncation=truncation),
        GrpcMessage(4, b"next", compressed=False, truncation=None),
    ]
    assert reader.flow == MessageFlow(2, 14)
    assert reading.counted() == {"grpc_messages_cut": 1}


def test_a_gap_up_to_the_end_of_a_message_is_stepped_over() -> None:
    reader = Reading().receive(struct.pack(">BI", 0, 10)).miss(10).receive(frame(b"next")).end()
    assert contents(reader) == [b"", b"next"]
    assert reader.messages[0].truncation is Truncation.GAP
    assert reader.flow == MessageFlow(2, 14)


def test_a_gap_in_a_message_that_is_not_kept_is_forgotten() -> None:
    stream = struct.pack(">BI", 0, 10)
    reading = Reading(max_body=3).receive(frame(b"abc") + stream).miss(10).receive(frame(b""))
    reader = reading.end()
    assert [message.truncation for message in reader.messages] == [None, None]
    assert reader.flow == MessageFlow(3, 13)


def test_a_gap_over_a_prefix_loses_the_place() -> None:
    reading = Reading().receive(struct.pack(">BI", 0, 10) + b"abc").miss(8).receive(frame(b"more")).miss(3)
    reader = reading.end()
    assert reader.messages == [GrpcMessage(10, b"abc", compressed=False, truncation=Truncation.GAP)]
    assert reader.flow == MessageFlow(1, 10, UNCOUNTED)
    assert reading.counted() == {"grpc_messages_cut": 1, "grpc_places_lost": 1}


@pytest.mark.parametrize("prefix", [b"", b"\0\0\0"])
def test_a_gap_between_messages_or_in_a_prefix_loses_the_place(prefix: bytes) -> None:
    reading = Reading().receive(frame(b"one") + prefix).miss(1).receive(frame(b"two"))
    reader = reading.end()
    assert contents(reader) == [b"one"]
    assert reader.flow == MessageFlow(1, 3, UNCOUNTED)
    assert reader.held_bytes == 3


def test_a_gap_of_unknown_size_leaves_the_message_uncounted() -> None:
    reading = Reading().receive(struct.pack(">BI", 0, 10) + b"abc").miss(None, Missing.BUDGET)
    reader = reading.end()
    assert reader.messages == [GrpcMessage(10, b"abc", compressed=False, truncation=Truncation.LIMIT)]
    assert reader.flow == MessageFlow(0, 0, UNCOUNTED)


@pytest.mark.parametrize(
    ("tail", "kept"), [(b"\0", []), (struct.pack(">BI", 0, 4), []), (b"\0\0\0\0\4ab", [b"ab"])]
)
def test_an_end_in_the_middle_is_told(tail: bytes, kept: list[bytes]) -> None:
    reader = Reading().receive(frame(b"one") + tail).end()
    assert contents(reader) == [b"one", *kept]
    assert all(message.truncation is Truncation.GAP for message in reader.messages[1:])
    assert reader.flow == MessageFlow(1, 3, UNCOUNTED)


def test_nothing_is_read_behind_the_end() -> None:
    reading = Reading().receive(frame(b"one"))
    reading.end()
    assert reading.receive(frame(b"two")).miss(5).end().flow == MessageFlow(1, 3)


@pytest.mark.parametrize("flag", [2, 0x40, 0x80, 0x81, 0xFF])
def test_an_unknown_flag_ends_the_reading(flag: int) -> None:
    reading = Reading().receive(frame(b"one") + frame(b"two", flag) + frame(b"three"))
    reader = reading.end()
    assert contents(reader) == [b"one"]
    assert reader.flow == MessageFlow(1, 3, UNCOUNTED)
    assert reading.counted() == {"grpc_invalid_messages": 1}


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("text", [False, True])
def test_trailers_of_grpc_web_end_the_response(size: int, *, text: bool) -> None:
    parts = [frame(b"one"), frame(b"grpc-status: 0\r\nx-a: b\r\n", 0x80)]
    stream = b"".join(b64encode(part) for part in parts) if text else b"".join(parts)
    reading = Reading(web=True, text=text)
    reader = reading.receive(*(stream[at : at + size] for at in range(0, len(stream), size))).end()
    assert contents(reader) == [b"one"]
    assert reader.flow == MessageFlow(1, 3)
    assert reader.trailers == [(b"grpc-status", b"0"), (b"x-a", b"b")]
    assert reader.held_bytes == 3


def test_trailers_may_be_compressed_or_empty() -> None:
    block = gzip.compress(b"grpc-status:7\r\n")
    assert Reading(b"gzip", web=True).receive(frame(block, 0x81)).end().trailers == [(b"grpc-status", b"7")]
    assert Reading(web=True).receive(frame(b"", 0x80)).end().trailers == []


def test_trailers_come_whole_or_not_at_all() -> None:
    long = frame(b"grpc-status: 0\r\n" + b"x: " + b"y" * 300 + b"\r\n", 0x80)
    block = frame(b"grpc-status: 0\r\n", 0x80)
    for reading in (
        Reading(web=True).receive(long),
        Reading(web=True).receive(block[:-4]),
        Reading(web=True).receive(block[:-4]).miss(4),
        Reading(web=True).receive(block[:-4]).miss(9),
        Reading(web=True).receive(block[:-4]).miss(None),
        Reading(b"gzip", web=True).receive(frame(b"broken", 0x81)),
    ):
        reader = reading.end()
        assert reader.trailers is None
        assert not reader.flow.uncounted
        assert reading.counted()["grpc_trailers_lost"] == 1


def test_trailers_are_read_without_bodies_too() -> None:
    reading = Reading(web=True, capture_bodies=False, max_body=0)
    assert reading.receive(frame(b"one") + frame(b"grpc-status:0", 0x80)).end().trailers == [
        (b"grpc-status", b"0")
    ]


def test_the_number_of_trailers_is_bounded() -> None:
    reading = Reading(web=True, max_headers=2).receive(frame(b"a:1\r\n" * 9, 0x80))
    assert len(reading.end().trailers or []) == 2


def test_what_is_no_base64_ends_the_reading() -> None:
    text = b64encode(frame(b"123456789"))
    reading = Reading(web=True, text=True).receive(text[:12], b"!!!!", text[12:])
    reader = reading.end()
    assert reader.messages == [GrpcMessage(9, b"1234", compressed=False, truncation=Truncation.DECODE_ERROR)]
    assert reader.flow == MessageFlow(0, 0, UNCOUNTED)
    assert reading.counted() == {"grpc_invalid_messages": 1, "grpc_messages_cut": 1}


def test_a_gap_in_base64_loses_the_place() -> None:
    text = b64encode(frame(b"1234567890123"))
    reader = Reading(web=True, text=True).receive(text[:12]).miss(4).receive(text[16:]).end()
    assert contents(reader) == [b"1234"]
    assert reader.flow == MessageFlow(0, 0, UNCOUNTED)


def test_base64_that_ends_in_a_group_is_told() -> None:
    reader = Reading(web=True, text=True).receive(b64encode(frame(b"one")) + b"AA").end()
    assert reader.flow == MessageFlow(1, 3, UNCOUNTED)
