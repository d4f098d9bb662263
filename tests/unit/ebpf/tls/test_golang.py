from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from ebpf.tls import gopclntab
from ebpf.tls.elf import Machine
from ebpf.tls.golang import MAX_FUNCTION_BYTES, MAX_RETURNS
from ebpf.tls.probes import ProbePoint, TlsProgram, TlsStack
from tests.elf_images import (
    OPENSSL_3_0,
    RODATA_ADDRESS,
    SLOT,
    TEXT_ADDRESS,
    TEXT_OFFSET,
    Code,
    GoTable,
    Image,
    inspect,
)

GO_1_2, GO_1_16, GO_1_18, GO_1_20 = 0xFFFFFFFB, 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
CONN = "crypto/tls.(*Conn)."
NAMES = (
    "runtime.text",
    CONN + "Read",
    CONN + "Write",
    CONN + "clientHandshake",
    CONN + "serverHandshake",
    CONN + "Close",
    CONN + "ReadAll",
)
RETURNING = (b"\x55\xc3\x90\xc3",)  # push; ret; nop; ret
MODULE_BYTES = 184


@dataclass(kw_only=True)
class Program:
    """A Go program made by hand."""

    magic: int = GO_1_20
    names: Sequence[str] = NAMES
    version: str | None = "go1.20.5"
    section: str = ".gopclntab"
    kind: int = 2
    machine: int = Machine.X86_64
    code: Code = RETURNING
    states_text: bool = True
    has_module: bool = False
    is_relocated: bool = False
    end: int = 0
    others: dict[str, Code] = field(default_factory=dict)
    has_sections: bool = True

    def build(self) -> bytes:
        functions = dict.fromkeys(self.names, self.code) | self.others
        table = GoTable(
            self.magic, [(name, SLOT * index) for index, name in enumerate(self.names)], end=self.end
        )
        minimum = {Machine.X86_64: 1, Machine.AARCH64: 4}[Machine(self.machine)]
        content = table.build(states_text=self.states_text and not self.is_relocated, minimum=minimum)
        relocations = []
        if self.is_relocated and self.states_text:
            relocations.append((RODATA_ADDRESS + 24, TEXT_ADDRESS))
        if self.has_module:
            content += bytes(-len(content) % 8)
            module = RODATA_ADDRESS + len(content)
            names = RODATA_ADDRESS + struct.unpack_from("<Q", content, 32)[0]
            pointers = {0: RODATA_ADDRESS, 8: names, 176: TEXT_ADDRESS}
            words = [0 if self.is_relocated else pointers.get(8 * i, 0) for i in range(MODULE_BYTES // 8)]
            content += struct.pack(f"<{len(words)}Q", *words)
            if self.is_relocated:
                relocations += [(module + place, value) for place, value in pointers.items()]
        if self.version is not None:
            content += bytes(-len(content) % 16)
            text = self.version.encode()
            content += b"\xff Go buildinf:" + bytes((8, 2)) + bytes(16) + bytes((len(text),)) + text
        return Image(
            functions=functions,
            exported=list(self.others),
            rodata=content,
            rodata_name=self.section,
            relocations=relocations,
            kind=self.kind,
            machine=self.machine,
            has_sections=self.has_sections,
        ).build()

    def inspect(self) -> TlsStack | None:
        return inspect(self.build())


def expected_points() -> tuple[ProbePoint, ...]:
    read, write = TEXT_OFFSET + SLOT, TEXT_OFFSET + 2 * SLOT
    return (
        ProbePoint(TlsProgram.GO_READ, read),
        ProbePoint(TlsProgram.GO_RETURN, read + 1),
        ProbePoint(TlsProgram.GO_RETURN, read + 3),
        ProbePoint(TlsProgram.GO_WRITE, write),
        ProbePoint(TlsProgram.GO_RETURN, write + 1),
        ProbePoint(TlsProgram.GO_RETURN, write + 3),
        ProbePoint(TlsProgram.GO_HANDSHAKE, TEXT_OFFSET + 3 * SLOT),
        ProbePoint(TlsProgram.GO_HANDSHAKE, TEXT_OFFSET + 4 * SLOT),
        ProbePoint(TlsProgram.GO_CLOSE, TEXT_OFFSET + 5 * SLOT),
    )


def test_entries_and_return_instructions() -> None:
    assert Program().inspect() == TlsStack(name="go", version="1.20.5", points=expected_points())


@pytest.mark.parametrize("section", [".gopclntab", ".data.rel.ro.gopclntab", ".data.rel.ro"])
@pytest.mark.parametrize(
    ("magic", "version"), [(GO_1_16, "go1.17.13"), (GO_1_18, "go1.19.8"), (GO_1_20, "go1.25.1")]
)
def test_each_layout_wherever_the_linker_put_it(section: str, magic: int, version: str) -> None:
    stack = Program(section=section, magic=magic, version=version).inspect()
    assert stack == TlsStack(name="go", version=version.removeprefix("go"), points=expected_points())


def test_without_section_headers() -> None:
    assert Program(has_sections=False).inspect() == Program().inspect()


def test_a_position_independent_program_states_its_text_by_a_relocation() -> None:
    stack = Program(kind=3, is_relocated=True).inspect()
    assert stack is not None
    assert stack.points == expected_points()


@pytest.mark.parametrize("is_relocated", [False, True])
def test_go_1_26_states_its_text_in_its_module_data(*, is_relocated: bool) -> None:
    program = Program(
        version="go1.26.8",
        states_text=False,
        has_module=True,
        kind=3 if is_relocated else 2,
        is_relocated=is_relocated,
    )
    stack = program.inspect()
    assert stack is not None
    assert stack.points == expected_points()


def test_a_pointer_to_the_table_that_is_no_module_data_is_looked_past() -> None:
    program = Program(version="go1.26.8", states_text=False, has_module=True, kind=3, is_relocated=True)
    data = program.build()
    relocation = data.index(struct.pack("<QQ", 8, RODATA_ADDRESS)) - 8
    for address in (RODATA_ADDRESS, TEXT_ADDRESS + SLOT * len(NAMES) - 8):
        # a pointer like that of module data, but to a place where there is none
        changed = bytearray(data)
        struct.pack_into("<Q", changed, relocation, address)
        assert inspect(bytes(changed)) is None


def test_a_table_that_does_not_say_where_its_code_is_leads_nowhere() -> None:
    assert Program(states_text=False).inspect() is None


def test_a_program_without_crypto_tls() -> None:
    assert Program(names=("runtime.text", "main.main")).inspect() is None


def test_a_name_that_no_function_has_is_one_that_was_inlined() -> None:
    stack = Program(names=("runtime.text", CONN + "Write")).inspect()
    assert stack is not None
    assert {point.program for point in stack.points} == {TlsProgram.GO_WRITE, TlsProgram.GO_RETURN}


def test_a_library_that_is_linked_in_is_never_probed() -> None:
    # a uretprobe would end the program
    stack = Program(others=OPENSSL_3_0).inspect()
    assert stack is not None
    assert stack.name == "go"
    assert not any(point.program.is_uretprobe for point in stack.points)
    without_tls = Program(names=("runtime.text", "main.main"), others=OPENSSL_3_0)
    assert without_tls.inspect() is None


@pytest.mark.parametrize(
    ("magic", "version", "obstacle"),
    [
        (GO_1_2, "go1.15.2", "built with Go 1.15.2, before the register ABI"),
        (GO_1_2, None, "built with Go before 1.16, before the register ABI"),
        (GO_1_2, "go1.20.1", "built with Go 1.20.1, before the register ABI"),
        (GO_1_16, "go1.16.9", "built with Go 1.16.9, before the register ABI"),
        (GO_1_16, None, "built with Go 1.16 or 1.17, which can't be distinguished here"),
        (GO_1_16, "devel", "built with Go 1.16 or 1.17, which can't be distinguished here"),
    ],
)
def test_before_arguments_were_in_registers(magic: int, version: str | None, obstacle: str) -> None:
    stack = Program(magic=magic, version=version).inspect()
    assert stack is not None
    assert stack.points == ()
    assert stack.obstacle == obstacle


def test_registers_came_later_on_aarch64() -> None:
    # stp; ret; nop; ret
    code = (struct.pack("<4I", 0xA9BF7BFD, 0xD65F03C0, 0xD503201F, 0xD65F03C0),)
    old = Program(magic=GO_1_16, version="go1.17.1", machine=Machine.AARCH64, code=code).inspect()
    assert old is not None
    assert old.obstacle == "built with Go 1.17.1, before the register ABI"
    stack = Program(machine=Machine.AARCH64, code=code).inspect()
    assert stack is not None
    assert ProbePoint(TlsProgram.GO_RETURN, TEXT_OFFSET + SLOT + 12) in stack.points


def test_a_table_for_another_processor_is_none() -> None:
    data = bytearray(Program(section=".data").build())
    struct.pack_into("<H", data, 18, Machine.AARCH64)
    assert inspect(bytes(data)) is None


@pytest.mark.parametrize(
    "code",
    [
        (b"\x55\x90",),  # no return
        (b"\x06\xc3",),  # no code
        (b"\xc3" * (MAX_RETURNS + 1),),
    ],
)
def test_without_every_return_there_are_no_points(code: Code) -> None:
    assert Program(code=code).inspect() == TlsStack(
        name="go", version="1.20.5", obstacle="the code of crypto/tls can't be read"
    )


def test_a_function_has_a_size_that_functions_have() -> None:
    for end in (2 * SLOT, 2 * SLOT + MAX_FUNCTION_BYTES + 1):
        stack = Program(names=("runtime.text", CONN + "Read", CONN + "Write"), end=end).inspect()
        assert stack is not None
        assert stack.obstacle == "the code of crypto/tls can't be read"


@pytest.mark.parametrize(
    ("version", "said"),
    [("devel go1.27-abc Mon", "1.27-abc"), ("go1.22.3 X:boringcrypto", "1.22.3"), ("other", None)],
)
def test_versions(version: str, said: str | None) -> None:
    stack = Program(version=version).inspect()
    assert stack is not None
    assert stack.version == said


def test_a_version_behind_a_pointer() -> None:
    # as Go 1.17 and earlier wrote it
    table = GoTable(GO_1_16, [(name, SLOT * index) for index, name in enumerate(NAMES)]).build()
    table += bytes(-len(table) % 16)
    header = RODATA_ADDRESS + len(table)
    string = header + 32
    table += b"\xff Go buildinf:" + bytes((8, 0)) + struct.pack("<2Q", string, 0)
    table += struct.pack("<2Q", string + 16, 8) + b"go1.17.3" + bytes(16)
    image = with_table(table)
    stack = inspect(image.build())
    assert stack is not None
    assert (stack.version, stack.points) == ("1.17.3", expected_points())
    for pointer_size, flags, pointer in ((4, 0, string), (8, 1, string), (8, 0, 7)):
        changed = bytearray(table)
        place = table.index(b"\xff Go buildinf:")
        changed[place + 14 : place + 24] = bytes((pointer_size, flags)) + struct.pack("<Q", pointer)
        image.rodata = bytes(changed)
        stack = inspect(image.build())
        assert stack is not None
        assert stack.version is None


def with_table(table: bytes) -> Image:
    return Image(functions=dict.fromkeys(NAMES, RETURNING), exported=[], rodata=table, kind=2)


def table_with(**changes: int) -> bytes:
    words = ("functions", "files", "text", "names", "units", "files_table", "lines", "functab")
    data = bytearray(GoTable(GO_1_20, [(name, SLOT * index) for index, name in enumerate(NAMES)]).build())
    for name, value in changes.items():
        struct.pack_into("<Q", data, 8 + 8 * words.index(name), value)
    return bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"functions": gopclntab.MAX_FUNCTIONS + 1},
        {"functions": 2**63},
        {"names": 2**64 - 1},
        {"units": 2**40},
        {"units": 0},
        {"functab": 2**63},
    ],
)
def test_a_table_that_can_not_be_is_none(changes: dict[str, int]) -> None:
    image = with_table(table_with(**changes))
    assert inspect(image.build()) is None


