"""What a gap does to the messages of one direction, and how the place is found again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebpf.events import Missing
from parsers.exchange import Incomplete
from parsers.http_exchange import Truncation
from parsers.limits import ParserLimits
from tests.builders import NOTHING_MISSING
from tests.unit.parsers.test_websocket_reader import BUDGET, RING_FULL, Listener
from tests.websocket_peers import frame, masked


@pytest.mark.parametrize(
    ("missing", "truncation"),
    [
        (NOTHING_MISSING, Truncation.GAP),
        (RING_FULL, Truncation.GAP),
        (Missing.UNREADABLE | BUDGET, Truncation.GAP),
        (BUDGET, Truncation.LIMIT),
        (Missing.SENDFILE | BUDGET, Truncation.SENDFILE),
    ],
)
def test_a_gap_inside_a_payload_is_stepped_over(missing: Missing, truncation: Truncation) -> None:
    data = masked(2, b"0123456789")
    heard = Listener(is_masked=True).hear(data[:9]).miss(4, missing).hear(data[13:] + masked(1, b"next"))
    assert heard.messages == [(2, b"012", truncation), (1, b"next", None)]
    assert heard.flow == (2, 14, False)
    assert heard.reader.failure is None
    assert heard.counts["websocket_messages_cut"] == 1


def test_the_mask_goes_on_behind_a_gap_in_another_fragment() -> None:
    data = masked(2, b"0123456789", fin=False)
    heard = Listener(is_masked=True).hear(data[:9]).miss(3).hear(data[12:] + masked(0, b"rest"))
    assert heard.messages == [(2, b"012", Truncation.GAP)]
    assert heard.flow == (1, 14, False)


def test_a_gap_up_to_the_end_of_a_frame_keeps_the_place() -> None:
    data = frame(1, b"0123456789")
    heard = Listener().hear(data[:5]).miss(7)
    assert heard.messages == [(1, b"012", Truncation.GAP)]
    assert heard.hear(frame(1, b"next")).flow == (2, 14, False)


def test_a_gap_inside_a_control_frame_cuts_it_and_no_reason_is_made_up() -> None:
    data = frame(8, b"\x03\xe8because of bob")
    heard = Listener().hear(data[:7]).miss(3).hear(data[10:])
    assert heard.messages == [(8, b"\x03\xe8bec", Truncation.GAP)]
    assert heard.log.messages[0].size == 16
    assert (heard.log.close_code, heard.log.close_reason) == (1000, None)


def test_text_that_is_cut_ends_with_a_whole_character() -> None:
    data = frame(1, "ä€".encode())
    assert Listener().hear(data[:5]).miss(2).messages == [(1, "ä".encode(), Truncation.GAP)]


NEXT = frame(1, b"next")


@pytest.mark.parametrize("before", [b"", frame(1, b"hi"), b"\x81", frame(1, b"half", fin=False)])
def test_a_gap_elsewhere_loses_the_place(before: bytes) -> None:
    heard = Listener().hear(before) if before else Listener()
    heard.miss(3)
    assert heard.flow[2]
    assert heard.reader.failure is Incomplete.LOST_BYTES
    assert heard.counts["lost_places"] == 1
    assert not heard.reader.is_in_message
    heard.hear(NEXT + NEXT)
    assert heard.messages[-2:] == [(1, b"next", None)] * 2
    assert heard.counts["resynchronised"] == 1
    assert heard.flow[2]


def test_a_gap_of_unknown_length_loses_the_place_anywhere() -> None:
    heard = Listener().hear(frame(1, b"half")[:4]).miss(None).hear(NEXT + NEXT)
    assert heard.messages == [(1, b"next", None)] * 2
    assert heard.flow == (2, 8, True)


def test_no_gap_is_none() -> None:
    assert Listener().miss(0).hear(NEXT).flow == (1, 4, False)


def test_what_the_budget_left_out_is_no_loss_but_is_not_counted() -> None:
    heard = Listener().miss(100, BUDGET).hear(NEXT * 2)
    assert heard.flow == (2, 8, True)
    assert heard.reader.failure is None


def test_one_frame_behind_a_loss_waits_for_another() -> None:
    heard = Listener().miss(1).hear(NEXT)
    assert heard.messages == []
    assert heard.reader.held_bytes >= len(NEXT)
    heard.hear(frame(2, b"and this"))
    assert heard.messages == [(1, b"next", None), (2, b"and this", None)]
    assert [message.ktime_ns for message in heard.log.messages] == [2, 3]


def test_control_frames_alone_do_not_tell_the_place() -> None:
    heard = Listener().miss(1).hear(frame(9) + frame(9), frame(10))
    assert heard.messages == []
    heard.hear(NEXT)
    assert heard.messages == [(9, b"", None), (9, b"", None), (10, b"", None), (1, b"next", None)]
    assert heard.counts["discarded_bytes"] == 0


CLOSE = frame(8, b"\x03\xe9")


@pytest.mark.parametrize("records", [[CLOSE], [NEXT, CLOSE], [NEXT + CLOSE], [frame(9), CLOSE]])
def test_a_close_frame_behind_a_loss_is_believed_when_nothing_follows(records: list[bytes]) -> None:
    heard = Listener().miss(1).hear(*records)
    assert heard.messages[-1] == (8, b"\x03\xe9", None)
    assert heard.reader.is_done
    assert not heard.reader.closed
    assert heard.log.close_code is None
    heard.reader.end(9)
    assert heard.log.close_code == 1001
    assert heard.reader.closed


def test_what_only_looks_like_a_close_frame_hides_nothing() -> None:
    heard = Listener().miss(1).hear(CLOSE, NEXT)
    assert not heard.reader.is_done
    assert heard.messages[-1] == (1, b"next", None)
    heard.hear(CLOSE).miss(1)
    assert not heard.reader.is_done
    heard.reader.end(9)
    assert heard.log.close_code is None


def test_behind_a_loss_an_invalid_frame_is_another_loss() -> None:
    heard = Listener().miss(1, BUDGET).hear(NEXT + NEXT, b"\x8f\x00")
    assert heard.counts["lost_places"] == 2
    assert heard.counts["websocket_invalid_frames"] == 1
    assert heard.reader.failure is None
    assert not heard.reader.is_over
    heard.hear(NEXT + NEXT)
    assert heard.flow == (4, 16, True)


@pytest.mark.parametrize(
    "after",
    [
        lambda heard: heard.hear(b"no frame"),
        lambda heard: heard.miss(1),
        lambda heard: heard.reader.end(9),
    ],
)
def test_one_frame_that_nothing_confirms_is_discarded(after: Callable[[Listener], object]) -> None:
    heard = Listener().miss(1).hear(NEXT)
    after(heard)
    assert heard.messages == []
    assert heard.counts["discarded_bytes"] >= len(NEXT)
    assert heard.reader.held_bytes == 0


def test_the_place_is_found_at_the_beginning_of_a_record_only() -> None:
    heard = Listener().miss(1)
    heard.reader.receive(NEXT * 3, 5, starts_record=False)
    assert heard.messages == []
    assert heard.counts["discarded_bytes"] == len(NEXT * 3)


def test_a_record_beyond_the_bound_is_not_held() -> None:
    heard = Listener(ParserLimits(max_stream_buffer=10)).miss(1).hear(frame(1, b"x" * 20))
    assert heard.reader.held_bytes == 0
    assert heard.hear(NEXT * 2).flow == (2, 8, True)


def test_the_rest_of_a_message_behind_a_loss_is_passed_over() -> None:
    rest = frame(0, b"lost", fin=False) + frame(9, b"p") + frame(0, b"lost")
    heard = Listener().hear(frame(1, b"lost", fin=False)).miss(1).hear(rest, NEXT + NEXT)
    assert heard.messages == [(1, b"next", None)] * 2
    assert heard.flow == (2, 8, True)
