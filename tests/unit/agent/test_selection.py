"""Which processes are captured, with real processes of this host."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.selection import (
    REFUSAL_KEPT_NS,
    CaptureDirection,
    NoSuchProcessError,
    Selection,
    SelectionRules,
    require_processes,
)
from ebpf.events import (
    Direction,
    EventKind,
    Missing,
    Policy,
    ProcessFacts,
    ProcessPolicy,
    Role,
    SocketEvent,
    SocketInfo,
)

BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
NEVER = 2**31 - 1
SOCKET = SocketInfo("ipv4", "127.0.0.1", 1, "127.0.0.1", 2, 1, 1, 1)
WAITING = "import sys; print(flush=True); sys.stdin.read()"
PARENT = (
    "import subprocess, sys\n"
    f"command = [sys.executable, '-c', {WAITING!r}]\n"
    "child = subprocess.Popen(command, stdin=sys.stdin, stdout=subprocess.PIPE)\n"
    "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()\n"
)


class Policies:
    """A policy map in memory, with the kernel's bound."""

    def __init__(self, room: int = 1000) -> None:
        self.by_tgid: dict[int, Policy] = {}
        self.room = room

    def set_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        if len(self.by_tgid) >= self.room:
            raise OSError(28, "no space")
        self.by_tgid[tgid] = policy.capture

    def remove_policy(self, tgid: int) -> None:
        self.by_tgid.pop(tgid, None)


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its child."""
    with contextlib.ExitStack() as closing:
        process = closing.enter_context(
            subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def facts(tgid: int, path: str | None) -> ProcessFacts:
    return ProcessFacts(0, tgid, None, path, (), None)


def event(tgid: int, *, provisional: bool = True) -> SocketEvent:
    return SocketEvent(
        EventKind.DATA,
        99,
        1,
        tgid,
        Direction.INGRESS,
        0,
        0,
        b"",
        Missing(0),
        Role.SERVER,
        False,
        SOCKET,
        provisional,
    )


def test_without_rules_everything_is_captured_and_nothing_decided() -> None:
    rules, policies = SelectionRules(), Policies()
    assert rules.default_policy == BOTH
    assert Selection(rules, policies).apply_to_running() == 0
    Selection(rules, policies).judge(facts(1, "/bin/x"))
    assert policies.by_tgid == {}


@pytest.mark.parametrize(
    ("direction", "policy"),
    [
        (CaptureDirection.INGRESS, Policy.CAPTURE_INGRESS),
        (CaptureDirection.EGRESS, Policy.CAPTURE_EGRESS),
        (CaptureDirection.BOTH, BOTH),
    ],
)
def test_the_direction_is_the_policy(direction: CaptureDirection, policy: Policy) -> None:
    assert SelectionRules(direction=direction).default_policy == policy
    assert SelectionRules(direction=direction, pids=(1,)).default_policy == Policy.IGNORE


@pytest.mark.parametrize(
    ("globs", "path", "accepted"),
    [
        (("*nginx*",), "/usr/sbin/nginx", True),
        (("nginx",), "/usr/sbin/nginx", True),
        (("/usr/sbin/*",), "/usr/sbin/nginx", True),
        (("python3.?", "nginx"), "/usr/bin/python3.9", True),
        (("ngin",), "/usr/sbin/nginx", False),
        (("NGINX",), "/usr/sbin/nginx", False),
        (("sbin",), "/usr/sbin/nginx", False),
        ((), "/anything", True),
    ],
)
def test_patterns_match_the_path_or_the_name(globs: tuple[str, ...], path: str, accepted: bool) -> None:  # noqa: FBT001
    assert SelectionRules(executables=globs).accepts_executable(path) is accepted


def test_a_pid_brings_its_present_descendants(family: tuple[int, int]) -> None:
    policies = Policies()
    assert Selection(SelectionRules(pids=(family[0],)), policies).apply_to_running() == 2
    assert policies.by_tgid == dict.fromkeys(family, BOTH)


def test_several_pids_widen(family: tuple[int, int]) -> None:
    policies = Policies()
    Selection(SelectionRules(pids=(family[1], os.getpid())), policies).apply_to_running()
    assert {*family, os.getpid()} <= set(policies.by_tgid)


def test_pid_and_executable_narrow(family: tuple[int, int]) -> None:
    policies = Policies()
    rules = SelectionRules(pids=(family[0],), executables=("no-such-program",))
    assert Selection(rules, policies).apply_to_running() == 0
    rules = SelectionRules(pids=(family[1],), executables=("*python*",))
    assert Selection(rules, policies).apply_to_running() == 1
    assert set(policies.by_tgid) == {family[1]}


def test_executables_are_found_among_all_processes(family: tuple[int, int]) -> None:
    policies = Policies()
    Selection(SelectionRules(executables=("python3*",)), policies).apply_to_running()
    assert set(family) <= set(policies.by_tgid)


def test_a_pid_that_does_not_exist_says_so() -> None:
    with pytest.raises(NoSuchProcessError, match=f"no process has the number {NEVER}"):
        require_processes(SelectionRules(pids=(os.getpid(), NEVER)))
    require_processes(SelectionRules(pids=(os.getpid(),)))


def test_an_execve_is_judged(family: tuple[int, int]) -> None:
    policies = Policies()
    selection = Selection(SelectionRules(executables=("curl",)), policies)
    selection.judge(facts(family[0], "/usr/bin/curl"))
    assert policies.by_tgid == {family[0]: BOTH}
    selection.judge(facts(family[0], "/usr/bin/wget"))
    assert policies.by_tgid == {}


def test_an_execve_in_a_selected_family_is_judged(family: tuple[int, int]) -> None:
    policies = Policies()
    selection = Selection(SelectionRules(pids=(family[0],), executables=("curl",)), policies)
    selection.judge(facts(family[1], "curl"))
    selection.judge(facts(os.getpid(), "curl"))
    assert policies.by_tgid == {family[1]: BOTH}


def test_a_process_that_ended_meanwhile_leaves_no_policy_behind() -> None:
    policies = Policies()
    Selection(SelectionRules(executables=("curl",)), policies).judge(facts(NEVER, "curl"))
    assert policies.by_tgid == {}


def test_a_program_whose_name_is_unknown_is_refused(family: tuple[int, int]) -> None:
    policies = Policies()
    Selection(SelectionRules(executables=("*",)), policies).judge(facts(family[0], None))
    assert policies.by_tgid == {}


def test_only_what_was_captured_provisionally_is_refused(family: tuple[int, int]) -> None:
    selection = Selection(SelectionRules(executables=("curl",)), Policies())
    selection.judge(facts(7, "wget"))
    assert selection.refuses(event(7))
    assert not selection.refuses(event(8)), "nothing was said about it yet"
    assert not selection.refuses(event(7, provisional=False)), "the number went to a selected process"
    selection.judge(facts(7, "curl"))
    assert not selection.refuses(event(7))
    assert selection.counters()["refused_events"] == 1


def test_refusals_are_forgotten_when_their_events_must_have_arrived() -> None:
    now = [0]
    selection = Selection(SelectionRules(executables=("curl",)), Policies(), ktime_now=lambda: now[0])
    selection.judge(facts(7, "wget"))
    now[0] = REFUSAL_KEPT_NS + 1
    selection.judge(facts(8, "wget"))
    assert not selection.refuses(event(7))
    assert selection.refuses(event(8))


def test_a_full_policy_table_is_counted(family: tuple[int, int]) -> None:
    selection = Selection(SelectionRules(pids=(family[0],)), Policies(room=1))
    selection.apply_to_running()
    assert selection.counters()["unselectable_processes"] == 1
