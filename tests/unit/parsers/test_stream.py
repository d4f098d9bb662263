from __future__ import annotations

from ebpf.events import EventKind, Missing
from parsers.counters import new_counters
from parsers.limits import ParserLimits
from parsers.stream import ByteStream, Piece
from tests.builders import MILLISECOND_NS, NOTHING_MISSING, SECOND_NS, Conversation


class Story:
    """A stream and the conversation that fills it; `feed` tells the pieces that came out."""

    def __init__(self, limits: ParserLimits | None = None, position: int | None = 0) -> None:
        self.talk = Conversation(opened=False)
        self.counts = new_counters()
        self.stream = ByteStream(limits or ParserLimits(), self.counts, position)

    def feed(
        self, position: int, payload: bytes, length: int | None = None, missing: Missing = NOTHING_MISSING
    ) -> str:
        self.talk.positions[self.talk.requests] = position
        return tell(self.stream.receive(self.talk.request(payload, length=length, missing=missing)))


def tell(pieces: list[Piece]) -> str:
    return " ".join(
        (piece.data.decode() + (f"[{piece.gap}]" if piece.gap else "") + ("." if piece.ends else ""))
        for piece in pieces
    )


def test_bytes_in_order_pass_through() -> None:
    story = Story()
    assert story.feed(0, b"abc") == "abc"
    assert story.feed(3, b"def") == "def"
    assert not story.stream.is_waiting


def test_a_late_piece_fills_in() -> None:
    story = Story()
    assert story.feed(3, b"def") == ""
    assert story.feed(9, b"jkl") == ""
    assert story.feed(0, b"abc") == "abc def"
    assert story.stream.held_bytes == 3
    assert story.feed(6, b"ghi") == "ghi jkl"
    assert story.stream.held_bytes == 0
    assert story.counts["gaps"] == 0


def test_duplicates_and_overlaps_are_dropped() -> None:
    story = Story()
    story.feed(0, b"abcdef")
    assert story.feed(0, b"abc") == ""
    assert story.feed(4, b"efgh") == "gh"
    assert story.feed(10, b"kl") == ""
    assert story.feed(10, b"kl") == ""
    assert story.feed(8, b"ijkl") == "ijkl"
    assert story.counts["duplicate_bytes"] == 3 + 2 + 2 + 2
    assert not story.stream.is_waiting


def test_what_is_left_of_an_overlap_begins_no_record() -> None:
    story = Story()
    story.feed(0, b"abcdef")
    story.talk.positions[story.talk.requests] = 4
    (piece,) = story.stream.receive(story.talk.request(b"efgh"))
    assert not piece.starts_record


def test_a_payload_shorter_than_its_length_is_a_gap_at_once() -> None:
    story = Story()
    assert story.feed(0, b"abc", 10, Missing.BUDGET) == "abc[7]"
    assert story.feed(10, b"k") == "k"
    assert story.counts["gap_bytes"] == 7


def test_an_overlapping_gap_shrinks() -> None:
    story = Story()
    story.feed(0, b"abc", 5, Missing.BUDGET)
    assert story.feed(3, b"", 10, Missing.BUDGET) == "[8]"


def test_a_payload_longer_than_its_length_is_cut() -> None:
    assert Story().feed(0, b"abcdef", 3) == "abc"


def test_a_jump_that_the_kernel_explains_is_a_gap_at_once() -> None:
    story = Story()
    assert story.feed(3, b"def", None, Missing.RING_FULL) == "[3] def"
    assert story.feed(0, b"abc") == ""
    assert story.counts["duplicate_bytes"] == 3


def test_the_time_of_a_jumped_gap_is_the_last_known_before_it() -> None:
    story = Story()
    story.feed(0, b"abc")
    before = story.talk.ktime_ns
    story.talk.wait(SECOND_NS)
    story.talk.positions[story.talk.requests] = 5
    gap, data = story.stream.receive(story.talk.request(b"f", missing=Missing.RING_FULL))
    assert (gap.ktime_ns, gap.missing) == (before, Missing.RING_FULL)
    assert data.ktime_ns == before + SECOND_NS + MILLISECOND_NS


def test_an_unexplained_jump_is_a_gap_after_the_reorder_time() -> None:
    story = Story()
    story.feed(3, b"def")
    held_at = story.talk.ktime_ns
    assert tell(story.stream.expire(held_at + SECOND_NS - 1)) == ""
    assert tell(story.stream.expire(held_at + SECOND_NS)) == "[3] def"


def test_each_jump_has_its_own_time() -> None:
    story = Story()
    story.feed(3, b"d")
    held_at = story.talk.ktime_ns
    story.talk.wait(SECOND_NS // 2)
    story.feed(6, b"g")
    assert tell(story.stream.expire(held_at + SECOND_NS)) == "[3] d"
    assert tell(story.stream.expire(held_at + 2 * SECOND_NS)) == "[2] g"


def test_too_many_held_pieces_make_a_gap() -> None:
    story = Story(ParserLimits(max_reorder_pieces=2))
    assert story.feed(2, b"c") == ""
    assert story.feed(4, b"e") == ""
    assert story.feed(6, b"g") == "[2] c"


def test_too_many_held_bytes_make_a_gap() -> None:
    story = Story(ParserLimits(max_stream_buffer=4))
    assert story.feed(2, b"cde") == ""
    assert story.feed(6, b"ghi") == "[2] cde"
    assert story.stream.held_bytes == 3


def test_drain_gives_up_waiting() -> None:
    story = Story()
    story.feed(2, b"c")
    story.feed(4, b"e")
    assert tell(story.stream.drain()) == "[2] c [1] e"


def test_the_end_waits_for_what_is_before_it() -> None:
    story = Story()
    story.talk.positions[story.talk.requests] = 3
    assert tell(story.stream.end(story.talk.add(EventKind.ENDED, story.talk.requests))) == ""
    assert story.feed(0, b"abc") == "abc ."


def test_the_end_passes_at_once_when_all_is_there() -> None:
    story = Story()
    story.feed(0, b"abc")
    story.talk.end_requests()
    assert tell(story.stream.end(story.talk.events[-1])) == "."


def test_a_stream_without_a_known_beginning_takes_it_from_the_first_event() -> None:
    story = Story(position=None)
    assert story.stream.is_untouched
    assert story.feed(1000, b"abc") == "abc"
    assert not story.stream.is_untouched
