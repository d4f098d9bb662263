"""The child process that compiles, loads and attaches the kernel side, hands its descriptors over, and ends.

The only module that imports bcc, whose LLVM would stay resident (110 MB) in the process that compiles. It
must not hold state: everything arrives as one JSON request on the socket that is its standard input, and
leaves as one JSON manifest with the descriptors beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ebpf import bpf_syscalls
from ebpf.btf import BtfError, KernelTypes
from ebpf.kernel_headers import KernelHeadersError, find_kernel_headers
from ebpf.preflight import check_loading
from ebpf.program import offset_flags, program_text
from ebpf.protocols import JudgedProtocol
from ebpf.tls.probes import TlsProgram
from ebpf.uprobes import probe_attach_type

TRACEPOINTS = (
    "sys_exit",
    "inet_sock_set_state",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
)
"""What is hooked, each by the function on_<name> of bpf/program.bpf.c."""

TLS_PROGRAMS = tuple(program.value for program in TlsProgram)
"""Handed over to be attached wherever a library is found."""
TLS_CONTINUATIONS = ("continue_transfer", "continue_judging", None, "tls_plaintext")
"""What they tail-call, in the order of `enum continuation`."""

MAPS = ("records", "connections", "policy_by_tgid", "port_sets", "counters", "continuations")
"""Maps handed over. The agent never uses `continuations`, but the kernel empties it when no process holds a
descriptor of it."""
TLS_MAPS = ("tls_continuations",)
"""Maps handed over when TLS is captured."""
TLS_REPLACEMENTS = {"continuations": "tls_continuations", "scratches": "tls_scratches"}
"""Maps in whose place programs use others when they are loaded for TLS probes."""

CONTINUATIONS = ("continue_transfer", "continue_judging", "continue_life", "continue_tls")
"""Programs that sys_exit tail-calls, in the order of `enum continuation` in bpf/records.h."""
_CALL_HELPER = b"\x85\x00\x00\x00"
_CALL_KERNEL_FUNCTION = b"\x85\x20\x00\x00"
_LOAD_WIDE, _MAP_BY_DESCRIPTOR = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW, BPF_PSEUDO_MAP_FD

LINK, PROBE = "link:", "probe:"
"""Before the names of such descriptors in the manifest."""
MAX_MESSAGE_BYTES = 1 << 16
"""Of a request or manifest; a compiler's complaint is cut to fit."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the child is asked for."""

    flags: list[str]
    """Compiler flags that carry the capture's options."""
    ports: list[int]
    tls: bool
    """Whether the programs of TLS probes are wanted."""
    protocols: list[tuple[str, int, str]] = field(default_factory=list)
    """Name, number and source of each protocol beside HTTP: `JudgedProtocol`."""

    def program_text(self) -> str:
        """Return the text that is compiled."""
        return program_text(
            [JudgedProtocol(name, number, Path(source)) for name, number, source in self.protocols]
        )


@dataclass(frozen=True, slots=True)
class RefusalError(Exception):
    """Why it can't be done, for the user."""

    cause: str
    remedy: str


def _explain(error: OSError, what: str) -> RefusalError:
    if error.errno == errno.EPERM:
        return RefusalError(
            f"the kernel refuses to load eBPF programs ({what})",
            "Run as root, or with CAP_BPF and CAP_PERFMON (before Linux 5.11 also CAP_SYS_RESOURCE).",
        )
    if isinstance(error, bpf_syscalls.ProgramRejectedError):
        tail = "\n".join(error.log.strip().splitlines()[-6:])
        return RefusalError(
            f"the kernel's verifier rejects {what}: {tail}",
            "Please report this, with the kernel's version.",
        )
    return RefusalError(f"{what}: {error.strerror}", "`wirespan check` says what this host lacks.")


@dataclass(frozen=True, slots=True)
class _Variant:
    """One way to build what runs at sys_exit; only programs of one kind may call each other."""

    flags: tuple[str, ...]
    typed: bool
    """Loaded as BTF-typed programs, which are entered more cheaply, rather than as plain raw tracepoints."""
    needs: str | None = None
    """Kernel function without which there is no use in trying."""
    structs: tuple[str, ...] = ()
    """Those whose numbers the program text needs, as TYPE_<name>."""


_QUICKER = ("-g0", "-Xclang", "-disable-llvm-passes")
"""Without debug information, which costs a tenth of the compiler's time, and without clang's own optimizing,
which costs a third: bcc optimizes what clang hands it all over again, and the result is the same."""

_CAST = "bpf_rdonly_cast"
_CAST_PLACEHOLDER = 0x7FFF0001
"""Stands in the program text for the number of _CAST; the number of no helper."""

