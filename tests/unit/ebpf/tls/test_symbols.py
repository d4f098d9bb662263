from __future__ import annotations

import struct

import pytest

from ebpf.tls import elf as elf_module
from ebpf.tls.elf import ElfFile, MalformedFileError
from ebpf.tls.symbols import MAX_CHAIN, find_exported_functions, find_linked_functions
from tests.elf_images import PUSHING, Image, opened

NAMES = ("alpha", "beta", "gamma", "not_there")


def exported(image: Image, names: tuple[str, ...] = NAMES) -> dict[str, int]:
    with opened(image.build()) as descriptor:
        return find_exported_functions(ElfFile(descriptor), names)


def linked(image: Image, anchor: str = "alpha") -> dict[str, int]:
    with opened(image.build()) as descriptor:
        return find_linked_functions(ElfFile(descriptor), anchor, NAMES)


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_functions_are_found_by_either_hash_table(style: str) -> None:
    image = Image(functions=dict.fromkeys(("alpha", "beta", "gamma"), PUSHING), hash_style=style)
    assert exported(image) == {name: image.address(name) for name in ("alpha", "beta", "gamma")}


def test_without_a_hash_table_nothing_is_exported() -> None:
    assert exported(Image(functions={"alpha": PUSHING}, hash_style="none")) == {}


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_a_name_that_the_file_wants_from_others_is_not_there(style: str) -> None:
    image = Image(functions={"alpha": PUSHING}, undefined=["beta"], hash_style=style)
    assert exported(image) == {"alpha": image.address("alpha")}


@pytest.mark.parametrize("hidden", ["alpha@1", "alpha@2"])
def test_the_default_version_counts(hidden: str) -> None:
    image = Image(functions={"alpha@1": PUSHING, "alpha@2": PUSHING}, hidden_versions=frozenset({hidden}))
    (default,) = {"alpha@1", "alpha@2"} - {hidden}
    assert exported(image) == {"alpha": image.address(default)}


def test_a_version_that_is_not_the_default_counts_where_it_is_the_only_one() -> None:
    image = Image(functions={"alpha@1": PUSHING}, hidden_versions=frozenset({"alpha@1"}))
    assert exported(image) == {"alpha": image.address("alpha@1")}


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_a_table_without_buckets_is_empty(style: str) -> None:
    part = {"gnu": "gnu_hash", "sysv": "hash"}[style]
    assert exported(Image(functions={"alpha": PUSHING}, hash_style=style, patches={part: bytes(16)})) == {}


def test_an_empty_bucket_is_one() -> None:
    assert exported(Image(functions={}, hash_style="gnu")) == {}
    assert exported(Image(functions={}, hash_style="sysv")) == {}


def test_a_chain_that_leads_back_to_its_beginning_has_an_end() -> None:
    cycle = struct.pack("<6I", 1, 3, 1, 0, 2, 1)  # 1 -> 2 -> 1
    image = Image(functions={"x": PUSHING, "y": PUSHING}, hash_style="sysv", patches={"hash": cycle})
    assert exported(image) == {}


def test_a_chain_without_an_end_ends() -> None:
    chain = struct.pack("<4IQI", 1, 1, 1, 6, 0, 1) + bytes(4 * (MAX_CHAIN + 10))
    image = Image(functions={"alpha": PUSHING}, patches={"gnu_hash": chain})
    assert exported(image) == {}


@pytest.mark.parametrize(
    "table",
    [
        struct.pack("<4IQI", 0xFFFFFFFF, 1, 1, 6, 0, 1),
        struct.pack("<4IQI", 1, 1, 0xFFFFFFFF, 6, 0, 1),
        struct.pack("<4IQI", 1, 1, 1, 6, 0, 0xFFFFFFFF),
    ],
)
def test_a_table_that_leads_outside_the_file_is_malformed(table: bytes) -> None:
    with pytest.raises(MalformedFileError):
        exported(Image(functions={"alpha": PUSHING}, patches={"gnu_hash": table}))


def test_a_symbol_whose_hash_is_the_same_is_known_by_its_name() -> None:
    # of both names the hash is the same but for its lowest bit, which the table uses otherwise
    image = Image(functions={"alphb": PUSHING, "alpha": PUSHING})
    assert exported(image) == {"alpha": image.address("alpha")}


def test_data_is_no_function() -> None:
    symbol = struct.pack("<IBBHQQ", 1, 0x11, 0, 1, 0x400000, 8)
    image = Image(functions={"alpha": PUSHING}, patches={"dynsym": bytes(24) + symbol})
    assert exported(image) == {}


def test_the_full_symbol_table_is_asked_for_the_anchor_first() -> None:
    functions = dict.fromkeys(("alpha", "beta", "gamma"), PUSHING)
    image = Image(functions=functions, exported=[], linked=["beta", "alpha"])
    assert linked(image) == {name: image.address(name) for name in ("alpha", "beta")}
    assert linked(image, anchor="gamma") == {}
    assert linked(Image(functions=functions, exported=[])) == {}, "a stripped file"


def test_a_string_may_be_the_end_of_a_longer_one() -> None:
    image = Image(functions={"my_alpha": PUSHING}, exported=[], linked=["my_alpha"])
    assert linked(image) == {}, "but only the symbol says so"
    symbol = struct.pack("<IBBHQQ", 1 + len("my_"), 0x02, 0, 1, 0x400000, 8)
    shared = Image(
        functions={"my_alpha": PUSHING},
        exported=[],
        linked=["my_alpha"],
        patches={"symtab": bytes(24) + symbol},
    )
    assert linked(shared) == {"alpha": 0x400000}


def test_a_symbol_that_is_not_aligned_is_none() -> None:
    entry = struct.pack("<IB", 1, 0x12)
    image = Image(
        functions={"alpha": PUSHING},
        exported=[],
        linked=["alpha"],
        patches={"symtab": bytes(3) + entry + bytes(40)},
    )
    assert linked(image) == {}


def test_a_symbol_without_an_address_is_none() -> None:
    entry = struct.pack("<IBBHQQ", 1, 0x12, 0, 0, 0, 0)
    image = Image(
        functions={"alpha": PUSHING}, exported=[], linked=["alpha"], patches={"symtab": bytes(24) + entry}
    )
    assert linked(image) == {}


def test_a_symbol_table_without_its_strings_is_none() -> None:
    data = bytearray(Image(functions={"alpha": PUSHING}, exported=[], linked=["alpha"]).build())
    (sections,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    for index in range(count):
        if struct.unpack_from("<I", data, sections + 64 * index + 4) == (2,):
            struct.pack_into("<I", data, sections + 64 * index + 40, 99)
    with opened(bytes(data)) as descriptor:
        assert find_linked_functions(ElfFile(descriptor), "alpha", NAMES) == {}


def test_a_file_full_of_a_name_costs_no_more_than_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_module, "MAX_WORK_BYTES", 1 << 24)
    image = Image(functions={"alpha": PUSHING}, exported=[], linked=["alpha"], rodata=b"")
    data = image.build()
    (sections,) = struct.unpack_from("<Q", data, 40)
    full = bytearray(data + b"alpha\0" * 100_000)
    for index in range(struct.unpack_from("<H", data, 60)[0]):
        header = sections + 64 * index
        if struct.unpack_from("<I", data, header + 4) == (2,):
            struct.pack_into("<QQ", full, header + 24, len(data), 600_000)
            struct.pack_into("<QQ", full, header + 64 + 24, len(data), 600_000)
    with opened(bytes(full)) as descriptor, pytest.raises(MalformedFileError):
        find_linked_functions(ElfFile(descriptor), "alpha", NAMES)
