"""GnuTLS: where to probe a file that holds its functions.

Owns the names of these functions. Those that hand out packets instead of bytes (gnutls_record_recv_packet),
or collect before they send (gnutls_record_cork), are not followed: what passes through them is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ebpf.tls.elf import ElfFile
from ebpf.tls.machine_code import MAX_PROLOGUE_BYTES, Value, first_call
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack

ANCHOR = "gnutls_record_send"

_SEND_WITH_PADDING = "gnutls_record_send2"

_PROGRAMS = {
    "gnutls_record_recv": (TlsProgram.GNUTLS_READ, TlsProgram.CALL_RETURN),
    ANCHOR: (TlsProgram.GNUTLS_WRITE, TlsProgram.CALL_RETURN),
    "gnutls_handshake": (TlsProgram.GNUTLS_HANDSHAKE, TlsProgram.HANDSHAKE_RETURN),
    "gnutls_deinit": (TlsProgram.GNUTLS_FREE,),
}

FUNCTIONS = (*_PROGRAMS, _SEND_WITH_PADDING)

_HANDED_OVER = (Value.FIRST, Value.SECOND, Value.THIRD, Value.ZERO, Value.ZERO)
"""gnutls_record_send2(session, buffer, size, 0 pad, 0 flags)."""

_VERSION = re.compile(rb"GnuTLS (\d+\.\d+\.\d+)")
"""Of a line that it logs: `Enabled GnuTLS 3.7.9 logging...`."""


def find_gnutls(elf: ElfFile, functions: Mapping[str, int]) -> TlsStack | None:
    """Say where to probe, given the addresses of those of FUNCTIONS that are in the file."""
    if ANCHOR not in functions:
        return None
    places = {name: functions[name] for name in _PROGRAMS if name in functions}
    if _SEND_WITH_PADDING in functions and _hands_over(elf, functions[ANCHOR]):
        # Both pass through it, and a probe on each would see the same bytes twice.
        places[ANCHOR] = functions[_SEND_WITH_PADDING]
    points = [
        ProbePoint(program, offset)
        for name, address in places.items()
        if (offset := elf.code_offset_of(address)) is not None
        for program in _PROGRAMS[name]
    ]
    return TlsStack(name="gnutls", version=_version(elf), points=tuple(points)) if points else None


def _hands_over(elf: ElfFile, send: int) -> bool:
    """Whether gnutls_record_send is gnutls_record_send2 without padding, as it is from GnuTLS 3.6.3 on."""
    call = first_call(elf.code_at(send, MAX_PROLOGUE_BYTES), send, elf.machine)
    return call is not None and call.arguments == _HANDED_OVER


def _version(elf: ElfFile) -> str | None:
    for place in elf.occurrences(b"GnuTLS ", elf.data_ranges):
        match = _VERSION.match(elf.read(place, min(32, elf.size - place)))
        if match:
            return match[1].decode()
    return None