_VARIANTS = (
    # loads through every pointer on the way to the socket: Linux 6.2 and later
    _Variant(
        ("-DTYPED", "-DCASTS", f"-DCAST_PLACEHOLDER={_CAST_PLACEHOLDER}"),
        typed=True,
        needs=_CAST,
        structs=("list_head", "file", "socket"),
    ),
    # loads through typed pointers instead of calling a helper for each: Linux 6.1 and later
    _Variant(("-DTYPED",), typed=True, needs="bpf_get_current_task_btf"),
    _Variant((), typed=True),
    _Variant((), typed=False),
)
"""In the order of what they cost every system call of the host; the first that loads is taken."""


class _Module:
    """The compiled program text: its programs' instructions, and its maps, which it owns."""

    def __init__(self, text: str, flags: list[str], types: KernelTypes, *, tls: bool) -> None:
        self._continuations = CONTINUATIONS if tls else CONTINUATIONS[:-1]
        names = [*(f"on_{tracepoint}" for tracepoint in TRACEPOINTS), *self._continuations]
        if tls:
            names += [*TLS_PROGRAMS, "tls_plaintext"]
        maps = [*MAPS, "ports", *((*TLS_REPLACEMENTS, *TLS_REPLACEMENTS.values()) if tls else ())]
        self._functions, self.maps, self._owner = _compile(
            text, [*flags, "-DTLS"] if tls else flags, names, maps
        )
        self._types = types

    def _instructions(self, name: str) -> bytes:
        instructions = self._functions[name]
        if self._types.has_name(_CAST):
            instructions = link_function(instructions, _CAST_PLACEHOLDER, self._types.function_number(_CAST))
        return instructions

    def load(self, name: str, tracepoint: str, *, typed: bool) -> int:
        """Load a program and return its descriptor. Raises OSError."""
        instructions = self._instructions(name)
        if not typed:
            return bpf_syscalls.load_program(name, instructions, bpf_syscalls.PROGRAM_RAW_TRACEPOINT)
        return bpf_syscalls.load_program(
            name,
            instructions,
            bpf_syscalls.PROGRAM_TRACING,
            bpf_syscalls.ATTACH_TRACE_RAW_TP,
            self._types.typedef_number(f"btf_trace_{tracepoint}"),
        )

    def attach(self, *, typed: bool) -> dict[str, int]:
        """Load and attach every program; return the links by tracepoint. Raises OSError."""
        programs = {
            name: self.load(name, "sys_exit", typed=typed) for name in ("on_sys_exit", *self._continuations)
        }
        self._fill("continuations", [programs[name] for name in self._continuations])
        links = {}
        # the one that produces records comes last: all that it relies on is in place
        for tracepoint in reversed(TRACEPOINTS[1:]):
            program = self.load(f"on_{tracepoint}", tracepoint, typed=False)
            links[tracepoint] = bpf_syscalls.attach_raw_tracepoint(program, tracepoint)
        links["sys_exit"] = bpf_syscalls.attach_raw_tracepoint(
            programs["on_sys_exit"], None if typed else "sys_exit"
        )
        return links

    def load_probes(self, attach_type: int) -> dict[str, int]:
        """Load the programs of TLS probes; return them by name. Raises OSError."""
        replaced = {self.maps[name]: self.maps[other] for name, other in TLS_REPLACEMENTS.items()}

        def load(name: str) -> int:
            instructions = replace_maps(self._instructions(name), replaced)
            return bpf_syscalls.load_program(name, instructions, bpf_syscalls.PROGRAM_KPROBE, attach_type)

        self._fill("tls_continuations", [load(name) if name else None for name in TLS_CONTINUATIONS])
        return {name: load(name) for name in TLS_PROGRAMS}

    def _fill(self, array: str, programs: list[int | None]) -> None:
        slots = bpf_syscalls.Map(self.maps[array], 4, 4)
        for index, program in enumerate(programs):
            if program is not None:
                slots.update(index.to_bytes(4, "little"), program.to_bytes(4, "little"))


def link_function(instructions: bytes, placeholder: int, number: int) -> bytes:
    """Return the program with each call of `placeholder` made one of the kernel function of this number.

    The numbers are a helper's and a BTF function's; the instruction says by its source register which of them
    it has (Documentation/bpf/standardization/instruction-set.rst of the kernel, "Helper functions").
    """
    linked = bytearray(instructions)
    wanted = _CALL_HELPER + placeholder.to_bytes(4, "little")
    for offset in range(0, len(linked), len(wanted)):
        if linked[offset : offset + len(wanted)] == wanted:
            linked[offset : offset + len(wanted)] = _CALL_KERNEL_FUNCTION + number.to_bytes(4, "little")
    return bytes(linked)


def replace_maps(instructions: bytes, replaced: Mapping[int, int]) -> bytes:
    """Return the program with other maps, by their descriptors, in the place of some."""
    rewritten = bytearray(instructions)
    for offset in range(0, len(rewritten), 8):
        number = int.from_bytes(rewritten[offset + 4 : offset + 8], "little")
        if rewritten[offset] == _LOAD_WIDE and rewritten[offset + 1] >> 4 == _MAP_BY_DESCRIPTOR:
            rewritten[offset + 4 : offset + 8] = replaced.get(number, number).to_bytes(4, "little")
    return bytes(rewritten)


