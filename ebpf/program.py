"""One program text from the C files, and the compiler flags that fit it to this kernel and to the options.

bcc rewrites map accesses and finds entry points only in the text it is given, not in what that includes; so
local includes are spliced in. `#line` keeps compiler messages naming the file they are about.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path

from ebpf.btf import KernelTypes
from ebpf.http_prefixes import prefix_table
from ebpf.protocols import JUDGED_PROTOCOLS, JudgedProtocol, protocol_table

SOURCE_DIRECTORY = Path(__file__).parent / "bpf"

_LOCAL_INCLUDE = re.compile(r'^#include "([^"]+)"$')

_MEMBERS: tuple[tuple[str, ...], ...] = (
    ("task_struct", "files"),
    ("task_struct", "thread_info"),
    ("task_struct", "tgid"),
    ("task_struct", "mm"),
    ("task_struct", "signal"),
    ("task_struct", "cgroups"),
    ("files_struct", "fdt"),
    ("fdtable", "fd"),
    ("fdtable", "max_fds"),
    ("file", "f_inode"),
    ("file", "private_data"),
    ("file", "f_path"),
    ("path", "dentry"),
    ("dentry", "d_name"),
    ("qstr", "name"),
    ("inode", "i_mode"),
    ("inode", "i_ino"),
    ("socket", "type"),
    ("socket", "sk"),
    ("sock_common", "skc_family"),
    ("sock_common", "skc_net"),
    ("sock_common", "skc_num"),
    ("sock_common", "skc_dport"),
    ("sock_common", "skc_rcv_saddr"),
    ("sock_common", "skc_daddr"),
    ("sock_common", "skc_v6_rcv_saddr"),
    ("sock_common", "skc_v6_daddr"),
    ("net", "ns"),
    ("ns_common", "inum"),
    ("sock", "sk_peer_pid"),
    ("sock", "sk_socket"),
    ("pid", "numbers"),
    ("upid", "nr"),
    ("unix_sock", "addr"),
    ("unix_sock", "peer"),
    ("unix_address", "len"),
    ("unix_address", "name"),
    ("linux_binprm", "filename"),
    ("mm_struct", "arg_start"),
    ("mm_struct", "arg_end"),
    ("signal_struct", "live"),
    ("css_set", "dfl_cgrp"),
    ("css_set", "subsys"),
    ("cgroup_subsys_state", "cgroup"),
    ("cgroup", "kn"),
    ("cgroup", "root"),
    ("kernfs_node", "name"),
    ("kernfs_node", "parent", "__parent"),  # `__parent` since Linux 6.15
)
"""Members that bpf/*.h reads as OFFSET_<struct>_<member>, with other names that kernels have for them."""

_MEMBERS_BY_MACHINE: dict[str, tuple[tuple[str, ...], ...]] = {
    "x86_64": (
        ("thread_info", "status"),
        ("pt_regs", "dx"),
        ("pt_regs", "si"),
        ("pt_regs", "di"),
        ("pt_regs", "r10"),
        ("pt_regs", "r8"),
        ("pt_regs", "orig_ax"),
    ),
    "aarch64": (
        ("thread_info", "flags"),
        ("pt_regs", "regs"),
        ("pt_regs", "syscallno"),
        ("pt_regs", "orig_x0"),
    ),
}

MACHINES = frozenset(_MEMBERS_BY_MACHINE)
"""Architectures that can be captured on, as `uname -m` names them."""


def splice(path: Path, spliced: set[str] | None = None) -> str:
    """Return the text of `path` with every local include in place of its line, each file once."""
    spliced = set() if spliced is None else spliced
    spliced.add(path.name)
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        include = _LOCAL_INCLUDE.match(line)
        if include is None:
            lines.append(line)
        elif include[1] not in spliced:
            lines.append(splice(path.parent / include[1], spliced))
            lines.append(f'#line {number + 1} "{path.name}"')
        else:
            lines.append("")
    return "\n".join(lines)


def program_text(protocols: Sequence[JudgedProtocol] = JUDGED_PROTOCOLS) -> str:
    """Return the whole kernel side as the one text that bcc compiles.

    The functions of `protocols` come last; bpf/protocols.h declares them.
    """
    sources = [SOURCE_DIRECTORY / "program.bpf.c", *(protocol.source for protocol in protocols)]
    return prefix_table() + protocol_table(protocols) + "\n".join(map(splice, sources))


def offset_flags(types: KernelTypes, machine: str | None = None) -> list[str]:
    """Return the flags that say where this kernel keeps what the program reads.

    Raises BtfError for what it lacks.
    """
    return types.offset_flags(_MEMBERS + _MEMBERS_BY_MACHINE[machine or platform.machine()])
