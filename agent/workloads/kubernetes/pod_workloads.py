"""From a pod to the workloads of its containers: names, resource attributes, decision.

Owns the names of the attributes (OpenTelemetry semantic conventions, "k8s" and "container"), and the bounds
on what is chosen by configuration. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agent.workloads.kubernetes.annotations import CaptureAnnotations
from agent.workloads.kubernetes.capture_rules import PodProperties, decide
from agent.workloads.kubernetes.objects import Container, Pod, image_name
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.owners import OwnerChain
from agent.workloads.workload import Workload

MAX_CHOSEN = 64
"""Labels and annotations of one pod that become attributes: backends keep 128 attributes in all."""
MAX_CHOSEN_CHARACTERS = 4_096
"""Longest value of one; `kubectl` keeps whole objects in an annotation, which is not meant for export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWorkloads:
    """What is published of one pod."""

    by_container_id: Mapping[str, Workload]
    whole: Workload
    """For a process whose pod alone is known; without a container's id and name."""
    left_out: int
    """Chosen labels and annotations beyond the bounds."""


def build_workloads(
    options: KubernetesOptions,
    pod: Pod,
    chain: OwnerChain,
    annotations: CaptureAnnotations,
    namespace_annotations: CaptureAnnotations | None,
) -> PodWorkloads:
    """Return the workloads of a pod; the namespace's annotations are None while they aren't known."""
    properties = PodProperties(
        namespace=pod.namespace,
        labels=pod.labels,
        annotations=annotations,
        namespace_annotations=namespace_annotations,
    )
    shared, left_out = _pod_attributes(options, pod, chain)
    nearest = (annotations, namespace_annotations)
    name = next((each.service_name for each in nearest if each and each.service_name), None)
    if name:
        shared["service.name"] = name
    is_resolved = chain.is_resolved and namespace_annotations is not None
    by_container_id = {
        container_id: Workload(
            container_id=container_id,
            names=(container.name, pod.name),
            attributes=shared | _container_attributes(container, container_id),
            is_resolved=is_resolved,
            decision=decide(options.rules, properties, container.name),
        )
        for container in pod.containers
        for container_id in container.ids
    }
    whole = Workload(
        container_id="",
        names=(pod.name,),
        attributes=shared,
        is_resolved=False,
        decision=decide(options.rules, properties, None),
    )
    return PodWorkloads(by_container_id=by_container_id, whole=whole, left_out=left_out)


def _pod_attributes(options: KubernetesOptions, pod: Pod, chain: OwnerChain) -> tuple[dict[str, str], int]:
    attributes = {
        "k8s.namespace.name": pod.namespace,
        "k8s.pod.name": pod.name,
        "k8s.pod.uid": pod.uid,
        "k8s.node.name": pod.node or options.node,
        "service.namespace": pod.namespace,
        **chain.attributes,
    }
    if options.cluster_name:
        attributes["k8s.cluster.name"] = options.cluster_name
    chosen = [
        *_chosen("k8s.pod.label.", pod.labels, options.labels),
        *_chosen("k8s.pod.annotation.", pod.annotations, options.annotations),
    ]
    short = [(key, value) for key, value in chosen if len(value) <= MAX_CHOSEN_CHARACTERS]
    kept = short[:MAX_CHOSEN]
    return attributes | dict(kept), len(chosen) - len(kept)


def _chosen(prefix: str, values: Mapping[str, str], globs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key in sorted(values):
        if any(fnmatchcase(key, glob) for glob in globs):
            yield prefix + key, values[key]


def _container_attributes(container: Container, container_id: str) -> dict[str, str]:
    attributes = {"container.id": container_id, "k8s.container.name": container.name}
    if container.image:
        attributes["container.image.name"] = image_name(container.image)
    return attributes
