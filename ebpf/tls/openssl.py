"""OpenSSL and its relatives: where to probe a file that holds their functions.

Owns the names of these functions and the choice between an exported function and the internal one under it.
A probe on an instruction that the kernel must step through costs ten times one that it emulates, and the
exported functions of common builds begin so, while the internal ones begin with a push. An internal function
is taken only when the code shows that every exported one hands it exactly the arguments that its source says
(ssl/ssl_lib.c, crypto/bio/bio_lib.c); else the exported ones are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ebpf.tls.elf import ElfFile
from ebpf.tls.machine_code import MAX_PROLOGUE_BYTES, Call, Value, first_call, is_emulated
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack

ANCHOR = "SSL_write"
"""A program that uses the library for anything has this function."""
_HANDSHAKE = "SSL_do_handshake"
"""GnuTLS's imitation of OpenSSL, which calls the functions that are probed of GnuTLS itself, lacks it."""

FUNCTIONS = (
    "SSL_read",
    "SSL_read_ex",
    "SSL_write",
    "SSL_write_ex",
    "SSL_write_ex2",
    "SSL_sendfile",
    "SSL_do_handshake",
    "SSL_free",
    "BIO_write",
    "BIO_write_ex",
    "SSL_CTX_set_grease_enabled",
    "BORINGSSL_self_test",
)

_BORINGSSL_FUNCTIONS = frozenset({"SSL_CTX_set_grease_enabled", "BORINGSSL_self_test"})
"""Functions of BoringSSL that OpenSSL does not have: one in its libssl, one in its libcrypto."""

_VERSION = re.compile(rb"OpenSSL (\d+\.\d+\.\d+[a-z]*)\S* +\d{1,2} [A-Z][a-z]{2} \d{4}\0")
"""OPENSSL_VERSION_TEXT: `OpenSSL 3.0.19 27 Jan 2026`."""
_MAX_VERSION_BYTES = 80

_GIVEN = (Value.FIRST, Value.SECOND, Value.THIRD)
_ALL_GIVEN = (*_GIVEN, Value.FOURTH, Value.FIFTH)


def find_openssl(elf: ElfFile, functions: Mapping[str, int], name: str) -> TlsStack | None:
    """Say where to probe, given the addresses of those of FUNCTIONS that are in the file.

    `name` is the file's: of a file without these only libcrypto counts, whose BIO_write is where the library
    of another file puts its ciphertext.
    """
    points = _Points(elf, functions)
    if ANCHOR in functions and _HANDSHAKE in functions:
        chosen = points.of_connections() + points.of_ciphertext()
    elif name.startswith("libcrypto"):
        chosen = points.of_ciphertext()
    else:
        return None
    if not chosen:
        return None
    return TlsStack(
        name="openssl" if _BORINGSSL_FUNCTIONS.isdisjoint(functions) else "boringssl",
        version=_version(elf),
        points=tuple(chosen),
    )


def _version(elf: ElfFile) -> str | None:
    for place in elf.occurrences(b"OpenSSL ", elf.data_ranges):
        match = _VERSION.match(elf.read(place, min(_MAX_VERSION_BYTES, elf.size - place)))
        if match:
            return match[1].decode()
    return None


