"""Executable files made by hand: as small as they can be, and with whatever is wrong in them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ebpf.tls.elf import Machine
from ebpf.tls.inspection import inspect_file
from ebpf.tls.probes import TlsStack

DATA_ADDRESS = 0x10000
TEXT_ADDRESS = 0x400000
TEXT_OFFSET = 0x8000
"""Where the two segments are; data begins with the file."""
RODATA_ADDRESS = DATA_ADDRESS + 240
"""What follows the headers."""
SLOT = 256
"""Bytes between the beginnings of two functions."""

_HEADER_BYTES, _SEGMENT_BYTES, _SECTION_BYTES, _SYMBOL_BYTES = 64, 56, 64, 24
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ = 0, 4, 5, 6, 7, 8
_DT_GNU_HASH, _DT_VERSYM = 0x6FFFFEF5, 0x6FFFFFF0


@dataclass(frozen=True)
class Branch:
    """A call of another function of the image, or a jump to it."""

    opcode: bytes
    target: str


def call(target: str) -> Branch:
    return Branch(b"\xe8", target)


def jump(target: str) -> Branch:
    return Branch(b"\xe9", target)


Code = Sequence[bytes | Branch]


@dataclass(kw_only=True)
class Image:
    """What is to be in a file."""

    functions: Mapping[str, Code] = field(default_factory=dict)
    exported: Sequence[str] | None = None
    """Which of them the dynamic symbols name; all of them by default."""
    linked: Sequence[str] = ()
    """Which of them the full symbol table names."""
    hash_style: str = "gnu"
    hidden_versions: frozenset[str] = frozenset()
    """Those whose version is not the default one: names as in `functions`, up to an `@`."""
    undefined: Sequence[str] = ()
    rodata: bytes = b""
    rodata_name: str = ".rodata"
    relocations: Sequence[tuple[int, int]] = ()
    """Address and value of pointers that are there once the file is loaded."""
    machine: int = Machine.X86_64
    kind: int = 3
    has_sections: bool = True
    patches: Mapping[str, bytes] = field(default_factory=dict)
    """What replaces the beginning of a part: `gnu_hash`, `hash`, `dynsym`, `symtab`."""

    def address(self, name: str) -> int:
        return TEXT_ADDRESS + SLOT * list(self.functions).index(name)

    def offset(self, name: str) -> int:
        return TEXT_OFFSET + SLOT * list(self.functions).index(name)

    def build(self) -> bytes:
        return _Builder(self).build()


class _Builder:
    def __init__(self, image: Image) -> None:
        self.image = image
        self.data = bytearray(_HEADER_BYTES + 3 * _SEGMENT_BYTES)
        self.sections: list[tuple[str, int, int, int, int, int]] = [("", 0, 0, 0, 0, 0)]

    def put(self, name: str, content: bytes, kind: int = 1, flags: int = 2, link: int = 0) -> int:
        """Add a part that has a section; return its address."""
        self.data += bytes(-len(self.data) % 16)
        offset = len(self.data)
        patch = self.image.patches.get(name.strip(".").replace(".", "_"), b"")
        self.data += patch + content[len(patch) :]
        self.sections.append((name, kind, flags, offset, max(len(content), len(patch)), link))
        return DATA_ADDRESS + offset

    def build(self) -> bytes:
        image = self.image
        exported = list(image.functions if image.exported is None else image.exported)
        self.put(image.rodata_name, image.rodata)
        entries = self.dynamic(exported)
        dynamic = self.put(".dynamic", b"".join(struct.pack("<qQ", *entry) for entry in entries), kind=6)
        if image.linked:
            strings, symbols = self.symbols(list(image.linked), [])
            self.put(".symtab", symbols, kind=2, flags=0, link=len(self.sections) + 1)
            self.put(".strtab", strings, kind=3, flags=0)
        text = self.text()
        self.sections.append((".text", 1, 6, TEXT_OFFSET, len(text), 0))
        data = self.finish(dynamic, 16 * len(entries), text)
        return bytes(data)

    def dynamic(self, exported: list[str]) -> list[tuple[int, int]]:
        image = self.image
        strings, symbols = self.symbols(exported, list(image.undefined))
        entries = [
            (_DT_STRTAB, self.put(".dynstr", strings, kind=3)),
            (_DT_SYMTAB, self.put(".dynsym", symbols, kind=11)),
        ]
        names = [name.partition("@")[0] for name in [*image.undefined, *exported]]
        if image.hash_style == "gnu":
            entries.append((_DT_GNU_HASH, self.put(".gnu.hash", self.gnu_hash(names))))
        elif image.hash_style == "sysv":
            entries.append((_DT_HASH, self.put(".hash", self.sysv_hash(names))))
        if image.hidden_versions:
            versions = [
                0x8002 if name in image.hidden_versions else 2 for name in [*image.undefined, *exported]
            ]
            entries.append(
                (_DT_VERSYM, self.put(".gnu.version", struct.pack(f"<{len(versions) + 1}H", 0, *versions)))
            )
        if image.relocations:
            relative = {Machine.X86_64: 8, Machine.AARCH64: 1027}[Machine(image.machine)]
            table = b"".join(
                struct.pack("<QQq", where, relative, value) for where, value in image.relocations
            )
            entries += [(_DT_RELA, self.put(".rela.dyn", table, kind=4)), (_DT_RELASZ, len(table))]
        return [*entries, (_DT_NULL, 0)]

    def symbols(self, defined: list[str], undefined: list[str]) -> tuple[bytes, bytes]:
        strings = b"\0"
        symbols = bytes(_SYMBOL_BYTES)
        for name in [*undefined, *defined]:
            address = 0 if name in undefined else self.image.address(name)
            symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 1 if address else 0, address, SLOT)
            strings += name.partition("@")[0].encode() + b"\0"
        return strings, symbols

    @staticmethod
    def gnu_hash(names: list[str]) -> bytes:
        """One bucket, whose chain is all symbols."""
        hashes = []
        for name in names:
            value = 5381
            for byte in name.encode():
                value = (value * 33 + byte) & 0xFFFFFFFF
            hashes.append(value & ~1)
        if hashes:
            hashes[-1] |= 1
        return struct.pack(f"<4IQI{len(hashes)}I", 1, 1, 1, 6, 2**64 - 1, 1 if names else 0, *hashes)

    @staticmethod
    def sysv_hash(names: list[str]) -> bytes:
        chain = [*range(2, len(names) + 1), 0] if names else []
        return struct.pack(f"<4I{len(chain)}I", 1, len(names) + 1, 1 if names else 0, 0, *chain)

    def text(self) -> bytes:
        text = bytearray()
        for name, pieces in self.image.functions.items():
            for piece in pieces:
                if isinstance(piece, Branch):
                    end = TEXT_ADDRESS + len(text) + 5
                    text += piece.opcode + struct.pack("<i", self.image.address(piece.target) - end)
                else:
                    text += piece
            text += b"\xcc" * (self.image.address(name) - TEXT_ADDRESS + SLOT - len(text))
        return bytes(text)

    def finish(self, dynamic: int, dynamic_size: int, text: bytes) -> bytearray:
        image = self.image
        data = self.data
        data_size = len(data)
        assert data_size <= TEXT_OFFSET, "the data segment ends before the text"
        data += bytes(TEXT_OFFSET - data_size) + text
        names = b"\0"
        headers = b""
        self.sections.append((".shstrtab", 3, 0, 0, 0, 0))
        for name, kind, flags, offset, size, link in self.sections:
            address = TEXT_ADDRESS if kind == 1 and flags & 4 else DATA_ADDRESS + offset
            place, names = len(names), names + name.encode() + b"\0"
            if name == ".shstrtab":
                offset, size = len(data), len(names)
            headers += struct.pack("<IIQQQQIIQQ", place, kind, flags, address, offset, size, link, 0, 1, 0)
        data += names + bytes(-len(data + names) % 16)
        sections_offset = len(data) if image.has_sections else 0
        data += headers if image.has_sections else b""
        count = len(self.sections) if image.has_sections else 0
        data[:_HEADER_BYTES] = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            image.kind,
            image.machine,
            1,
            TEXT_ADDRESS,
            _HEADER_BYTES,
            sections_offset,
            0,
            _HEADER_BYTES,
            _SEGMENT_BYTES,
            3,
            _SECTION_BYTES,
            count,
            count - 1 if count else 0,
        )
        data[_HEADER_BYTES : _HEADER_BYTES + 3 * _SEGMENT_BYTES] = b"".join(
            struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, 0x1000)
            for kind, flags, offset, address, size in (
                (1, 4, 0, DATA_ADDRESS, data_size),
                (1, 5, TEXT_OFFSET, TEXT_ADDRESS, len(text)),
                (2, 4, dynamic - DATA_ADDRESS, dynamic, dynamic_size),
            )
        )
        return data


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    """A descriptor of a file of this content."""
    descriptor = os.memfd_create("image")
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def counted_reads() -> Iterator[list[int]]:
    """Sizes of what is read meanwhile."""
    sizes: list[int] = []

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return read(descriptor, size, offset)

    read = os.pread
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", pread)
        yield sizes


def inspect(content: bytes, name: str = "program") -> TlsStack | None:
    with opened(content) as descriptor:
        return inspect_file(descriptor, name)


ENTRY = b"\x48\x83\xec\x18"  # sub rsp, 24
CHECK_SIZE = b"\x85\xd2\x78\x20"  # test edx, edx; js
WIDEN_SIZE = b"\x48\x63\xd2"  # movsxd rdx, edx
LOCAL_4TH = b"\x48\x8d\x4c\x24\x08"  # lea rcx, [rsp + 8]
LOCAL_5TH = b"\x4c\x8d\x44\x24\x08"  # lea r8, [rsp + 8]
ZERO_4TH = b"\x31\xc9"  # xor ecx, ecx
SHIFT_4TH = b"\x49\x89\xc8\x31\xc9"  # mov r8, rcx; xor ecx, ecx
LEAVE = b"\x48\x83\xc4\x18\xc3"  # add rsp, 24; ret
PUSHING = (b"\x41\x55\x41\x5d\xc3",)  # push r13; pop r13; ret

OPENSSL_3_0: dict[str, Code] = {
    "ssl_read_internal": PUSHING,
    "ssl_write_internal": PUSHING,
    "bio_write_intern": PUSHING,
    "SSL_read": (ENTRY, CHECK_SIZE, LOCAL_4TH, WIDEN_SIZE, call("ssl_read_internal"), LEAVE),
    "SSL_read_ex": (ENTRY, call("ssl_read_internal"), LEAVE),
    "SSL_write": (ENTRY, CHECK_SIZE, LOCAL_4TH, WIDEN_SIZE, call("ssl_write_internal"), LEAVE),
    "SSL_write_ex": (ENTRY, call("ssl_write_internal"), LEAVE),
    "SSL_sendfile": PUSHING,
    "SSL_do_handshake": PUSHING,
    "SSL_free": PUSHING,
    "BIO_write": (ENTRY, CHECK_SIZE, LOCAL_4TH, WIDEN_SIZE, call("bio_write_intern"), LEAVE),
    "BIO_write_ex": (ENTRY, call("bio_write_intern"), LEAVE),
}
"""The shape of Debian's builds."""

