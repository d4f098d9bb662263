from __future__ import annotations

from collections.abc import Callable

import pytest

from ebpf.events import Direction, Missing
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from parsers.limits import ParserLimits
from parsers.websocket.deflate import Compression, MessageInflater
from parsers.websocket.log import MessageLog
from parsers.websocket.reader import WebSocketReader
from tests.unit.parsers.test_websocket_deflate import Deflater, final_block
from tests.websocket_peers import KEY, frame, masked

RING_FULL = Missing.RING_FULL
BUDGET = Missing.BUDGET


class Listener:
    """A reader of one direction, and what it made of the bytes."""

    def __init__(
        self,
        limits: ParserLimits | None = None,
        *,
        is_masked: bool = False,
        compression: Compression | None = None,
        any_extension: bool = False,
    ) -> None:
        limits = limits or ParserLimits()
        self.counts = new_counters()
        self.log = MessageLog(limits, self.counts)
        self.reader = WebSocketReader(
            Direction.INGRESS,
            self.log,
            limits,
            self.counts,
            masked=is_masked,
            inflater=None if compression is None else MessageInflater(compression),
            any_extension=any_extension,
        )
        self.ktime_ns = 0

    def hear(self, *records: bytes) -> Listener:
        for record in records:
            self.ktime_ns += 1
            self.reader.receive(record, self.ktime_ns)
        return self

    def miss(self, count: int | None, missing: Missing = RING_FULL) -> Listener:
        self.ktime_ns += 1
        self.reader.miss(count, missing, self.ktime_ns)
        return self

    @property
    def messages(self) -> list[tuple[int, bytes, Truncation | None]]:
        return [(message.opcode, message.content, message.truncation) for message in self.log.messages]

    @property
    def flow(self) -> tuple[int, int, bool]:
        flow = self.reader.flow
        return flow.count, flow.size, flow.uncounted


def test_messages_and_control_frames_in_one_record() -> None:
    heard = Listener().hear(frame(1, b"hi") + frame(9, b"p") + frame(2, b"\x00" * 300) + frame(10) + frame(1))
    assert heard.messages == [
        (1, b"hi", None),
        (9, b"p", None),
        (2, b"\x00" * 300, None),
        (10, b"", None),
        (1, b"", None),
    ]
    assert heard.flow == (3, 302, False)
    assert heard.counts["websocket_messages"] == 5
    assert not heard.reader.is_in_message


def test_control_frames_stand_between_fragments() -> None:
    heard = Listener().hear(frame(1, b"he", fin=False))
    assert heard.reader.is_in_message
    heard.hear(frame(9, b"p"), frame(0, b"l", fin=False), frame(0, b"lo"))
    assert heard.messages == [(9, b"p", None), (1, b"hello", None)]
    message = heard.log.messages[1]
    assert (message.size, message.ktime_ns, message.direction) == (5, 4, Direction.INGRESS)
    assert heard.flow == (1, 5, False)


@pytest.mark.parametrize("key", [b"", KEY])
def test_any_cut_gives_the_same(key: bytes) -> None:
    data = (
        frame(1, b"hello", fin=False, key=key)
        + frame(9, b"ping", key=key)
        + frame(0, "wörld".encode() * 40, key=key)
        + frame(2, b"\x01" * 70_000, key=key)
        + frame(8, b"\x03\xe8bye", key=key)
    )
    whole = Listener(is_masked=bool(key)).hear(data)
    assert len(whole.messages) == 4
    for size in (1, 2, 3, 7, 1000):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        cut = Listener(is_masked=bool(key)).hear(*pieces)
        assert cut.messages == whole.messages
        assert cut.flow == whole.flow == (2, 5 + 240 + 70_000, False)
        assert (cut.log.close_code, cut.log.close_reason) == (1000, "bye")


