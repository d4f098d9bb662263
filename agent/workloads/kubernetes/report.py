"""The report of `wirespan check --kubernetes`: what would be captured of each pod of this node, and why.

Owns asking once and the form of the answer. It decides nothing: the same state answers that a run asks.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.workloads.kubernetes.annotations import InvalidAnnotation, parse_annotations
from agent.workloads.kubernetes.api import NAMESPACES, PODS, ApiDeniedError
from agent.workloads.kubernetes.capture_rules import PodProperties, decide
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.cluster import ClusterState
from agent.workloads.kubernetes.discovery import pods_of
from agent.workloads.kubernetes.journal import ApiJournal
from agent.workloads.kubernetes.objects import Namespace, Pod, parse_namespace, parse_pod
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.owners import OwnerChain
from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy

_DIRECTIONS = {
    Policy.IGNORE: "none",
    Policy.CAPTURE_INGRESS: "ingress",
    Policy.CAPTURE_EGRESS: "egress",
    Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS: "both",
}
_HEADINGS = ("POD", "CONTAINERS", "CAPTURED", "PORTS", "BODIES", "TLS", "RULE")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLine:
    """What is captured of some containers of a pod, all alike."""

    namespace: str
    pod: str
    containers: tuple[str, ...]
    direction: str
    """`ingress`, `egress`, `both`, `none`, or `undecided`."""
    ports: tuple[int, ...]
    """Empty: all."""
    bodies: bool
    tls: bool
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReport:
    """What is captured on a node."""

    node: str
    lines: tuple[PodLine, ...]
    notes: tuple[str, ...]
    """What is wrong: annotations that aren't valid, what may not be asked for."""


def report(options: KubernetesOptions, report_format: str) -> str:
    """Return the report as `text` or `json`. Raises KubeconfigError and ApiError."""
    found = ask(options)
    return format_json(found) if report_format == "json" else format_text(found)


def ask(options: KubernetesOptions) -> PodReport:
    """Ask the API once. Raises KubeconfigError and ApiError."""
    # What goes wrong is in the report, or is the one message in place of it.
    api = KubernetesApi(options.kubeconfig, ApiJournal(is_silent=True))
    notes: list[str] = []

    def note(subject: Pod | Namespace, invalid: InvalidAnnotation) -> None:
        where = f"pod {subject.namespace}/" if isinstance(subject, Pod) else "namespace "
        notes.append(f"{where}{subject.name}: {invalid}")

    state = ClusterState(options, chain=lambda _: OwnerChain({}, is_resolved=True), report=note)
    parse = functools.partial(parse_pod, exported_annotations=options.annotations)
    pods = api.list(PODS, {"fieldSelector": pods_of(options.node)}).get("items") or ()
    try:
        namespaces = api.list(NAMESPACES, {}).get("items") or ()
    except ApiDeniedError as error:
        notes.append(f"annotations of namespaces are not heeded: {error}")
        state.deny_namespaces()
    else:
        state.replace_namespaces(each for each in map(parse_namespace, namespaces) if each)
    finally:
        api.close()
    state.replace_pods(each for each in map(parse, pods) if each)
    lines = [line for pod, _ in state.pods() for line in _lines(options, pod, state)]
    return PodReport(node=options.node, lines=tuple(lines), notes=tuple(notes))


def format_text(found: PodReport) -> str:
    """Return the report as a table for people, with what is wrong below it."""
    if not found.lines:
        text = (
            f"no pods on node {found.node}; if that is not this node's name,"
            " set `kubernetes.node` or the environment variable NODE_NAME"
        )
        return "\n".join((text, *found.notes))
    rows: list[Sequence[str]] = [_HEADINGS]
    rows.extend(
        (
            f"{line.namespace}/{line.pod}",
            ",".join(line.containers),
            line.direction,
            ",".join(map(str, line.ports)) or "all",
            "yes" if line.bodies else "no",
            "yes" if line.tls else "no",
            line.rule,
        )
        for line in found.lines
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    shown = [
        "  ".join((*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]))
        for row in rows
    ]
    notes = ("", *found.notes) if found.notes else ()
    return "\n".join((f"node {found.node}", "", *shown, *notes))


def format_json(found: PodReport) -> str:
    """Return the report as one JSON object."""
    document: Mapping[str, Any] = {
        "node": found.node,
        "pods": [dataclasses.asdict(line) for line in found.lines],
        "notes": found.notes,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _lines(options: KubernetesOptions, pod: Pod, state: ClusterState) -> list[PodLine]:
    annotations, _ = parse_annotations(pod.annotations)
    properties = PodProperties(
        namespace=pod.namespace,
        labels=pod.labels,
        annotations=annotations,
        namespace_annotations=state.namespace_annotations(pod.namespace),
    )
    containers: dict[CaptureDecision, list[str]] = {}
    for container in pod.containers:
        containers.setdefault(decide(options.rules, properties, container.name), []).append(container.name)
    return [
        PodLine(
            namespace=pod.namespace,
            pod=pod.name,
            containers=tuple(names),
            direction="undecided" if decision.roles is None else _DIRECTIONS[decision.roles],
            ports=tuple(sorted(decision.ports)),
            bodies=decision.bodies,
            tls=decision.tls,
            rule=decision.reason,
        )
        for decision, names in containers.items()
    ]
