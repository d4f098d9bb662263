from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf.btf import KERNEL_BTF_PATH, BtfError, KernelTypes
from ebpf.program import offset_flags

INT, ARRAY, STRUCT, UNION, FWD, TYPEDEF, CONST, FUNCTION = 1, 3, 4, 5, 7, 8, 10, 12


class Blob:
    """Type information made by hand, as Documentation/bpf/btf.rst describes it."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types = b""

    def name(self, text: str) -> int:
        if not text:
            return 0
        offset = len(self.strings)
        self.strings += text.encode() + b"\0"
        return offset

    def add(
        self,
        name: int,
        kind: int,
        size_or_type: int,
        entries: list[tuple[int, ...]] | None = None,
        flag: int = 0,
    ) -> None:
        rows = entries or []
        info = flag << 31 | kind << 24 | (len(rows) if kind in (STRUCT, UNION) else 0)
        self.types += struct.pack("<III", name, info, size_or_type)
        for row in rows:
            self.types += struct.pack(f"<{len(row)}I", *row)

    def data(self) -> bytes:
        header = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)
        )
        return header + self.types + self.strings


def example() -> bytes:
    blob = Blob()
    count, inner, bits = blob.name("count"), blob.name("inner"), blob.name("bits")
    blob.add(blob.name("int"), INT, 4, [(32,)])
    blob.add(0, UNION, 8, [(inner, 1, 0), (blob.name("other"), 1, 32)])
    blob.add(0, CONST, 2)
    blob.add(blob.name("sample"), STRUCT, 24, [(count, 1, 0), (0, 3, 64), (blob.name("tail"), 1, 128)])
    blob.add(blob.name("flags"), STRUCT, 4, [(bits, 1, 3 << 24 | 5), (blob.name("whole"), 1, 16)], flag=1)
    blob.add(blob.name("btf_trace_sample"), TYPEDEF, 1)
    blob.add(blob.name("cast_sample"), FUNCTION, 1)
    return blob.data()


def test_members_are_found_also_inside_anonymous_parts() -> None:
    types = KernelTypes(example())
    assert types.member_offset("sample", "count") == 0
    assert types.member_offset("sample", "inner") == 8
    assert types.member_offset("sample", "other") == 12
    assert types.member_offset("sample", "tail") == 16
    assert types.member_offset("flags", "whole") == 2
    assert types.typedef_number("btf_trace_sample") == 6
    assert types.struct_number("sample") == 4
    assert types.function_number("cast_sample") == 7
    assert types.has_name("inner")
    assert not types.has_name("inn")
    assert types.offset_flags([("sample", "tail")]) == ["-DOFFSET_sample_tail=16"]


def test_a_member_goes_by_the_name_that_this_kernel_has_for_it() -> None:
    types = KernelTypes(example())
    for names in (("absent", "tail"), ("bits", "tail"), ("tail", "absent"), ("tail", "count")):
        assert types.member_offset("sample", *names) == 16
    assert types.offset_flags([("sample", "absent", "tail")]) == ["-DOFFSET_sample_absent=16"]
    with pytest.raises(BtfError, match="no member absent"):
        types.member_offset("sample", "absent", "bits")


@pytest.mark.parametrize(
    ("struct_name", "member", "message"),
    [
        ("absent", "count", "no type absent"),
        ("int", "count", "no type int"),
        ("sample", "absent", "struct sample has no member absent"),
        ("sample", "whole", "struct sample has no member whole"),
        ("flags", "bits", "member bits of struct flags is a bit field"),
    ],
)
def test_what_is_not_there_is_named(struct_name: str, member: str, message: str) -> None:
    with pytest.raises(BtfError, match=message):
        KernelTypes(example()).member_offset(struct_name, member)


@given(st.integers(min_value=0, max_value=len(example()) - 1))
def test_a_cut_file_is_an_error_of_its_own(end: int) -> None:
    with pytest.raises(BtfError):
        KernelTypes(example()[:end])


def test_foreign_bytes_are_refused() -> None:
    with pytest.raises(BtfError, match="not little-endian BTF"):
        KernelTypes(b"\x7fELF" + bytes(100))
    blob = Blob()
    blob.add(0, 25, 0)
    with pytest.raises(BtfError, match="unknown kind"):
        KernelTypes(blob.data())


def test_the_running_kernel_has_every_member_the_program_reads() -> None:
    assert Path(KERNEL_BTF_PATH).exists(), "this test needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    flags = offset_flags(KernelTypes.of_running_kernel())
    assert len(flags) == len(set(flags))
    assert "-DOFFSET_socket_type=4" in flags
    assert "-DOFFSET_sock_common_skc_family=16" in flags


def test_a_kernel_without_types_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebpf.btf.KERNEL_BTF_PATH", "/nonexistent")
    with pytest.raises(BtfError, match="/nonexistent can't be read"):
        KernelTypes.of_running_kernel()
