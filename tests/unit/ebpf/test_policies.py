from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from ebpf.events import Policy, ProcessPolicy
from ebpf.layout import PORT_OF_SET, PROCESS_POLICY
from ebpf.policies import MAX_PORT_SETS, PolicyTable

BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
CAPTURED, IGNORED = ProcessPolicy(capture=BOTH), ProcessPolicy(capture=Policy.IGNORE)
FINISHING = ProcessPolicy(capture=Policy.IGNORE, finishing=BOTH)
WITHOUT_TLS = ProcessPolicy(capture=BOTH, tls=False)
IGNORED_WITHOUT_TLS = ProcessPolicy(capture=Policy.IGNORE, tls=False)


class MapInMemory:
    """A map with the kernel's bound."""

    def __init__(self, room: int) -> None:
        self.content: dict[bytes, bytes] = {}
        self.room = room

    def lookup(self, key: bytes) -> bytes | None:
        return self.content.get(key)

    def update(self, key: bytes, value: bytes) -> None:
        if key not in self.content and len(self.content) >= self.room:
            raise OSError(errno.E2BIG, "Argument list too long")
        self.content[key] = value

    def replace(self, key: bytes, value: bytes) -> None:
        if key in self.content:
            self.content[key] = value

    def delete(self, key: bytes) -> None:
        self.content.pop(key, None)

    def keys(self) -> Iterator[bytes]:
        return iter([*self.content, b"gone"])


class Kernel:
    """Both maps, and a clock that goes on by one each time it is read."""

    def __init__(self, default: Policy = Policy.IGNORE, *, processes: int = 100, ports: int = 100) -> None:
        self.policies = MapInMemory(processes)
        self.port_sets = MapInMemory(ports)
        self.now = 0
        self.table = PolicyTable(
            self.policies, self.port_sets, default=default, header_budget=4_096, ktime_now=self.tick
        )

    def tick(self) -> int:
        self.now += 1
        return self.now

    def since(self, tgid: int) -> int:
        since: int = PROCESS_POLICY.unpack(self.policies.content[tgid.to_bytes(4, "little")])[0]
        return since

    def ports_of(self, tgid: int) -> set[int]:
        number = PROCESS_POLICY.unpack(self.policies.content[tgid.to_bytes(4, "little")])[2]
        keys = (PORT_OF_SET.unpack(key) for key in self.port_sets.content)
        return {port for member_of, port in keys if member_of == number}


@pytest.mark.parametrize(
    ("default", "steps", "raised"),
    [
        (Policy.IGNORE, [CAPTURED], True),
        (Policy.IGNORE, [CAPTURED, ProcessPolicy(capture=Policy.UNDECIDED)], False),
        (Policy.IGNORE, [CAPTURED, IGNORED], False),
        (Policy.IGNORE, [CAPTURED, IGNORED, CAPTURED], True),
        (Policy.IGNORE, [CAPTURED, IGNORED, IGNORED, FINISHING], True),
        (Policy.IGNORE, [CAPTURED, FINISHING, CAPTURED], False),
        (Policy.IGNORE, [CAPTURED, None, CAPTURED], True),
        (BOTH, [CAPTURED], False),
        (BOTH, [IGNORED], False),
        (BOTH, [IGNORED, CAPTURED], True),
        (BOTH, [CAPTURED, IGNORED, None], True),
        (BOTH, [IGNORED, CAPTURED, None], False),
        (Policy.IGNORE, [IGNORED_WITHOUT_TLS, WITHOUT_TLS], True),
        (Policy.IGNORE, [WITHOUT_TLS, IGNORED_WITHOUT_TLS], False),
        (BOTH, [WITHOUT_TLS], False),
        (BOTH, [WITHOUT_TLS, CAPTURED], True),
        (BOTH, [WITHOUT_TLS, None], True),
    ],
)
def test_a_process_is_watched_since_it_was_last_ignored(
    default: Policy, steps: list[ProcessPolicy | None], *, raised: bool
) -> None:
    kernel = Kernel(default)
    for step in steps:
        kernel.now += 10
        before = kernel.now
        if step is None:
            kernel.table.remove(5)
        else:
            kernel.table.set(5, step)
    # later than the moment it took effect
    assert (kernel.since(5) == before + 2) == raised