@pytest.mark.parametrize("changes", [{"functions": 100_000}, {"text": 7}])
def test_a_table_that_leads_elsewhere_gives_no_points(changes: dict[str, int]) -> None:
    image = with_table(table_with(**changes))
    stack = inspect(image.build())
    assert stack is None or not stack.points


def test_records_that_the_table_does_not_lead_to_are_none() -> None:
    table = bytearray(table_with())
    functab = struct.unpack_from("<Q", table, 64)[0]
    for index in range(len(NAMES)):
        struct.pack_into("<I", table, functab + 8 * index + 4, 0)
    image = with_table(bytes(table))
    stack = inspect(image.build())
    assert stack is not None
    assert stack.obstacle == "the code of crypto/tls can't be read"


def test_a_layout_that_is_not_known_is_none() -> None:
    table = GoTable(0xFFFFFFF2, [(name, SLOT * index) for index, name in enumerate(NAMES)]).build()
    assert inspect(with_table(table).build()) is None


def test_so_many_places_are_taken_for_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack("<IBBBB", GO_1_20, 0, 0, 1, 8) + bytes(64)
    table = table_with()
    image = with_table(header * 3 + table)
    assert inspect(image.build()) is not None
    monkeypatch.setattr(gopclntab, "MAX_CANDIDATES", 3)
    assert inspect(image.build()) is None


@pytest.mark.parametrize("end", [1, 7, 8, 20])
def test_a_header_that_its_section_cuts_off_is_none(end: int) -> None:
    data = bytearray(with_table(table_with()).build())
    (sections,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<Q", data, sections + 64 + 32, end)  # the size of .rodata, the first after none
    assert inspect(bytes(data)) is None
    struct.pack_into("<I", data, sections + 64, 0)
    assert inspect(bytes(data)) is None


def test_a_section_of_that_name_without_a_table_is_looked_past() -> None:
    image = Image(
        functions=dict.fromkeys(("SSL_write", "SSL_do_handshake"), RETURNING),
        rodata=b"short",
        rodata_name=".gopclntab",
    )
    stack = inspect(image.build())
    assert stack is not None
    assert stack.name == "openssl"
