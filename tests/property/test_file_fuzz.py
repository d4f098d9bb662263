"""Damaged captures and recordings, replayed: a smaller run of what `make fuzz-files` does."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from tests.property.capture_samples import samples
from tests.property.file_fuzz import HangError, bounded_time, build_variant, check_variant, replay

VARIANTS, BATCH = 1_000, 250
PEAK_BYTES = 64_000_000
"""Far above what any variant takes (2 MB), and far below what its lengths can claim (4 GiB)."""


@pytest.mark.parametrize("name", samples())
def test_the_samples_themselves_are_whole(name: str) -> None:
    outcome = replay(samples()[name])
    assert (outcome.refusal, outcome.damage) == ("", "")
    assert len(outcome.spans) > 5


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, VARIANTS, BATCH))
def test_no_file_stops_a_replay_but_with_a_message(first: int) -> None:
    for number in range(first, first + BATCH):
        check_variant(0, number)


@pytest.mark.slow
def test_the_memory_of_a_replay_is_bounded_whatever_the_file_claims() -> None:
    tracemalloc.start()
    try:
        for number in range(50):
            check_variant(1, number)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PEAK_BYTES


def test_variants_are_known_by_their_number() -> None:
    assert build_variant(3, 14) == build_variant(3, 14)
    assert build_variant(3, 14) != build_variant(3, 15)


def test_a_reading_of_the_clocks_out_of_range_is_no_bug() -> None:
    recording = samples()["recording"]
    start = recording.index(struct.pack("<BI", 3, 16)) + 5
    later = recording.index(struct.pack("<BI", 3, 16), start) + 5
    for ktime_ns, unix_ns in (
        (0, 2**64 - 1),
        (2**64 - 1, 0),
        (2**64 - 1, 2**64 - 1),
        (2**63, 2**63),
        (2**62, 5),
        (5, 2**63),
    ):
        clock = struct.pack("<QQ", ktime_ns, unix_ns)
        assert "damaged" in replay(recording[:start] + clock + recording[start + 16 :]).refusal
        outcome = replay(recording[:later] + clock + recording[later + 16 :])
        assert f"is damaged: a reading of the clocks says {ktime_ns} and {unix_ns}, at byte" in outcome.damage


def hang() -> None:
    with bounded_time(0.01):
        while True:
            pass


def test_a_variant_that_hangs_is_found() -> None:
    with pytest.raises(HangError):
        hang()
