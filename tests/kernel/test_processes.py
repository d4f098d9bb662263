"""What is told of processes: whom they made, what they executed and where, and what remains of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebpf.events import CaptureEvent, Policy, ProcessExecuted, ProcessForked, ProcessPolicy
from tests.kernel.conftest import BOTH, FOREVER_SECONDS, Tap

pytestmark = pytest.mark.kernel

OpenTap = Callable[..., Tap]

CGROUPS = Path("/sys/fs/cgroup")
UNDECIDED = ProcessPolicy(capture=Policy.UNDECIDED)


def forks(tap: Tap, parent: int) -> list[ProcessForked]:
    return [
        event for event in tap.drain() if isinstance(event, ProcessForked) and event.parent_tgid == parent
    ]


@pytest.mark.parametrize(
    "policy",
    [
        ProcessPolicy(capture=BOTH, ports=frozenset({80}), bodies=False),
        ProcessPolicy(capture=Policy.IGNORE, finishing=Policy.CAPTURE_EGRESS),
        UNDECIDED,
    ],
)
def test_a_fork_is_told_and_hands_the_whole_policy_on(tap: Tap, policy: ProcessPolicy) -> None:
    before = time.monotonic_ns()
    try:
        tap.capture.set_policy(os.getpid(), policy)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            (fork,) = forks(tap, os.getpid())
            assert fork.tgid == child.pid
            assert before < fork.ktime_ns < time.monotonic_ns()
            assert tap.capture.policies()[child.pid] == policy
            child.communicate(b"\n")
    finally:
        tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=BOTH))


def test_a_thread_is_not_told_nor_a_child_of_an_ignored_process(tap: Tap) -> None:
    thread = threading.Thread(target=time.monotonic)
    thread.start()
    thread.join()
    try:
        tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=Policy.IGNORE))
        subprocess.run(["/bin/true"], check=True)
        assert not forks(tap, os.getpid())
    finally:
        tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=BOTH))


def test_the_default_policy_counts_for_forks(open_tap: OpenTap) -> None:
    tap = open_tap(default_policy=Policy.CAPTURE_INGRESS)
    tap.capture.remove_policy(os.getpid())
    with subprocess.Popen(["/bin/true"]) as child:
        pass
    assert [fork.tgid for fork in forks(tap, os.getpid())] == [child.pid]
    assert child.pid not in tap.capture.policies()


def test_a_fork_wakes_the_agent_when_the_child_is_undecided(open_tap: OpenTap) -> None:
    capture = open_tap().capture
    capture.set_policy(os.getpid(), UNDECIDED)
    child = threading.Timer(0.05, lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0))
    child.start()
    assert capture._ring.wait(FOREVER_SECONDS)
    child.join()


def first_hierarchy() -> Path | None:
    """The v1 hierarchy that the kernel side reads: that of the controller which /proc/cgroups lists first."""
    _, *controllers = Path("/proc/cgroups").read_text(encoding="ascii").splitlines()
    name, hierarchy, *_ = controllers[0].split()
    return CGROUPS / name if hierarchy != "0" and (CGROUPS / name).is_dir() else None


def unified_hierarchy() -> Path | None:
    return next((path for path in (CGROUPS / "unified", CGROUPS) if (path / "cgroup.procs").exists()), None)


@pytest.fixture
def nested_cgroup() -> Iterator[Callable[[Path, str], Path]]:
    """Return a function that makes a cgroup and its ancestors."""
    with ExitStack() as removing:

        def make(root: Path, path: str) -> Path:
            at = root
            for name in path.split("/"):
                above, at = at, at / name
                at.mkdir()
                removing.callback(at.rmdir)
                for setting in ("cpuset.cpus", "cpuset.mems"):  # without these no process may enter
                    if root.name == "cpuset" and (above / setting).exists():
                        (at / setting).write_text((above / setting).read_text())
            return at

        yield make


def cgroups_of_a_short_process(tap: Tap, *entered: Path) -> tuple[str, ...]:
    script = "".join(f"echo $$ >{path}/cgroup.procs; " for path in entered) + "exec /bin/true"
    with subprocess.Popen(["/bin/sh", "-c", script]) as process:
        pass
    assert process.returncode == 0
    (executed,) = [
        event
        for event in tap.drain()
        if isinstance(event, ProcessExecuted) and event.tgid == process.pid and event.path == "/bin/true"
    ]
    return executed.cgroups


CONTAINER = "cri-containerd-" + "0123456789abcdef" * 4 + ".scope"
POD = "kubepods-besteffort-pod01234567_89ab_cdef_0123_456789abcdef.slice"


@pytest.mark.parametrize("hierarchy", [unified_hierarchy, first_hierarchy], ids=["unified", "v1"])
def test_a_process_that_is_gone_is_still_put_into_its_container(
    tap: Tap, nested_cgroup: Callable[[Path, str], Path], hierarchy: Callable[[], Path | None]
) -> None:
    root = hierarchy()
    if root is None:
        pytest.skip("this host has no such hierarchy")
    path = f"wirespan-test.slice/kubepods-besteffort.slice/{POD}/{CONTAINER}"
    assert f"/{path}" in cgroups_of_a_short_process(tap, nested_cgroup(root, path))


def test_of_deep_cgroups_the_innermost_are_told_and_a_path_in_both_hierarchies_once(
    tap: Tap, nested_cgroup: Callable[[Path, str], Path]
) -> None:
    names = [f"wirespan-test-{number}" for number in range(8)]
    roots = [root for root in (unified_hierarchy(), first_hierarchy()) if root]
    entered = [nested_cgroup(root, "/".join(names)) for root in roots]
    assert cgroups_of_a_short_process(tap, *entered) == ("/" + "/".join(names[2:]),)


def test_a_long_name_of_a_cgroup_is_cut(tap: Tap, nested_cgroup: Callable[[Path, str], Path]) -> None:
    root = unified_hierarchy() or first_hierarchy()
    assert root is not None
    path = "/".join(letter * 255 for letter in "abcdef")
    expected = "".join("/" + letter * 127 for letter in "abcdef")
    assert expected in cgroups_of_a_short_process(tap, nested_cgroup(root, path))


MAX_PROCESSES, MAX_PORTS_OF_SETS = 32_768, 8_192
NO_TGIDS = range(0x4000_0000, 0x4000_0000 + MAX_PROCESSES - 1)
"""As many as there is room for beside this process; no process has them."""


def test_a_full_table_of_policies_refuses_the_agent_and_is_counted_at_fork(open_tap: OpenTap) -> None:
    tap = open_tap()
    for tgid in NO_TGIDS:
        tap.capture.set_policy(tgid, UNDECIDED)
    with pytest.raises(OSError, match="too long"):
        tap.capture.set_policy(NO_TGIDS.stop, UNDECIDED)
    tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=Policy.CAPTURE_INGRESS))
    subprocess.run(["/bin/true"], check=True)
    assert tap.lost("policy_table_full") == 1
    tap.capture.remove_policy(NO_TGIDS[0])
    subprocess.run(["/bin/true"], check=True)
    assert tap.lost("policy_table_full") == 1
    assert len(tap.capture.policies()) == MAX_PROCESSES - 1


def test_ports_find_no_room_until_a_set_is_out_of_use(open_tap: OpenTap) -> None:
    capture = open_tap().capture
    size = MAX_PORTS_OF_SETS // 4
    sets = [frozenset(range(first, first + size)) for first in range(1, 5 * size, size)]
    policies = [ProcessPolicy(capture=BOTH, ports=ports) for ports in sets]
    for tgid, policy in zip(NO_TGIDS, policies[:4], strict=False):
        capture.set_policy(tgid, policy)
    with pytest.raises(OSError, match="too long"):
        capture.set_policy(NO_TGIDS[4], policies[4])
    assert NO_TGIDS[4] not in capture.policies()
    capture.remove_policy(NO_TGIDS[1])
    capture.set_policy(NO_TGIDS[4], policies[4])
    capture.set_policy(NO_TGIDS[5], policies[0])
    kept = {NO_TGIDS[number]: policies[number] for number in (0, 2, 3, 4)}
    assert capture.policies() == {
        os.getpid(): ProcessPolicy(capture=BOTH),
        NO_TGIDS[5]: policies[0],
        **kept,
    }


PROCESSES = 2_503
SHORT_LIVED = f"""
import os, sys
for number in range({PROCESSES}):
    if sys.argv[1] == "exec":
        child = os.posix_spawn("/bin/true", ["true"], {{}})
    elif (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("way", ["fork", "exec"])
@pytest.mark.parametrize("undecided_at_exec", [True, False], ids=["undecided", "decided"])
def test_ten_thousand_short_processes_leave_no_policy(
    open_tap: OpenTap, way: str, *, undecided_at_exec: bool
) -> None:
    tap = open_tap(undecided_at_exec=undecided_at_exec)
    with subprocess.Popen([sys.executable, "-c", SHORT_LIVED, way], stdin=subprocess.PIPE) as parent:
        seen: list[CaptureEvent] = tap.events
        while parent.poll() is None:
            seen += tap.capture.poll(0.05)
    children = {fork.tgid for fork in forks(tap, parent.pid)}
    assert parent.returncode == 0
    assert len(children) == PROCESSES
    executed = [
        event for event in tap.events if isinstance(event, ProcessExecuted) and event.tgid in children
    ]
    assert len(executed) == (PROCESSES if way == "exec" else 0)
    # others may be executing programs on this host
    left = set(tap.capture.policies())
    assert not left & (children | {parent.pid})
    assert os.getpid() in left
    assert undecided_at_exec or left == {os.getpid()}
    assert tap.lost("policy_table_full") == 0
