"""What is captured of each process, in the map that the kernel side reads.

Owns the numbering of port sets and the moment since which a process is watched. It must not decide which
process is captured (agent). Contract: when bytes of a connection may have passed while its process was
ignored or its TLS was left alone, that connection starts afresh; the kernel side recognises it by
`since_ktime_ns`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ebpf.events import Policy, ProcessPolicy
from ebpf.layout import PORT_OF_SET, PROCESS_POLICY

MAX_PORT_SETS = 65_535
"""What their number has room for. The ports of all sets share a map of 8,192, which is full before."""
_NO_TLS = 8
"""POLICY_NO_TLS of `enum policy` in bpf/records.h: it shares a byte with the roles and is none of them."""


class KernelMap(Protocol):
    """The part of `bpf_syscalls.Map` that is needed here."""

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None when there is none."""

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of `key`. Raises OSError when the map is full."""

    def replace(self, key: bytes, value: bytes) -> None:
        """Set the value of `key` if it is there."""

    def delete(self, key: bytes) -> None:
        """Remove `key`."""

    def keys(self) -> Iterator[bytes]:
        """Iterate over the keys."""


def _is_ignored(flags: int, finishing: int) -> bool:
    return not flags & ~_NO_TLS and not finishing


class PolicyTable:
    """The policies of single processes. All others, and those removed, have `default`."""

    def __init__(
        self,
        policies: KernelMap,
        port_sets: KernelMap,
        *,
        default: Policy,
        header_budget: int,
        ktime_now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._policies = policies
        self._port_sets = port_sets
        self._default = default
        self._header_budget = header_budget
        self._ktime_now = ktime_now
        self._numbers: dict[frozenset[int], int] = {}
        self._last_number = 0

    def set(self, tgid: int, policy: ProcessPolicy) -> None:
        """Set the policy of a process. Raises OSError when there is no room for it or for its ports."""
        self._write(tgid, policy, self._policies.update)

    def change(self, tgid: int, policy: ProcessPolicy) -> None:
        """Set the policy of a process that has one of its own, as it has until it ends; else do nothing.

        So nothing is left of a process that ends at this moment. Raises OSError when there is no room for its
        ports.
        """
        self._write(tgid, policy, self._policies.replace)

    def _write(self, tgid: int, policy: ProcessPolicy, write: Callable[[bytes, bytes], None]) -> None:
        key = tgid.to_bytes(4, "little")
        port_set = self._number(policy.ports) if policy.ports else 0
        budget = 0 if policy.bodies else self._header_budget
        since_ktime_ns, flags, finishing = self._watched(key)
        went_by = _is_ignored(flags, finishing) or (policy.tls and flags & _NO_TLS)
        begins = bool(went_by) and not _is_ignored(policy.capture, policy.finishing)
        if begins:
            since_ktime_ns = self._ktime_now()
        flags = int(policy.capture) | (0 if policy.tls else _NO_TLS)
        tail = (budget, port_set, flags, policy.finishing)
        write(key, PROCESS_POLICY.pack(since_ktime_ns, *tail))
        if begins:
            # bytes may have moved between the first look at the clock and the moment it took effect
            self._policies.replace(key, PROCESS_POLICY.pack(self._ktime_now(), *tail))

    def remove(self, tgid: int) -> None:
        """Return a process to the default policy."""
        key = tgid.to_bytes(4, "little")
        since_ktime_ns, flags, finishing = self._watched(key)
        begins = _is_ignored(flags, finishing) or bool(flags & _NO_TLS)
        if self._default is Policy.IGNORE or not (begins or since_ktime_ns):
            self._policies.delete(key)
            return
        # Remembers since when the process is watched, until it ends; of one that has ended there is none.
        tail = (0, 0, self._default, Policy.IGNORE)
        if begins:
            self._policies.replace(key, PROCESS_POLICY.pack(self._ktime_now(), *tail))
            since_ktime_ns = self._ktime_now()
        self._policies.replace(key, PROCESS_POLICY.pack(since_ktime_ns, *tail))

    def read(self) -> dict[int, ProcessPolicy]:
        """Return the processes that have a policy of their own, inherited ones included."""
        return {int.from_bytes(key, "little"): self._decode(value) for key, value in self._values()}

    def find(self, tgid: int) -> ProcessPolicy | None:
        """Return the policy that a process has of its own, inherited or not."""
        value = self._policies.lookup(tgid.to_bytes(4, "little"))
        return None if value is None else self._decode(value)

    def _decode(self, value: bytes) -> ProcessPolicy:
        _since, budget, port_set, flags, finishing = PROCESS_POLICY.unpack(value)
        ports: frozenset[int] = frozenset()
        if port_set:
            ports = next(ports for ports, number in self._numbers.items() if number == port_set)
        return ProcessPolicy(
            capture=Policy(flags & ~_NO_TLS),
            finishing=Policy(finishing),
            ports=ports,
            bodies=budget == 0,
            tls=not flags & _NO_TLS,
        )

    def _values(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self._policies.keys():  # noqa: SIM118  # a kernel map, not a dict
            value = self._policies.lookup(key)
            if value is not None:
                yield key, value

    def _watched(self, key: bytes) -> tuple[int, int, int]:
        """Return since when a process is watched, its flags, and the roles that are let finish."""
        value = self._policies.lookup(key)
        if value is None:
            return 0, self._default, Policy.IGNORE
        since_ktime_ns, _budget, _port_set, flags, finishing = PROCESS_POLICY.unpack(value)
        return since_ktime_ns, flags, finishing

    def _number(self, ports: frozenset[int]) -> int:
        number = self._numbers.get(ports)
        if number is not None:
            return number
        try:
            number = self._add(ports)
        except OSError:
            self._forget_unused()
            number = self._add(ports)
        self._numbers[ports] = number
        return number

    def _add(self, ports: frozenset[int]) -> int:
        number = self._next_number()
        with contextlib.ExitStack() as undo:
            for port in ports:
                key = PORT_OF_SET.pack(number, port)
                self._port_sets.update(key, b"\1")
                undo.callback(self._port_sets.delete, key)
            undo.pop_all()
        self._last_number = number
        return number

    def _next_number(self) -> int:
        """Return a number that no set has, and none had lately: a call may be on its way with it."""
        taken = set(self._numbers.values())
        number = self._last_number
        while (number := number % MAX_PORT_SETS + 1) in taken:
            pass
        return number

    def _forget_unused(self) -> None:
        used = {PROCESS_POLICY.unpack(value)[2] for _key, value in self._values()}
        for ports, number in list(self._numbers.items()):
            if number not in used:
                for port in ports:
                    self._port_sets.delete(PORT_OF_SET.pack(number, port))
                del self._numbers[ports]
