"""What instructions of a function do, as far as the place of a probe depends on it.

Owns the use of the disassembler. It must not know what the functions are for. Contract: code in, facts out;
code that isn't understood entirely gives None, never a guess.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ebpf.tls.elf import Machine

MAX_PROLOGUE_BYTES = 256
"""Of the beginning of an exported function, up to its first call."""

_AARCH64_RET = 0xD65F03C0
_PUSHES = frozenset(range(0x50, 0x58))
_EMULATED = _PUSHES | {0x90, 0xE8, 0xE9, 0xEB}
"""push, nop, call, jmp. arch/x86/kernel/uprobes.c, push_setup_xol_ops and branch_setup_xol_ops."""
_REX_B = 0x41
"""Before a push: of one of the registers r8 to r15."""

# Numbers of capstone, which is imported late.
_IMMEDIATE_OPERAND, _MEMORY_OPERAND, _REGISTER_OPERAND = 2, 3, 1
"""CS_OP_IMM, CS_OP_MEM, CS_OP_REG."""
_JUMPS = frozenset({1, 7})
_ENDS = frozenset({3, 4, 5})
"""CS_GRP_JUMP, CS_GRP_BRANCH_RELATIVE; CS_GRP_RET, CS_GRP_INT, CS_GRP_IRET."""

_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8")
"""The first integer arguments of a call, in their order: the System V ABI for x86-64, 3.2.3."""
_COMPARISONS = frozenset({"test", "cmp"})
_COPIES = frozenset({"mov", "movsxd"})


class Value(Enum):
    """What a register holds at a call, said by what the calling function was given."""

    FIRST = auto()
    SECOND = auto()
    THIRD = auto()
    FOURTH = auto()
    FIFTH = auto()
    LOCAL = auto()
    """The address of a variable on the stack of the calling function."""
    ZERO = auto()
    OTHER = auto()


_GIVEN = (Value.FIRST, Value.SECOND, Value.THIRD, Value.FOURTH, Value.FIFTH)


@dataclass(frozen=True, slots=True)
class Call:
    """The first call of a function, or the jump by which it hands over to another."""

    target: int
    """Its address."""
    arguments: tuple[Value, ...]
    """What the first five integer arguments are."""
    is_checked: bool
    """Whether it is left out when the third argument fails a comparison."""


def is_emulated(code: bytes, machine: Machine) -> bool:
    """Whether the kernel emulates the first instruction: a tenth of the cost of stepping through it."""
    if machine is not Machine.X86_64 or len(code) < 2:
        return False
    return code[0] in _EMULATED or (code[0] == _REX_B and code[1] in _PUSHES)


def return_offsets(code: bytes, machine: Machine) -> tuple[int, ...] | None:
    """Return where in a whole function its return instructions begin; None when not all of it is code."""
    if machine is Machine.AARCH64:
        words = struct.iter_unpack("<I", code[: len(code) & ~3])
        return tuple(4 * index for index, (word,) in enumerate(words) if word == _AARCH64_RET)
    end = 0
    returns = []
    for address, size, mnemonic, _operands in _x86().disasm_lite(code, 0):
        if _without_prefix(mnemonic) == "ret":
            returns.append(address)
        end = address + size
    return tuple(returns) if end == len(code) else None


def first_call(code: bytes, address: int, machine: Machine) -> Call | None:
    """Return the first call of the function that begins at `address`, if each way leads there.

    The one exception is a comparison of the third argument, the size. None for anything less plain.
    """
    if machine is Machine.AARCH64:
        return _aarch64_first_call(code, address)
    registers = dict.fromkeys(_REGISTERS.values(), Value.OTHER)
    registers.update(zip(_ARGUMENTS, _GIVEN, strict=True))
    registers["rsp"] = Value.LOCAL
    compares_size = False
    is_checked = False
    for instruction in _x86().disasm(code, address):
        mnemonic = _without_prefix(instruction.mnemonic)
        if mnemonic in ("call", "jmp"):
            return _call(instruction, registers, is_checked=is_checked)
        groups = set(instruction.groups)
        if groups & _ENDS:
            return None
        if groups & _JUMPS:
            if not compares_size or is_checked:
                return None
            is_checked = True
        else:
            compares_size = mnemonic in _COMPARISONS and _compares(instruction, registers)
            _follow(instruction, registers)
    return None


def _aarch64_first_call(code: bytes, address: int) -> Call | None:
    """Understands what a function does that hands over to another, and nothing more.

    Arm Architecture Reference Manual for A-profile, C4.1: the encodings.
    """
    registers = dict(enumerate(_GIVEN))
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        target = word & 0x1F
        if word & 0x7C000000 == 0x14000000:  # B, BL
            distance = (word & 0x3FFFFFF ^ 0x2000000) - 0x2000000
            destination = address + 4 * (index + distance)
            return Call(destination, tuple(registers[number] for number in range(5)), is_checked=False)
        if word & 0xFFE0FFE0 == 0xAA0003E0:  # MOV Xd, Xm
            registers[target] = registers.get(word >> 16 & 0x1F, Value.OTHER)
        elif word & 0x7FFFFFE0 == 0x52800000:  # MOV Xd or Wd, #0
            registers[target] = Value.ZERO
        elif not (
            word & 0xFFFFF01F == 0xD503201F  # hints: BTI, PACIASP, NOP
            or word == 0x910003FD  # MOV X29, SP
            or word & 0xFFC07FFF == 0xA9807BFD  # STP X29, X30, [SP, #n]!
        ):
            return None
    return None


@functools.cache
def _x86() -> Any:
    # Not at the beginning of the module: it takes 90 ms to import, and a host without TLS never needs it.
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    return disassembler


def _without_prefix(mnemonic: str) -> str:
    """`ret` of `repz ret`, `jmp` of `notrack jmp`."""
    return mnemonic.rpartition(" ")[2]


def _register_names() -> dict[str, str]:
    names = {f"r{number}{suffix}": f"r{number}" for number in range(8, 16) for suffix in ("", "d", "w", "b")}
    for letter in "abcd":
        full = f"r{letter}x"
        names |= dict.fromkeys((full, f"e{letter}x", f"{letter}x", f"{letter}l", f"{letter}h"), full)
    for pair in ("si", "di", "bp", "sp"):
        names |= dict.fromkeys((f"r{pair}", f"e{pair}", pair, f"{pair}l"), f"r{pair}")
    return names


_REGISTERS = _register_names()
"""Each register and part of one, by the name of the whole."""


def _call(instruction: Any, registers: dict[str, Value], *, is_checked: bool) -> Call | None:
    (operand,) = instruction.operands
    if operand.type != _IMMEDIATE_OPERAND:
        return None
    return Call(operand.imm, tuple(registers[name] for name in _ARGUMENTS), is_checked)


def _compares(instruction: Any, registers: dict[str, Value]) -> bool:
    first = instruction.operands[0]
    return first.type == _REGISTER_OPERAND and (registers.get(_whole(instruction, first.reg)) is Value.THIRD)


def _whole(instruction: Any, register: int) -> str:
    name: str = instruction.reg_name(register) or ""
    return _REGISTERS.get(name, name)


def _follow(instruction: Any, registers: dict[str, Value]) -> None:
    """Note what an instruction that is no jump leaves in the registers."""
    operands = instruction.operands
    value = Value.OTHER
    if len(operands) == 2:
        value = _assigned(instruction, operands[0], operands[1], registers)
    _read, written = instruction.regs_access()
    for register in written:
        name = _whole(instruction, register)
        if name != "rsp":
            registers[name] = value


def _assigned(instruction: Any, target: Any, source: Any, registers: dict[str, Value]) -> Value:
    mnemonic = instruction.mnemonic
    if target.type != _REGISTER_OPERAND or target.size < 4:
        return Value.OTHER
    if source.type == _REGISTER_OPERAND:
        if mnemonic in _COPIES and source.size >= 4:
            copied = registers.get(_whole(instruction, source.reg), Value.OTHER)
            # the lower half of a pointer is none
            is_whole = target.size == source.size == 8 or copied is Value.THIRD
            return copied if is_whole else Value.OTHER
        if mnemonic == "xor" and target.reg == source.reg:
            return Value.ZERO
    elif source.type == _MEMORY_OPERAND and mnemonic == "lea" and target.size == 8:
        base = registers.get(_whole(instruction, source.mem.base))
        return Value.LOCAL if base is Value.LOCAL and not source.mem.index else Value.OTHER
    return Value.OTHER