INVALID: dict[str, Callable[[], bytes]] = {
    "masked by a server": lambda: masked(1, b"x"),
    "reserved opcode": lambda: frame(3),
    "reserved bit": lambda: frame(1, rsv=0x40),
    "continuation of nothing": lambda: frame(0, b"x"),
    "message inside a message": lambda: frame(1, b"a", fin=False) + frame(2, b"b"),
    "fragmented control frame": lambda: frame(9, fin=False),
    "long control frame": lambda: frame(9, b"x" * 126),
    "length beyond 63 bits": lambda: frame(2, length=2**63),
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_frame_ends_the_reading_flagged(data: Callable[[], bytes]) -> None:
    heard = Listener().hear(frame(1, b"before"), data(), frame(1, b"after"))
    assert heard.messages == [(1, b"before", None)]
    assert heard.flow == (1, 6, True)
    assert heard.reader.failure is Incomplete.INVALID
    assert heard.reader.is_over
    assert not heard.reader.closed
    assert heard.counts["websocket_invalid_frames"] == 1
    assert heard.counts["discarded_bytes"] >= len(frame(1, b"after"))


def test_the_client_must_mask() -> None:
    heard = Listener(is_masked=True).hear(masked(1, b"hi"), frame(1, b"plain"))
    assert heard.messages == [(1, b"hi", None)]
    assert heard.reader.failure is Incomplete.INVALID


def test_a_length_need_not_be_in_its_shortest_form_to_be_read() -> None:
    assert Listener().hear(frame(1, b"hi", width=8)).messages == [(1, b"hi", None)]


# Closing.


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", None, None),
        (b"\x03", None, None),
        (b"\x03\xe8", 1000, None),
        (b"\x0f\xa0\xc3\xa4", 4000, "ä"),
        (b"\x03\xf0\xff", 1008, "\ufffd"),
    ],
)
def test_the_close_frame_says_why(payload: bytes, code: int | None, reason: str | None) -> None:
    heard = Listener().hear(frame(8, payload) + frame(1, b"never sent"))
    assert (heard.log.close_code, heard.log.close_reason) == (code, reason)
    assert heard.log.closed_by is Direction.INGRESS
    assert heard.messages == [(8, payload, None)]
    assert heard.reader.closed
    assert heard.reader.is_over
    assert heard.reader.failure is None
    assert heard.counts["discarded_bytes"] == len(frame(1, b"never sent"))


def test_a_close_frame_in_the_middle_of_a_message_leaves_it_unfinished() -> None:
    heard = Listener().hear(frame(1, b"half", fin=False) + frame(8, b"\x03\xe8"))
    assert heard.flow == (0, 0, True)
    assert heard.reader.failure is Incomplete.CLOSED


def test_the_end_between_messages_is_none_in_the_middle() -> None:
    heard = Listener().hear(frame(1, b"hi"))
    heard.reader.end(9)
    assert heard.reader.ended
    assert heard.reader.failure is None
    assert heard.log.last_ktime_ns == 9


@pytest.mark.parametrize("data", [b"\x81", frame(1, b"half")[:-1], frame(1, b"half", fin=False)])
def test_the_end_in_the_middle_of_a_message_is_flagged(data: bytes) -> None:
    heard = Listener().hear(frame(1, b"hi"), data)
    heard.reader.end(9)
    assert heard.messages == [(1, b"hi", None)]
    assert heard.flow == (1, 2, True)
    assert heard.reader.failure is Incomplete.CLOSED
    heard.reader.end(10)
    assert heard.reader.is_over


# Compression.


def test_compressed_and_plain_messages_alternate() -> None:
    sender = Deflater()
    heard = Listener(compression=Compression(), is_masked=True)
    for content in (b"hello world", b"hello world"):
        data = sender.message(content)
        heard.hear(masked(1, data[:3], fin=False, rsv=0x40) + masked(9), masked(0, data[3:]))
        heard.hear(masked(1, b"plain"))
    assert [message for message in heard.messages if message[0] == 1] == [
        (1, b"hello world", None),
        (1, b"plain", None),
    ] * 2
    assert heard.log.messages[1].size == len(Deflater().message(b"hello world"))


def test_a_compressed_continuation_is_invalid() -> None:
    heard = Listener(compression=Compression()).hear(frame(1, b"", fin=False, rsv=0x40))
    assert heard.hear(frame(0, b"", rsv=0x40)).reader.failure is Incomplete.INVALID


def test_a_gap_in_a_compressed_message_keeps_what_came_before_it() -> None:
    sender = Deflater()
    heard = Listener(compression=Compression())
    first, second = sender.message(bytes(range(256))), sender.message(bytes(range(256)))
    data = frame(2, first, rsv=0x40)
    heard.hear(data[:100]).miss(20).hear(data[120:]).hear(frame(2, second, rsv=0x40))
    (_, kept, cut), (_, nothing, why) = heard.messages
    assert kept
    assert bytes(range(256)).startswith(kept)
    assert (cut, nothing, why) == (Truncation.GAP, b"", Truncation.GAP)
    assert heard.flow == (2, len(first) + len(second), False)


def test_losing_the_place_loses_the_window() -> None:
    sender = Deflater()
    heard = Listener(compression=Compression())
    heard.hear(frame(1, sender.message(b"bob says hello"), rsv=0x40)).miss(5)
    again = sender.message(b"bob says hello")
    heard.hear(frame(1, again, rsv=0x40) + frame(1, again, rsv=0x40))
    assert heard.messages[1:] == [(1, b"", Truncation.GAP)] * 2


def test_without_a_kept_window_the_next_message_is_whole() -> None:
    heard = Listener(compression=Compression(15, False))
    data = frame(1, Deflater().message(b"hello"), rsv=0x40)
    heard.hear(data[:3]).miss(len(data) - 3).hear(data)
    assert heard.messages == [(1, b"", Truncation.GAP), (1, b"hello", None)]