def _compile(
    text: str, flags: list[str], programs: list[str], maps: list[str]
) -> tuple[dict[str, bytes], dict[str, int], object]:
    """Return the programs' instructions and the maps' descriptors; the module must outlive their use."""
    try:
        import bcc  # this is the module that may
        from bcc.libbcc import lib  # as above
    except ImportError as error:
        raise RefusalError(
            "Debian's bcc binding is not importable", "Install it with `apt-get install python3-bpfcc`."
        ) from error
    try:
        module = bcc.BPF(text=text.encode(), cflags=[*flags, *_QUICKER])
    except Exception as error:  # bcc raises nothing more specific, for whatever went wrong
        raise RefusalError(
            f"the kernel side did not compile ({error})",
            "If headers are missing, name a tree in WIRESPAN_KERNEL_HEADERS; else please report this.",
        ) from error
    functions = {}
    for name in programs:
        start = lib.bpf_function_start(module.module, name.encode())
        functions[name] = ctypes.string_at(start, lib.bpf_function_size(module.module, name.encode()))
    return functions, {name: lib.bpf_table_fd(module.module, name.encode()) for name in maps}, module


@dataclass(frozen=True, slots=True)
class Attached:
    """The kernel side at work."""

    descriptors: dict[str, int]
    """By name: maps, one link per tracepoint, programs of TLS probes."""
    owner: object
    """Of the maps' descriptors, until they are sent."""
    tls_obstacle: str | None = None
    """Why there are no programs of probes although they were asked for."""


def compile_and_attach(request: Request) -> Attached:
    """Compile, load and attach; without TLS where this kernel takes all but that. Raises RefusalError."""
    privileges = check_loading()
    if privileges.remedy:
        # asked first: bcc calls every such refusal a failure to compile
        raise RefusalError(f"{privileges.subject}: {privileges.detail}", privileges.remedy)
    try:
        types = KernelTypes.of_running_kernel()
        headers = find_kernel_headers()
        flags = offset_flags(types) + request.flags
    except BtfError as error:
        raise RefusalError(str(error), "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y.") from error
    except KernelHeadersError as error:
        raise RefusalError("no kernel headers", str(error)) from error
    if headers is not None:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
    with contextlib.suppress(OSError, ValueError):
        # before Linux 5.11 maps count as locked memory
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    try:
        return _attach_best(request, flags, types)
    except OSError as error:
        refusal = _explain(error, "the programs of the kernel side")
        if not request.tls:
            raise refusal from error
    try:
        attached = _attach_best(replace(request, tls=False), flags, types)
    except OSError as error:
        raise refusal from error
    return replace(attached, tls_obstacle=refusal.cause)


def _attach_best(request: Request, flags: list[str], types: KernelTypes) -> Attached:
    """Attach the first variant that this kernel takes. Raises OSError for the last that it refuses."""
    refusal = OSError(errno.ENOENT, "no variant of the program fits this kernel")
    for variant in _VARIANTS:
        if variant.needs and not types.has_name(variant.needs):
            continue
        numbers = [f"-DTYPE_{name}={types.struct_number(name)}" for name in variant.structs]
        module = _Module(request.program_text(), [*flags, *variant.flags, *numbers], types, tls=request.tls)
        ports = bpf_syscalls.Map(module.maps["ports"], 2, 1)
        for port in request.ports:
            ports.update(port.to_bytes(2, "little"), b"\1")
        try:
            probes = module.load_probes(probe_attach_type(types)) if request.tls else {}
            links = module.attach(typed=variant.typed)
        except OSError as error:
            refusal = error
        else:
            descriptors = {name: module.maps[name] for name in (*MAPS, *(TLS_MAPS if request.tls else ()))}
            descriptors |= {f"{LINK}{name}": link for name, link in links.items()}
            descriptors |= {f"{PROBE}{name}": program for name, program in probes.items()}
            return Attached(descriptors, module)
    raise refusal


def main() -> int:
    """Serve the one request on standard input."""
    with socket.socket(fileno=os.dup(0)) as channel:
        request = Request(**json.loads(channel.recv(MAX_MESSAGE_BYTES)))
        try:
            attached = compile_and_attach(request)
        except RefusalError as refusal:
            channel.sendall(
                json.dumps({"cause": refusal.cause, "remedy": refusal.remedy}).encode()[:MAX_MESSAGE_BYTES]
            )
            return 1
        manifest = {"descriptors": list(attached.descriptors), "tls_obstacle": attached.tls_obstacle}
        socket.send_fds(channel, [json.dumps(manifest).encode()], list(attached.descriptors.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
