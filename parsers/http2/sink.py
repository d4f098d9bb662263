"""What the frames of an HTTP/2 connection say, as the reader of one direction reports it.

Owns the interface between reading frames (`reader`) and understanding streams (`streams`).
"""

from __future__ import annotations

from typing import Protocol

from ebpf.events import Direction, Missing, Origin
from parsers.exchange import Incomplete
from parsers.stream import Piece


class FrameSink(Protocol):
    """Takes what the frames of both directions say."""

    def note_preface(self, direction: Direction) -> None:
        """Note that the client sends in this direction."""

    def note_max_frame_size(self, direction: Direction, size: int) -> None:
        """Note that the sender of this direction accepts payloads of up to `size` bytes."""

    def take_block(
        self,
        direction: Direction,
        stream_id: int,
        promised_id: int | None,
        block: bytes,
        origin: Origin,
        ktime_ns: int,
        *,
        ends: bool,
    ) -> bool:
        """Take a whole field block, of a promised request when `promised_id` is given; `origin` is its start.

        False says that this can be no field block; the place is lost then.
        """

    def lose_block(
        self,
        direction: Direction,
        stream_id: int,
        promised_id: int | None,
        cause: Incomplete,
        origin: Origin,
        *,
        ends: bool,
    ) -> None:
        """Note that a field block passed whose content is unknown or too long."""

    def take_data(
        self, direction: Direction, stream_id: int, start: int, count: int, piece: Piece, *, ends: bool
    ) -> None:
        """Take `count` bytes of content, at `start` in the piece; the stream may end with them."""

    def miss_data(
        self, direction: Direction, stream_id: int, count: int | None, missing: Missing, ktime_ns: int
    ) -> None:
        """Note that content passed that is not known; None when it is not even known how much."""

    def end_stream(self, direction: Direction, stream_id: int, ktime_ns: int) -> None:
        """Note that nothing but a reset comes on this stream in this direction any more."""

    def reset_stream(
        self, direction: Direction, stream_id: int, error_code: int | None, ktime_ns: int
    ) -> None:
        """Note that the sender gives the stream up; the code is None when it is not known."""

    def go_away(self, direction: Direction, last_stream_id: int, ktime_ns: int) -> None:
        """Note that the sender has taken and will take no stream of its peer above this one."""

    def lose_place(self, direction: Direction, cause: Incomplete, missing: Missing, ktime_ns: int) -> None:
        """Note that frames of unknown number and content passed."""

    def trust(self, direction: Direction) -> None:
        """Note that what is read from here on is beyond doubt again."""
