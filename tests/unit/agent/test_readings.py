"""What of /proc and of the stream counts."""

import dataclasses

import pytest

from agent.readings import add_own, contradicts, shows_another_program
from ebpf.events import ProcessFacts

PARENT = ProcessFacts(
    5, 10, None, "/bin/server", ("server", "-v"), "shop", ("/a",), {"container.name": "shop"}
)


def facts(path: str | None, *arguments: str) -> ProcessFacts:
    return ProcessFacts(5, 10, 7, path, arguments, None, ("/a",))


@pytest.mark.parametrize(
    ("streamed", "read", "is_contradiction"),
    [
        (facts("curl", "curl", "-s"), facts("/usr/bin/curl", "curl", "-s"), False),
        (
            facts("/usr/bin/python3", "python3", "x.py"),
            facts("/usr/bin/python3.11", "python3", "x.py"),
            False,
        ),
        (facts("/srv/tool", "/bin/sh", "/srv/tool"), facts("/usr/bin/dash", "/bin/sh", "/srv/tool"), False),
        (facts("nginx", "nginx"), facts("/usr/sbin/nginx", "nginx: master process"), False),
        (facts("/bin/sh", "sh", "-c", "a long wo"), facts("/bin/dash", "sh", "-c", "a long word"), False),
        (facts("/bin/sh"), facts("/bin/dash"), False),
        (facts("/bin/sh", "sh", "-c"), facts("/usr/bin/curl", "curl", "-s"), True),
        (facts("/bin/sh", "sh", "-c", "curl"), facts("/usr/bin/dash", "sh", "-c"), True),
    ],
)
def test_an_execve_is_known_again_by_its_name_or_its_arguments(
    streamed: ProcessFacts, read: ProcessFacts, *, is_contradiction: bool
) -> None:
    assert contradicts(streamed, read) is is_contradiction


def test_a_child_that_is_gone_has_what_it_inherited() -> None:
    assert add_own(PARENT, None) is PARENT


def test_a_child_that_has_ended_has_a_start_of_its_own() -> None:
    ended = ProcessFacts(5, 10, 7, None, (), None)
    assert add_own(PARENT, ended) == dataclasses.replace(PARENT, start_unix_ns=7)
    assert not shows_another_program(PARENT, ended)


def test_a_child_that_wrote_over_its_arguments_keeps_its_service_name() -> None:
    worker = facts("/bin/server", "server: worker")
    assert add_own(PARENT, worker) == dataclasses.replace(
        worker, service_name="shop", workload=PARENT.workload
    )
    assert add_own(PARENT, facts("/bin/server")).command_line == PARENT.command_line


def test_a_child_that_was_moved_is_in_no_container_of_its_parent() -> None:
    moved = dataclasses.replace(facts("/bin/server"), cgroups=("/b",))
    assert add_own(PARENT, moved).workload is None


def test_another_program_is_one_that_both_name() -> None:
    assert shows_another_program(PARENT, facts("/bin/other"))
    assert not shows_another_program(facts(None), facts("/bin/other"))
