"""Owner chains: asked for once, and what stands where they may not be asked for."""

import time
from collections.abc import Callable, Iterator

import pytest

from agent.workloads.kubernetes import owners
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.objects import Owner, Pod
from agent.workloads.kubernetes.owners import OwnerChain, OwnerChains
from agent.workloads.kubernetes.request_queue import RequestQueue, SideRequest
from tests.unit.agent.workloads.kubernetes.conftest import PACE, ScriptedApi

REPLICAS = Owner("ReplicaSet", "shop-5d4", "rs-1")
JOB = Owner("Job", "nightly-1", "job-1")


def pod(owner: Owner | None, **labels: str) -> Pod:
    return Pod(uid="u", name="web", namespace="shop", labels=labels, annotations={}, owner=owner)


class Chains:
    """Chains, and the owners that were reported as known."""

    def __init__(self, api: KubernetesApi) -> None:
        self.resolved: list[str] = []
        self.requests = RequestQueue(api.journal, PACE)
        self.chains = OwnerChains(api, self.requests, self.resolved.append)


@pytest.fixture
def chains(api: KubernetesApi) -> Iterator[Chains]:
    opened = Chains(api)
    opened.requests.start()
    yield opened
    opened.requests.close(time.monotonic() + 10)


@pytest.mark.parametrize(
    ("owner", "attributes"),
    [
        (None, {}),
        (Owner("Node", "n", "1"), {}),
        (Owner("Rollout", "r", "1"), {}),
        (Owner("StatefulSet", "db", "1"), {"k8s.statefulset.name": "db"}),
        (Owner("DaemonSet", "logs", "1"), {"k8s.daemonset.name": "logs"}),
    ],
)
def test_what_has_no_owner_of_its_own_is_resolved_at_once(
    chains: Chains, owner: Owner | None, attributes: dict[str, str]
) -> None:
    assert chains.chains.chain(pod(owner)) == OwnerChain(attributes, is_resolved=True)


def test_the_deployment_is_asked_for_once(
    chains: Chains, scripted: ScriptedApi, until: Callable[[Callable[[], object]], None]
) -> None:
    assert chains.chains.chain(pod(REPLICAS)) == OwnerChain(
        {"k8s.replicaset.name": "shop-5d4"}, is_resolved=False
    )
    reference = {"kind": "Deployment", "name": "the-shop", "uid": "d", "controller": True}
    scripted.say({"metadata": {"uid": "rs-1", "ownerReferences": [reference]}})
    until(lambda: chains.resolved == ["rs-1"])
    for _ in range(3):
        assert chains.chains.chain(pod(REPLICAS, **{"pod-template-hash": "5d4"})) == OwnerChain(
            {"k8s.replicaset.name": "shop-5d4", "k8s.deployment.name": "the-shop"}, is_resolved=True
        )
    assert [request.path for request in scripted.requests] == [
        "/apis/apps/v1/namespaces/shop/replicasets/shop-5d4"
    ]


@pytest.mark.parametrize("status", [403, 404])
def test_without_an_answer_only_what_is_sure_stands(
    chains: Chains,
    scripted: ScriptedApi,
    until: Callable[[Callable[[], object]], None],
    status: int,
) -> None:
    for owner in (REPLICAS, JOB):
        scripted.say({}, status=status)
        chains.chains.chain(pod(owner))
    until(lambda: len(chains.resolved) == 2)
    sure = chains.chains.chain(pod(REPLICAS, **{"pod-template-hash": "5d4"}))
    assert sure.attributes["k8s.deployment.name"] == "shop"
    unsure = chains.chains.chain(pod(REPLICAS))
    assert unsure == OwnerChain({"k8s.replicaset.name": "shop-5d4"}, is_resolved=True)
    other = chains.chains.chain(pod(REPLICAS, **{"pod-template-hash": "other"}))
    assert other == unsure
    assert chains.chains.chain(pod(JOB)) == OwnerChain({"k8s.job.name": "nightly-1"}, is_resolved=True)


def test_an_owner_of_the_same_name_made_anew_is_another_one(
    chains: Chains, scripted: ScriptedApi, until: Callable[[Callable[[], object]], None]
) -> None:
    reference = {"kind": "CronJob", "name": "other", "uid": "c", "controller": True}
    scripted.say({"metadata": {"uid": "job-2", "ownerReferences": [reference]}})
    chains.chains.chain(pod(JOB))
    until(lambda: chains.resolved == ["job-1"])
    assert "k8s.cronjob.name" not in chains.chains.chain(pod(JOB)).attributes


def test_with_a_full_queue_nobody_is_waited_for(api: KubernetesApi) -> None:
    stuck = Chains(api)
    while stuck.requests.put(SideRequest(lambda: None, lambda _: None)):
        pass
    chain = stuck.chains.chain(pod(REPLICAS, **{"pod-template-hash": "5d4"}))
    assert chain.is_resolved
    assert chain.attributes["k8s.deployment.name"] == "shop"
    assert api.journal.counters()["refused_requests"] == 2


def test_the_cache_is_bounded(api: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "MAX_OWNERS", 2)
    idle = Chains(api)
    for number in range(3):
        idle.chains.chain(pod(Owner("Job", f"job-{number}", f"uid-{number}")))
    assert list(idle.chains._known) == ["uid-1", "uid-2"]
    assert api.journal.counters() == {"forgotten_owners": 1}
