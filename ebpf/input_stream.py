"""The bytes of a file, of a pipe or of standard input, unpacked, as they come.

Owns the waiting for them and where in the input a reader stands. It must not know what they mean.

Contract: nothing here waits but `wait`, for a time that is given: a pipe may be quiet for hours, and a stop
must be noticed. A reader asks for a number of bytes (`holds`), takes them (`take`), and gives its turn back
when they are not there yet (`await_bytes`). What is held is bounded by the bytes asked for and one piece
(`unpacking.PIECE_BYTES`), the window of the compression aside.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from ebpf.unpacking import MAGIC_BYTES, UNPACKING_ERRORS, Unpacker

T = TypeVar("T")

STANDARD_INPUT = Path("-")
_READ_BYTES = 262_144
LAST_WAIT_SECONDS = 0.5
"""How long a pipe is listened to after a stop was asked for: its writer, which got the same Ctrl-C, writes
what it still has when it ends."""


class InputError(Exception):
    """The input can't be opened, is foreign or damaged; the message says what to do."""


class InputStream:
    """An open input."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Take over an open file descriptor."""
        self.name = name
        """How messages call it."""
        self.problem: str | None = None
        """Why it ended before its end, as the rest of a sentence; None when it did not."""
        self.is_cut = False
        """Whether that is because it was cut, and not because it is damaged."""
        self.position = 0
        """Where the next byte stands, unpacked and counted from 0."""
        self._descriptor: int | None = descriptor
        status = os.fstat(descriptor)
        self.size: int | None = None
        """Size of a file that is not compressed; None when it is not known."""
        self._poll: select.poll | None = None
        if stat.S_ISREG(status.st_mode):
            self.size = status.st_size
        else:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        self._unpacker: Unpacker | None = None
        self._start = b""
        """The first bytes, as long as they are too few to know the compression by."""
        self._is_read = False
        """Whether the end of the input was reached; more may still come out of the unpacker."""
        self._is_over = False
        self._buffer = b""
        self._at = 0
        self._parts: list[bytes] = []
        """What came behind the buffer; joined when as much is there as was asked for."""
        self._parts_bytes = 0

    @classmethod
    def open(cls, path: Path) -> InputStream:
        """Open a file, or standard input for `-`. Raises InputError."""
        if path == STANDARD_INPUT:
            return cls._open_standard_input()
        try:
            # Without O_NONBLOCK this would wait for the writer of a named pipe, and no signal would end it.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(
                f"{path} can't be read: {error.strerror}. Name a recording made by `wirespan record`, a "
                "packet capture, or - for standard input."
            ) from error
        if os.isatty(descriptor):
            os.close(descriptor)
            raise InputError(f"{path} is a terminal. {_WHAT_TO_PIPE}")
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{path} is a folder. Name a file in it.")
        return cls(descriptor, str(path))

    @classmethod
    def _open_standard_input(cls) -> InputStream:
        if sys.stdin is None:
            raise InputError(f"standard input is closed. {_WHAT_TO_PIPE}")
        descriptor = sys.stdin.fileno()
        if os.isatty(descriptor):
            raise InputError(f"standard input is a terminal. {_WHAT_TO_PIPE}")
        return cls(os.dup(descriptor), "standard input")

    @property
    def is_over(self) -> bool:
        """Whether nothing comes beyond what is held."""
        return self._is_over

    @property
    def is_unpacked(self) -> bool:
        """Whether the input is compressed, so that positions are those of what came out."""
        return self._unpacker is not None and self._unpacker.compression is not None

    @property
    def held(self) -> int:
        """Bytes that can be taken without reading."""
        return len(self._buffer) - self._at + self._parts_bytes

    def wait(self, timeout_seconds: float) -> None:
        """Return when there is something to read, at the end, or after this time."""
        if self._poll is not None and not self._is_read:
            self._poll.poll(timeout_seconds * 1_000)

    def holds(self, count: int) -> bool:
        """Whether as many bytes can be taken; reads what is there, but waits for nothing."""
        if len(self._buffer) - self._at >= count:
            return True
        while self.held < count:
            data = self._read_some()
            if data is None:
                return False
            self._parts.append(data)
            self._parts_bytes += len(data)
        self._buffer = b"".join((self._buffer[self._at :], *self._parts))
        self._at = self._parts_bytes = 0
        self._parts.clear()
        return True

    def take(self, count: int) -> bytes:
        """Return the next bytes, as many as `holds` has confirmed."""
        at = self._at
        self._at = end = at + count
        self.position += count
        return self._buffer[at:end]

    def peek(self, count: int) -> bytes:
        """Return the next bytes without taking them: as many as are held, up to `count`."""
        self.holds(min(count, self.held))
        return self._buffer[self._at : self._at + count]

    def skip(self, count: int) -> int:
        """Pass over bytes without holding them; return how many were there, up to `count`."""
        self.holds(min(count, self.held or 1))
        passed = min(count, len(self._buffer) - self._at)
        self._at += passed
        self.position += passed
        return passed

    def await_bytes(self, count: int) -> Generator[None, None, bool]:
        """Yield for as long as fewer bytes than `count` are there and more may come; return `holds`."""
        while not self.holds(count):
            if self._is_over:
                return False
            yield
        return True

    def describe_rest(self, position: int) -> str:
        """Return where reading ended, and how much stands behind it as far as that is known."""
        where = f"at byte {position} of what is unpacked" if self.is_unpacked else f"at byte {position}"
        left = 0 if self.size is None else self.size - position
        return where + (f"; its last {left} bytes are not read" if left > 0 else "")

    def close(self) -> None:
        """Release the input. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._is_read = self._is_over = True

    def _read_some(self) -> bytes | None:
        """Return the next bytes, None when there are none now, or at the end (`is_over`)."""
        while not self._is_over:
            if self._unpacker is None or self._unpacker.needs_input:
                if self._is_read:
                    self._end()
                    break
                packed = self._read_packed()
                if packed is None:
                    return None
                self._feed(packed)
            if self._unpacker is not None and not self._unpacker.needs_input:
                try:
                    data = self._unpacker.unpack()
                except UNPACKING_ERRORS as error:
                    self.problem = f"can't be unpacked any further ({error})"
                    self._is_over = True
                    break
                if data:
                    return data
        return None

    def _feed(self, packed: bytes) -> None:
        """Take what was read; b"" is the end."""
        self._is_read = not packed
        if self._unpacker is not None:
            self._unpacker.feed(packed)
            return
        self._start += packed
        if len(self._start) >= MAGIC_BYTES or self._is_read:
            self._unpacker = Unpacker(self._start)
            self._unpacker.feed(self._start)
            self._start = b""
            if self._unpacker.compression is not None:
                self.size = None

    def _read_packed(self) -> bytes | None:
        if self._descriptor is None:
            return b""
        try:
            if self._poll is not None and not self._poll.poll(0):
                return None
            return os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:  # another reader of the same pipe was quicker
            return None
        except OSError as error:
            self.problem = f"can't be read any further ({error.strerror})"
            return b""

    def _end(self) -> None:
        self._is_over = True
        unpacker = self._unpacker
        if unpacker is not None and unpacker.is_within_member and self.problem is None:
            self.problem = f"is cut: its {unpacker.compression} compression has no end"
            self.is_cut = True


_WHAT_TO_PIPE = (
    "Pipe a recording or a packet capture into it: `tcpdump -U -w - port 80 | wirespan replay -`, or name a "
    "file."
)


class StreamedItems(Generic[T]):
    """What a reader makes of a stream, as it comes. The reader yields None when it has to wait."""

    def __init__(
        self, stream: InputStream, items: Iterator[T | None], is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Begin. Once `is_stopped` says so, what is there is read, and then all is over."""
        self.exhausted = False
        """Whether no further item comes."""
        self._stream = stream
        self._items = items
        self._is_stopped = is_stopped

    def at_hand(self, timeout_seconds: float) -> Iterator[T]:
        """Yield the items that are there, having waited `timeout_seconds` at most for the first.

        The caller may leave off before the last one, and come again unless a stop was asked for.
        """
        is_last = self.exhausted = self._is_stopped()
        deadline = time.monotonic() + (LAST_WAIT_SECONDS if is_last else timeout_seconds)
        waits = True
        for item in self._items:
            if item is not None:
                waits = is_last
                yield item
                continue
            left = deadline - time.monotonic()
            if not waits or left <= 0:
                return
            self._stream.wait(left)
        self.exhausted = True

    def close(self) -> None:
        """Release the input. Idempotent."""
        self.exhausted = True
        with contextlib.suppress(OSError):
            self._stream.close()
