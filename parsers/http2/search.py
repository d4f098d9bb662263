"""Finding HTTP/2 frames again after a loss, and the proof that they are frames.

Owns both decisions. It must not read frames beyond their headers, and it holds no bytes.

Contract: frames are looked for where a socket call's bytes begin, where a frame with a known header would
end, and last anywhere. What is found is plausible, no more: content can be made to look like frames. It
is proven once the frames have kept in step with the socket calls for `PROVING_RECORDS` of them, or have
followed each other without a break for `PROVING_BYTES`.
"""

from __future__ import annotations

from typing import Final

from parsers.http2.frames import HEADER_BYTES, begins_frames, find_frames, measure_chain

PROVING_RECORDS: Final = 4
"""Socket calls whose bytes begin and end with a frame, until frames found again are trusted. Content that
looks like frames would have to be cut by calls just so, as many times."""
PROVING_BYTES: Final = 65_536
"""Bytes of frames without a break that prove the same: several times what one frame of the usual size
holds."""


class FrameSearch:
    """The search in one direction."""

    __slots__ = ("_aligned", "_aligned_records", "_expected_in", "_frame_bytes", "_proven_bytes")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin to search: nothing is expected anywhere."""
        self._expected_in: int | None = None
        """How far ahead the next frame begins, if what was passed over was one."""
        self._aligned = False
        self._aligned_records = 0
        self._proven_bytes = 0
        self._frame_bytes = 0

    def find(self, data: bytes, at: int, longest: int, *, begins: bool) -> int | None:
        """Return where frames begin, at `at` or behind it; None when nowhere in these bytes.

        `begins` says that a socket call's bytes begin at `at`.
        """
        end = len(data)
        expected = self._expected_in
        self._expected_in = None
        found: int | None = None
        if begins and begins_frames(data, at, longest):
            found = at
        elif expected is not None and 0 <= expected < end - at:
            count, after = measure_chain(data, at + expected, longest, 2)
            if count == 2 or (count == 1 and (after == end or (begins and not expected))):
                found = at + expected
        if found is None:
            found = find_frames(data, at, longest)
        if found is not None:
            self._aligned = begins and found == at
            self._aligned_records = 0
            self._proven_bytes = self._frame_bytes = 0
            return found
        if begins:
            count, after = measure_chain(data, at, longest, 1)
            if count:
                expected = after - at
        if expected is not None and expected >= end - at:
            self._expected_in = expected - (end - at)
        return None

    def pass_gap(self, count: int) -> None:
        """Note that unknown bytes were passed over."""
        if self._expected_in is not None:
            self._expected_in -= count

    def begin_record(self, *, aligned: bool) -> None:
        """Note that bytes come; `aligned` says that a frame and a socket call's bytes begin together."""
        self._aligned = aligned

    def end_record(self, *, aligned: bool) -> bool:
        """Note that these bytes are read, and end with a frame when `aligned`; return whether that proves."""
        if self._aligned and aligned:
            self._aligned_records += 1
        return self._aligned_records >= PROVING_RECORDS

    def note_frame(self, length: int) -> bool:
        """Note the plausible header of a frame with a payload of `length` bytes; return whether that proves.

        A frame counts when the next header stands where it should: a header says nothing about itself.
        """
        self._proven_bytes += self._frame_bytes
        self._frame_bytes = HEADER_BYTES + length
        return self._proven_bytes >= PROVING_BYTES
