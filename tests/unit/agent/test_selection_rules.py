"""What the options mean for one process."""

import os

import pytest

from agent.selection_rules import CaptureDirection, NoSuchProcessError, SelectionRules, require_processes
from ebpf.events import Policy

BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
NEVER = 2**31 - 1


@pytest.mark.parametrize(
    ("direction", "policy"),
    [
        (CaptureDirection.INGRESS, Policy.CAPTURE_INGRESS),
        (CaptureDirection.EGRESS, Policy.CAPTURE_EGRESS),
        (CaptureDirection.BOTH, BOTH),
    ],
)
def test_the_direction_is_the_policy(direction: CaptureDirection, policy: Policy) -> None:
    assert direction.roles == policy
    assert SelectionRules(direction=direction).default_policy == policy
    assert SelectionRules(direction=direction, pids=(1,)).default_policy == Policy.IGNORE


@pytest.mark.parametrize(
    ("rules", "decides_at_exec", "needs_workload"),
    [
        (SelectionRules(), False, False),
        (SelectionRules(pids=(1,)), False, False),
        (SelectionRules(executables=("nginx",)), True, False),
        (SelectionRules(containers=("shop",)), True, True),
        (SelectionRules(pods=True), True, True),
        (SelectionRules(tls_excluded=("nginx",)), True, False),
    ],
)
def test_what_has_to_be_decided_on(
    rules: SelectionRules, *, decides_at_exec: bool, needs_workload: bool
) -> None:
    assert rules.decides_at_exec is decides_at_exec
    assert rules.needs_workload is needs_workload
    assert (rules.default_policy == Policy.IGNORE) is bool(decides_at_exec or rules.pids)


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
        (("*",), None, False),
        ((), "/anything", True),
        ((), None, True),
    ],
)
def test_patterns_match_path_or_name(globs: tuple[str, ...], path: str | None, accepted: bool) -> None:  # noqa: FBT001
    assert SelectionRules(executables=globs).accepts_executable(path) is accepted
    excluded = bool(globs) and (accepted or path is None)  # what is unknown may be what is excluded
    assert SelectionRules(tls_excluded=globs).accepts_tls(path) is not excluded


def test_a_pid_that_does_not_exist_says_so() -> None:
    with pytest.raises(NoSuchProcessError, match=f"no process has the number {NEVER}"):
        require_processes(SelectionRules(pids=(os.getpid(), NEVER)))
    require_processes(SelectionRules(pids=(os.getpid(),)))
