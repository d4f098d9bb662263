"""Attaching programs to places in executable files, in all processes that map them.

Owns the two ways that kernels have for it: one link for many places (uprobe_multi, Linux 6.6 and later, which
needs CAP_BPF and CAP_PERFMON), or a perf event for each (CAP_SYS_ADMIN). It must not know what the places
mean. Errors are OSError. Thread-safe.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from pathlib import Path

from ebpf import bpf_syscalls
from ebpf.btf import KernelTypes
from ebpf.tls.probes import ProbePoint, TlsProgram

UPROBE_EVENTS = Path("/sys/bus/event_source/devices/uprobe")
"""Where the kernel says that it has uprobes, and by which number."""

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_CLOSE_ON_EXEC = 8  # PERF_FLAG_FD_CLOEXEC
_SET_PROGRAM, _ENABLE = 0x40042408, 0x2400  # PERF_EVENT_IOC_SET_BPF, PERF_EVENT_IOC_ENABLE
# struct perf_event_attr (112 bytes, PERF_ATTR_SIZE_VER5): type, size, config, four words, bp_type and
# wakeup_events, config1, config2, and what is zero
_ATTRIBUTES = struct.Struct("<IIQ32x8xQQ40x")


def probe_attach_type(types: KernelTypes) -> int:
    """Return the attach type that programs of probes are loaded with: it differs by the way of attaching."""
    return bpf_syscalls.ATTACH_UPROBE_MULTI if types.has_name("bpf_uprobe_multi_link") else 0


class ProbeAttachment:
    """Probes in one file, until `close`."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = list(descriptors)

    def close(self) -> None:
        """Detach. Idempotent. The kernel takes up to a tenth of a second for each perf event."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def attach(file: int, points: Sequence[ProbePoint], programs: Mapping[TlsProgram, int]) -> ProbeAttachment:
    """Attach loaded programs, given by their descriptors, to places of an open file. Raises OSError.

    Returns come first: a thread that enters a function while this goes on finds its return probed, or finds
    no probe at all.
    """
    path = f"/proc/self/fd/{file}"
    offsets: dict[TlsProgram, list[int]] = defaultdict(list)
    for point in points:
        offsets[point.program].append(point.offset)
    descriptors: list[int] = []
    try:
        for program in sorted(offsets, key=lambda program: not program.is_uretprobe):
            descriptors += _attach_program(
                programs[program], path, offsets[program], is_return=program.is_uretprobe
            )
    except OSError:
        ProbeAttachment(descriptors).close()
        raise
    return ProbeAttachment(descriptors)


def _attach_program(program: int, path: str, offsets: Sequence[int], *, is_return: bool) -> list[int]:
    if _has_links():
        return [bpf_syscalls.attach_uprobes(program, path, offsets, is_return=is_return)]
    descriptors: list[int] = []
    try:
        for offset in offsets:
            descriptors.append(_open_event(path, offset, is_return=is_return))
            ioctl(descriptors[-1], _SET_PROGRAM, program)
            ioctl(descriptors[-1], _ENABLE, 0)
    except OSError:
        ProbeAttachment(descriptors).close()
        raise
    return descriptors


def _has_links() -> bool:
    return _kernel_version() >= (6, 6)


def _kernel_version() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def _open_event(path: str, offset: int, *, is_return: bool) -> int:
    kind = int((UPROBE_EVENTS / "type").read_text(encoding="ascii"))
    # in the form `config:0`
    bit = int((UPROBE_EVENTS / "format" / "retprobe").read_text(encoding="ascii").partition(":")[2])
    text = ctypes.create_string_buffer(os.fsencode(path))
    attributes = ctypes.create_string_buffer(
        _ATTRIBUTES.pack(kind, _ATTRIBUTES.size, is_return << bit, ctypes.addressof(text), offset),
        _ATTRIBUTES.size,
    )
    number = _PERF_EVENT_OPEN[platform.machine()]
    # -1: every process; an event of a uprobe fires on all processors, whichever it is opened on
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(number, attributes, -1, 0, -1, _CLOSE_ON_EXEC)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor
