"""The protocols that the kernel side recognises beside HTTP: the one list from which its C table is made.

Owns which C function judges for which protocol. What the functions take and return is in bpf/protocols.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_PROTOCOLS = 16
"""Numbers of protocols, HTTP's among them: the kernel side has so many counters."""


@dataclass(frozen=True, slots=True)
class JudgedProtocol:
    """A protocol beside HTTP whose connections are known by their first bytes."""

    name: str
    """The C function is `infer_<name>`, and its connections are counted as `connections_<name>`."""
    number: int
    """An `ebpf.events.Protocol`; below `MAX_PROTOCOLS`."""
    source: Path
    """The file with the function, in plain C."""


# PROTOCOL: a row for its C function.
JUDGED_PROTOCOLS: tuple[JudgedProtocol, ...] = ()


def protocol_table(protocols: Sequence[JudgedProtocol]) -> str:
    """Return the list as the C macro JUDGED_PROTOCOLS(X), which expands to X(number, function) for each."""
    rows = (f"X({protocol.number}, infer_{protocol.name})" for protocol in protocols)
    return f"#define JUDGED_PROTOCOLS(X) {' '.join(rows)}\n"
