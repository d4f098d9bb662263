"""Offsets of kernel struct members, from the kernel's own type information.

Owns reading of BTF (Documentation/bpf/btf.rst of the kernel). It must not know what the offsets are for:
`program` names the members. Contract: bytes in, offsets out; anything that is not there is a `BtfError` that
names it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

KERNEL_BTF_PATH = "/sys/kernel/btf/vmlinux"

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")

_MAGIC = 0xEB9F
_STRUCT, _UNION, _TYPEDEF, _FUNCTION = 4, 5, 8, 12
_NAMED_KINDS = frozenset({_STRUCT, _TYPEDEF, _FUNCTION})
"""What is looked up by name."""
_TRANSPARENT = frozenset({_TYPEDEF, 9, 10, 11, 18})
"""Typedef, volatile, const, restrict and type tag: what they name is laid out as what they refer to."""

_FIXED_TAIL = {1: 4, 2: 0, 3: 12, 7: 0, 8: 0, 9: 0, 10: 0, 11: 0, 12: 0, 14: 4, 16: 0, 17: 4, 18: 0}
"""Bytes behind a type of this kind."""
_TAIL_PER_ENTRY = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""Bytes behind a type of this kind for each of its entries: members, enumerators, parameters, sections."""


class BtfError(Exception):
    """The type information is unreadable, or lacks a type or member."""


class KernelTypes:
    """The types of one kernel.

    Raises BtfError when `data` is not little-endian BTF. Parsing a whole kernel takes about 0.1 s.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            self._index()
        except (struct.error, IndexError) as error:
            raise BtfError("the kernel's type information is cut short") from error

    @classmethod
    def of_running_kernel(cls) -> KernelTypes:
        """Read the running kernel's types. Raises BtfError when it publishes none."""
        try:
            return cls(Path(KERNEL_BTF_PATH).read_bytes())
        except OSError as error:
            raise BtfError(f"{KERNEL_BTF_PATH} can't be read: {error.strerror}") from error

    def _index(self) -> None:
        data = self._data
        magic, _version, _flags, header_length, type_offset, type_length, string_offset, string_length = (
            _HEADER.unpack_from(data)
        )
        if magic != _MAGIC:
            raise BtfError("not little-endian BTF")
        self._strings = data[header_length + string_offset :][:string_length]
        offset = header_length + type_offset
        end = offset + type_length
        if end > len(data) or len(self._strings) < string_length:
            raise BtfError("the kernel's type information is cut short")
        # type numbers start at 1: 0 is void
        self._offsets = offsets = [0]
        self._named: dict[tuple[int, int], int] = {}
        named = self._named
        unpack, fixed_tail, tail_per_entry = _TYPE.unpack_from, _FIXED_TAIL, _TAIL_PER_ENTRY
        while offset < end:
            name, info, _size = unpack(data, offset)
            kind = info >> 24 & 0x1F
            if name and kind in _NAMED_KINDS:
                # the first of several of one name; the kernel has duplicates only of what drivers keep
                # private
                named.setdefault((kind, name), len(offsets))
            offsets.append(offset)
            tail = fixed_tail.get(kind)
            if tail is None:
                entry = tail_per_entry.get(kind)
                if entry is None:
                    raise BtfError(f"type information of an unknown kind ({kind})")
                tail = (info & 0xFFFF) * entry
            offset += 12 + tail

    def _string_offset(self, name: str) -> int | None:
        found = self._strings.find(b"\0" + name.encode() + b"\0")
        return None if found < 0 else found + 1

    def _find(self, kind: int, name: str) -> int:
        string = self._string_offset(name)
        number = None if string is None else self._named.get((kind, string))
        if number is None:
            raise BtfError(f"this kernel has no type {name}")
        return number

    def has_name(self, name: str) -> bool:
        """Whether anything of this name, a function for instance, is described."""
        return self._string_offset(name) is not None

    def typedef_number(self, name: str) -> int:
        """Return the number of a typedef, as the bpf system call takes it for `attach_btf_id`."""
        return self._find(_TYPEDEF, name)

    def struct_number(self, name: str) -> int:
        """Return the number of a struct, as bpf_rdonly_cast takes it. Raises BtfError."""
        return self._find(_STRUCT, name)

    def function_number(self, name: str) -> int:
        """Return the number of a function, by which a program calls it. Raises BtfError."""
        return self._find(_FUNCTION, name)

    def member_offset(self, struct_name: str, member: str, *other_names: str) -> int:
        """Return where `member` starts in `struct struct_name`, in bytes.

        Members of anonymous parts count as its own. `other_names` are what other kernels call it; the first
        that this one has is taken. Raises BtfError.
        """
        number = self._find(_STRUCT, struct_name)
        offset = None
        for name in (member, *other_names):
            string = self._string_offset(name)
            if string is not None and (offset := self._search(number, string, 0)) is not None:
                break
        if offset is None:
            raise BtfError(f"this kernel's struct {struct_name} has no member {member}")
        if offset % 8:
            raise BtfError(f"member {member} of struct {struct_name} is a bit field")
        return offset // 8

    def _search(self, number: int, member: int, base_bits: int) -> int | None:
        data = self._data
        offset = self._offsets[number]
        _name, info, referred = _TYPE.unpack_from(data, offset)
        kind = info >> 24 & 0x1F
        if kind in _TRANSPARENT:
            return self._search(referred, member, base_bits)
        if kind not in (_STRUCT, _UNION):
            return None
        has_bit_fields = info >> 31
        bits: int
        for index in range(info & 0xFFFF):
            name, type_number, bits = _MEMBER.unpack_from(data, offset + 12 + index * 12)
            if has_bit_fields:
                bits &= 0xFFFFFF
            if name == member:
                return base_bits + bits
            if name == 0:
                found = self._search(type_number, member, base_bits + bits)
                if found is not None:
                    return found
        return None

    def offset_flags(self, members: Iterable[tuple[str, ...]]) -> list[str]:
        """Return one compiler flag `-DOFFSET_<struct>_<member>=<bytes>` per member.

        Each is a struct, a member and that member's other names, as `member_offset` takes them.
        """
        return [
            f"-DOFFSET_{name}_{member}={self.member_offset(name, member, *others)}"
            for name, member, *others in members
        ]
