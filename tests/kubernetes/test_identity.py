"""Containers, pods, owners and peers as a real API server describes them."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.workloads.workload import Absence, ContainerReference, Workload
from tests.kubernetes.api_server import ApiServer, Document, pod_document, reference_to, wait_until
from tests.kubernetes.conftest import Discovered, Site

pytestmark = pytest.mark.kubernetes


def template(**labels: str) -> Document:
    document = pod_document("unused", node="unused", labels=labels)
    return {"metadata": {"labels": labels}, "spec": {"containers": document["spec"]["containers"]}}


def create_owned(
    server: ApiServer, site: Site, kind: str, name: str, owner: Document | None = None, **spec: Any
) -> Document:
    group, plural = {
        "Deployment": ("apps/v1", "deployments"),
        "ReplicaSet": ("apps/v1", "replicasets"),
        "StatefulSet": ("apps/v1", "statefulsets"),
        "DaemonSet": ("apps/v1", "daemonsets"),
        "Job": ("batch/v1", "jobs"),
        "CronJob": ("batch/v1", "cronjobs"),
    }[kind]
    metadata: Document = {"name": name}
    if owner is not None:
        metadata["ownerReferences"] = [reference_to(owner)]
    body = {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}
    path = f"/apis/{group}/namespaces/{site.namespace}/{plural}"
    return {**server.create(path, body), "apiVersion": group, "kind": kind}


def test_a_container_has_the_attributes_of_its_pod(site: Site, discover: Callable[..., Discovered]) -> None:
    created = site.run_pod("web", containers=("app", "proxy"), ip="10.7.0.1", labels={"app": "web", "x": "y"})
    discovered = discover(cluster_name="test", labels=("app*",))
    workload = discovered.until("web", lambda each: each.is_resolved, "proxy")
    assert workload.names == ("proxy", "web")
    assert workload.attributes == {
        "container.id": site.container_id("web", "proxy"),
        "container.image.name": "registry.test:5000/shop/proxy",
        "k8s.cluster.name": "test",
        "k8s.container.name": "proxy",
        "k8s.namespace.name": site.namespace,
        "k8s.node.name": site.node,
        "k8s.pod.label.app": "web",
        "k8s.pod.name": "web",
        "k8s.pod.uid": created["metadata"]["uid"],
        "service.namespace": site.namespace,
    }


def test_owner_chains_reach_the_workload(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    selector = {"matchLabels": {"app": "x"}}
    job_template = {**template(app="x"), "spec": {**template(app="x")["spec"], "restartPolicy": "Never"}}
    deployment = create_owned(
        api_server, site, "Deployment", "shop", selector=selector, template=template(app="x")
    )
    replicas = create_owned(
        api_server, site, "ReplicaSet", "shop-5d4", deployment, selector=selector, template=template(app="x")
    )
    lone = create_owned(api_server, site, "ReplicaSet", "lone", selector=selector, template=template(app="x"))
    stateful = create_owned(
        api_server, site, "StatefulSet", "db", selector=selector, template=template(app="x"), serviceName="db"
    )
    daemon = create_owned(
        api_server, site, "DaemonSet", "logs", selector=selector, template=template(app="x")
    )
    cron = create_owned(
        api_server,
        site,
        "CronJob",
        "nightly",
        schedule="0 0 * * *",
        jobTemplate={"spec": {"template": job_template}},
    )
    job = create_owned(api_server, site, "Job", "nightly-1", cron, template=job_template)
    for name, owner in (("a", replicas), ("b", lone), ("c", stateful), ("d", daemon), ("e", job)):
        site.run_pod(name, owner=owner)
    discovered = discover()
    expected = {
        "a": {"k8s.replicaset.name": "shop-5d4", "k8s.deployment.name": "shop"},
        "b": {"k8s.replicaset.name": "lone"},
        "c": {"k8s.statefulset.name": "db"},
        "d": {"k8s.daemonset.name": "logs"},
        "e": {"k8s.job.name": "nightly-1", "k8s.cronjob.name": "nightly"},
    }
    kinds = [f"k8s.{each}.name" for each in ("replicaset", "deployment", "statefulset", "daemonset", "job")]
    for name, attributes in expected.items():
        resolved = discovered.until(name, lambda each: each.is_resolved).attributes
        assert {key: resolved[key] for key in (*kinds, "k8s.cronjob.name") if key in resolved} == attributes
    # each owner is asked for once, however many pods it has
    before = discovered.counter("requests_replicasets")
    site.run_pod("another", owner=replicas)
    assert (
        discovered.until("another", lambda each: each.is_resolved).attributes["k8s.deployment.name"] == "shop"
    )
    assert discovered.counter("requests_replicasets") == before == 2


def test_a_pod_is_known_before_its_container_is(site: Site, discover: Callable[..., Discovered]) -> None:
    discovered = discover()
    unheard = ContainerReference("f" * 64, "00000000-0000-0000-0000-000000000000")
    assert discovered.discovery.find(unheard) is Absence.PENDING
    uid = site.create_pod("web", annotations={"containers": "app"})["metadata"]["uid"]
    by_pod = ContainerReference(site.container_id("web"), uid)

    def whole() -> Workload | None:
        found = discovered.discovery.find(by_pod)
        return found if isinstance(found, Workload) else None

    starting: Workload = wait_until(whole)
    assert not starting.is_resolved
    assert starting.names == ("web",)
    assert starting.container_id == starting.attributes["container.id"] == site.container_id("web")
    assert starting.decision is not None
    assert starting.decision.roles is None
    site.report_running("web")
    running = discovered.until("web", lambda each: each.is_resolved)
    assert discovered.discovery.find(by_pod) == running
    assert running.decision is not None
    assert running.decision.roles


def test_the_mirror_of_a_static_pod_is_found_by_the_hash_in_its_cgroup(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    hashed = "0123456789abcdef0123456789abcdef"
    document = pod_document("static", node=site.node)
    document["metadata"]["annotations"] = {"kubernetes.io/config.hash": hashed}
    api_server.create(f"{site.path}/pods", document)
    discovered = discover()
    found = discovered.discovery.find(ContainerReference("e" * 64, hashed))
    assert isinstance(found, Workload)
    assert found.names == ("static",)


def test_a_restarted_container_and_a_deleted_pod_stay_known(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web", ip="10.7.1.1")
    discovered = discover()
    first = discovered.until("web", lambda each: each.is_resolved)
    for generation in (1, 2):
        status = {
            "name": "app",
            "containerID": "containerd://" + site.container_id("web", generation=generation),
            "image": "",
            "imageID": "",
            "ready": True,
            "restartCount": generation,
        }
        patch = {"status": {"containerStatuses": [status]}}
        api_server.request("PATCH", f"{site.pod_path('web')}/status", patch)
        newer = ContainerReference(site.container_id("web", generation=generation))
        wait_until(lambda newer=newer: isinstance(discovered.discovery.find(newer), Workload))
        assert discovered.workload("web") == first
    assert discovered.discovery.peer("10.7.1.1")
    api_server.delete(site.pod_path("web"))
    wait_until(lambda: discovered.counter("known_pods") == 0)
    assert discovered.workload("web") == first
    assert isinstance(discovered.discovery.find(newer), Workload)
    # an address is given to the next pod at once, so it has no owner now
    assert discovered.discovery.peer("10.7.1.1") == {}


def test_a_pod_that_has_ended_is_not_looked_at_any_more(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    for name in ("ends", "ended"):
        site.run_pod(name, ip=f"10.7.3.{len(name)}")
    done = {"status": {"phase": "Succeeded"}}
    api_server.request("PATCH", f"{site.pod_path('ended')}/status", done)
    discovered = discover()
    assert discovered.workload("ended") is None
    known = discovered.until("ends", lambda each: each.is_resolved)
    api_server.request("PATCH", f"{site.pod_path('ends')}/status", done)
    wait_until(lambda: discovered.counter("known_pods") == 0)
    # its last exchanges are still on their way
    assert discovered.workload("ends") == known
    assert discovered.discovery.peer("10.7.3.4") == {}


def test_peers_are_pods_and_services_but_not_the_host(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web", ip="10.7.2.1")
    site.run_pod("six", ip="fd00:0:0::0007")
    site.run_pod("host", ip="10.7.2.9", hostNetwork=True)
    discovered = discover()
    peer = discovered.discovery.peer
    service = {"metadata": {"name": "shop"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}}
    created = api_server.create(f"{site.path}/services", service)
    address = created["spec"]["clusterIP"]
    named = {"wirespan.peer.k8s.namespace.name": site.namespace}
    assert peer("10.7.2.1") == {**named, "wirespan.peer.k8s.pod.name": "web"}
    assert peer("fd00::7") == {**named, "wirespan.peer.k8s.pod.name": "six"}
    assert peer("10.7.2.9") == {}
    wait_until(lambda: peer(address))
    assert peer(address) == {**named, "wirespan.peer.k8s.service.name": "shop"}
    headless = {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
    api_server.create(f"{site.path}/services", headless)
    api_server.delete(f"{site.path}/services/shop")
    wait_until(lambda: not peer(address))
    assert peer("None") == {}


def test_five_hundred_pods_come_and_go_and_nothing_is_left(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    discovered = discover()
    site.run_pod("stays")
    for batch in range(10):
        names = [f"pod-{batch}-{number}" for number in range(50)]
        for name in names:
            site.create_pod(name)
            site.report_running(name, ip=f"10.8.{batch}.{names.index(name)}")
        for name in names:
            api_server.delete(site.pod_path(name))
    site.run_pod("last")
    discovered.until("last", lambda each: each.is_resolved)
    counters = discovered.discovery.counters()
    assert counters["known_pods"] == 2
    # both the pods and their containers stay known for a while, and no longer than they may
    assert counters["retained"] == 1_000
    assert counters["known_containers"] == 502
    assert counters["lists_pods"] == 1
    assert discovered.discovery.peer("10.8.9.49") == {}
    assert discovered.workload("stays")


def test_pods_of_other_nodes_are_none_of_ours(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("elsewhere", node="another-node")
    site.run_pod("here")
    discovered = discover()
    assert discovered.workload("here")
    assert discovered.counter("known_pods") == 1
    site.run_pod("elsewhere-too", node="another-node")
    site.run_pod("here-too")
    discovered.until("here-too", lambda each: each.is_resolved)
    assert discovered.counter("known_pods") == 2
    assert discovered.workload("elsewhere-too") is None