OPENSSL_3_3: dict[str, Code] = OPENSSL_3_0 | {
    "SSL_write": (ENTRY, CHECK_SIZE, ZERO_4TH, WIDEN_SIZE, LOCAL_5TH, call("ssl_write_internal"), LEAVE),
    "SSL_write_ex": (SHIFT_4TH, jump("SSL_write_ex2")),
    "SSL_write_ex2": (ENTRY, call("ssl_write_internal"), LEAVE),
}


@dataclass(frozen=True)
class GoTable:
    """A function table, with a header of this magic, of functions at these distances from the first."""

    magic: int
    functions: Sequence[tuple[str, int]]
    text_address: int = TEXT_ADDRESS
    end: int = 0
    """Where the last function ends."""

    def build(self, *, states_text: bool = True, minimum: int = 1) -> bytes:
        is_old = self.magic == 0xFFFFFFFA
        names, places = b"\0", []
        for name, _start in self.functions:
            places.append(len(names))
            names += name.encode() + b"\0"
        names += bytes(-len(names) % 8)
        words = 7 if is_old else 8
        number = struct.Struct("<Q" if is_old else "<I")
        header_bytes = 8 + 8 * words
        functab_bytes = (2 * len(self.functions) + 1) * number.size
        records, functab = b"", b""
        for (_name, start), place in zip(self.functions, places, strict=True):
            stated = self.text_address + start if is_old else start
            functab += number.pack(stated) + number.pack(functab_bytes + len(records))
            records += number.pack(stated) + struct.pack("<I", place) + bytes(8)
        end = self.end or (self.functions[-1][1] + SLOT if self.functions else 0)
        functab += number.pack(self.text_address + end if is_old else end)
        text = [] if is_old else [self.text_address if states_text else 0]
        units = header_bytes + len(names)
        numbers = [len(self.functions), 0, *text, header_bytes, units, units, units, units]
        header = struct.pack("<IBBBB", self.magic, 0, 0, minimum, 8) + struct.pack(f"<{words}Q", *numbers)
        return header + names + functab + records
