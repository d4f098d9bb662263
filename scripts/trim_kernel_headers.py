#!/usr/bin/env python3
"""Copies of a tree of kernel headers what bcc reads for this program: `trim_kernel_headers.py TREE TARGET`.

That is what the roots below include, and what those files include, whatever the conditions around it: some
dozen files more than a compiler opens, and the same ones whatever the kernel's configuration. Nothing is
compiled, so it works for an architecture that this machine is not.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOTS = (
    # forced into every compilation by bcc (src/cc/frontends/clang/kbuild_helper.cc)
    "linux/kconfig.h",
    # of bcc's own headers (src/cc/export/helpers.h)
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
    "linux/version.h",
    "linux/log2.h",
    "asm/page.h",
)

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+[<"]([^>"]+)[>"]', re.MULTILINE)
_PROGRAM = Path(__file__).resolve().parent.parent / "ebpf/bpf"


def find_roots() -> set[str]:
    """Return what bcc and the program text include of the kernel."""
    included = {name for source in sorted(_PROGRAM.glob("*.[ch]")) for name in _includes(source)}
    return {*ROOTS, *(name for name in included if not (_PROGRAM / name).exists())}


def search_path(tree: Path) -> list[Path]:
    """Return the folders in which bcc looks for a header; the order is of no use where all are taken."""
    path = [tree / "include", tree / "include/uapi", tree / "include/generated/uapi"]
    # Every architecture's sources are in the tree; what was generated is there for the one it is for.
    for generated in sorted((tree / "arch").glob("*/include/generated")):
        include = generated.parent
        path += [include, include / "generated", include / "uapi", include / "generated/uapi"]
    return path


def find_headers(tree: Path) -> set[Path]:
    """Return every header of the tree that the roots lead to."""
    folders = search_path(tree)
    found: set[Path] = set()
    pending = [path for name in find_roots() for path in _resolve(name, folders)]
    while pending:
        header = pending.pop()
        if header in found:
            continue
        found.add(header)
        for name in _includes(header):
            pending += _resolve(name, [header.parent, *folders])
    return found


def _includes(source: Path) -> Iterator[str]:
    for match in _INCLUDE.finditer(source.read_text(encoding="utf-8", errors="replace")):
        yield match[1]


def _resolve(name: str, folders: list[Path]) -> list[Path]:
    return [folder / name for folder in folders if (folder / name).is_file()]


def main() -> None:
    """Copy them."""
    tree, target = (Path(argument) for argument in sys.argv[1:])
    headers = find_headers(tree)
    for header in headers:
        copy = target / header.relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(header, copy)
    size = sum(header.stat().st_size for header in headers)
    print(f"{len(headers)} kernel headers, {size} bytes")  # noqa: T201 (for the build's log)


if __name__ == "__main__":
    main()
