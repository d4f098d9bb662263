"""What is known of files: each inspected once as long as it stays as it is.

Owns the memory of inspections and what makes two files the same. What is in a file belongs to `ebpf.tls`; how
one is opened to `mapped_files`. Contract: no exception leaves it. A file that makes the inspection fail is
one without TLS, counted, and logged once.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from ebpf.tls.probes import TlsStack

MAX_INSPECTED = 4_096
"""Files whose inspection is remembered, some 200 bytes each: more than a node has programs in use."""

log = logging.getLogger(__name__)

InspectFile: TypeAlias = Callable[[int, str], TlsStack | None]
"""(descriptor, name) → the TLS stack that a file holds. Raises OSError when it can't be read."""


class MayHoldTls(Protocol):
    """Whether a file may hold TLS by its name alone: asked for each file that is mapped, so it is quick."""

    def __call__(self, name: str, *, is_executable: bool) -> bool:
        """Return False when a file of this name is never worth a look."""


class FileIdentity(NamedTuple):
    """What the kernel's probes know a file by."""

    device: int
    inode: int


class FileVersion(NamedTuple):
    """A file and what it was when it was looked at: a file that was written to is another one."""

    identity: FileIdentity
    size: int
    modified_unix_ns: int


@dataclass(slots=True)
class Inspection:
    """What was found out of a file."""

    stack: TlsStack | None
    has_complained: bool = False
    """Whether it was said in the log that something is wrong with the file."""


def load_inspector() -> Inspector:
    """Return an inspector with nothing remembered."""
    # Imported late: a run without TLS needs no disassembler.
    from ebpf.tls.inspection import inspect_file, may_hold_tls

    return Inspector(inspect_file, may_hold_tls)


class Inspector:
    """Inspections, remembered. Not thread-safe."""

    def __init__(self, inspect: InspectFile, may_hold_tls: MayHoldTls) -> None:
        self.may_hold_tls = may_hold_tls
        self.inspected = 0
        """Files inspected, those forgotten and inspected again twice."""
        self.failures = 0
        """Those of them that made the inspection fail."""
        self._inspect = inspect
        self._known: OrderedDict[FileVersion, Inspection] = OrderedDict()

    def look(self, descriptor: int, name: str) -> tuple[FileVersion, Inspection]:
        """Return what a file is, and what is in it."""
        status = os.fstat(descriptor)
        identity = FileIdentity(status.st_dev, status.st_ino)
        version = FileVersion(identity, status.st_size, status.st_mtime_ns)
        known = self._known.get(version)
        if known is not None:
            self._known.move_to_end(version)
            return version, known
        self.inspected += 1
        found = Inspection(None)
        try:
            found.stack = self._inspect(descriptor, name)
        except Exception as error:  # noqa: BLE001  # the file's author is unknown; see the contract
            self.failures += 1
            found.has_complained = True
            log.warning("%s can't be inspected for TLS: %s: %s", name, type(error).__name__, error)
        self._known[version] = found
        if len(self._known) > MAX_INSPECTED:
            self._known.popitem(last=False)
        return version, found
