"""The consumer of a BPF ring buffer: what the kernel side has written, copied out of shared memory.

Owns the layout of that memory (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst) and the order in which it
may be read. It must not know a record's layout (`layout`).

    page 0          position of the consumer, written here; on
    page 1          position of the producers
    pages 2…        the data, mapped twice in a row, so that no record is ever cut by the end

Positions only grow; a record is 8 bytes of header, then its content, filled up to a multiple of eight. The
first four bytes of the header are the length and two flags.

A call from C for each record would take four times as long as copying it from here. Python has no memory
barriers, which aarch64 needs; the pair of a lock's release and its next acquisition is one.
"""

from __future__ import annotations

import contextlib
import mmap
import select
import threading
from typing import Final

_BUSY: Final = 1 << 31
"""BPF_RINGBUF_BUSY_BIT: a producer is still writing it."""
_DISCARDED: Final = 1 << 30
"""BPF_RINGBUF_DISCARD_BIT: the producer changed its mind."""
_LENGTH: Final = _DISCARDED - 1
_HEADER_BYTES: Final = 8
_MAX_RECORDS: Final = 64
"""Records copied before their room is given back: more gain nothing, and a full ring waits for it."""
_MAX_FILLINGS: Final = 4
"""How often a ring that fills up meanwhile is emptied in one go: what is not taken in time is lost, and what
is taken has to stay in memory."""


class RingBuffer:
    """The one consumer of a ring buffer map of `size` bytes, given by its descriptor. Raises OSError."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._mask = size - 1
        with contextlib.ExitStack() as undo:
            page = mmap.PAGESIZE
            writable = undo.enter_context(mmap.mmap(descriptor, page))
            self._memory = undo.enter_context(
                mmap.mmap(descriptor, page + 2 * size, prot=mmap.PROT_READ, offset=page)
            )
            self._consumer = undo.enter_context(memoryview(writable).cast("Q"))
            self._producer = undo.enter_context(memoryview(self._memory)[:8].cast("Q"))
            self._headers = undo.enter_context(memoryview(self._memory)[page : page + size].cast("I"))
            self._woken = undo.enter_context(select.epoll())
            self._woken.register(descriptor, select.EPOLLIN)
            self._release = undo.pop_all()
        self._position = self._consumer[0]
        self._lock = threading.Lock()

    def drain(self) -> list[bytes]:
        """Return what is in the ring, oldest first, until it is empty, or it was filled a few times over."""
        records: list[bytes] = []
        end = self._position + _MAX_FILLINGS * (self._mask + 1)
        while self._position < end and (taken := self._take()):
            records += taken
        return records

    def wait(self, timeout_seconds: float) -> list[bytes]:
        """Wait until the kernel side forces a wake-up, then return what is in the ring."""
        self._woken.poll(timeout_seconds)
        return self.drain()

    def close(self) -> None:
        """Unmap the ring. Idempotent."""
        self._release.close()

    def _take(self) -> list[bytes]:
        """Return the next records, and give their room back to the producers."""
        headers, mask, position = self._headers, self._mask, self._position
        produced = self._producer[0]
        self._order_memory()  # a header is there before the position of the producers is behind it
        places: list[tuple[int, int]] = []
        while position < produced and len(places) < _MAX_RECORDS:
            at = position & mask
            header = headers[at >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            begin = mmap.PAGESIZE + at + _HEADER_BYTES
            if not header & _DISCARDED:
                places.append((begin, begin + length))
            position += _HEADER_BYTES + (length + 7 & ~7)
        if position == self._position:
            return []
        self._order_memory()  # the content is there before its header says so
        memory = self._memory
        records = [memory[begin:end] for begin, end in places]
        self._order_memory()  # the content is read before its room is given back
        self._consumer[0] = self._position = position
        return records

    def _order_memory(self) -> None:
        """Let no access behind this be made before one in front of it."""
        # A release and an acquisition behind it are not reordered (Arm ARM, barrier-ordered-before).
        with self._lock:
            pass
        with self._lock:
            pass
