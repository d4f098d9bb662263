"""Files with anything done to them: an answer or none, never an exception, and work that has an end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ebpf.tls import elf
from ebpf.tls.elf import Machine
from ebpf.tls.machine_code import first_call, is_emulated, return_offsets
from tests.elf_images import (
    OPENSSL_3_0,
    OPENSSL_3_3,
    PUSHING,
    SLOT,
    GoTable,
    Image,
    counted_reads,
    inspect,
)

GO_FUNCTIONS = (
    "runtime.text",
    "crypto/tls.(*Conn).Read",
    "crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).Close",
)
BUILD_INFORMATION = b"\xff Go buildinf:" + bytes((8, 2)) + bytes(16) + b"\x08go1.17.3"


def go_program(magic: int, section: str, machine: int) -> bytes:
    minimum = 1 if machine == Machine.X86_64 else 4
    table = GoTable(magic, [(name, SLOT * index) for index, name in enumerate(GO_FUNCTIONS)]).build(
        minimum=minimum
    )
    table += bytes(-len(table) % 16) + BUILD_INFORMATION
    functions = dict.fromkeys(GO_FUNCTIONS, PUSHING)
    return Image(functions=functions, exported=[], rodata=table, rodata_name=section, machine=machine).build()


IMAGES = [
    Image(functions=OPENSSL_3_0, rodata=b"OpenSSL 3.0.19 27 Jan 2026\0").build(),
    Image(functions=OPENSSL_3_3, hash_style="sysv").build(),
    Image(functions=OPENSSL_3_3, exported=[], linked=list(OPENSSL_3_3)).build(),
    Image(functions=dict.fromkeys(("gnutls_record_send", "gnutls_record_recv"), PUSHING)).build(),
    Image(rodata=b"/rustls-0.23.12/src/conn.rs ../ssl/ssl_lib.c", has_sections=False).build(),
    go_program(0xFFFFFFF1, ".gopclntab", Machine.X86_64),
    go_program(0xFFFFFFF0, ".data.rel.ro", Machine.AARCH64),
    go_program(0xFFFFFFFA, ".gopclntab", Machine.X86_64),
]
"""Small, so that what is changed is mostly something that matters."""

numbers = st.sampled_from(
    [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
)
changes = st.lists(
    st.tuples(
        st.integers(0, 2**16) | st.integers(0, 1200),
        st.one_of(
            st.binary(min_size=1, max_size=16),
            numbers.map(lambda number: number.to_bytes(8, "little")),
            st.tuples(numbers, st.sampled_from([1, 2, 4])).map(
                lambda pair: (pair[0] & (1 << 8 * pair[1]) - 1).to_bytes(pair[1], "little")
            ),
        ),
    ),
    min_size=1,
    max_size=8,
)


def assert_inspected_within_bounds(content: bytes, name: str) -> None:
    with counted_reads() as sizes:
        stack = inspect(content, name)
    assert sum(sizes) <= elf.MAX_WORK_BYTES
    assert max(sizes, default=0) <= elf.MAX_READ_BYTES
    if stack is not None:
        assert bool(stack.points) != bool(stack.obstacle)
        for point in stack.points:
            assert 0 <= point.offset < len(content)


names = st.sampled_from(["program", "libssl.so.3", "libcrypto.so.3", "libjvm.so"])


@given(st.binary(max_size=4000), names)
def test_any_bytes(content: bytes, name: str) -> None:
    assert_inspected_within_bounds(content, name)
    assert_inspected_within_bounds(IMAGES[0][:64] + content, name)


@given(st.binary(max_size=300), st.sampled_from(Machine))
def test_any_code(code: bytes, machine: Machine) -> None:
    call = first_call(code, 0x1000, machine)
    assert call is None or len(call.arguments) == 5
    places = return_offsets(code, machine)
    assert places is None or all(0 <= place < len(code) for place in places)
    is_emulated(code, machine)


@given(st.sampled_from(IMAGES), changes, st.none() | st.integers(0, 40_000), names)
def test_any_change_of_a_file(
    image: bytes, made: list[tuple[int, bytes]], size: int | None, name: str
) -> None:
    content = bytearray(image)
    for place, value in made:
        start = place % len(content)
        content[start : start + len(value)] = value
    assert_inspected_within_bounds(bytes(content[:size]), name)


@given(st.sampled_from(IMAGES), st.sampled_from(IMAGES), st.integers(0, 40_000), st.integers(0, 40_000))
def test_any_two_halves(first: bytes, second: bytes, end: int, start: int) -> None:
    assert_inspected_within_bounds(first[:end] + second[start:], "program")
