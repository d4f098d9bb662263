"""An image with a Python in it, made of this machine's own files: in a second, and without a network."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

INTERPRETER = Path("/usr/bin/python3").resolve()
STANDARD_LIBRARY = Path("/usr/lib") / INTERPRETER.name
PROGRAMS = Path(__file__).with_name("programs")

# What no program in a container asks for, and takes most of the room.
_LEFT_OUT = re.compile(
    r"[^/]+/[^/]+/[^/]+/(test|idlelib|tkinter|turtledemo|lib2to3|ensurepip|distutils|pydoc_data|dist-packages"
    r"|unittest|config-.*)(/.*)?"
)


def write_image(path: Path) -> None:
    """Write a tar of the root file system, for `docker import`: `python3`, and `programs` in /srv."""
    with tarfile.open(path, "w") as tar:
        tar.add(INTERPRETER, "usr/bin/python3")
        (tls,) = STANDARD_LIBRARY.glob("lib-dynload/_ssl.*.so")
        for library in dict.fromkeys(_shared_libraries(INTERPRETER) + _shared_libraries(tls)):
            tar.add(library.resolve(), str(library).lstrip("/"))
        tar.add(STANDARD_LIBRARY, str(STANDARD_LIBRARY).lstrip("/"), filter=_select)
        tar.add(PROGRAMS, "srv")


def _shared_libraries(program: Path) -> list[Path]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def _select(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.fullmatch(entry.name) else entry
