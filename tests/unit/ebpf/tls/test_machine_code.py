from __future__ import annotations

import struct

import pytest

from ebpf.tls.elf import Machine
from ebpf.tls.machine_code import Call, Value, first_call, is_emulated, return_offsets

ADDRESS = 0x1000
GIVEN = (Value.FIRST, Value.SECOND, Value.THIRD, Value.FOURTH, Value.FIFTH)


def x86(text: str) -> Call | None:
    return first_call(bytes.fromhex(text), ADDRESS, Machine.X86_64)


def aarch64(*words: int) -> Call | None:
    return first_call(struct.pack(f"<{len(words)}I", *words), ADDRESS, Machine.AARCH64)


@pytest.mark.parametrize(
    ("code", "emulated"),
    [
        ("5548", True),  # push rbp
        ("4155", True),  # push r13
        ("9090", True),  # nop
        ("e900000000", True),  # jmp
        ("4883ec18", False),  # sub rsp, 24
        ("f30f1efa", False),  # endbr64
        ("4889c8", False),  # mov
        ("4189c8", False),  # mov r8d, ecx
        ("c3c3", False),
        ("41", False),
        ("", False),
    ],
)
def test_what_the_kernel_emulates(code: str, *, emulated: bool) -> None:
    assert is_emulated(bytes.fromhex(code), Machine.X86_64) is emulated


def test_nothing_is_known_to_be_emulated_on_aarch64() -> None:
    assert not is_emulated(b"\xfd\x7b\xbf\xa9", Machine.AARCH64)


def test_returns_of_a_whole_function() -> None:
    # push rbx; ret; ret 8; a jump whose distance looks like a return; ret; int3
    code = bytes.fromhex("53 c3 c20800 e9c3c3c3c3 f3c3 cc")
    assert return_offsets(code, Machine.X86_64) == (1, 2, 10)
    assert return_offsets(code[:8], Machine.X86_64) is None, "cut in an instruction"
    assert return_offsets(b"\x53\x06\xc3", Machine.X86_64) is None, "06 is no instruction"


def test_returns_on_aarch64() -> None:
    code = struct.pack("<4I", 0xA9BF7BFD, 0xD65F03C0, 0xD61F0000, 0xD65F03C0)
    assert return_offsets(code, Machine.AARCH64) == (4, 12)


def test_a_call_that_hands_all_arguments_on() -> None:
    call = x86("f30f1efa 4883ec08 e8f3000000")
    assert call == Call(0x1100, GIVEN, is_checked=False)


def test_arguments_are_followed_from_register_to_register() -> None:
    # mov rbx, rcx; xor ecx, ecx; mov r8, rbx; lea rdi, [rsp + 8]; mov esi, 1; call
    call = x86("4889cb 31c9 4989d8 488d7c2408 be01000000 e800000000")
    assert call is not None
    assert call.arguments == (Value.LOCAL, Value.OTHER, Value.THIRD, Value.ZERO, Value.FOURTH)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("4889e1", Value.LOCAL),  # mov rcx, rsp
        ("55 4889e5 488d4df0", Value.LOCAL),  # push rbp; mov rbp, rsp; lea rcx, [rbp - 16]
        ("488d4df0", Value.OTHER),  # lea rcx, [rbp - 16], with the caller's rbp
        ("488d4c0408", Value.OTHER),  # lea rcx, [rsp + rax + 8]
        ("488d0d00000000", Value.OTHER),  # lea rcx, [rip]
        ("8d4c2408", Value.OTHER),  # lea ecx, [rsp + 8]
        ("488b4c2408", Value.OTHER),  # mov rcx, [rsp + 8]
        ("89c9", Value.OTHER),  # mov ecx, ecx: half a pointer
        ("6689c9", Value.OTHER),  # mov cx, cx
        ("4889d1", Value.THIRD),  # mov rcx, rdx
        ("89d1", Value.THIRD),  # mov ecx, edx
        ("4863ca", Value.THIRD),  # movsxd rcx, edx
        ("480fbfca", Value.OTHER),  # movsx rcx, dx
        ("4831c9", Value.ZERO),  # xor rcx, rcx
        ("31c1", Value.OTHER),  # xor ecx, eax
        ("4887ca", Value.OTHER),  # xchg rdx, rcx
        ("480f44ca", Value.OTHER),  # cmove rcx, rdx
        ("59", Value.OTHER),  # pop rcx
        ("0fa2", Value.OTHER),  # cpuid, which writes it unsaid
        ("890a", Value.FOURTH),  # mov [rdx], ecx: into memory
    ],
)
def test_what_the_fourth_argument_is_then(code: str, value: Value) -> None:
    call = x86(code + "e800000000")
    assert call is not None
    assert call.arguments[3] is value


@pytest.mark.parametrize("check", ["85d2 7820", "83fa00 7e20", "4885d2 0f8820000000"])
def test_the_size_may_be_checked_once(check: str) -> None:
    call = x86(check + "e800000000")
    assert call is not None
    assert call.is_checked
    assert x86(check + check + "e800000000") is None


@pytest.mark.parametrize(
    "code",
    [
        "85ff 7420 e800000000",  # test edi, edi; je
        "85d2 31c0 7820 e800000000",  # what the jump depends on is not the size
        "837f3000 7420 e800000000",  # cmp [rdi + 48], 0; je
        "ffd0",  # call rax
        "ff2500000000",  # jmp [rip]
        "f3c3",  # repz ret
        "cc e800000000",  # int3
        "e2fe e800000000",  # loop
        "f2ff2500000000",  # bnd jmp [rip]
        "c3",
        "53",
        "06",
        "",
    ],
)
def test_anything_less_plain_is_no_call(code: str) -> None:
    assert x86(code) is None


def test_a_jump_hands_over_too() -> None:
    call = x86("4989c8 31c9 e9f6ffffff")
    assert call is not None
    assert call.target == ADDRESS
    assert call.arguments == (Value.FIRST, Value.SECOND, Value.THIRD, Value.ZERO, Value.FOURTH)


def test_a_function_that_hands_over_on_aarch64() -> None:
    # bti c; mov x4, x3; mov w3, #0; b #-12
    assert aarch64(0xD503245F, 0xAA0303E4, 0x52800003, 0x17FFFFFD) == Call(
        ADDRESS, (Value.FIRST, Value.SECOND, Value.THIRD, Value.ZERO, Value.FOURTH), is_checked=False
    )
    # paciasp; stp x29, x30, [sp, #-16]!; mov x29, sp; bl #8
    assert aarch64(0xD503233F, 0xA9BF7BFD, 0x910003FD, 0x94000002) == Call(
        ADDRESS + 20, GIVEN, is_checked=False
    )
    # mov x2, x19
    unknown = aarch64(0xAA1303E2, 0x14000000)
    assert unknown is not None
    assert unknown.arguments[2] is Value.OTHER


@pytest.mark.parametrize("words", [(), (0xD65F03C0,), (0x37F80002, 0x94000000), (0xD503201F,)])
def test_anything_else_on_aarch64_is_no_call(words: tuple[int, ...]) -> None:
    assert aarch64(*words) is None
