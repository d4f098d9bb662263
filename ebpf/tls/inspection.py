"""Which implementation of TLS is in a file, and where to probe it.

Owns the order of the questions. It must not keep anything: the caller remembers the files that it has seen.
Contract: an open file in, a record or None out, whatever the file holds; work and memory have an end for
every file: about 0.1 s and some MB for a program of 100 MB, about a second for one that was made to last.
"""

from __future__ import annotations

import struct

from ebpf.tls import gnutls, openssl, unsupported
from ebpf.tls.elf import ElfFile, MalformedFileError
from ebpf.tls.golang import find_go
from ebpf.tls.gopclntab import find_function_table
from ebpf.tls.probes import TlsStack
from ebpf.tls.symbols import find_exported_functions, find_linked_functions

_LIBRARIES = (
    "libssl",
    "libcrypto",
    "libgnutls",
    "libnss3",
    "libnspr4",
    "libjvm.so",
    "libmbedtls",
    "libwolfssl",
    "libs2n",
    "librustls",
    # that have a TLS implementation in them
    "libboringssl",
    "libconscrypt",
    "libnetty_tcnative",
    "libgrpc",
    "cygrpc.",
    "libnode.",
    "libpython3",
    "_ssl.",
    "_rust.",
)
"""How the names of libraries begin that may hold TLS."""

_EXPORTED = (*openssl.FUNCTIONS, *gnutls.FUNCTIONS, *unsupported.FUNCTIONS)


def may_hold_tls(name: str, *, is_executable: bool) -> bool:
    """Whether a file is worth an inspection, by its name: any program is, and some libraries.

    `is_executable` is whether it is the program of a process, not a library that it has loaded.
    """
    return is_executable or name.startswith(_LIBRARIES)


def inspect_file(descriptor: int, name: str) -> TlsStack | None:
    """Return the implementation of TLS that is in an open file; None when there is none.

    `name` is the file's base name in its process's view. The descriptor stays open, and its position where
    it is. A damaged file is one without TLS. Not for two threads at once: they would share a disassembler.
    """
    try:
        return _inspect(ElfFile(descriptor), name)
    except (MalformedFileError, OSError, struct.error):
        return None


def _inspect(elf: ElfFile, name: str) -> TlsStack | None:
    # Go comes first, and alone: a uretprobe for a library that is linked into a Go program would end it.
    table = find_function_table(elf)
    if table is not None:
        return find_go(elf, table)
    functions = find_exported_functions(elf, _EXPORTED)
    if not functions:
        functions = _linked_functions(elf)
    return (
        openssl.find_openssl(elf, functions, name)
        or gnutls.find_gnutls(elf, functions)
        or unsupported.find_unsupported(elf, functions, name)
    )


def _linked_functions(elf: ElfFile) -> dict[str, int]:
    for anchor, names in (
        (openssl.ANCHOR, openssl.FUNCTIONS),
        (gnutls.ANCHOR, gnutls.FUNCTIONS),
        *((name, (name,)) for name in unsupported.LINKED_FUNCTIONS),
    ):
        functions = find_linked_functions(elf, anchor, names)
        if functions:
            return functions
    return {}
