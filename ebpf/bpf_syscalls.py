"""The bpf system call as far as a capture needs it: programs and maps. No LLVM behind it.

Owns the foreign-function surface: libc's `syscall` for programs, libbcc_bpf (half a megabyte) for maps. It
must not know what a map is for. Errors are OSError.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

LIBRARY = "libbcc_bpf.so.0"
"""Part of Debian's libbpfcc, which python3-bpfcc depends on."""

PROGRAM_KPROBE = 2
"""BPF_PROG_TYPE_KPROBE, which uprobes are of as well."""
PROGRAM_RAW_TRACEPOINT = 17
"""BPF_PROG_TYPE_RAW_TRACEPOINT."""
PROGRAM_TRACING = 26
"""BPF_PROG_TYPE_TRACING."""
ATTACH_UPROBE_MULTI = 48
"""BPF_TRACE_UPROBE_MULTI: many places of one file by one link. Linux 6.6 and later."""
ATTACH_TRACE_RAW_TP = 23
"""BPF_TRACE_RAW_TP: a raw tracepoint whose arguments have types for the verifier, entered more cheaply."""

_SYSCALL_NUMBER = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _RAW_TRACEPOINT_OPEN, _LINK_CREATE = 5, 17, 28
_ONLY_EXISTING = 2  # BPF_EXIST
_LICENSE = b"GPL"  # the helpers that read memory demand a compatible licence; the C files offer it
_LOG_BYTES = 1 << 20
_PROG_LOAD_ATTRIBUTES = struct.Struct("<IIQQIIQII16sIIIIQIIQII")
_RAW_TRACEPOINT_ATTRIBUTES = struct.Struct("<QI")
_UPROBE_MULTI_ATTRIBUTES = struct.Struct("<IIIIQQQQIII4x")
_UPROBE_RETURN = 1  # BPF_F_UPROBE_MULTI_RETURN


class ProgramRejectedError(OSError):
    """The verifier refused a program; `log` is what it said."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    library.bpf_lookup_elem.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    library.bpf_update_elem.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong]
    library.bpf_delete_elem.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.bpf_get_next_key.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    return library


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL_NUMBER[platform.machine()]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc().syscall(number, command, buffer, len(attributes))
    if result < 0:
        raise _last_error()
    return result


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def possible_processors(listing: str | None = None) -> int:
    """Return how many slots a per-CPU value has: the processors that may ever come up, not those present.

    `listing` is in the form of /sys/devices/system/cpu/possible, which is read by default.
    """
    if listing is None:
        listing = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(re.split(r"[,-]", listing.strip())[-1]) + 1


def load_program(
    name: str, instructions: bytes, program_type: int, attach_type: int = 0, attach_type_number: int = 0
) -> int:
    """Load a program and return its descriptor.

    `attach_type_number` is the BTF number that a PROGRAM_TRACING program is typed by. Raises
    ProgramRejectedError when the verifier refuses, OSError for anything else.
    """
    text = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(_LICENSE)
    log = ctypes.create_string_buffer(_LOG_BYTES)

    def load(log_level: int) -> int:
        attributes = _PROG_LOAD_ATTRIBUTES.pack(
            program_type,
            len(instructions) // 8,
            _address(text),
            _address(license_text),
            log_level,
            len(log) if log_level else 0,
            _address(log) if log_level else 0,
            0,
            0,
            name.encode()[:15],
            0,
            attach_type,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            attach_type_number,
        )
        return _bpf(_PROG_LOAD, attributes)

    try:
        return load(0)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.E2BIG, errno.ENOSPC):
            raise
    # again for the verifier's words, which a first load does not pay for
    try:
        return load(1)
    except OSError as error:
        raise ProgramRejectedError(error.errno or 0, log.value.decode(errors="replace")) from None


def attach_raw_tracepoint(program: int, name: str | None) -> int:
    """Attach a loaded program and return the link's descriptor; closing it detaches.

    Without a name the program goes to the tracepoint that it was typed by.
    """
    text = ctypes.create_string_buffer((name or "").encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, _RAW_TRACEPOINT_ATTRIBUTES.pack(_address(text) if name else 0, program))


def attach_uprobes(program: int, path: str, offsets: Sequence[int], *, is_return: bool) -> int:
    """Attach a program to places of a file, in every process that maps it; return the link's descriptor.

    With `is_return` it runs when the functions that begin there return.
    """
    text = ctypes.create_string_buffer(os.fsencode(path))
    places = (ctypes.c_uint64 * len(offsets))(*offsets)
    attributes = _UPROBE_MULTI_ATTRIBUTES.pack(
        program,
        0,
        ATTACH_UPROBE_MULTI,
        0,
        _address(text),
        ctypes.addressof(places),
        0,
        0,
        len(offsets),
        _UPROBE_RETURN if is_return else 0,
        0,
    )
    return _bpf(_LINK_CREATE, attributes)


class Map:
    """A map by its descriptor, which it owns. Keys and values are packed bytes."""

    def __init__(self, descriptor: int, key_size: int, value_size: int) -> None:
        self.descriptor = descriptor
        self._key_size = key_size
        self._value_size = value_size

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None when there is none."""
        value = ctypes.create_string_buffer(self._value_size)
        if _library().bpf_lookup_elem(self.descriptor, key, value) == 0:
            return value.raw
        if ctypes.get_errno() == errno.ENOENT:
            return None
        raise _last_error()

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of `key`. Raises OSError (E2BIG) when the map is full."""
        if _library().bpf_update_elem(self.descriptor, key, value, 0) != 0:
            raise _last_error()

    def replace(self, key: bytes, value: bytes) -> None:
        """Set the value of `key` if it is there; nothing happens when it is not."""
        if (
            _library().bpf_update_elem(self.descriptor, key, value, _ONLY_EXISTING) != 0
            and ctypes.get_errno() != errno.ENOENT
        ):
            raise _last_error()

    def delete(self, key: bytes) -> None:
        """Remove `key`; nothing happens when it is not there."""
        if _library().bpf_delete_elem(self.descriptor, key) != 0 and ctypes.get_errno() != errno.ENOENT:
            raise _last_error()

    def keys(self) -> Iterator[bytes]:
        """Iterate over the keys.

        A key deleted meanwhile makes the kernel start over, so one may come twice.
        """
        previous: bytes | None = None
        following = ctypes.create_string_buffer(self._key_size)
        while _library().bpf_get_next_key(self.descriptor, previous, following) == 0:
            previous = following.raw
            yield previous

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self.descriptor)
