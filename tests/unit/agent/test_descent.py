"""Who descends from a process that was selected by number."""

import os
from pathlib import Path

from agent.descent import MAX_ANCESTORS, Descent
from agent.processes import ProcessTable
from ebpf.events import ProcessExited
from otel_bridge.span import Resource

GONE = 2**31 - 1


def tell(proc: Path, tgid: int, parent: int, start: int = 100) -> None:
    """Let /proc show a process."""
    folder = proc / str(tgid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", str(parent), *["0"] * 17, str(start)]
    (folder / "stat").write_text(f"{tgid} (any) {' '.join(fields)}\n")


def table() -> ProcessTable:
    return ProcessTable(lambda facts: Resource({"service.name": str(facts.tgid)}))


def test_without_numbers_every_process_is_meant() -> None:
    assert Descent(()).find_running(GONE) is True


def test_parents_are_followed_as_far_as_trees_are_deep(tmp_path: Path) -> None:
    for tgid in range(1, MAX_ANCESTORS + 2):
        tell(tmp_path, tgid, tgid - 1)
    descent = Descent((2,), tmp_path)
    assert descent.find_running(2) is True
    assert descent.find_running(MAX_ANCESTORS + 1) is True
    assert descent.find_running(1) is False
    tell(tmp_path, MAX_ANCESTORS + 2, MAX_ANCESTORS + 1)
    assert descent.find_running(MAX_ANCESTORS + 2) is False
    assert descent.find_running(GONE) is None


def test_a_number_that_was_given_away_is_not_the_one_selected(tmp_path: Path) -> None:
    for tgid, parent in ((1, 0), (5, 1), (6, 5)):
        tell(tmp_path, tgid, parent)
    descent = Descent((5,), tmp_path)
    assert descent.find_running(6) is True
    tell(tmp_path, 5, 1, start=200)
    assert descent.find_running(6) is False


def test_of_a_process_that_has_ended_the_descent_is_not_known() -> None:
    processes = table()
    process = processes.observe(os.getpid(), 5)
    processes.exit(ProcessExited(6, os.getpid()))
    assert Descent((os.getpid(),)).find(process) is None
    assert Descent(()).find(process) is True
    assert Descent((os.getpid(),)).find(processes.observe(os.getpid(), 7)) is True
