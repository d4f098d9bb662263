from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from ebpf.tls import elf
from ebpf.tls.elf import ElfFile, Machine, MalformedFileError, Range
from tests.elf_images import (
    DATA_ADDRESS,
    OPENSSL_3_0,
    RODATA_ADDRESS,
    TEXT_ADDRESS,
    TEXT_OFFSET,
    Image,
    inspect,
    opened,
)

IMAGE = Image(functions=OPENSSL_3_0, rodata=b"-needle-")


def changed(offset: int, fmt: str, *values: int) -> bytes:
    data = bytearray(IMAGE.build())
    struct.pack_into("<" + fmt, data, offset, *values)
    return bytes(data)


def test_addresses_and_places_are_told_apart_by_segment() -> None:
    with opened(IMAGE.build()) as descriptor:
        file = ElfFile(descriptor)
        assert file.machine is Machine.X86_64
        assert file.offset_of(TEXT_ADDRESS + 5) == TEXT_OFFSET + 5
        assert file.code_offset_of(TEXT_ADDRESS + 5) == TEXT_OFFSET + 5
        assert file.address_of(TEXT_OFFSET + 5) == TEXT_ADDRESS + 5
        assert file.offset_of(DATA_ADDRESS) == 0
        assert file.code_offset_of(DATA_ADDRESS) is None, "data is no code"
        assert file.code_offset_of(0) is None
        assert file.code_at(DATA_ADDRESS, 16) == b""
        assert file.read_at(DATA_ADDRESS, 4) == b"\x7fELF"
        with pytest.raises(MalformedFileError):
            file.offset_of(7)
        with pytest.raises(MalformedFileError):
            file.address_of(TEXT_OFFSET - 1)


def test_the_descriptor_stays_open_and_its_position_where_it_was() -> None:
    with opened(IMAGE.build()) as descriptor:
        os.lseek(descriptor, 17, os.SEEK_SET)
        ElfFile(descriptor).read(0, 64)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 17


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"#!/bin/sh\n" + bytes(100),
        changed(4, "B", 1),  # 32-bit
        changed(5, "B", 2),  # big-endian
        changed(16, "H", 1),  # an object file
        changed(16, "H", 4),  # a core dump
        changed(18, "H", 243),  # RISC-V
        changed(54, "H", 32),  # size of a program header
        changed(56, "H", 0xFFFF),  # how many of them
        changed(32, "Q", 2**64 - 1),  # where they are
        changed(58, "H", 40),  # size of a section header
        changed(60, "H", 0xFFFF),
        changed(40, "Q", 2**63),
        changed(62, "H", 0xFFFF),  # which of them has the names
    ],
)
def test_what_is_no_executable_file_holds_no_tls(content: bytes) -> None:
    with opened(content) as descriptor, pytest.raises(MalformedFileError):
        ElfFile(descriptor)
    assert inspect(content) is None


def test_every_shorter_file_holds_no_tls_or_less_of_it() -> None:
    whole = IMAGE.build()
    for size in [*range(0, 1200, 7), *range(1200, len(whole), 501)]:
        stack = inspect(whole[:size])
        assert stack is None or stack.name == "openssl"


def test_a_file_that_is_cut_short_while_it_is_read_is_malformed() -> None:
    with opened(IMAGE.build()) as descriptor:
        file = ElfFile(descriptor)
        os.ftruncate(descriptor, 100)
        with pytest.raises(MalformedFileError):
            file.read(64, 64)


@pytest.mark.parametrize(("offset", "size"), [(-1, 4), (0, -1), (0, 1 << 40), (1 << 70, 4), (1 << 20, 1)])
def test_nothing_is_read_outside_the_file(offset: int, size: int) -> None:
    with opened(IMAGE.build()) as descriptor, pytest.raises(MalformedFileError):
        ElfFile(descriptor).read(offset, size)


def test_a_dynamic_section_has_an_end() -> None:
    with opened(changed(64 + 2 * 56 + 32, "Q", 2**60)) as descriptor, pytest.raises(MalformedFileError):
        ElfFile(descriptor)


def test_a_dynamic_section_may_end_without_saying_so() -> None:
    assert inspect(changed(64 + 2 * 56 + 32, "Q", 48)) == inspect(IMAGE.build())


