"""Implementations of TLS that are recognized and can't be probed.

Owns how they are recognized and the words that say why their traffic stays unseen, so that a user does not
look for spans that can't be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ebpf.tls.elf import ElfFile
from ebpf.tls.probes import TlsStack

_NSS = TlsStack(
    name="nss",
    obstacle="NSS reads and writes through NSPR, whose functions also serve plain files and sockets",
)
_JAVA = TlsStack(name="java", obstacle="JSSE encrypts in bytecode; there is no function to probe")

_BY_FUNCTION = {
    "SSL_ImportFD": _NSS,
    "NSS_NoDB_Init": _NSS,
    "PR_ImportTCPSocket": _NSS,
    "mbedtls_ssl_read": TlsStack(name="mbedtls", obstacle="there are no probes for Mbed TLS"),
    "wolfSSL_read": TlsStack(name="wolfssl", obstacle="there are no probes for wolfSSL"),
    "s2n_recv": TlsStack(name="s2n", obstacle="there are no probes for s2n-tls"),
}

FUNCTIONS = tuple(_BY_FUNCTION)
LINKED_FUNCTIONS = ("mbedtls_ssl_read", "wolfSSL_read", "s2n_recv")
"""Those of libraries that programs link statically."""

_JAVA_LIBRARY = "libjvm.so"

_OPENSSL_SOURCE = b"ssl/ssl_lib.c"
"""Errors say in which file they arose. BoringSSL's ends in .cc."""

_RUSTLS_SOURCE = re.compile(rb"rustls(?:-(\d+\.\d+\.\d+)[^/\0]{0,40})?/src/")
"""Panics say in which file they arose: `…/rustls-0.23.12/src/…`, or a vendored copy."""
_RUSTLS_NEEDLE = b"/rustls"
_MAX_RUSTLS_BYTES = 80


def find_unsupported(elf: ElfFile, functions: Mapping[str, int], name: str) -> TlsStack | None:
    """Say what is in a file that has nothing to probe, given those of FUNCTIONS that are in it."""
    for function, stack in _BY_FUNCTION.items():
        if function in functions:
            return stack
    if name == _JAVA_LIBRARY:
        return _JAVA
    return _find_nameless_openssl(elf) or _find_rustls(elf)


def _find_nameless_openssl(elf: ElfFile) -> TlsStack | None:
    place = next(elf.occurrences(_OPENSSL_SOURCE, elf.data_ranges), None)
    if place is None:
        return None
    end = place + len(_OPENSSL_SOURCE)
    is_boringssl = elf.read(end, min(1, elf.size - end)) == b"c"
    return TlsStack(
        name="boringssl" if is_boringssl else "openssl", obstacle="statically linked without symbols"
    )


def _find_rustls(elf: ElfFile) -> TlsStack | None:
    for place in elf.occurrences(_RUSTLS_NEEDLE, elf.data_ranges):
        match = _RUSTLS_SOURCE.match(elf.read(place, min(_MAX_RUSTLS_BYTES, elf.size - place)), 1)
        if match:
            return TlsStack(
                name="rustls",
                version=match[1].decode() if match[1] else None,
                obstacle="rustls is compiled into the program, without functions of a fixed shape to probe",
            )
    return None
