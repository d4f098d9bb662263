from __future__ import annotations

from agent.workloads.docker.container_table import ContainerTable
from agent.workloads.docker.containers import DockerContainer
from agent.workloads.workload import Absence, Workload

PEER = "wirespan.peer.container.name"


def workload(container_id: str, name: str | None = None) -> Workload:
    return Workload(container_id=container_id, names=(name or f"name of {container_id}",))


def running(container_id: str, *addresses: str, name: str | None = None) -> DockerContainer:
    return DockerContainer(workload(container_id, name), addresses)


def test_nothing_is_known_at_first() -> None:
    table = ContainerTable()
    assert table.find("a") is None
    assert table.peer("10.0.0.1") == {}
    assert table.version == 0


def test_a_container_is_introduced_and_then_learned() -> None:
    table = ContainerTable()
    table.introduce(DockerContainer(workload("a")))
    assert table.find("a") == workload("a")
    assert not table.is_inspected("a")
    version = table.version
    table.learn(running("a", "10.0.0.1", "fd00::1"))
    assert table.version > version
    assert table.is_inspected("a")
    assert table.peer("10.0.0.1") == table.peer("fd00::1") == {PEER: "name of a"}


def test_the_version_is_raised_by_news_only() -> None:
    table = ContainerTable()
    table.learn(running("a", "10.0.0.1"))
    table.deny("b")
    table.learn(DockerContainer(workload("c"), has_ended=True))
    version = table.version
    table.introduce(running("a", "10.0.0.1"))
    table.learn(running("a", "10.0.0.1"))
    table.deny("b")
    table.deny("c")
    table.end("c")
    table.end("never seen")
    table.end_all_but(["a"])
    assert table.version == version


def test_an_introduction_changes_nothing_about_a_known_container() -> None:
    table = ContainerTable()
    table.learn(running("a", "10.0.0.1", name="new"))
    table.introduce(running("a", name="old"))
    assert table.find("a") == workload("a", "new")
    assert table.peer("10.0.0.1") == {PEER: "new"}


def test_a_new_name_and_new_addresses() -> None:
    table = ContainerTable()
    table.learn(running("a", "10.0.0.1", "10.0.0.2", name="old"))
    table.learn(running("a", "10.0.0.2", "10.0.0.3", name="new"))
    assert table.find("a") == workload("a", "new")
    assert [table.peer(f"10.0.0.{n}") for n in (1, 2, 3)] == [{}, {PEER: "new"}, {PEER: "new"}]


def test_a_container_without_a_name_is_nobody() -> None:
    table = ContainerTable()
    table.learn(DockerContainer(Workload(container_id="a", names=()), ("10.0.0.1",)))
    assert table.peer("10.0.0.1") == {}


def test_the_end_of_a_container_takes_its_addresses_and_leaves_its_name() -> None:
    for end in (
        lambda table: table.end("a"),
        lambda table: table.deny("a"),
        lambda table: table.end_all_but(["b"]),
        lambda table: table.learn(DockerContainer(workload("a"), has_ended=True)),
    ):
        table = ContainerTable()
        table.learn(running("a", "10.0.0.1"))
        table.learn(running("b", "10.0.0.2"))
        version = table.version
        end(table)
        assert table.version > version
        assert table.find("a") == workload("a")
        assert table.peer("10.0.0.1") == {}
        assert table.peer("10.0.0.2") == {PEER: "name of b"}
        assert (table.counters()["running"], table.counters()["ended"]) == (1, 1)


def test_a_container_that_is_started_again() -> None:
    table = ContainerTable()
    table.learn(running("a", "10.0.0.1"))
    table.end("a")
    table.learn(running("a", "10.0.0.2"))
    assert table.peer("10.0.0.2") == {PEER: "name of a"}
    assert (table.counters()["running"], table.counters()["ended"]) == (1, 0)


def test_an_address_belongs_to_whoever_was_learned_to_have_it_last() -> None:
    table = ContainerTable()
    table.learn(running("a", "10.0.0.1"))
    table.learn(running("b", "10.0.0.1"))
    assert table.peer("10.0.0.1") == {PEER: "name of b"}
    table.end("a")
    assert table.peer("10.0.0.1") == {PEER: "name of b"}
    table.end("b")
    assert table.peer("10.0.0.1") == {}


def test_a_denied_container() -> None:
    table = ContainerTable()
    table.deny("a")
    assert table.find("a") is Absence.UNKNOWN
    table.end("a")
    assert table.find("a") is Absence.UNKNOWN
    table.introduce(running("a"))
    assert table.find("a") == workload("a")
    assert table.counters()["denied"] == 0


def test_more_containers_run_than_are_known_at_once() -> None:
    table = ContainerTable(max_running=2)
    for number in range(4):
        table.learn(running(f"{number}", f"10.0.0.{number}"))
    assert [table.find(f"{number}") is None for number in range(4)] == [True, True, False, False]
    assert table.peer("10.0.0.1") == {}
    assert table.counters()["forgotten"] == 2


def test_more_containers_have_ended_than_are_kept() -> None:
    table = ContainerTable(max_ended=2)
    for number in range(4):
        table.learn(running(f"{number}"))
        table.end(f"{number}")
    assert [table.find(f"{number}") is None for number in range(4)] == [True, True, False, False]
    assert table.counters()["forgotten"] == 2


def test_more_containers_are_denied_than_are_remembered() -> None:
    table = ContainerTable(max_denied=2)
    for number in range(4):
        table.deny(f"{number}")
    assert [table.find(f"{number}") is None for number in range(4)] == [True, True, False, False]
    assert table.counters()["forgotten"] == 2


def test_labels_that_were_left_out_are_counted_once() -> None:
    table = ContainerTable()
    container = DockerContainer(workload("a"), labels_left_out=3)
    table.learn(container)
    table.learn(container)
    assert table.counters()["labels_left_out"] == 3
