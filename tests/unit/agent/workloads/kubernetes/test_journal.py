"""Each trouble is said once, and its end once."""

import pytest

from agent.workloads.kubernetes.journal import MAX_DENIALS, ApiJournal


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def test_an_outage_is_two_lines_whoever_meets_it(caplog: pytest.LogCaptureFixture) -> None:
    journal = ApiJournal()
    journal.reachable("pods")
    for _ in range(5):
        journal.unreachable("pods", "refused")
        journal.unreachable("namespaces", "refused")
    journal.reachable("pods")
    assert caplog.messages == ["Kubernetes API: refused; the last known state stays in force"]
    journal.reachable("namespaces")
    assert caplog.messages[1:] == ["Kubernetes API: reachable again"]
    journal.unreachable("pods", "once more")
    assert len(caplog.messages) == 3
    assert journal.counters() == {"unreachable": 11}


def test_a_denial_is_said_once_for_each_right(caplog: pytest.LogCaptureFixture) -> None:
    journal = ApiJournal()
    for _ in range(3):
        journal.denied("list", "pods", "no pods")
        journal.denied("watch", "pods", "no watching")
    assert caplog.messages == ["Kubernetes API: no pods", "Kubernetes API: no watching"]
    journal.allowed("list", "pods")
    journal.allowed("list", "pods")
    assert caplog.messages[2:] == ["Kubernetes API: list pods is allowed now"]
    assert journal.counters()["denied"] == 6


def test_memory_of_denials_is_bounded() -> None:
    journal = ApiJournal()
    for number in range(MAX_DENIALS + 10):
        journal.denied("list", f"kind-{number}", "no")
    assert len(journal._denied) == MAX_DENIALS
    assert journal.counters()["denied"] == MAX_DENIALS + 10


def test_a_bug_is_one_line_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    journal = ApiJournal()
    journal.bug("watching pods", ZeroDivisionError("oh"))
    assert caplog.messages == ["a bug while watching pods: ZeroDivisionError: oh"]
    assert "Traceback" not in caplog.text
    assert journal.counters() == {"bugs": 1}


def test_a_silent_one_only_counts(caplog: pytest.LogCaptureFixture) -> None:
    journal = ApiJournal(is_silent=True)
    journal.denied("list", "pods", "no pods")
    journal.unreachable("pods", "refused")
    assert caplog.messages == []
    assert journal.counters() == {"denied": 1, "unreachable": 1}
