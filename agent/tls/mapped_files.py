"""Files that a process has mapped as code, and opening them to be read.

Owns the way from a line of /proc/PID/maps to a descriptor of that very file. It must not know what is in a
file, and never decides whether one is of interest.

Contract: what a process says of paths is not trusted. A path is resolved below the root of the process and no
link leads out of it; what was found is compared with what is mapped; and nothing is opened for reading before
it is known to be a regular file, so that no FIFO, terminal or device is touched. Every read is bounded. A
process that is gone is ProcessLookupError, a file that can't be had UnreadableFileError; both are normal. A
process that /proc hides (mount option hidepid=invisible) reads as one that is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.procfs import PROC, is_alive
from otel_bridge.foreign_text import printable

MAX_MAPS_BYTES = 16_777_216
"""A process may have 65,530 mappings (vm.max_map_count), of some 100 bytes each; some raise that."""

_READ_BYTES = 65_536
_NOT_PERMITTED = (
    "no permission: processes of other users take CAP_SYS_PTRACE, files that only their owner may read"
    " CAP_DAC_READ_SEARCH"
)
_OPENAT2 = 437  # the same number on every architecture; Linux 5.6
_OPEN_HOW = struct.Struct("<QQQ")
"""struct open_how: flags, mode, resolve."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_DELETED = b" (deleted)"
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) .{4} [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) ([0-9]+) +(/.*)")


class UnreadableFileError(Exception):
    """A file that is mapped can't be had; the message says why, for people to read."""


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file as a line of /proc/PID/maps has it."""

    start: int
    """First address of the mapping."""
    end: int
    device: int
    """As os.makedev packs it. Of overlayfs it is often not that of stat(2)."""
    inode: int
    path: bytes
    """As the kernel prints it: relative to the root of the reading process where it can be reached from
    there, else to the root of the process that has it mapped."""
    is_deleted: bool
    """Whether the path leads there no more: the file was removed, or another took its place."""

    @property
    def name(self) -> str:
        """The last component of its path."""
        return show(self.path.rpartition(b"/")[2])


def show(path: bytes) -> str:
    """Return a path for people: what is not printable is escaped, since its author is unknown."""
    return printable(path.decode(errors="backslashreplace"))


def mapped_code(tgid: int, proc: Path = PROC) -> list[MappedFile]:
    """Return the files that a process has mapped as code, each once, its executable among them.

    Raises ProcessLookupError when it is gone, UnreadableFileError when it may not be looked at.
    """
    try:
        raw = _read_maps(proc / str(tgid) / "maps")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    except OSError as error:
        raise UnreadableFileError(_explain(error)) from None
    return parse_maps(raw)


def parse_maps(raw: bytes) -> list[MappedFile]:
    """Return the files that are mapped as code; a last line without its end is left out."""
    files: dict[tuple[int, int], MappedFile] = {}
    for line in raw.split(b"\n")[:-1]:
        # Few lines are of code: the others are left out before anything is parsed.
        blank = line.find(b" ")
        match = _MAPPING.fullmatch(line) if line[blank + 3 : blank + 4] == b"x" else None
        if match is None:
            continue
        start, end, major, minor, inode, path = match.groups()
        device = os.makedev(int(major, 16), int(minor, 16))
        is_deleted = path.endswith(_DELETED)
        # The kernel escapes the newline and nothing else, not even the backslash (seq_path in
        # show_map_vma): a name that holds `\012` as it stands won't be found, and is had by its addresses.
        path = path.removesuffix(_DELETED).replace(b"\\012", b"\n")
        file = MappedFile(int(start, 16), int(end, 16), device, int(inode), path, is_deleted)
        files.setdefault((device, file.inode), file)
    return list(files.values())


def open_mapped(tgid: int, file: MappedFile, proc: Path = PROC) -> int:
    """Return a descriptor from which a mapped file can be read. The caller closes it.

    Raises ProcessLookupError and UnreadableFileError.
    """
    process = proc / str(tgid)
    reason = "it was deleted or replaced"
    if not file.is_deleted:
        try:
            return _open_below_root(process, file)
        except OSError as error:
            reason = _explain(error)
        except UnreadableFileError as error:
            reason = str(error)
    mapping = process / "map_files" / f"{file.start:x}-{file.end:x}"
    try:
        return _open_regular(mapping, file.inode)
    except (OSError, UnreadableFileError) as error:
        # One that is listed may have given everything back: it is listed until its parent has waited for it.
        if not is_alive(tgid, proc):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        if isinstance(error, PermissionError):
            reason += "; reading it nevertheless takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"
        raise UnreadableFileError(reason) from None


def open_executable(tgid: int, proc: Path = PROC) -> int:
    """Return a descriptor of the program that a process runs, also of a deleted one. Raises as `open_mapped`.

    The kernel holds it under /proc/PID/exe whatever its path leads to, so no path is resolved.
    """
    try:
        return _open_regular(proc / str(tgid) / "exe")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    except OSError as error:
        raise UnreadableFileError(_explain(error)) from None


def _read_maps(path: Path) -> bytes:
    parts = []
    left = MAX_MAPS_BYTES
    with path.open("rb", buffering=0) as file:
        while left > 0 and (part := file.read(min(left, _READ_BYTES))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _open_below_root(process: Path, file: MappedFile) -> int:
    """Open a path as the process would. Raises OSError, and UnreadableFileError when it is another file."""
    link = process / "root"
    root = os.open(link, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for path in _paths_below(link, file.path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, UnreadableFileError):
                return open_in_root(root, path, file.inode)
    finally:
        os.close(root)
    raise UnreadableFileError("its path leads to another file, or nowhere")


def _paths_below(link: Path, path: bytes) -> Iterator[bytes]:
    """Return what a path may be below the root that a link leads to."""
    yield path
    # Of a process with a root of its own in this mount namespace (chroot) the kernel prints the path from our
    # root on.
    root = os.fsencode(link.readlink())
    if root != b"/" and path.startswith(root + b"/"):
        yield path[len(root) :]


def open_in_root(root: int, path: bytes, inode: int | None = None) -> int:
    """Return a descriptor of a regular file below a directory; links can't lead out of it.

    Raises OSError, and UnreadableFileError when it is something else, or not the inode that is given.
    """
    found = _find_in_root(root, path)
    try:
        return _reopen(found, inode)
    finally:
        os.close(found)


def open_folder_in_root(root: int, path: bytes) -> int:
    """Return a descriptor of a folder below a directory, to be listed. Raises OSError."""
    return _find_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)


def _find_in_root(root: int, path: bytes, flags: int = os.O_PATH) -> int:
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    descriptor: int = _libc().syscall(_OPENAT2, root, path, how, len(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


def _open_regular(link: Path, inode: int | None = None) -> int:
    """Open what a link of /proc leads to."""
    found = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        return _reopen(found, inode)
    finally:
        os.close(found)


def _reopen(found: int, inode: int | None) -> int:
    """Open for reading what an O_PATH descriptor stands for, if it is a regular file, and the right one."""
    status = os.fstat(found)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFileError("it is not a regular file")
    # The device is not compared: overlayfs shows one in maps and another in stat.
    if inode is not None and status.st_ino != inode:
        raise UnreadableFileError("its path leads to another file")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(f"/proc/self/fd/{found}", flags)


def _explain(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return _NOT_PERMITTED
    return os.strerror(error.errno or 0).lower()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