def test_what_another_extension_did_is_not_decoded() -> None:
    heard = Listener(any_extension=True).hear(frame(1, b"coded", rsv=0x40), frame(1, b"plain"))
    heard.hear(frame(0x2, b"a", rsv=0x20, fin=False), frame(0, b"b", rsv=0x40))
    assert heard.messages == [
        (1, b"", Truncation.DECODE_ERROR),
        (1, b"plain", None),
        (2, b"", Truncation.DECODE_ERROR),
    ]
    assert heard.flow == (3, 12, False)


def test_reserved_bits_besides_compression_are_invalid() -> None:
    heard = Listener(compression=Compression()).hear(frame(1, b"coded", rsv=0x60))
    assert heard.reader.failure is Incomplete.INVALID


def test_a_final_block_in_a_compressed_message() -> None:
    heard = Listener(compression=Compression())
    heard.hear(frame(1, final_block(b"one") + b"\x00", rsv=0x40), frame(1, final_block(b"two"), rsv=0x40))
    assert heard.messages == [(1, b"one", None), (1, b"two", None)]


# Bounds.


def test_content_is_kept_within_the_bound_of_its_direction() -> None:
    heard = Listener(ParserLimits(max_body=10))
    heard.hear(frame(1, b"123456"), frame(2, b"1234567"), frame(2, b"more"), frame(9, b"ping"), frame(1))
    assert heard.messages == [
        (1, b"123456", None),
        (2, b"1234", Truncation.LIMIT),
        (2, b"", Truncation.LIMIT),
        (9, b"", Truncation.LIMIT),
        (1, b"", None),
    ]
    assert heard.flow == (4, 17, False)
    assert heard.counts["websocket_messages_cut"] == 3


def test_a_character_that_did_not_fit_leaves_no_room_for_the_next_message() -> None:
    heard = Listener(ParserLimits(max_body=4)).hear(frame(1, "€€".encode()), frame(1, b"x"))
    assert heard.messages == [(1, "€".encode(), Truncation.LIMIT), (1, b"", Truncation.LIMIT)]


def test_a_long_message_is_not_held_beyond_the_bound() -> None:
    limits = ParserLimits(max_body=1000)
    heard = Listener(limits, is_masked=True).hear(masked(2, b"x" * 100)[:10] + b"", b"y" * 96)
    data = frame(2, b"", key=KEY, length=10**9)
    heard.hear(data)
    for _ in range(100):
        heard.hear(b"z" * 50_000)
        assert heard.reader.held_bytes < 2000
    assert heard.reader.is_in_message


def test_a_bomb_is_stopped_and_nothing_is_decoded_behind_the_bound() -> None:
    sender = Deflater()
    heard = Listener(ParserLimits(max_body=1000), compression=Compression())
    bomb = sender.message(b"\x00" * 10_000_000)
    heard.hear(frame(2, bomb, rsv=0x40), frame(1, sender.message(b"next"), rsv=0x40))
    assert heard.messages == [(2, bytes(1000), Truncation.LIMIT), (1, b"", Truncation.LIMIT)]
    assert heard.reader.held_bytes < 2000
    heard = Listener(compression=Compression()).hear(frame(2, bomb, rsv=0x40))
    assert heard.messages == [(2, bytes(131_072), Truncation.BOMB)]
    data = frame(2, bomb, rsv=0x40)
    cut = Listener(compression=Compression()).hear(*(data[at : at + 50] for at in range(0, len(data), 50)))
    assert cut.messages == heard.messages


def test_messages_beyond_the_bound_are_counted_only() -> None:
    heard = Listener(ParserLimits(max_websocket_messages=2), compression=Compression())
    sender = Deflater()
    for _ in range(5):
        heard.hear(frame(1, sender.message(b"hello"), rsv=0x40))
    assert [message[:2] for message in heard.messages] == [(1, b"hello")] * 2
    assert heard.log.dropped == heard.counts["websocket_messages_dropped"] == 3
    assert heard.flow[0] == 5
    held = heard.reader.held_bytes
    for _ in range(1000):
        heard.hear(frame(1, sender.message(b"hello"), rsv=0x40))
    assert heard.reader.held_bytes == held < 1000


def test_without_bodies_only_sizes_are_kept() -> None:
    heard = Listener(ParserLimits(capture_bodies=False), compression=Compression())
    data = Deflater().message(b"secret")
    heard.hear(frame(1, b"secret"), frame(1, data, rsv=0x40), frame(9, b"secret"), frame(8, b"\x03\xe8"))
    assert heard.messages == [(1, b"", None), (1, b"", None), (9, b"", None), (8, b"", None)]
    assert [message.size for message in heard.log.messages] == [6, len(data), 6, 2]
    assert heard.log.close_code == 1000
    assert heard.counts["websocket_messages_cut"] == 0


def test_the_window_is_among_what_is_held() -> None:
    heard = Listener(compression=Compression(12))
    before = heard.reader.held_bytes
    heard.hear(frame(1, Deflater(12).message(b"hello"), rsv=0x40))
    assert heard.reader.held_bytes - before > 1 << 12
