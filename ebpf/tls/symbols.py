"""Addresses of functions by name.

Owns the symbol tables of a file and their hash tables. Names are looked up, tables never listed: Node has a
hundred thousand exported symbols. Of several versions of a name the default one counts. Chains and tables
come from a file that anyone may have made, so every walk through them has an end.

Layout: the System V ABI, "Symbol Table" and "Hash Table"; of the GNU hash table, binutils and glibc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from ebpf.tls.elf import ElfFile, Range

MAX_CHAIN = 1024
"""Symbols of one hash chain: linkers make chains of one to ten."""

_SYMBOL = struct.Struct("<IBBHQQ")
_GNU_HASH_HEADER = struct.Struct("<4I")
_HASH_HEADER = struct.Struct("<2I")
_NUMBER = struct.Struct("<I")

_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH, _DT_VERSYM = 4, 5, 6, 0x6FFFFEF5, 0x6FFFFFF0
_SHT_SYMTAB = 2
_STT_FUNC = 2
_GLOBAL, _WEAK = 0x10, 0x20
_HIDDEN_VERSION = 0x8000


def find_exported_functions(elf: ElfFile, names: Iterable[str]) -> dict[str, int]:
    """Return the addresses of those functions that the file offers to others."""
    table = _DynamicSymbols.of(elf)
    if table is None:
        return {}
    return {name: address for name in names if (address := table.find(name)) is not None}


def find_linked_functions(elf: ElfFile, anchor: str, names: Iterable[str]) -> dict[str, int]:
    """Return the addresses of those functions that the full symbol table names, if it was left in the file.

    `anchor` is a name without which the others mean nothing; when it is absent, which is nearly always, the
    string table has been read once and nothing else.
    """
    symbols = next((section for section in elf.sections if section.kind == _SHT_SYMTAB), None)
    if symbols is None or symbols.link >= len(elf.sections):
        return {}
    strings = elf.sections[symbols.link]
    found: dict[str, int] = {}
    for name in (anchor, *(name for name in names if name != anchor)):
        address = _find_linked(elf, symbols, strings, name)
        if address is not None:
            found[name] = address
        elif name == anchor:
            return {}
    return found


def _find_linked(elf: ElfFile, symbols: Range, strings: Range, name: str) -> int | None:
    # A string may serve as the end of a longer one, so what is before it says nothing; the symbols decide.
    for string in elf.occurrences(name.encode() + b"\0", [strings]):
        number = string - strings.offset
        for binding in (_GLOBAL, _WEAK, 0):
            needle = _NUMBER.pack(number) + bytes((binding | _STT_FUNC,))
            for place in elf.occurrences(needle, [symbols]):
                if (place - symbols.offset) % _SYMBOL.size == 0:
                    _name, _info, _other, section, address, _size = _SYMBOL.unpack(
                        elf.read(place, _SYMBOL.size)
                    )
                    if section and address:
                        return int(address)
    return None


class _DynamicSymbols:
    """The symbols by which a file is linked when it is loaded."""

    def __init__(self, elf: ElfFile, symbols: int, strings: int) -> None:
        self._elf = elf
        self._symbols = symbols
        self._strings = strings
        self._versions = elf.dynamic.get(_DT_VERSYM)
        self._gnu_hash = elf.dynamic.get(_DT_GNU_HASH)
        self._hash = elf.dynamic.get(_DT_HASH)

    @classmethod
    def of(cls, elf: ElfFile) -> _DynamicSymbols | None:
        symbols, strings = elf.dynamic.get(_DT_SYMTAB), elf.dynamic.get(_DT_STRTAB)
        return None if symbols is None or strings is None else cls(elf, symbols, strings)

    def find(self, name: str) -> int | None:
        """Return the address of a function that is defined here; its default version if it has several."""
        if self._gnu_hash is not None:
            candidates = self._gnu_chain(self._gnu_hash, name)
        elif self._hash is not None:
            candidates = self._chain(self._hash, name)
        else:
            return None
        other_version = None
        for index in candidates:
            address = self._function(index, name)
            if address is None:
                continue
            if self._is_default(index):
                return address
            other_version = address
        return other_version

    def _number(self, address: int) -> int:
        value: int = _NUMBER.unpack(self._elf.read_at(address, _NUMBER.size))[0]
        return value

    def _gnu_chain(self, table: int, name: str) -> Iterator[int]:
        buckets, first_symbol, bloom_words, _shift = _GNU_HASH_HEADER.unpack(
            self._elf.read_at(table, _GNU_HASH_HEADER.size)
        )
        if not buckets:
            return
        wanted = 5381
        for byte in name.encode():
            wanted = (wanted * 33 + byte) & 0xFFFFFFFF
        bucket_table = table + _GNU_HASH_HEADER.size + 8 * bloom_words
        chain_table = bucket_table + 4 * buckets
        index = self._number(bucket_table + 4 * (wanted % buckets))
        if index < first_symbol:
            return
        for step in range(index, index + MAX_CHAIN):
            found = self._number(chain_table + 4 * (step - first_symbol))
            if found | 1 == wanted | 1:
                yield step
            if found & 1:
                return

    def _chain(self, table: int, name: str) -> Iterator[int]:
        buckets, _symbols = _HASH_HEADER.unpack(self._elf.read_at(table, _HASH_HEADER.size))
        if not buckets:
            return
        wanted = 0
        for byte in name.encode():
            wanted = (wanted << 4) + byte
            high = wanted & 0xF0000000
            wanted = (wanted ^ high >> 24) & ~high
        bucket_table = table + _HASH_HEADER.size
        chain_table = bucket_table + 4 * buckets
        index = self._number(bucket_table + 4 * (wanted % buckets))
        for _step in range(MAX_CHAIN):
            if not index:
                return
            yield index
            index = self._number(chain_table + 4 * index)

    def _function(self, index: int, name: str) -> int | None:
        string, info, _other, section, address, _size = _SYMBOL.unpack(
            self._elf.read_at(self._symbols + _SYMBOL.size * index, _SYMBOL.size)
        )
        if info & 0xF != _STT_FUNC or not section or not address:
            return None
        expected = name.encode() + b"\0"
        return int(address) if self._elf.read_at(self._strings + string, len(expected)) == expected else None

    def _is_default(self, index: int) -> bool:
        if self._versions is None:
            return True
        version: int = struct.unpack("<H", self._elf.read_at(self._versions + 2 * index, 2))[0]
        return not version & _HIDDEN_VERSION
