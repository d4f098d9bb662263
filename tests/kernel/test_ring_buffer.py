"""The consumer of the ring buffer, against a program that submits, discards and fills it at will."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Iterator

import pytest

from ebpf.kernel_headers import SETTINGS, find_kernel_headers
from ebpf.ring_buffer import RingBuffer

pytestmark = pytest.mark.kernel

RECORD_BYTES = 8 + 36
"""No multiple of eight, so that records lie apart."""
ROOM = mmap.PAGESIZE // (8 + 48)
"""Records in a ring of one page: each has a header of eight bytes, and fills up to a multiple of them."""
SUBMIT, DISCARD = {"x86_64": (121, 124), "aarch64": (155, 156)}[platform.machine()]
"""Numbers of getpgid and getsid: calls that nothing else in this process makes."""
PROGRAM = f"""
struct record {{ u64 number; char filler[36]; }} __attribute__((packed));
BPF_RINGBUF_OUTPUT(records, 1);
BPF_ARRAY(numbers, u64, 1);
RAW_TRACEPOINT_PROBE(sys_enter) {{
    u64 call = ctx->args[1];
    if (bpf_get_current_pid_tgid() >> 32 != {os.getpid()} || (call != {SUBMIT} && call != {DISCARD}))
        return 0;
    int zero = 0;
    u64 *number = numbers.lookup(&zero);
    if (!number)
        return 0;
    struct record *record = records.ringbuf_reserve(sizeof(*record));
    if (!record)
        return 0;
    record->number = (*number)++;
    if (call == {SUBMIT})
        records.ringbuf_submit(record, BPF_RB_NO_WAKEUP);
    else
        records.ringbuf_discard(record, BPF_RB_NO_WAKEUP);
    return 0;
}}
"""


def produce(call: int) -> None:
    ctypes.CDLL(None).syscall(call, 0)


def numbers(records: list[bytes]) -> list[int]:
    assert {len(record) for record in records} <= {RECORD_BYTES}
    return [int.from_bytes(record[:8], "little") for record in records]


@pytest.fixture
def descriptor(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The map that the program writes."""
    import bcc  # only here: it costs what a compiler costs

    if headers := find_kernel_headers():
        monkeypatch.setenv(SETTINGS[1], str(headers))
    program = bcc.BPF(text=PROGRAM.encode())
    yield program[b"records"].map_fd
    program.cleanup()


@pytest.fixture
def ring(descriptor: int) -> Iterator[RingBuffer]:
    consumer = RingBuffer(descriptor, mmap.PAGESIZE)
    yield consumer
    consumer.close()


def test_records_come_whole_and_in_order_round_the_end(ring: RingBuffer) -> None:
    expected = 0
    for burst in (1, ROOM, 3, ROOM - 1, ROOM // 2, ROOM, ROOM):
        for _ in range(burst):
            produce(SUBMIT)
        assert numbers(ring.drain()) == list(range(expected, expected + burst))
        expected += burst
        assert ring.drain() == []


def test_what_is_discarded_is_passed_over_and_its_room_given_back(ring: RingBuffer) -> None:
    for first in range(0, 5 * ROOM, 5):
        for call in (SUBMIT, DISCARD, DISCARD, SUBMIT, DISCARD):
            produce(call)
        assert numbers(ring.drain()) == [first, first + 3]


def test_a_full_ring_takes_records_again_once_it_is_drained(ring: RingBuffer) -> None:
    for _ in range(ROOM + 5):
        produce(SUBMIT)
    assert numbers(ring.drain()) == list(range(ROOM))
    produce(SUBMIT)
    assert numbers(ring.drain()) == [ROOM]


def test_another_consumer_goes_on_where_the_first_one_ended(descriptor: int, ring: RingBuffer) -> None:
    for _ in range(3):
        produce(SUBMIT)
    assert len(ring.drain()) == 3
    ring.close()
    ring.close()
    produce(SUBMIT)
    next_one = RingBuffer(descriptor, mmap.PAGESIZE)
    assert numbers(next_one.wait(0)) == [3]
    next_one.close()
