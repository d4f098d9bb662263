"""The state and its answers as pods, namespaces and services come, change and go."""

import dataclasses
from typing import Any

import pytest

from agent.workloads.kubernetes import cluster
from agent.workloads.kubernetes.annotations import InvalidAnnotation
from agent.workloads.kubernetes.capture_rules import CaptureDefault, CaptureRules
from agent.workloads.kubernetes.cluster import MAX_RETAINED, RETAINED_SECONDS, ClusterState
from agent.workloads.kubernetes.objects import Container, Namespace, Owner, Pod, Service
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.owners import OwnerChain
from agent.workloads.workload import Absence, ContainerReference, Workload
from ebpf.events import Policy

SHOP = Namespace(uid="ns", name="shop", annotations={})
BOTH = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS


def pod(name: str = "web", *ids: str, **properties: Any) -> Pod:
    known: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "namespace": "shop",
        "labels": {},
        "annotations": {},
        "containers": (Container("app", None, ids),),
    }
    return Pod(**{**known, **properties})


class Cluster:
    """A state with a clock, owners and reports in the test's hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.chain = OwnerChain({}, is_resolved=True)
        self.reported: list[tuple[str, str]] = []
        self.state = ClusterState(
            KubernetesOptions(node="n", **options),
            chain=lambda _: self.chain,
            report=self._report,
            monotonic_now=lambda: self.now,
        )

    def find(self, container_id: str, pod_uid: str | None = None) -> Workload:
        found = self.state.find(ContainerReference(container_id, pod_uid))
        assert isinstance(found, Workload), found
        return found

    def absence(self, container_id: str, pod_uid: str | None = None) -> Absence:
        found = self.state.find(ContainerReference(container_id, pod_uid))
        assert isinstance(found, Absence), found
        return found

    def roles(self, container_id: str) -> Policy | None:
        decision = self.find(container_id).decision
        assert decision is not None
        return decision.roles

    def _report(self, subject: Pod | Namespace, invalid: InvalidAnnotation) -> None:
        self.reported.append((subject.name, invalid.key))


@pytest.fixture
def known() -> Cluster:
    """A cluster whose namespace is known."""
    made = Cluster()
    made.state.replace_namespaces([SHOP])
    return made


def test_nothing_is_guessed_of_what_was_never_heard_of(known: Cluster) -> None:
    assert known.absence("c1") is Absence.PENDING
    known.state.replace_pods([])
    assert known.absence("c1", "uid-web") is Absence.PENDING
    assert known.state.has_pods.is_set()


def test_a_container_is_found_by_its_id_else_by_its_pod(known: Cluster) -> None:
    known.state.put_pod(pod("web", static_uid="hash"))
    starting = known.find("c1", "uid-web")
    assert not starting.is_resolved
    assert starting.container_id == starting.attributes["container.id"] == "c1"
    assert known.find("c1", "hash") == starting
    known.state.put_pod(pod("web", "c1", static_uid="hash"))
    running = known.find("c1")
    assert running.is_resolved
    assert running.names == ("app", "web")
    assert known.find("c1", "some other pod") == running


def test_the_version_rises_only_when_an_answer_changes(known: Cluster) -> None:
    known.state.put_pod(pod("web", "c1"))
    version = known.state.version
    known.state.put_pod(pod("web", "c1"))
    known.state.put_namespace(SHOP)
    known.state.resolve_owner("an owner of no pod")
    known.state.replace_pods([pod("web", "c1")])
    assert known.state.version == version
    known.state.put_pod(pod("web", "c1", addresses=("10.0.0.1",)))
    assert known.state.version > version


def test_a_namespace_that_is_not_known_yet_holds_its_pods_back() -> None:
    fresh = Cluster()
    fresh.state.put_pod(pod("web", "c1"))
    assert fresh.roles("c1") is None
    assert not fresh.find("c1").is_resolved
    fresh.state.put_namespace(SHOP)
    assert fresh.roles("c1") == BOTH
    assert fresh.find("c1").is_resolved
    fresh.state.put_namespace(dataclasses.replace(SHOP, annotations={"wirespan.io/capture": "false"}))
    assert fresh.roles("c1") == Policy.IGNORE


def test_where_namespaces_may_not_be_read_they_say_nothing() -> None:
    fresh = Cluster()
    fresh.state.put_pod(pod("web", "c1"))
    fresh.state.deny_namespaces()
    fresh.state.deny_namespaces()
    assert fresh.state.has_namespaces.is_set()
    assert fresh.roles("c1") == BOTH
    fresh.state.replace_namespaces([dataclasses.replace(SHOP, annotations={"wirespan.io/capture": "false"})])
    assert fresh.roles("c1") == Policy.IGNORE
    # taken away again: what was known holds
    fresh.state.deny_namespaces()
    assert fresh.roles("c1") == Policy.IGNORE


def test_a_namespace_that_is_gone_is_forgotten(known: Cluster) -> None:
    known.state.remove_namespace(SHOP)
    assert known.state.namespace_annotations("shop") is None
    known.state.replace_namespaces([SHOP])
    known.state.replace_namespaces([])
    assert known.state.namespace_annotations("shop") is None


def test_where_pods_may_not_be_read_nobody_can_be_asked(known: Cluster) -> None:
    known.state.put_pod(pod("web", "c1"))
    known.state.deny_pods()
    version = known.state.version
    known.state.deny_pods()
    assert known.state.version == version
    assert known.absence("c2", "uid-other") is Absence.UNKNOWN
    assert known.find("c1")
    known.state.replace_pods([pod("web", "c1")])
    assert known.state.version > version
    assert known.absence("c2") is Absence.PENDING


def test_owners_are_resolved_later(known: Cluster) -> None:
    known.chain = OwnerChain({}, is_resolved=False)
    known.state.put_pod(pod("web", "c1", owner=Owner("ReplicaSet", "rs", "rs-1")))
    known.state.put_pod(pod("other", "c2"))
    assert not known.find("c1").is_resolved
    known.chain = OwnerChain({"k8s.deployment.name": "shop"}, is_resolved=True)
    known.state.resolve_owner("rs-1")
    assert known.find("c1").is_resolved
    assert known.find("c1").attributes["k8s.deployment.name"] == "shop"
    assert not known.find("c2").is_resolved


def test_what_is_gone_stays_known_for_a_while(known: Cluster) -> None:
    known.state.put_pod(pod("web", "c1"))
    known.state.put_pod(pod("web", "c2"))
    known.state.remove_pod(pod("web"))
    known.state.remove_pod(pod("web"))
    assert known.find("c1").names == known.find("c2").names == ("app", "web")
    assert known.find("c3", "uid-web")
    known.now += RETAINED_SECONDS - 1
    known.state.put_pod(pod("other"))
    assert known.find("c1")
    known.now += 1
    version = known.state.version
    known.state.put_pod(pod("third"))
    assert known.absence("c1") is Absence.PENDING
    assert known.absence("c3", "uid-web") is Absence.PENDING
    assert known.state.version > version
    assert known.state.counters()["retained"] == 0


def test_what_comes_back_is_not_forgotten(known: Cluster) -> None:
    known.state.put_pod(pod("web", "c1"))
    known.state.replace_pods([])
    known.state.replace_pods([pod("web", "c1")])
    known.now += RETAINED_SECONDS
    known.state.put_pod(pod("other"))
    assert known.find("c1")
    assert known.find("c2", "uid-web")


def test_what_is_gone_is_bounded_and_counted(known: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "MAX_RETAINED", 4)
    for number in range(3):
        known.state.put_pod(pod(f"web-{number}", f"c{number}"))
        known.state.remove_pod(pod(f"web-{number}"))
    counters = known.state.counters()
    assert (counters["retained"], counters["forgotten_early"]) == (4, 2)
    assert known.absence("c0") is Absence.PENDING
    assert known.find("c1")
    assert MAX_RETAINED > 4


def test_pods_beyond_the_bound_are_refused_and_counted(
    known: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MAX_PODS", 1)
    known.state.put_pod(pod("web", "c1"))
    known.state.put_pod(pod("other", "c2"))
    assert known.absence("c2") is Absence.PENDING
    assert known.state.counters()["refused_pods"] == 1
    known.state.put_pod(pod("web", "c1", "c3"))
    assert known.find("c3")


def test_namespaces_beyond_the_bound_are_refused_and_count_as_without_annotations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "MAX_NAMESPACES", 1)
    made = Cluster()
    other = Namespace(uid="o", name="other", annotations={"wirespan.io/capture": "false"})
    made.state.replace_namespaces([SHOP, other])
    made.state.put_pod(pod("web", "c1", namespace="other"))
    assert made.roles("c1") == BOTH
    assert made.state.counters()["refused_namespaces"] == 1


def test_peers_come_and_go(known: Cluster) -> None:
    service = Service(uid="s", name="front", namespace="shop", addresses=("10.96.0.1",))
    known.state.replace_services([service])
    known.state.put_pod(pod("web", addresses=("10.0.0.1",)))
    assert known.state.peer("10.96.0.1")["wirespan.peer.k8s.service.name"] == "front"
    assert known.state.peer("10.0.0.1")["wirespan.peer.k8s.pod.name"] == "web"
    version = known.state.version
    known.state.replace_services([])
    known.state.deny_services()
    known.state.remove_pod(pod("web"))
    assert known.state.version == version + 2
    assert known.state.peer("10.96.0.1") == known.state.peer("10.0.0.1") == {}


def test_invalid_annotations_are_reported_and_the_default_holds() -> None:
    made = Cluster(rules=CaptureRules(default=CaptureDefault.NONE))
    made.state.put_namespace(dataclasses.replace(SHOP, annotations={"wirespan.io/captrue": "true"}))
    made.state.put_pod(pod("web", "c1", annotations={"wirespan.io/capture": "yes"}))
    assert made.reported == [("shop", "wirespan.io/captrue"), ("web", "wirespan.io/capture")]
    assert made.roles("c1") == Policy.IGNORE


def test_pods_are_listed_by_name_and_attributes_left_out_are_counted() -> None:
    made = Cluster(labels=("*",))
    made.state.replace_namespaces([SHOP])
    made.state.put_pod(pod("b", "c1", labels={"x": "y" * 10_000}))
    made.state.put_pod(pod("a", "c2"))
    assert [each.name for each, _ in made.state.pods()] == ["a", "b"]
    assert made.state.counters()["attributes_left_out"] == 1
