"""Attributes and decisions of a pod's containers."""

import pytest

from agent.workloads.kubernetes.annotations import NO_ANNOTATIONS, CaptureAnnotations
from agent.workloads.kubernetes.objects import Container, Pod
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.owners import OwnerChain
from agent.workloads.kubernetes.pod_workloads import (
    MAX_CHOSEN,
    MAX_CHOSEN_CHARACTERS,
    PodWorkloads,
    build_workloads,
)

SETTLED = OwnerChain({"k8s.deployment.name": "shop"}, is_resolved=True)


def build(
    *,
    options: KubernetesOptions | None = None,
    chain: OwnerChain = SETTLED,
    annotations: CaptureAnnotations = NO_ANNOTATIONS,
    namespace: CaptureAnnotations | None = NO_ANNOTATIONS,
    labels: dict[str, str] | None = None,
) -> PodWorkloads:
    pod = Pod(
        uid="u",
        name="web",
        namespace="shop",
        labels=labels or {},
        annotations={"team/owner": "a", "wirespan.io/x": "y"},
        containers=(Container("app", "shop/app:1", ("new", "old")), Container("starting", None)),
    )
    return build_workloads(options or KubernetesOptions(node="n"), pod, chain, annotations, namespace)


def test_each_id_of_a_container_is_a_workload_of_its_own() -> None:
    built = build()
    assert set(built.by_container_id) == {"new", "old"}
    workload = built.by_container_id["old"]
    assert workload.names == ("app", "web")
    assert workload.is_resolved
    assert workload.attributes == {
        "container.id": "old",
        "container.image.name": "shop/app",
        "k8s.container.name": "app",
        "k8s.deployment.name": "shop",
        "k8s.namespace.name": "shop",
        "k8s.node.name": "n",
        "k8s.pod.name": "web",
        "k8s.pod.uid": "u",
        "service.namespace": "shop",
    }
    assert built.whole.names == ("web",)
    assert not built.whole.is_resolved
    assert "container.id" not in built.whole.attributes


@pytest.mark.parametrize(
    ("pod", "namespace", "name"),
    [("a", "b", "a"), (None, "b", "b"), (None, None, None)],
)
def test_a_service_goes_by_the_nearest_annotation(
    pod: str | None, namespace: str | None, name: str | None
) -> None:
    built = build(
        annotations=CaptureAnnotations(service_name=pod), namespace=CaptureAnnotations(service_name=namespace)
    )
    assert built.by_container_id["new"].attributes.get("service.name") == name


def test_nothing_is_resolved_before_owners_and_namespace_are_known() -> None:
    assert not build(chain=OwnerChain({}, is_resolved=False)).by_container_id["new"].is_resolved
    unknown = build(namespace=None).by_container_id["new"]
    assert not unknown.is_resolved
    assert unknown.decision is not None
    assert unknown.decision.roles is None


def test_chosen_labels_and_annotations_are_attributes() -> None:
    options = KubernetesOptions(node="n", labels=("app*", "tier"), annotations=("team/*",))
    built = build(options=options, labels={"app.kubernetes.io/name": "x", "tier": "y", "other": "z"})
    attributes = built.whole.attributes
    assert attributes["k8s.pod.label.app.kubernetes.io/name"] == "x"
    assert attributes["k8s.pod.label.tier"] == "y"
    assert attributes["k8s.pod.annotation.team/owner"] == "a"
    assert not any("other" in key or "wirespan" in key for key in attributes)
    assert built.left_out == 0


def test_what_is_chosen_is_bounded_and_what_is_left_out_counted() -> None:
    options = KubernetesOptions(node="n", labels=("*",))
    labels = {f"label-{number:03}": "x" for number in range(MAX_CHOSEN + 5)}
    built = build(options=options, labels={**labels, "a-long-one": "x" * (MAX_CHOSEN_CHARACTERS + 1)})
    chosen = [key for key in built.whole.attributes if key.startswith("k8s.pod.label.")]
    assert len(chosen) == MAX_CHOSEN
    assert built.left_out == 6
