from __future__ import annotations

import pytest

from parsers.counters import new_counters
from parsers.limits import ParserLimits
from parsers.websocket.frames import RSV1
from parsers.websocket.search import NO_RUN, FrameSearch, Run, recognise_run
from tests.websocket_peers import frame, masked


@pytest.mark.parametrize(
    ("data", "run"),
    [
        (b"", NO_RUN),
        (frame(1, b"a"), Run(1, True, False, 0)),
        (frame(1, b"a") + frame(9) + frame(2, b"b" * 200), Run(3, True, False, 0)),
        (frame(10) + frame(9), Run(2, False, False, 0)),
        (frame(1), NO_RUN),
        (frame(9) + frame(2) + frame(1, b"a"), NO_RUN),
        (frame(1, b"a" * 70_000), Run(1, True, False, 0)),
        (frame(1, b"a") + b"\x81", NO_RUN),
        (frame(1, b"a" * 7)[:-1], Run(1, True, False, 1)),
        (frame(1, b"a", width=2), NO_RUN),
        (frame(1, b"a" * 200, width=8), NO_RUN),
        (frame(1, b"a", rsv=0x40), Run(1, True, False, 0)),
        (frame(1, b"a", rsv=0x20), NO_RUN),
        (masked(1, b"a"), NO_RUN),
        (b"some text", NO_RUN),
        (bytes(100), NO_RUN),
        (b"\x01\x00\x02\x00", NO_RUN),
        (frame(1, b"a", fin=False), NO_RUN),
        (frame(0, b"a"), NO_RUN),
        (frame(8, b"\x03\xe8"), Run(1, False, True, 0)),
        (frame(1, b"a") + frame(8, b"\x13\x87bye"), Run(2, True, True, 0)),
        (frame(8, b"\x03\xe8") + frame(1, b"a"), NO_RUN),
        (frame(8, b"\x13\x88"), NO_RUN),
        (frame(8, b"\x03\xe7"), NO_RUN),
        (frame(8), NO_RUN),
        (frame(8, b"\x03"), NO_RUN),
        (b"\x88\x02", NO_RUN),
        (b"\x88\x05\x03\xe8", Run(1, False, True, 3)),
    ],
)
def test_frames_in_a_row_are_told_from_other_bytes(data: bytes, run: Run) -> None:
    assert recognise_run(data, NO_RUN, masked=False, allowed_rsv=RSV1) == run


def test_the_close_code_of_a_client_is_read_through_its_mask() -> None:
    assert recognise_run(masked(8, b"\x03\xe9bye"), NO_RUN, masked=True, allowed_rsv=0) == Run(
        1, False, True, 0
    )


def test_a_ping_without_its_first_byte_is_no_message() -> None:
    ping = bytes.fromhex("89 81 80 000000 bf")
    assert recognise_run(ping, NO_RUN, masked=True, allowed_rsv=0) == Run(1, False, False, 0)
    assert recognise_run(ping[1:], NO_RUN, masked=True, allowed_rsv=0) == NO_RUN


NEXT = frame(1, b"next")
LONG = frame(2, b"x" * 5000)


def search(*records: bytes) -> tuple[list[list[bytes]], int, int]:
    """Return what each record leads to, bytes held at the end, and bytes discarded."""
    counts = new_counters()
    looking = FrameSearch(ParserLimits(), counts, masked=False, allowed_rsv=0)
    found = [
        [data for data, _ in looking.offer(record, number, starts_record=True)]
        for number, record in enumerate(records)
    ]
    assert counts["resynchronised"] == sum(map(bool, found))
    return found, looking.held_bytes, counts["discarded_bytes"]


def test_a_single_frame_waits_for_the_next() -> None:
    assert search(NEXT, NEXT) == ([[], [NEXT, NEXT]], 0, 0)
    assert search(NEXT) == ([[]], len(NEXT), 0)


def test_a_frame_may_go_on_in_the_next_records() -> None:
    records = [LONG[:1000], LONG[1000:4000], LONG[4000:] + NEXT[:3], NEXT[3:]]
    assert search(*records) == ([[], [], [], records], 0, 0)


def test_what_does_not_fit_to_the_run_may_begin_another() -> None:
    assert search(NEXT, b"no frame", NEXT, NEXT) == ([[], [], [], [NEXT, NEXT]], 0, len(NEXT) + 8)
    cut = LONG[:1000]
    assert search(cut, bytes(4100), NEXT, NEXT)[0] == [[], [], [], [NEXT, NEXT]]
    # The rest of the long frame was something else; behind it, frames follow in step with their records.
    assert search(cut, NEXT * 2)[0] == [[], []]


def test_only_a_run_may_go_on_in_the_middle_of_a_record() -> None:
    counts = new_counters()
    looking = FrameSearch(ParserLimits(), counts, masked=False, allowed_rsv=0)
    assert looking.offer(NEXT * 2, 1, starts_record=False) == []
    assert counts["discarded_bytes"] == 2 * len(NEXT)
    assert looking.offer(NEXT, 2, starts_record=True) == []
    assert looking.offer(NEXT, 3, starts_record=False) == [(NEXT, 2), (NEXT, 3)]


@pytest.mark.parametrize("limits", [ParserLimits(max_stream_buffer=900), ParserLimits(max_reorder_pieces=2)])
def test_a_run_is_held_within_the_bounds(limits: ParserLimits) -> None:
    counts = new_counters()
    looking = FrameSearch(limits, counts, masked=False, allowed_rsv=0)
    for at in range(0, 1000, 100):
        assert looking.offer(LONG[at : at + 100], at, starts_record=True) == []
        assert looking.held_bytes <= 900
    assert counts["discarded_bytes"] > 0
    looking.forget()
    assert looking.held_bytes == 0
    assert counts["discarded_bytes"] == 1000
