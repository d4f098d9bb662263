"""What a real API server says to what the chart makes; no kubelet, so no pod runs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from agent.workloads.kubernetes.discovery import KubernetesDiscovery
from agent.workloads.kubernetes.options import KubernetesOptions
from tests.chart import rendered
from tests.chart.helm_command import CHART, VALUE_FILES, Document, documents, from_file, helm, one, render
from tests.e2e.conftest import wirespan
from tests.kubernetes.api_server import ApiError, ApiServer, reference_to, wait_until
from tests.kubernetes.conftest import PACE, Discovered, Site

pytestmark = [pytest.mark.chart, pytest.mark.kubernetes]

_numbers = itertools.count(7001)
"""Sites whose numbers the tests of discovery don't use."""
SECONDS = 60.0

KINDS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "PodMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{}/podmonitors",
}
"""What the chart can make, and where objects of a kind are: in a namespace, or in the cluster."""


def collection(kind: str, namespace: str) -> str:
    return KINDS[kind].format(namespace)


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> ApiServer:
    """Return the API server with the namespace of the rendered objects, and knowing PodMonitors."""
    api_server.create_namespace("wirespan")
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    api_server.create(
        definitions, yaml.safe_load((Path(__file__).parent / "pod_monitor_crd.yaml").read_text())
    )

    def is_served() -> bool:
        try:
            api_server.request("GET", collection("PodMonitor", "wirespan"))
        except ApiError:
            return False
        return True

    wait_until(is_served, "PodMonitors are served")
    return api_server


@pytest.fixture
def site(cluster: ApiServer) -> Site:
    return Site(cluster, next(_numbers))


