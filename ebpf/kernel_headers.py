"""Finding a tree of kernel headers that satisfies bcc.

bcc requires headers whatever a program includes, but which kernel they belong to does not matter: the program
takes every offset from the running kernel's type information. So any tree will do, and the pinned one comes
first.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

SETTINGS = ("WIRESPAN_KERNEL_HEADERS", "BCC_KERNEL_SOURCE")
"""Environment variables that name a tree explicitly; what they name is used or refused, never passed over."""

_MARKER = Path("include/linux/kconfig.h")
"""bcc forces this file into every compilation, so a tree without it is useless."""


class KernelHeadersError(Exception):
    """No usable tree. The message says what was looked for and what installs it."""


def _candidates(prefix: Path, root: Path, release: str) -> Iterator[Path]:
    yield prefix / "share/wirespan/kernel-headers"
    yield root / "lib/modules" / release / "build"
    yield from sorted((root / "usr/src").glob("linux-headers-*"), reverse=True)


def find_kernel_headers(
    environment: Mapping[str, str] = os.environ,
    prefix: Path = Path(sys.prefix),
    root: Path = Path("/"),
    release: str | None = None,
) -> Path | None:
    """Return the tree to compile against, or None when bcc is to unpack the kernel's own (kheaders.tar.xz).

    Order: the settings, the pinned set below `prefix`, the running kernel's build tree, the kernel's own
    archive, any installed tree. Raises KernelHeadersError when a setting names a tree that is not one, or
    nothing is there.
    """
    release = release or platform.release()
    for setting in SETTINGS:
        if value := environment.get(setting):
            if not (Path(value) / _MARKER).is_file():
                raise KernelHeadersError(
                    f"{setting} names {value}, which is no tree of kernel headers ({_MARKER} is missing). "
                    "Correct it, or unset it to use the headers wirespan finds."
                )
            return Path(value)
    archive = root / "sys/kernel/kheaders.tar.xz"
    for candidate in _candidates(prefix, root, release):
        if candidate.is_relative_to(root / "usr/src") and archive.is_file():
            return None
        if (candidate / _MARKER).is_file():
            return candidate
    if archive.is_file():
        return None
    package = f"linux-headers-{'arm64' if platform.machine() == 'aarch64' else 'amd64'}"
    raise KernelHeadersError(
        f"bcc needs kernel headers, of any kernel. Install them with `apt-get install {package}`, "
        f"or name a tree in {SETTINGS[0]}."
    )
