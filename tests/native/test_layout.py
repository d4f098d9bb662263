from __future__ import annotations

from collections.abc import Callable

from ebpf import layout
from ebpf.compiler_child import CONTINUATIONS
from ebpf.events import Direction, EventKind, Missing, Policy, Protocol, Role
from ebpf.protocols import MAX_PROTOCOLS

RunC = Callable[..., list[str]]

STRUCTS = {
    "socket_record": (
        "kind direction role flags tgid ktime_ns connection_id position length missing payload_length tid",
        layout.SOCKET_RECORD,
    ),
    "socket_facts": (
        (
            "cookie inode network_namespace family local_port remote_port protocol tls local_address "
            "remote_address"
        ),
        layout.SOCKET_FACTS,
    ),
    "stream_state": (
        (
            "position reported lost_end lost_ktime_ns held_ktime_ns spent missing held_length held_thread "
            "framed header_length keep_left skip_left kept held"
        ),
        layout.STREAM_STATE,
    ),
    "connection": (
        (
            "id seen_ktime_ns verdict role joined_late opened closed turn turns ended missed unjudged "
            "reserved session streams socket"
        ),
        layout.CONNECTION,
    ),
    "process_record": (
        "kind reserved cgroups_length tgid ktime_ns path_length arguments_length",
        layout.PROCESS_RECORD,
    ),
    "hello_record": ("kind reserved tgid ktime_ns inode hello_length", layout.HELLO_RECORD),
    "mapping_record": ("kind reserved tgid ktime_ns inode name", layout.MAPPING_RECORD),
    "fork_record": ("kind reserved tgid ktime_ns parent_tgid reserved_too", layout.FORK_RECORD),
    "process_policy": ("since_ktime_ns turn_budget port_set flags finishing", layout.PROCESS_POLICY),
}


def python_offsets(format_text: str) -> list[int]:
    """Where each field of a struct format starts; what it passes over is one field, of a name of its own."""
    import re
    import struct

    offsets, at = [], 0
    for count, code in re.findall(r"(\d*)([A-Za-z])", format_text):
        whole = code in "sx"
        repeat = 1 if whole else int(count or 1)
        size = struct.calcsize(f"<{count}{code}" if whole else f"<{code}")
        for _ in range(repeat):
            offsets.append(at)
            at += size
    return offsets


def test_every_struct_has_the_same_fields_offsets_and_size_in_c_and_python(run_c: RunC) -> None:
    lines = ["#include <stdio.h>", "#include <stddef.h>", '#include "records.h"', "int main(void) {"]
    expected = []
    for name, (fields, layout_struct) in STRUCTS.items():
        for field, offset in zip(fields.split(), python_offsets(layout_struct.format[1:]), strict=True):
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
            expected.append(f"{name}.{field} {offset}")
    for name, size in {
        "socket_facts": layout.SOCKET_FACTS.size,
        "stream_state": layout.STREAM_STATE.size,
        "connection": layout.CONNECTION.size,
        "process_record": layout.PROCESS_RECORD.size,
        "fork_record": layout.FORK_RECORD.size,
        "process_policy": layout.PROCESS_POLICY.size,
        "socket_record": layout.SOCKET_RECORD.size + layout.SOCKET_FACTS.size,
    }.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        expected.append(f"{name} {size}")
    lines += ["return 0;", "}"]
    assert run_c("\n".join(lines)) == expected


def test_every_number_that_both_sides_use_is_equal(run_c: RunC) -> None:
    numbers = {
        **{f"RECORD_{kind.name}": kind for kind in EventKind if kind is not EventKind.UNJUDGED},
        "RECORD_UNJUDGED": EventKind.UNJUDGED - EventKind.DATA,
        "RECORD_PROCESS_EXECUTED": 5,
        "RECORD_PROCESS_EXITED": 6,
        "RECORD_PROCESS_FORKED": 7,
        "RECORD_JOINED_LATE": layout.RECORD_JOINED_LATE,
        "RECORD_PROVISIONAL": layout.RECORD_PROVISIONAL,
        **{direction.name: direction for direction in Direction},
        **{f"ROLE_{role.name}": role for role in Role},
        **{f"MISSING_{cause.name}": cause for cause in Missing},
        **{f"POLICY_{policy.name}": policy for policy in Policy},
        "POLICY_IGNORE": Policy.IGNORE,
        "MAX_PROTOCOLS": MAX_PROTOCOLS,
        **{f"PROTOCOL_{protocol.name}": protocol for protocol in Protocol},
        **{f"COUNTER_{counter.name}": counter for counter in layout.Counter},
        "COUNTERS": len(layout.Counter),
        **{name.upper(): index for index, name in enumerate(CONTINUATIONS)},
        "CONTINUATIONS": len(CONTINUATIONS),
        "CHUNK_BYTES": layout.CHUNK_BYTES,
    }
    prints = "".join(f'printf("{name} %d\\n", {name});' for name in numbers)
    printed = run_c(f'#include <stdio.h>\n#include "records.h"\nint main(void) {{ {prints} return 0; }}')
    assert printed == [f"{name} {int(value)}" for name, value in numbers.items()]
