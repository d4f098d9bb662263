"""Discovery and an engine that fails; with a real one it is tested in tests/containers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.workloads.docker import engine as engine_module
from agent.workloads.docker.engine import DockerDiscovery
from agent.workloads.workload import Absence, ContainerReference, Discovery, Finding, Workload
from tests.unit.agent.workloads.docker.scripted_engine import END, ScriptedEngine

A, B, C = "a" * 64, "b" * 64, "c" * 64
WAIT_SECONDS = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition does not hold"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(engine_module, "MAX_BACKOFF_SECONDS", 0.01)


@pytest.fixture
def discovery(engine: ScriptedEngine) -> Iterator[DockerDiscovery]:
    discovery = DockerDiscovery(engine.path)
    yield discovery
    discovery.close()


def find(discovery: Discovery, container_id: str) -> Finding:
    return discovery.find(ContainerReference(container_id))


def names(discovery: Discovery, container_id: str) -> tuple[str, ...]:
    found = find(discovery, container_id)
    return found.names if isinstance(found, Workload) else ()


def test_containers_that_run_already(engine: ScriptedEngine) -> None:
    engine.run(A, "web", "10.0.0.1")
    discovery = DockerDiscovery(engine.path)
    until(lambda: discovery.peer("10.0.0.1") == {"wirespan.peer.container.name": "web"})
    assert names(discovery, A) == ("web",)
    assert discovery.version > 0
    discovery.close()


def test_a_container_is_known_from_its_creation_and_inspected_once_it_runs(
    engine: ScriptedEngine, discovery: DockerDiscovery
) -> None:
    engine.tell("create", A, image="image:1", name="web")
    until(lambda: discovery.counters()["containers_running"] == 1)
    assert names(discovery, A) == ("web",)
    engine.tell("connect", "n", "network", container=A)
    engine.run(A, "web", "10.0.0.1")
    engine.tell("start", A, image="image:1", name="web")
    until(lambda: bool(discovery.peer("10.0.0.1")))
    assert discovery.counters()["inspections"] == 1

    networks = engine.containers[A]["NetworkSettings"]["Networks"]
    networks["m"] = {"IPAddress": "10.1.0.1"}
    engine.tell("connect", "m", "network", container=A)
    until(lambda: bool(discovery.peer("10.1.0.1")))


def test_events_that_say_nothing(engine: ScriptedEngine, discovery: DockerDiscovery) -> None:
    for line in (b"{}\n", b'{"Type": "network", "Actor": {"ID": "n"}}\n', b'{"Actor": null}\n'):
        engine.events.put(line)
    engine.tell("start", A)
    engine.run(A, "unnamed by the event")
    until(lambda: names(discovery, A) == ("unnamed by the event",))
    until(lambda: discovery.counters()["events"] == 4)


def test_a_container_that_ends_before_it_is_inspected_is_not_inspected(
    engine: ScriptedEngine, discovery: DockerDiscovery
) -> None:
    engine.run(B, "slow")
    engine.stalled.add(B)
    assert find(discovery, B) is Absence.PENDING
    until(lambda: any(B in path for path in engine.asked))
    engine.tell("start", A, image="image:1", name="short")
    engine.tell("die", A, image="image:1", name="short")
    until(lambda: discovery.counters()["containers_ended"] == 1)
    engine.release()
    until(lambda: names(discovery, B) == ("slow",))
    assert names(discovery, A) == ("short",)
    assert not any(A in path for path in engine.asked)


def test_a_container_that_ends_while_it_is_inspected_is_inspected_again(
    engine: ScriptedEngine, discovery: DockerDiscovery
) -> None:
    engine.run(A, "ending", "10.0.0.1")
    engine.stalled.add(A)
    engine.tell("start", A, image="image:1", name="ending")
    until(lambda: any(A in path for path in engine.asked))
    engine.tell("die", A, image="image:1", name="ending")
    until(lambda: discovery.counters()["containers_ended"] == 1)
    # The answer that is on its way says that it runs.
    del engine.containers[A]
    engine.release()
    until(lambda: discovery.counters()["inspections"] == 2)
    assert discovery.counters()["containers_ended"] == 1
    assert discovery.peer("10.0.0.1") == {}
    assert names(discovery, A) == ("ending",)


def test_events_are_taken_up_where_they_broke_off(engine: ScriptedEngine, discovery: DockerDiscovery) -> None:
    engine.run(A, "web", "10.0.0.1")
    engine.tell("start", A, image="image:1", name="web")
    until(lambda: bool(discovery.peer("10.0.0.1")))
    # It ends while no stream of events is open: the list of what runs says so.
    engine.running.clear()
    engine.events.put(END)
    until(lambda: discovery.counters()["connections"] == 2)
    until(lambda: discovery.peer("10.0.0.1") == {})
    resumed = [urlsplit(path).query for path in engine.asked if "/events" in path][-1]
    assert parse_qs(resumed)["since"] == ["7.000000008"]
    assert names(discovery, A) == ("web",)


def test_an_engine_that_is_not_there_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    discovery = DockerDiscovery(tmp_path / "later.sock")
    assert find(discovery, A) is Absence.PENDING
    until(lambda: discovery.counters()["failures"] >= 5)
    assert find(discovery, A) is Absence.PENDING
    assert discovery.counters()["followed"] == 0
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert "is not available, will try again: No such file or directory;" in told[0]

    engine = ScriptedEngine(tmp_path / "later.sock")
    engine.run(A, "web")
    until(lambda: names(discovery, A) == ("web",))
    until(lambda: discovery.counters()["followed"] == 1)
    discovery.close()
    engine.close()


def test_what_is_known_stays_in_force_while_the_engine_is_away(
    engine: ScriptedEngine, discovery: DockerDiscovery
) -> None:
    engine.run(A, "web", "10.0.0.1")
    engine.tell("start", A, image="image:1", name="web")
    until(lambda: bool(discovery.peer("10.0.0.1")))
    engine.close()
    until(lambda: discovery.counters()["failures"] >= 3)
    assert names(discovery, A) == ("web",)
    assert discovery.peer("10.0.0.1") == {"wirespan.peer.container.name": "web"}
    assert find(discovery, B) is Absence.PENDING


def test_an_engine_that_refuses_one_container(engine: ScriptedEngine, discovery: DockerDiscovery) -> None:
    engine.failures[A] = (500, b'{"message": "broken"}')
    engine.run(B, "fine")
    assert find(discovery, A) is Absence.PENDING
    until(lambda: discovery.counters()["failures"] == 1)
    until(lambda: names(discovery, B) == ("fine",))
    del engine.failures[A]
    engine.run(A, "mended")
    until(lambda: names(discovery, A) == ("mended",))


def test_an_engine_that_refuses_to_list(
    engine: ScriptedEngine, discovery: DockerDiscovery, caplog: pytest.LogCaptureFixture
) -> None:
    until(lambda: discovery.counters()["followed"] == 1)
    engine.failures["json"] = (503, b'{"message": "starting"}')
    engine.events.put(END)
    until(lambda: discovery.counters()["failures"] >= 3)
    assert "it has closed the stream of events" in caplog.text
    del engine.failures["json"]
    until(lambda: discovery.counters()["connections"] == 2)


def test_a_container_that_keeps_the_engine_from_answering_does_not_hold_up_others(
    engine: ScriptedEngine, discovery: DockerDiscovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.workloads.docker.client.REQUEST_SECONDS", 0.05)
    engine.stalled.add(A)
    engine.run(B, "fine")
    assert find(discovery, A) is Absence.PENDING
    until(lambda: any(A in path for path in engine.asked))
    until(lambda: names(discovery, B) == ("fine",))
    assert find(discovery, A) is Absence.PENDING


def test_more_containers_are_asked_for_than_may_wait(
    engine: ScriptedEngine, discovery: DockerDiscovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_WANTED", 1)
    engine.stalled.add(A)
    assert find(discovery, A) is Absence.PENDING
    until(lambda: any(A in path for path in engine.asked))
    for container_id in (A, B, B, C):
        assert find(discovery, container_id) is Absence.PENDING
    assert discovery.counters()["unasked"] == 1


@pytest.mark.parametrize("stalled", [set(), {"_ping"}, {"json"}, {A}])
def test_closing_waits_for_no_answer(engine: ScriptedEngine, stalled: set[str]) -> None:
    engine.stalled |= stalled
    discovery = DockerDiscovery(engine.path)
    find(discovery, A)
    until(lambda: len(engine.asked) >= 2)
    discovery.close()
    assert not any(thread.is_alive() for thread in discovery._threads)
    discovery.close()