class _Points:
    """The points of one file, put together."""

    def __init__(self, elf: ElfFile, functions: Mapping[str, int]) -> None:
        self._elf = elf
        self._functions = functions

    def of_connections(self) -> list[ProbePoint]:
        """Where plaintext passes, and where a connection begins and ends."""
        return [
            *self._reading(),
            *self._writing(),
            *self._with_return(TlsProgram.OPENSSL_SENDFILE, "SSL_sendfile"),
            *self._with_return(TlsProgram.OPENSSL_HANDSHAKE, _HANDSHAKE, TlsProgram.HANDSHAKE_RETURN),
            *self._at(TlsProgram.OPENSSL_FREE, self._functions.get("SSL_free")),
        ]

    def of_ciphertext(self) -> list[ProbePoint]:
        """Where it leaves the library: only the entry is looked at, where the size is the third argument."""
        internal = self._internal(
            BIO_write=(*_GIVEN, Value.LOCAL),
            BIO_write_ex=(*_GIVEN, Value.FOURTH),
        )
        where = self._functions.get("BIO_write") if internal is None else internal
        return self._at(TlsProgram.OPENSSL_BIO_WRITE, where)

    def _reading(self) -> list[ProbePoint]:
        internal = self._internal(
            SSL_read=(*_GIVEN, Value.LOCAL),
            SSL_read_ex=(*_GIVEN, Value.FOURTH),
        )
        if internal is not None:
            return self._both(TlsProgram.OPENSSL_READ_EX, internal)
        return [
            *self._with_return(TlsProgram.OPENSSL_READ, "SSL_read"),
            *self._with_return(TlsProgram.OPENSSL_READ_EX, "SSL_read_ex"),
        ]

    def _writing(self) -> list[ProbePoint]:
        if "SSL_write_ex2" in self._functions:
            return self._writing_with_flags()
        internal = self._internal(
            SSL_write=(*_GIVEN, Value.LOCAL),
            SSL_write_ex=(*_GIVEN, Value.FOURTH),
        )
        if internal is not None:
            return self._both(TlsProgram.OPENSSL_WRITE_EX, internal)
        return [
            *self._with_return(TlsProgram.OPENSSL_WRITE, "SSL_write"),
            *self._with_return(TlsProgram.OPENSSL_WRITE_EX, "SSL_write_ex"),
        ]

    def _writing_with_flags(self) -> list[ProbePoint]:
        """From OpenSSL 3.3 on SSL_write_ex is SSL_write_ex2 without flags: it calls it, unless inlined.

        Where it does, a probe on each would see the same bytes twice.
        """
        inner, outer = self._first_call("SSL_write_ex2"), self._first_call("SSL_write_ex")
        without_flags = (*_GIVEN, Value.ZERO, Value.FOURTH)
        calls_it = (
            outer is not None
            and outer.arguments == without_flags
            and (inner is None or outer.target != inner.target)
        )
        internal = self._internal(
            SSL_write=(*_GIVEN, Value.ZERO, Value.LOCAL),
            SSL_write_ex2=_ALL_GIVEN,
            **({} if calls_it else {"SSL_write_ex": without_flags}),
        )
        if internal is not None:
            return self._both(TlsProgram.OPENSSL_WRITE_EX2, internal)
        points = [
            *self._with_return(TlsProgram.OPENSSL_WRITE, "SSL_write"),
            *self._with_return(TlsProgram.OPENSSL_WRITE_EX2, "SSL_write_ex2"),
        ]
        return points if calls_it else points + self._with_return(TlsProgram.OPENSSL_WRITE_EX, "SSL_write_ex")

    def _first_call(self, name: str) -> Call | None:
        address = self._functions.get(name)
        if address is None:
            return None
        return first_call(self._elf.code_at(address, MAX_PROLOGUE_BYTES), address, self._elf.machine)

    def _internal(self, **expected: tuple[Value, ...]) -> int | None:
        """Return the address of the function that each of these hands over to with just these arguments.

        The first named is the one with an `int` for its size, which it may check. None also when nothing is
        to be gained: when that one begins with an instruction that the kernel emulates, or the internal one
        doesn't.
        """
        plain, *_others = expected
        if plain not in self._functions or self._is_emulated(self._functions[plain]):
            return None
        target = None
        for name, arguments in expected.items():
            call = self._first_call(name)
            if call is None or call.arguments[: len(arguments)] != arguments:
                return None
            if call.is_checked and name != plain:
                return None
            if call.target != (target or call.target):
                return None
            target = call.target
        return target if target is not None and self._is_emulated(target) else None

    def _is_emulated(self, address: int) -> bool:
        return is_emulated(self._elf.code_at(address, 16), self._elf.machine)

    def _with_return(
        self, program: TlsProgram, name: str, returning: TlsProgram = TlsProgram.CALL_RETURN
    ) -> list[ProbePoint]:
        address = self._functions.get(name)
        return [] if address is None else self._both(program, address, returning)

    def _both(
        self, program: TlsProgram, address: int, returning: TlsProgram = TlsProgram.CALL_RETURN
    ) -> list[ProbePoint]:
        return [*self._at(program, address), *self._at(returning, address)]

    def _at(self, program: TlsProgram, address: int | None) -> list[ProbePoint]:
        offset = None if address is None else self._elf.code_offset_of(address)
        return [] if offset is None else [ProbePoint(program, offset)]
