"""The function table of Go programs: where a function begins and ends.

Owns the layouts of that table, which Go's runtime needs for stack traces and which therefore survives
`-ldflags "-s -w"`. It must not know which functions matter.

Layout: Go's src/runtime/symtab.go (pcHeader, functab, moduledata) and src/runtime/runtime2.go (_func), of Go
1.16, 1.18, 1.20 and 1.26; debug/gosym/pclntab.go reads all of them.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from ebpf.tls.elf import ElfFile, Machine, MalformedFileError, Range

MAX_FUNCTIONS = 2_000_000
"""The largest programs have some three hundred thousand; the table of this many is 16 MB."""
MAX_CANDIDATES = 64
"""Places that might be a header: the seven bytes that mark it are in no other known program."""

_MAGIC_GO_1_2, _MAGIC_GO_1_16, _MAGIC_GO_1_18, _MAGIC_GO_1_20 = 0xFFFFFFFB, 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
_MAGICS = frozenset({_MAGIC_GO_1_2, _MAGIC_GO_1_16, _MAGIC_GO_1_18, _MAGIC_GO_1_20})
_COMMON_BYTES = {
    Machine.X86_64: b"\xff\xff\xff\0\0\x01\x08",
    Machine.AARCH64: b"\xff\xff\xff\0\0\x04\x08",
}
"""Of the header, from its second byte on: magic, padding, sizes of an instruction and of a pointer."""

_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_HEADER_BYTES = 8
_WORD = struct.Struct("<Q")
_MODULEDATA_NAMES = 8
_MODULEDATA_TEXT = 176
"""Offsets of `funcnametab` and `text`. The same in Go 1.16 to 1.26."""


@dataclass(frozen=True, slots=True)
class GoFunction:
    """Where a function is loaded."""

    address: int
    size: int


def find_function_table(elf: ElfFile) -> FunctionTable | None:
    """Return the table of a Go program, None of any other.

    A linker other than Go's own puts the table of a position-independent program into `.data.rel.ro`, where
    no section header names it: then it is found by its header.
    """
    for name in _SECTIONS:
        section = elf.section_names.get(name)
        if section is not None and (table := FunctionTable.at(elf, section.offset)) is not None:
            return table
    for place in islice(elf.occurrences(_COMMON_BYTES[elf.machine], elf.data_ranges), MAX_CANDIDATES):
        table = FunctionTable.at(elf, place - 1)
        if table is not None:
            return table
    return None


class FunctionTable:
    """One table. What is asked of it raises MalformedFileError where the table contradicts itself."""

    def __init__(self, elf: ElfFile, offset: int, magic: int, end: int) -> None:
        self._elf = elf
        self._offset = offset
        self._end = end
        self.is_older_than_go_1_16 = magic == _MAGIC_GO_1_2
        self.is_older_than_go_1_18 = magic in (_MAGIC_GO_1_2, _MAGIC_GO_1_16)
        if self.is_older_than_go_1_16:
            self._names = Range(0, offset, end - offset)
            return
        words = 7 if self.is_older_than_go_1_18 else 8
        header = struct.unpack(f"<{words}Q", elf.read(offset + _HEADER_BYTES, 8 * words))
        self._functions = header[0]
        names, units = header[-5], header[-4]
        self._functab_offset = offset + header[-1]
        if self._functions > MAX_FUNCTIONS or not names < units <= end - offset or header[-1] > end - offset:
            raise MalformedFileError("a function table that can't be")
        self._names = Range(0, offset + names, units - names)
        self._number_bytes = 8 if self.is_older_than_go_1_18 else 4

    @classmethod
    def at(cls, elf: ElfFile, offset: int) -> FunctionTable | None:
        """Return the table whose header is at this place, None when there is none."""
        end = next(
            (part.offset + part.size for part in elf.data_ranges if 0 <= offset - part.offset < part.size), 0
        )
        if offset + _HEADER_BYTES > min(end, elf.size):
            return None
        header = elf.read(offset, _HEADER_BYTES)
        magic = int.from_bytes(header[:4], "little")
        if magic not in _MAGICS or header[1:] != _COMMON_BYTES[elf.machine]:
            return None
        try:
            return cls(elf, offset, magic, min(end, elf.size))
        except MalformedFileError:
            return None

    def has_name(self, name: str) -> bool:
        """Whether the table names a function of this name, which may have been inlined everywhere."""
        return self._name_offset(name) is not None

    def find(self, name: str) -> GoFunction | None:
        """Return where a function is. Not of tables from before Go 1.16."""
        number = self._name_offset(name)
        if number is None:
            return None
        starts, places = self._functab
        # A record of the table begins with where its function starts; its name comes next.
        records = Range(0, self._functab_offset, self._end - self._functab_offset)
        for place in self._elf.occurrences(struct.pack("<I", number), [records]):
            record = place - self._number_bytes
            start = int.from_bytes(self._elf.read(record, self._number_bytes), "little")
            index = bisect_left(starts, start, 0, self._functions)
            if (
                index < self._functions
                and starts[index] == start
                and places[index] == record - self._functab_offset
            ):
                return GoFunction(self._base_address + start, max(starts[index + 1] - start, 0))
        return None

    def _name_offset(self, name: str) -> int | None:
        place = next(self._elf.occurrences(b"\0" + name.encode() + b"\0", [self._names]), None)
        return None if place is None else place + 1 - self._names.offset

    @cached_property
    def _functab(self) -> tuple[memoryview, memoryview]:
        """The starts of all functions, that of the end last, and the places of their records."""
        size = (2 * self._functions + 1) * self._number_bytes
        table = memoryview(self._elf.read(self._functab_offset, size))
        numbers = table.cast("Q") if self.is_older_than_go_1_18 else table.cast("I")
        return numbers[0::2], numbers[1::2]

    @cached_property
    def _base_address(self) -> int:
        """The address that starts of functions count from: that of the first one, `runtime.text`."""
        if self.is_older_than_go_1_18:
            return 0
        table = self._elf.address_of(self._offset)
        stated = self._elf.pointer_at(table + _HEADER_BYTES + 2 * _WORD.size)
        if stated:
            return stated
        # Go 1.26 left it to `moduledata`, which begins with a pointer to the table.
        names = self._elf.address_of(self._names.offset)
        for module in self._modules(table):
            if self._elf.pointer_at(module + _MODULEDATA_NAMES) == names:
                return self._elf.pointer_at(module + _MODULEDATA_TEXT)
        raise MalformedFileError("a function table that doesn't say where its code is")

    def _modules(self, table: int) -> Iterator[int]:
        for address in self._elf.pointers_to(table):
            try:
                self._elf.offset_of(address + _MODULEDATA_TEXT)
            except MalformedFileError:
                continue
            yield address
