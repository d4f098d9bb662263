"""Executable files and shared libraries (ELF), as far as finding functions in them needs.

Owns headers, segments, sections and the mapping between addresses and places in the file. It must not know
what is looked for. Any process of the host can show the agent a file: nothing a file says is believed, every
size is bounded before it is read, and whatever contradicts itself is a `MalformedFileError`. Files are read,
never mapped: one that is cut short while it is mapped would end the agent with SIGBUS.

Layout: the System V ABI, chapters 4 and 5, and its supplements for x86-64 and AArch64.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

MAX_SEGMENTS = 128
"""Linked files have some ten."""
MAX_SECTIONS = 512
"""Linked files have some dozens; those with thousands are object files of -ffunction-sections."""
MAX_SEARCHED_BYTES = 96 << 20
"""For one search through a file: Node has 60 MB of data, and the largest programs not much more."""
MAX_OCCURRENCES = 10_000
"""For one search: a file that is full of what is looked for was made to be."""
MAX_READ_BYTES = 64 << 20
"""At once: the table of a million functions is 8 MB."""
MAX_WORK_BYTES = 1 << 30
"""For all of a file, half a second: ten searches through the largest. A read counts as 2 kB more."""

_READ_COST_BYTES = 2048

_CHUNK_BYTES = 1 << 20
_MAX_SECTION_NAMES_BYTES = 1 << 20
_MAX_DYNAMIC_ENTRIES = 4096

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = struct.Struct("<qQ")
_RELOCATION = struct.Struct("<QQq")
_WORD = struct.Struct("<Q")

_64_BIT_LITTLE_ENDIAN = b"\x7fELF\x02\x01\x01"
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_EXECUTE = 1
_SHT_PROGBITS, _SHT_NOBITS = 1, 8
_SHF_ALLOC, _SHF_EXECUTE = 2, 4
_DT_RELA, _DT_RELASZ = 7, 8


class MalformedFileError(Exception):
    """The file is none that can be read here, or contradicts itself."""


class Machine(IntEnum):
    """The processors whose code is understood, by their number in ELF."""

    X86_64 = 62
    AARCH64 = 183


_RELATIVE = {Machine.X86_64: 8, Machine.AARCH64: 1027}
"""The relocation that says: the base of the file, plus a number."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file that are loaded at an address."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Segment(Range):
    """A range as the loader sees it."""

    is_executable: bool


@dataclass(frozen=True, slots=True)
class Section(Range):
    """A range as the linker named it. `link` is the number of the section that belongs to it."""

    kind: int
    flags: int
    link: int