def test_a_removed_policy_is_forgotten_unless_it_says_since_when() -> None:
    kernel = Kernel(BOTH)
    kernel.table.remove(5)
    kernel.table.set(5, CAPTURED)
    kernel.table.remove(5)
    assert kernel.table.read() == {}
    kernel.table.set(5, IGNORED)
    kernel.table.remove(5)
    assert kernel.table.read() == {5: CAPTURED}
    kernel.policies.content.clear()  # the process ended
    kernel.table.remove(5)
    assert kernel.table.read() == {}


def test_policies_are_read_as_they_were_set() -> None:
    kernel = Kernel()
    ports = frozenset({80, 8_080})
    policies = {
        1: ProcessPolicy(capture=BOTH, ports=ports, bodies=False),
        2: ProcessPolicy(capture=Policy.UNDECIDED),
        3: ProcessPolicy(capture=Policy.CAPTURE_INGRESS, finishing=Policy.CAPTURE_EGRESS, ports=ports),
        4: WITHOUT_TLS,
        5: ProcessPolicy(capture=Policy.UNDECIDED, tls=False),
    }
    for tgid, policy in policies.items():
        kernel.table.set(tgid, policy)
    assert kernel.table.read() == policies
    assert kernel.ports_of(1) == kernel.ports_of(3) == ports
    assert len(kernel.port_sets.content) == 2
    fields = [PROCESS_POLICY.unpack(value) for value in kernel.policies.content.values()]
    assert [budget for _since, budget, *_ in fields] == [4_096, 0, 0, 0, 0]
    assert [flags for *_, flags, _finishing in fields] == [3, 4, 1, 8 | 3, 8 | 4]


def with_ports(*ports: int) -> ProcessPolicy:
    return ProcessPolicy(capture=BOTH, ports=frozenset(ports))


def test_sets_out_of_use_make_room_and_those_in_use_do_not() -> None:
    kernel = Kernel(ports=4)
    kernel.table.set(1, with_ports(1, 2))
    kernel.table.set(2, with_ports(3))
    with pytest.raises(OSError, match="too long"):
        kernel.table.set(3, with_ports(4, 5))
    assert len(kernel.port_sets.content) == 3
    assert 3 not in kernel.table.read()
    kernel.table.set(1, CAPTURED)
    kernel.table.set(3, with_ports(4, 5))
    kernel.table.set(1, with_ports(3))
    assert kernel.table.read() == {1: with_ports(3), 2: with_ports(3), 3: with_ports(4, 5)}
    assert kernel.ports_of(3) == {4, 5}
    with pytest.raises(OSError, match="too long"):
        kernel.table.set(4, with_ports(1, 2, 6, 7, 8))
    assert len(kernel.port_sets.content) == 3


def test_numbers_of_sets_come_again_late_and_never_while_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PORT_SETS == 2**16 - 1
    monkeypatch.setattr("ebpf.policies.MAX_PORT_SETS", 3)
    kernel = Kernel(ports=2)
    kernel.table.set(1, with_ports(1))
    numbers = []
    for port in range(2, 7):
        kernel.table.set(2, with_ports(port))
        numbers.append(PROCESS_POLICY.unpack(kernel.policies.content[b"\2\0\0\0"])[2])
        kernel.table.set(2, CAPTURED)
        assert kernel.ports_of(1) == {1}
    assert numbers == [2, 3, 2, 3, 2]


def test_a_full_table_is_an_error() -> None:
    kernel = Kernel(processes=1)
    kernel.table.set(1, CAPTURED)
    with pytest.raises(OSError, match="too long"):
        kernel.table.set(2, CAPTURED)
    kernel.table.set(1, IGNORED)