@pytest.fixture
def helm_in(cluster: ApiServer, site: Site, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run helm against the cluster, in the namespace of the site."""

    def run(command: str, *arguments: str, values: object = None) -> str:
        return helm(
            *(command, f"wirespan-{site.number}", *arguments, "--namespace", site.namespace),
            values=values,
            KUBECONFIG=cluster.admin_kubeconfig(),
            HOME=str(tmp_path),
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )

    yield run
    # What belongs to the cluster would be in the way of other tests.
    run("uninstall", "--ignore-not-found")


def dry_run(server: ApiServer, each: Document) -> None:
    path = collection(each["kind"], each["metadata"].get("namespace", ""))
    server.create(f"{path}?dryRun=All&fieldValidation=Strict", each)
    assert server.warnings == []


@pytest.mark.parametrize("file", VALUE_FILES.values(), ids=VALUE_FILES)
def test_the_api_server_accepts_every_object(cluster: ApiServer, file: Path | None) -> None:
    for each in documents(render(file)):
        dry_run(cluster, each)


def test_the_api_server_accepts_the_manifest_without_helm(cluster: ApiServer) -> None:
    namespace, *objects = documents(rendered.MANIFEST.read_text())
    # It is there already, so this is what `kubectl apply` would do.
    cluster.request("PATCH", "/api/v1/namespaces/wirespan?dryRun=All&fieldValidation=Strict", namespace)
    for each in objects:
        dry_run(cluster, each)


def test_an_upgrade_to_changed_labels_and_configuration_is_accepted(
    cluster: ApiServer, site: Site, helm_in: Callable[..., str]
) -> None:
    helm_in("install", str(CHART))
    name = f"wirespan-{site.number}"
    path = f"{collection('DaemonSet', site.namespace)}/{name}"
    before = cluster.request("GET", path)
    changed = {
        "podLabels": {"team": "platform"},
        "config": {"agent": {"log_level": "debug"}, "kubernetes": {"default": "none"}},
        "image": {"tag": "0.2.0"},
    }
    helm_in("upgrade", str(CHART), values=changed)
    after = cluster.request("GET", path)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["selector"] == before["spec"]["selector"]
    template = after["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "platform"
    assert template["metadata"]["annotations"] != before["spec"]["template"]["metadata"]["annotations"]
    stored = cluster.request("GET", f"{collection('ConfigMap', site.namespace)}/{name}")
    assert "log_level: debug" in stored["data"]["wirespan.yaml"]

    everything = {"fullnameOverride": name}
    helm_in("upgrade", str(CHART), *from_file(VALUE_FILES["everything"]), values=everything)
    assert cluster.request("GET", path)["metadata"]["uid"] == before["metadata"]["uid"]
    helm_in("rollback", "1")
    assert cluster.request("GET", path)["spec"]["template"] == before["spec"]["template"]


def test_an_uninstall_leaves_nothing(cluster: ApiServer, site: Site, helm_in: Callable[..., str]) -> None:
    everything = {"fullnameOverride": f"wirespan-{site.number}"}
    helm_in("install", str(CHART), *from_file(VALUE_FILES["everything"]), values=everything)

    def left() -> list[str]:
        ours = f"labelSelector=app.kubernetes.io/instance=wirespan-{site.number}"
        return [
            kind
            for kind in KINDS
            for _ in cluster.request("GET", f"{collection(kind, site.namespace)}?{ours}")["items"]
        ]

    assert sorted(left()) == sorted(KINDS)
    helm_in("uninstall")
    assert left() == []


def test_notes_tell_the_next_step(site: Site, helm_in: Callable[..., str]) -> None:
    name = f"wirespan-{site.number}"
    notes = helm_in("install", str(CHART)).partition("NOTES:")[2]
    assert "Spans go to the pods' logs, a line each, because no receiver is named." in notes
    assert f"kubectl -n {site.namespace} exec daemonset/{name} -- wirespan check --kubernetes" in notes
    assert "kubectl annotate pod NAME wirespan.io/capture=true" in notes
    assert "Pods are captured unless" in notes
    values = {"config": {"otlp": {"endpoint": "http://collector:4317"}, "kubernetes": {"default": "none"}}}
    notes = helm_in("upgrade", str(CHART), values=values).partition("NOTES:")[2]
    assert "Spans go to http://collector:4317." in notes
    assert "Pods are captured that config.kubernetes names" in notes
    assert notes.count("\n\n\n") == 0


def violations(cluster: ApiServer, namespace: str, template: Document) -> str:
    """Return what Pod Security warns of, without the level."""
    # Admission looks for the class that is made along with the pods.
    spec = {key: value for key, value in template["spec"].items() if key != "priorityClassName"}

    def warnings() -> list[str]:
        try_pod(cluster, namespace, spec)
        return cluster.warnings

    (warning,) = wait_until(warnings, "Pod Security has seen the label")
    text: str = json.loads(warning.removeprefix("299 - "))
    return text.partition(':latest": ')[2]


def try_pod(cluster: ApiServer, namespace: str, spec: Document) -> int:
    """Return the status of the answer to a pod that is only tried."""
    pod = {"metadata": {"name": "agent"}, "spec": spec}
    try:
        cluster.create(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    except ApiError as error:
        return error.status
    return 201


def pod_template(name: str) -> Document:
    found: Document = one(documents(render(VALUE_FILES[name])), "DaemonSet")["spec"]["template"]
    return found


def level(cluster: ApiServer, namespace: str, **levels: str) -> None:
    labels = {f"pod-security.kubernetes.io/{mode}": value for mode, value in levels.items()}
    cluster.request("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})


def test_of_baseline_the_pod_misses_two_items(cluster: ApiServer, site: Site) -> None:
    level(cluster, site.namespace, warn="baseline")
    assert violations(cluster, site.namespace, pod_template("default")) == (
        'non-default capabilities (container "wirespan" must not include "BPF", "PERFMON", "SYS_PTRACE" in'
        " securityContext.capabilities.add), host namespaces (hostPID=true)"
    )


def test_what_is_switched_on_is_what_more_it_misses(cluster: ApiServer, site: Site) -> None:
    level(cluster, site.namespace, warn="baseline")
    said = violations(cluster, site.namespace, pod_template("everything"))
    assert '"DAC_READ_SEARCH", "PERFMON", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE"' in said
    assert "AppArmor" in said
    assert "seLinuxOptions" in said
    assert said.count("), ") == 3


def test_a_namespace_has_to_admit_it(cluster: ApiServer, site: Site) -> None:
    spec = pod_template("default")["spec"]
    level(cluster, site.namespace, enforce="baseline")
    wait_until(lambda: try_pod(cluster, site.namespace, spec) == 403, "it is refused")
    # The label of NOTES.txt and of the manifest.
    level(cluster, site.namespace, enforce="privileged")
    wait_until(lambda: try_pod(cluster, site.namespace, spec) == 201, "it is admitted")


def owner_document(kind: str, name: str) -> Document:
    labels = {"app": "shop"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "shop"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def account(cluster: ApiServer, site: Site, helm_in: Callable[..., str]) -> str:
    """Return a kubeconfig that has the rights of an installed agent, and no others."""
    helm_in("install", str(CHART))
    return cluster.account_kubeconfig(f"wirespan-{site.number}", site.namespace)


def test_discovery_has_every_right_that_it_needs(
    cluster: ApiServer, site: Site, account: str, caplog: pytest.LogCaptureFixture
) -> None:
    owners = f"/apis/apps/v1/namespaces/{site.namespace}"
    owner = cluster.create(f"{owners}/deployments", owner_document("Deployment", "shop"))
    replicas = owner_document("ReplicaSet", "renamed")
    replicas["metadata"]["ownerReferences"] = [reference_to(owner)]
    replica_set = cluster.create(f"{owners}/replicasets", replicas)
    site.run_pod("web", labels={"app": "shop"}, owner=replica_set, annotations={"direction": "sideways"})
    service = {"metadata": {"name": "shop"}, "spec": {"ports": [{"port": 80}]}}
    address = cluster.create(f"{site.path}/services", service)["spec"]["clusterIP"]

    options = KubernetesOptions(node=site.node, kubeconfig=account)
    with contextlib.closing(KubernetesDiscovery(options, PACE)) as discovery:
        assert discovery.wait_until_known(SECONDS)
        discovered = Discovered(discovery, site)
        web = discovered.until("web", lambda each: each.is_resolved)
        assert web.attributes["k8s.deployment.name"] == "shop"
        wait_until(lambda: discovery.peer(address), "the service is known")
        events = f"{site.path}/events"
        wait_until(lambda: cluster.request("GET", events)["items"], "an Event tells of the annotation")
        assert discovered.counter("denied") == 0
    assert [each for each in caplog.messages if "not allowed" in each] == []


def test_check_finds_no_denial(cluster: ApiServer, site: Site, account: str, tmp_path: Path) -> None:
    site.create_pod("web", annotations={"direction": "ingress"})
    config = tmp_path / "wirespan.yaml"
    config.write_text(one(documents(render()), "ConfigMap")["data"]["wirespan.yaml"])
    ended = wirespan(
        *("check", "--kubernetes", "--format", "json"),
        env={
            **os.environ,
            "NODE_NAME": site.node,
            "WIRESPAN_CONFIG": str(config),
            "WIRESPAN_KUBERNETES_KUBECONFIG": account,
        },
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["notes"] == []
    assert [(pod["pod"], pod["direction"]) for pod in found["pods"]] == [("web", "ingress")]


def test_the_account_has_no_other_right(cluster: ApiServer, site: Site, account: str) -> None:
    review = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    user = f"system:serviceaccount:{site.namespace}:wirespan-{site.number}"

    def may(verb: str, resource: str, group: str = "") -> bool:
        asked = {"verb": verb, "resource": resource, "group": group, "namespace": site.namespace}
        answer = cluster.create(review, {"spec": {"user": user, "resourceAttributes": asked}})
        return bool(answer["status"]["allowed"])

    assert may("list", "pods")
    refused = itertools.product(
        ("get", "list", "create", "update", "delete"),
        (("secrets", ""), ("configmaps", ""), ("pods/exec", ""), ("nodes", ""), ("daemonsets", "apps")),
    )
    assert not [(verb, resource) for verb, (resource, group) in refused if may(verb, resource, group)]
    assert not may("delete", "pods")
    assert not may("list", "replicasets", "apps")