def test_a_static_program_has_no_dynamic_section() -> None:
    data = bytearray(Image(functions=OPENSSL_3_0, linked=list(OPENSSL_3_0), rodata=b"12345678").build())
    struct.pack_into("<I", data, 64 + 2 * 56, 4)  # a note
    with opened(bytes(data)) as descriptor:
        file = ElfFile(descriptor)
        assert file.dynamic == {}
        assert file.pointer_at(RODATA_ADDRESS) == int.from_bytes(b"12345678", "little")
    stack = inspect(bytes(data))
    assert stack is not None
    assert stack.name == "openssl"


def test_a_file_without_section_headers_is_told_by_its_segments() -> None:
    bare = Image(functions=OPENSSL_3_0, rodata=b"-needle-", has_sections=False)
    with opened(bare.build()) as descriptor:
        file = ElfFile(descriptor)
        assert file.data_ranges == file.segments
        assert len(list(file.occurrences(b"needle", file.data_ranges))) == 1
    assert inspect(bare.build()) == inspect(IMAGE.build())


class TestSearching:
    @pytest.fixture
    def search(self) -> Callable[[bytes, bytes], list[int]]:
        def found(content: bytes, needle: bytes) -> list[int]:
            with opened(IMAGE.build() + content) as descriptor:
                file = ElfFile(descriptor)
                start = file.size - len(content)
                places = file.occurrences(needle, [Range(0, start, len(content))])
                return [place - start for place in places]

        return found

    def test_across_the_border_of_two_chunks(
        self, search: Callable[[bytes, bytes], list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(elf, "_CHUNK_BYTES", 8)
        for before in range(20):
            content = b"." * before + b"needle" + b"." * 9
            assert search(content, b"needle") == [before]

    def test_each_place_once_those_that_overlap_too(
        self, search: Callable[[bytes, bytes], list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(elf, "_CHUNK_BYTES", 4)
        assert search(b"aaaaaaaaaa", b"aaa") == list(range(8))

    def test_ends_at_so_many_places(
        self, search: Callable[[bytes, bytes], list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(elf, "MAX_OCCURRENCES", 5)
        assert search(b"a" * 100, b"a") == [0, 1, 2, 3, 4]

    def test_ends_after_so_many_bytes_of_all_ranges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(elf, "_CHUNK_BYTES", 16)
        monkeypatch.setattr(elf, "MAX_SEARCHED_BYTES", 64)
        content = b"." * 48 + b"x" * 48
        with opened(IMAGE.build() + content) as descriptor:
            file = ElfFile(descriptor)
            part = Range(0, file.size - len(content), 48)
            places = list(file.occurrences(b"x", [part, Range(0, part.offset + 48, 48)]))
        assert len(places) == 16


def test_all_work_on_a_file_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(IMAGE.build()) as descriptor:
        file = ElfFile(descriptor)
        monkeypatch.setattr(file, "_work_left", 3000)
        file.read(0, 16)
        with pytest.raises(MalformedFileError):
            file.read(0, 16)


def test_a_pointer_is_what_its_relocation_makes_of_it() -> None:
    where = RODATA_ADDRESS
    image = Image(
        rodata=struct.pack("<QQ", 0, 0x1234), relocations=[(where, TEXT_ADDRESS), (where + 64, where)]
    )
    with opened(image.build()) as descriptor:
        file = ElfFile(descriptor)
        assert file.pointer_at(where) == TEXT_ADDRESS
        assert file.pointer_at(where + 8) == 0x1234, "without a relocation it is in its place"
        assert list(file.pointers_to(TEXT_ADDRESS)) == [where]
        assert list(file.pointers_to(0x1234)) == [where + 8]
    of_a_symbol = Image(
        rodata=image.rodata,
        relocations=image.relocations,
        patches={"rela_dyn": struct.pack("<QQq", where + 8, 1 << 32 | 1, 5)},
    )
    with opened(of_a_symbol.build()) as descriptor:
        file = ElfFile(descriptor)
        assert file.pointer_at(where + 8) == 0x1234, "what a symbol adds is not known"
        with pytest.raises(MalformedFileError):
            file.pointer_at(8)  # the number of a kind of relocation, where addresses are looked for
    fixed = Image(rodata=image.rodata, relocations=image.relocations, kind=2)
    with opened(fixed.build()) as descriptor:
        assert ElfFile(descriptor).pointer_at(where) == 0, "a program that is not moved"
