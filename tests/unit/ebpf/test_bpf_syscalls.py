from __future__ import annotations

import pytest

from ebpf.bpf_syscalls import possible_processors


@pytest.mark.parametrize(
    ("listing", "count"), [("0\n", 1), ("0-1\n", 2), ("0-239\n", 240), ("0-3,8-11\n", 12), ("0,2\n", 3)]
)
def test_slots_are_those_of_processors_that_may_ever_come_up(listing: str, count: int) -> None:
    assert possible_processors(listing) == count
    assert possible_processors() >= 1
