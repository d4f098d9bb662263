"""The TLS libraries and the programs of this host, before a process uses them.

Owns finding and opening them. A program that lives for 20 ms is over before a library that was unused
until then is probed; where programs of this host may be captured, installed ones are probed beforehand.
Contract: a host without glibc's cache has no libraries, and what can't be read is left out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.procfs import PROC
from agent.tls.mapped_files import UnreadableFileError, open_folder_in_root, open_in_root

MAX_CACHE_BYTES = 4_194_304
"""Hosts with thousands of libraries have some 200 KiB."""
MAX_LIBRARIES = 64
"""Of each some versions, for some architectures."""

MAX_PROGRAMS = 64
"""Installed programs that a selection means: it may be a pattern that all of them fit."""
PROGRAM_FOLDERS = ("/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin")

_CACHE = b"/etc/ld.so.cache"
_PATH = re.compile(rb"(/[^\0]+/([^/\0]+))\0")


def open_libraries(may_hold_tls: Callable[[str], bool], proc: Path = PROC) -> Iterator[tuple[bytes, int]]:
    """Yield path and descriptor of each library that may hold TLS by its name. The caller closes it."""
    root = _open_root(proc)
    try:
        names: dict[bytes, None] = {}
        for path, name in _PATH.findall(_read_cache(root)):
            if may_hold_tls(os.fsdecode(name)):
                names[path] = None
        for path in list(names)[:MAX_LIBRARIES]:
            try:
                descriptor = open_in_root(root, path)
            except (OSError, UnreadableFileError):
                continue
            # The cache names links; several lead to one file.
            yield os.fsencode(Path(f"/proc/self/fd/{descriptor}").readlink()), descriptor
    finally:
        os.close(root)


def open_programs(is_meant: Callable[[str], bool], proc: Path = PROC) -> Iterator[tuple[str, int]]:
    """Yield path and descriptor of each program that is meant by its path. The caller closes it."""
    root = _open_root(proc)
    found = 0
    try:
        for folder in PROGRAM_FOLDERS:
            for name in _list_folder(root, folder):
                path = f"{folder}/{name}"
                if found >= MAX_PROGRAMS or not is_meant(path):
                    continue
                with contextlib.suppress(OSError, UnreadableFileError):
                    yield path, open_in_root(root, os.fsencode(path))
                    found += 1
    finally:
        os.close(root)


def _list_folder(root: int, folder: str) -> list[str]:
    try:
        descriptor = open_folder_in_root(root, os.fsencode(folder))
    except OSError:
        return []
    try:
        return sorted(os.listdir(descriptor))  # noqa: PTH208  # of a descriptor
    finally:
        os.close(descriptor)


def _open_root(proc: Path) -> int:
    """Open the root of the host: in a container that shows the host's processes it is that of the first."""
    flags = os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY
    try:
        return os.open(proc / "1" / "root", flags)
    except OSError:
        return os.open("/", flags)


def _read_cache(root: int) -> bytes:
    """Return the cache: a table of numbers, and strings that end with NUL."""
    try:
        descriptor = open_in_root(root, _CACHE)
    except (OSError, UnreadableFileError):
        return b""
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return file.read(MAX_CACHE_BYTES)