class ElfFile:
    """One open file. Raises MalformedFileError where it can't be read; the descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._work_left = MAX_WORK_BYTES
        self.size = os.fstat(descriptor).st_size
        (ident, kind, machine, _version, _entry, segments, sections, _flags, _header_size) = _HEADER.unpack(
            self.read(0, _HEADER.size)
        )[:9]
        segment_size, segment_count, section_size, section_count, names = struct.unpack(
            "<5H", self.read(54, 10)
        )
        if not ident.startswith(_64_BIT_LITTLE_ENDIAN) or kind not in (_EXECUTABLE, _SHARED):
            raise MalformedFileError("no 64-bit little-endian executable or library")
        try:
            self.machine = Machine(machine)
        except ValueError:
            raise MalformedFileError("code of another processor") from None
        self._is_relocatable = kind == _SHARED
        self.segments, self._dynamic_segment = self._read_segments(segments, segment_size, segment_count)
        self.sections, self.section_names = self._read_sections(sections, section_size, section_count, names)
        self.dynamic = self._read_dynamic()

    def _read_segments(
        self, offset: int, entry_size: int, count: int
    ) -> tuple[tuple[Segment, ...], Range | None]:
        if entry_size != _SEGMENT.size or count > MAX_SEGMENTS:
            raise MalformedFileError("program headers that can't be")
        loaded: list[Segment] = []
        dynamic = None
        for kind, flags, place, address, _physical, size, _memory, _align in _SEGMENT.iter_unpack(
            self.read(offset, count * entry_size)
        ):
            if kind == _PT_LOAD:
                loaded.append(Segment(address, place, size, bool(flags & _PF_EXECUTE)))
            elif kind == _PT_DYNAMIC:
                dynamic = Range(address, place, size)
        return tuple(loaded), dynamic

    def _read_sections(
        self, offset: int, entry_size: int, count: int, names_index: int
    ) -> tuple[tuple[Section, ...], dict[str, Section]]:
        if not offset or not count:  # a program runs without them; `strip` of some makers takes them away
            return (), {}
        if entry_size != _SECTION.size or count > MAX_SECTIONS or names_index >= count:
            raise MalformedFileError("section headers that can't be")
        headers = list(_SECTION.iter_unpack(self.read(offset, count * entry_size)))
        sections = tuple(
            Section(address, place, size, kind, flags, link)
            for _name, kind, flags, address, place, size, link, _info, _align, _entry in headers
        )
        names_section = sections[names_index]
        names = self.read(names_section.offset, min(names_section.size, _MAX_SECTION_NAMES_BYTES))
        named: dict[str, Section] = {}
        for header, section in zip(headers, sections, strict=True):
            end = names.find(b"\0", header[0])
            if section.kind and section.kind != _SHT_NOBITS and end > header[0]:
                named.setdefault(names[header[0] : min(end, header[0] + 64)].decode("latin-1"), section)
        return sections, named

    def _read_dynamic(self) -> dict[int, int]:
        segment = self._dynamic_segment
        if segment is None:
            return {}
        size = min(segment.size, _MAX_DYNAMIC_ENTRIES * _DYNAMIC.size)
        entries: dict[int, int] = {}
        for tag, value in _DYNAMIC.iter_unpack(self.read(segment.offset, size - size % _DYNAMIC.size)):
            if tag == 0:
                break
            entries.setdefault(tag, value)
        return entries

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from the place `offset`."""
        if offset < 0 or size < 0 or size > MAX_READ_BYTES or offset + size > self.size:
            raise MalformedFileError("a part lies outside the file, or is larger than any")
        self._work_left -= size + _READ_COST_BYTES
        if self._work_left < 0:
            raise MalformedFileError("a file that leads from one place to the next without an end")
        data = os.pread(self._descriptor, size, offset)
        if len(data) < size:
            raise MalformedFileError("the file was cut short while it was read")
        return data

    def read_at(self, address: int, size: int) -> bytes:
        """Return exactly `size` bytes that are loaded at `address`."""
        return self.read(self.offset_of(address), size)

    def offset_of(self, address: int) -> int:
        """Return where in the file the byte lies that is loaded at `address`."""
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size:
                return segment.offset + address - segment.address
        raise MalformedFileError("an address that nothing is loaded at")

    def address_of(self, offset: int) -> int:
        """Return the address at which the byte at `offset` is loaded."""
        for segment in self.segments:
            if segment.offset <= offset < segment.offset + segment.size:
                return segment.address + offset - segment.offset
        raise MalformedFileError("a place that is not loaded")

    def code_offset_of(self, address: int) -> int | None:
        """Return where in the file the instruction at `address` lies; None when no code is loaded there."""
        for segment in self.segments:
            if segment.is_executable and segment.address <= address < segment.address + segment.size:
                offset = segment.offset + address - segment.address
                return offset if offset < self.size else None
        return None

    def code_at(self, address: int, max_bytes: int) -> bytes:
        """Return up to `max_bytes` of code from `address` on; empty when there is none."""
        offset = self.code_offset_of(address)
        return b"" if offset is None else self.read(offset, min(max_bytes, self.size - offset))

    @cached_property
    def data_ranges(self) -> tuple[Range, ...]:
        """What is loaded and is no code. All that is loaded where section headers are missing."""
        if not self.sections:
            return self.segments
        return tuple(
            section
            for section in self.sections
            if section.kind == _SHT_PROGBITS and section.flags & (_SHF_ALLOC | _SHF_EXECUTE) == _SHF_ALLOC
        )

    def occurrences(self, needle: bytes, ranges: Iterable[Range]) -> Iterator[int]:
        """Yield the places in the file where `needle` lies within `ranges`, in their order.

        Ends early, as if there were no more, at MAX_SEARCHED_BYTES and at MAX_OCCURRENCES.
        """
        budget = MAX_SEARCHED_BYTES
        overlap = len(needle) - 1
        found = 0
        for part in ranges:
            position = part.offset
            end = min(part.offset + part.size, self.size, part.offset + budget)
            while position + overlap < end:
                chunk = self.read(position, min(_CHUNK_BYTES + overlap, end - position))
                at = chunk.find(needle)
                while at >= 0:
                    yield position + at
                    found += 1
                    if found == MAX_OCCURRENCES:
                        return
                    at = chunk.find(needle, at + 1)
                position += _CHUNK_BYTES
                budget -= _CHUNK_BYTES
            if budget <= 0:
                return

    def pointer_at(self, address: int) -> int:
        """Return the pointer that a program finds at `address` once it is loaded, less the base it got."""
        if self._is_relocatable:
            for place in self._aligned_relocations(_WORD.pack(address), 0):
                _address, info, addend = _RELOCATION.unpack(self.read(place, _RELOCATION.size))
                if info == _RELATIVE[self.machine]:
                    return int(addend)
        value: int = _WORD.unpack(self.read_at(address, _WORD.size))[0]
        return value

    def pointers_to(self, address: int) -> Iterator[int]:
        """Yield the addresses at which a loaded program finds a pointer to `address`."""
        if self._is_relocatable:
            needle = struct.pack("<Qq", _RELATIVE[self.machine], address)
            for place in self._aligned_relocations(needle, 8):
                yield _WORD.unpack(self.read(place, _WORD.size))[0]
        for place in self.occurrences(_WORD.pack(address), self.data_ranges):
            yield self.address_of(place)

    def _aligned_relocations(self, needle: bytes, needle_offset: int) -> Iterator[int]:
        """Yield the places of the relocations that hold `needle` at `needle_offset`."""
        table, size = self.dynamic.get(_DT_RELA), self.dynamic.get(_DT_RELASZ)
        if table is None or size is None:
            return
        start = self.offset_of(table)
        for place in self.occurrences(needle, [Range(table, start, size)]):
            if (place - needle_offset - start) % _RELOCATION.size == 0:
                yield place - needle_offset
