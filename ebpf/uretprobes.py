"""Whether a uretprobe is safe in this kernel for programs that seccomp confines.

Owns one trial, and the kernels that need it. From Linux 6.11 on x86-64 a probed function returns by way of a
system call, `uretprobe`, which seccomp filters did not know and answered as they answer the unknown: with
systemd's filters, for one, the program dies at its next return (systemd issue 34615). Linux 6.14, and many a
stable release before it, let that call pass unfiltered. The number of a release doesn't show which has been
mended, so it is tried.

Contract: nothing but a child of this process is probed: the trial's event is bound to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

HAZARD = "a uretprobe would end programs that seccomp confines, in this kernel (mended in Linux 6.14)"
UNKNOWN_HAZARD = (
    "in this kernel a uretprobe may end programs that seccomp confines (mended in Linux 6.14),"
    " and it can't be tried: that takes CAP_SYS_ADMIN"
)
TRIAL_SECONDS = 10.0
"""How long the child may take; it needs some 30 ms."""

_FIRST_KERNEL, _MENDED_KERNEL = (6, 11), (6, 14)
_UPROBE_UNIT = Path("/sys/bus/event_source/devices/uprobe")
_PERF_EVENT_OPEN = 298  # on x86-64, the only machine that needs the trial
_CLOSE_ON_EXEC = 8
_EVENT_ATTRIBUTES = struct.Struct("<IIQQQQQIIQQ")
"""The first version of struct perf_event_attr that has uprobe_path and probe_offset."""

# After prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) only read, write, exit and sigreturn are left to it.
_CHILD = """
import ctypes, sys
libc = ctypes.CDLL(None)
labs, write, prctl, syscall = libc.labs, libc.write, libc.prctl, libc.syscall
address = ctypes.cast(labs, ctypes.c_void_p).value
labs(-1), write(1, b"", 0)
for line in open("/proc/self/maps"):
    span, _, offset, _, _, *path = line.split(None, 5)
    start, end = (int(each, 16) for each in span.split("-"))
    if start <= address < end:
        break
print(address - start + int(offset, 16), *path, end="", flush=True)
sys.stdin.readline()
prctl(22, 1, 0, 0, 0)
labs(-1)
write(1, b"alive", 5)
syscall(60, 0)
"""


@functools.cache
def find_hazard() -> str | None:
    """Return why no uretprobe should be attached on this host; None when nothing speaks against it."""
    if not needs_trial(platform.machine(), platform.release()):
        return None
    try:
        return None if survives_seccomp() else HAZARD
    except (OSError, ValueError, subprocess.SubprocessError):
        return UNKNOWN_HAZARD


def needs_trial(machine: str, release: str) -> bool:
    """Return whether a kernel is one of those that may end a confined program."""
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else _FIRST_KERNEL
    return machine == "x86_64" and _FIRST_KERNEL <= version < _MENDED_KERNEL


def survives_seccomp() -> bool:
    """Return whether a confined child lives on when a probed function of it has returned.

    Raises OSError, ValueError or SubprocessError when that can't be found out.
    """
    with (
        subprocess.Popen(  # noqa: S603 (this interpreter, and the text above)
            [sys.executable, "-I", "-S", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child,
        contextlib.ExitStack() as closing,
    ):
        closing.callback(child.kill)
        assert child.stdin is not None
        assert child.stdout is not None
        offset, _, path = child.stdout.readline().rstrip(b"\n").partition(b" ")
        event = _probe_returns(child.pid, path, int(offset))
        closing.callback(os.close, event)
        said, _ = child.communicate(b"\n", TRIAL_SECONDS)
        hits = int.from_bytes(os.read(event, 8), sys.byteorder)
        if said == b"alive" and not hits:
            raise ValueError("the probe was never met")
        return said == b"alive"


def _probe_returns(pid: int, path: bytes, offset: int) -> int:
    """Attach a counting uretprobe to one process and return its descriptor."""
    unit = int((_UPROBE_UNIT / "type").read_text(encoding="ascii"))
    bit = int((_UPROBE_UNIT / "format" / "retprobe").read_text(encoding="ascii").removeprefix("config:"))
    text = ctypes.create_string_buffer(path)
    attributes = ctypes.create_string_buffer(
        _EVENT_ATTRIBUTES.pack(
            unit, _EVENT_ATTRIBUTES.size, 1 << bit, 0, 0, 0, 0, 0, 0, ctypes.addressof(text), offset
        ),
        _EVENT_ATTRIBUTES.size,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(_PERF_EVENT_OPEN, attributes, pid, -1, -1, _CLOSE_ON_EXEC)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor
