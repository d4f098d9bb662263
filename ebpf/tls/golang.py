"""Go's crypto/tls: where to probe a Go program.

Owns what is known of Go: its functions' names, its calling convention by version, and that a uretprobe must
never be put on a Go program, whose runtime ends it when it finds a foreign return address while it moves a
stack. So each return instruction is a point of its own.
"""

from __future__ import annotations

import re

from ebpf.tls.elf import ElfFile, Machine, MalformedFileError
from ebpf.tls.gopclntab import FunctionTable, GoFunction
from ebpf.tls.machine_code import return_offsets
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack

MAX_FUNCTION_BYTES = 1 << 16
"""Of one function: crypto/tls.(*Conn).Write has 2 kB."""
MAX_RETURNS = 128
"""Return instructions of one function; each is a probe. Write has some ten."""

_CONN = "crypto/tls.(*Conn)."
_TRANSFERS = (
    (_CONN + "Read", TlsProgram.GO_READ, TlsProgram.GO_RETURN),
    (_CONN + "Write", TlsProgram.GO_WRITE, TlsProgram.GO_RETURN),
)
_ENTRIES = (
    (_CONN + "clientHandshake", TlsProgram.GO_HANDSHAKE),
    (_CONN + "serverHandshake", TlsProgram.GO_HANDSHAKE),
    (_CONN + "Close", TlsProgram.GO_CLOSE),
)

_REGISTER_ABI_SINCE = {Machine.X86_64: (1, 17), Machine.AARCH64: (1, 18)}
"""Arguments in registers: the release notes of Go 1.17 and 1.18."""

_VERSION = re.compile(r"go(\d{1,3})\.(\d{1,3})[^\s\0]*")
_BUILD_INFORMATION = b"\xff Go buildinf:"
_MAX_VERSION_BYTES = 128


def find_go(elf: ElfFile, table: FunctionTable) -> TlsStack | None:
    """Say where to probe a Go program with this function table; None when it has no crypto/tls in it."""
    if not any(table.has_name(name) for name, _entry, _return in _TRANSFERS):
        return None
    version = _version(elf)
    obstacle = _calling_convention(elf, table, version)
    if obstacle is None:
        points = _points(elf, table)
        if points:
            return TlsStack(name="go", version=version, points=points)
        obstacle = "the code of crypto/tls can't be read"
    return TlsStack(name="go", version=version, obstacle=obstacle)


def _points(elf: ElfFile, table: FunctionTable) -> tuple[ProbePoint, ...]:
    """Return all points; none when those of a transfer are not completely known."""
    points: list[ProbePoint] = []
    for name, entry, returning in _TRANSFERS:
        function = table.find(name)
        if function is None:
            continue
        offset = elf.code_offset_of(function.address)
        returns = _returns(elf, function)
        if offset is None or not returns:
            return ()
        points.append(ProbePoint(entry, offset))
        points += (ProbePoint(returning, offset + place) for place in returns)
    if not points:
        return ()
    for name, entry in _ENTRIES:
        function = table.find(name)
        offset = None if function is None else elf.code_offset_of(function.address)
        if offset is not None:
            points.append(ProbePoint(entry, offset))
    return tuple(points)


def _returns(elf: ElfFile, function: GoFunction) -> tuple[int, ...] | None:
    code = elf.code_at(function.address, function.size) if 0 < function.size <= MAX_FUNCTION_BYTES else b""
    returns = return_offsets(code, elf.machine)
    return returns if returns is not None and len(returns) <= MAX_RETURNS else None


def _calling_convention(elf: ElfFile, table: FunctionTable, version: str | None) -> str | None:
    """Return what is in the way of reading arguments from registers, None when nothing is."""
    if not table.is_older_than_go_1_18:
        return None
    if table.is_older_than_go_1_16:
        return f"built with Go {version or 'before 1.16'}, before the register ABI"
    match = None if version is None else _VERSION.fullmatch("go" + version)
    if match is None:
        return "built with Go 1.16 or 1.17, which can't be distinguished here"
    if (int(match[1]), int(match[2])) < _REGISTER_ABI_SINCE[elf.machine]:
        return f"built with Go {version}, before the register ABI"
    return None


def _version(elf: ElfFile) -> str | None:
    """Return the version that the program says it was built with: src/debug/buildinfo of Go."""
    section = elf.section_names.get(".go.buildinfo")
    for place in elf.occurrences(_BUILD_INFORMATION, elf.data_ranges if section is None else [section]):
        try:
            text = _version_text(elf, place)
        except MalformedFileError:
            continue
        match = _VERSION.search(text)
        if match:
            return match[0].removeprefix("go")
    return None


def _version_text(elf: ElfFile, place: int) -> str:
    header = elf.read(place, 33)
    pointer_size, flags = header[14], header[15]
    if flags & 2:  # Go 1.18 and later: the string itself, behind its length
        return elf.read(place + 33, min(header[32], _MAX_VERSION_BYTES)).decode("latin-1")
    if pointer_size != 8 or flags & 1:
        return ""
    string = elf.pointer_at(elf.address_of(place + 16))
    size = int.from_bytes(elf.read_at(string + 8, 8), "little")
    return elf.read_at(elf.pointer_at(string), min(size, _MAX_VERSION_BYTES)).decode("latin-1")
