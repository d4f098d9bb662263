"""Reads requests by recv and answers them through io_uring, on a free port that it prints.

No system call carries the bytes of an answer, so none of them can be captured.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

_SETUP, _ENTER = 425, 426
_SEND = 26
"""IORING_OP_SEND."""
_GETEVENTS = 1
_PARAMETERS_BYTES = 120
_SQES_OFFSET = 0x1000_0000
_CQ_OFFSET = 0x800_0000
_SQE_BYTES, _CQE_BYTES = 64, 16
_libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    """An io_uring that sends one buffer at a time."""

    def __init__(self) -> None:
        parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
        self._descriptor = _libc.syscall(_SETUP, 4, parameters)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        entries, cq_entries = struct.unpack_from("II", parameters, 0)
        # Of struct io_sqring_offsets and io_cqring_offsets: head, tail, mask, then what is used here.
        _, self._sq_tail, self._sq_mask, _, _, _, self._array = struct.unpack_from("7I", parameters, 40)
        self._cq_head, _, self._cq_mask, _, _, self._cqes = struct.unpack_from("6I", parameters, 80)
        self._submissions = mmap.mmap(self._descriptor, self._array + 4 * entries, offset=0)
        self._completions = mmap.mmap(
            self._descriptor, self._cqes + _CQE_BYTES * cq_entries, offset=_CQ_OFFSET
        )
        self._entries = mmap.mmap(self._descriptor, _SQE_BYTES * entries, offset=_SQES_OFFSET)

    def send(self, descriptor: int, data: bytes) -> int:
        """Send and wait for the result: the bytes that went, or a negative error number."""
        buffer = ctypes.create_string_buffer(data, len(data))
        (tail,) = struct.unpack_from("I", self._submissions, self._sq_tail)
        (mask,) = struct.unpack_from("I", self._submissions, self._sq_mask)
        index = tail & mask
        entry = struct.pack("BBHiQQII", _SEND, 0, 0, descriptor, 0, ctypes.addressof(buffer), len(data), 0)
        self._entries[index * _SQE_BYTES : (index + 1) * _SQE_BYTES] = entry.ljust(_SQE_BYTES, b"\0")
        struct.pack_into("I", self._submissions, self._array + 4 * index, index)
        struct.pack_into("I", self._submissions, self._sq_tail, (tail + 1) & 0xFFFF_FFFF)
        _libc.syscall(_ENTER, self._descriptor, 1, 1, _GETEVENTS, None, 0)
        (head,) = struct.unpack_from("I", self._completions, self._cq_head)
        (mask,) = struct.unpack_from("I", self._completions, self._cq_mask)
        _, result = struct.unpack_from("Qi", self._completions, self._cqes + _CQE_BYTES * (head & mask))
        struct.pack_into("I", self._completions, self._cq_head, (head + 1) & 0xFFFF_FFFF)
        return int(result)


def main() -> None:
    """Serve one connection after the other until killed."""
    ring = Ring()
    with socket.create_server((sys.argv[1], 0)) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - how the test learns the port
        while True:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65_536):
                    if ring.send(connection.fileno(), ANSWER) != len(ANSWER):
                        raise OSError("the answer was not sent")


if __name__ == "__main__":
    main()
