"""What is captured of a container in a pod: the configuration's rules and the annotations, nearest first.

Owns the precedence, and the words that explain a decision. Pure.

For each key the annotation of the pod wins over that of its namespace, and that over the configuration.
Whether a direction is captured at all is asked in this order:

    1. annotation `capture`: "false" means neither direction, "true" both, whatever the rest says
    2. the namespace: not one of `exclude_namespaces`, and one of `namespaces` where those are given
    3. the direction's own selector, else `selector`, else `default`; being in one of `namespaces` counts as
       a match where there is no selector

What remains is cut down to the direction asked for (annotation, else configuration), and to the containers
that the annotation `containers` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from agent.selection_rules import CaptureDirection
from agent.workloads.kubernetes.annotations import NO_ANNOTATIONS, PREFIX, CaptureAnnotations, shorten
from agent.workloads.kubernetes.label_selector import LabelSelector
from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy

T = TypeVar("T")

_POLICIES = {
    CaptureDirection.INGRESS: Policy.CAPTURE_INGRESS,
    CaptureDirection.EGRESS: Policy.CAPTURE_EGRESS,
    CaptureDirection.BOTH: Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS,
}


class CaptureDefault(StrEnum):
    """What holds for a pod that no other rule speaks of."""

    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRules:
    """The configuration's part. Empty or None: nothing is said by this."""

    default: CaptureDefault = CaptureDefault.ALL
    namespaces: tuple[str, ...] = ()
    """Shell patterns over the namespace's name."""
    exclude_namespaces: tuple[str, ...] = ()
    selector: LabelSelector | None = None
    ingress_selector: LabelSelector | None = None
    egress_selector: LabelSelector | None = None
    direction: CaptureDirection = CaptureDirection.BOTH
    bodies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodProperties:
    """What the rules look at."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: CaptureAnnotations = NO_ANNOTATIONS
    namespace_annotations: CaptureAnnotations | None = NO_ANNOTATIONS
    """None while they aren't known."""


def decide(rules: CaptureRules, pod: PodProperties, container_name: str | None) -> CaptureDecision:
    """Return what is captured of a container; None for a name that isn't known yet."""
    if pod.namespace_annotations is None:
        return CaptureDecision(roles=None, reason=f"namespace {pod.namespace} is not known yet")
    nearest = _Nearest(pod.annotations, pod.namespace_annotations)
    ports = nearest.get(lambda each: each.ports)
    bodies = nearest.get(lambda each: each.bodies)
    tls = nearest.get(lambda each: each.tls)
    roles: Policy | None
    roles, reason = _roles(rules, pod, nearest)
    containers = nearest.get(lambda each: each.containers)
    if containers is not None and roles != Policy.IGNORE:
        named, where = containers
        if container_name is None:
            roles, reason = None, f"{_said('containers', where)}; the container's name is not known yet"
        elif container_name not in named:
            listed = shorten(",".join(sorted(named)))
            roles, reason = Policy.IGNORE, f"{_said('containers', where)} names {listed} only"
    return CaptureDecision(
        roles=roles,
        ports=frozenset() if ports is None else ports[0],
        bodies=rules.bodies if bodies is None else bodies[0],
        tls=tls is None or tls[0],
        reason=reason,
    )


class _Nearest:
    """The annotations of a pod over those of its namespace."""

    def __init__(self, pod: CaptureAnnotations, namespace: CaptureAnnotations) -> None:
        self._places = ((pod, "the pod"), (namespace, "the namespace"))

    def get(self, field_of: Callable[[CaptureAnnotations], T | None]) -> tuple[T, str] | None:
        """Return a field's nearest value and where it stands."""
        for there, where in self._places:
            value = field_of(there)
            if value is not None:
                return value, where
        return None


def _roles(rules: CaptureRules, pod: PodProperties, nearest: _Nearest) -> tuple[Policy, str]:
    direction, direction_from = nearest.get(lambda each: each.direction) or (rules.direction, None)
    wanted = _POLICIES[direction]
    capture = nearest.get(lambda each: each.capture)
    if capture is not None:
        captured, where = capture
        if not captured:
            return Policy.IGNORE, f'{_said("capture", where)} is "false"'
        reason = f'{_said("capture", where)} is "true"'
        return wanted, _with_direction(reason, direction, direction_from)
    if glob := _first_match(rules.exclude_namespaces, pod.namespace):
        return Policy.IGNORE, f"namespace {pod.namespace} is in kubernetes.exclude_namespaces ({glob})"
    within = _first_match(rules.namespaces, pod.namespace)
    if rules.namespaces and within is None:
        return Policy.IGNORE, f"namespace {pod.namespace} is not in kubernetes.namespaces"
    ingress, ingress_reason = _matches(rules, pod, "ingress_selector", rules.ingress_selector, within)
    egress, egress_reason = _matches(rules, pod, "egress_selector", rules.egress_selector, within)
    selected = Policy.IGNORE
    if ingress:
        selected |= Policy.CAPTURE_INGRESS
    if egress:
        selected |= Policy.CAPTURE_EGRESS
    if ingress_reason == egress_reason or wanted == Policy.CAPTURE_INGRESS:
        reason = ingress_reason
    elif wanted == Policy.CAPTURE_EGRESS:
        reason = egress_reason
    else:
        reason = f"ingress: {ingress_reason}; egress: {egress_reason}"
    if selected == Policy.IGNORE:
        return Policy.IGNORE, reason
    return selected & wanted, _with_direction(reason, direction, direction_from)


def _matches(
    rules: CaptureRules, pod: PodProperties, key: str, own: LabelSelector | None, within: str | None
) -> tuple[bool, str]:
    """Return whether a direction is selected, and the rule that says so."""
    key, selector = (key, own) if own is not None else ("selector", rules.selector)
    if selector is not None:
        matched = selector.matches(pod.labels)
        outcome = "matches" if matched else "does not match"
        return matched, f"kubernetes.{key} ({shorten(str(selector))}) {outcome}"
    if within is not None:
        return True, f"namespace {pod.namespace} is in kubernetes.namespaces ({within})"
    return rules.default is CaptureDefault.ALL, f"kubernetes.default is {rules.default.value}"


def _first_match(globs: tuple[str, ...], name: str) -> str | None:
    return next((glob for glob in globs if fnmatchcase(name, glob)), None)


def _said(name: str, where: str) -> str:
    return f"annotation {PREFIX}{name} of {where}"


def _with_direction(reason: str, direction: CaptureDirection, annotated_at: str | None) -> str:
    """Name the rule that leaves a direction out, where one does."""
    if annotated_at is not None:
        return f"{reason}; {_said('direction', annotated_at)} is {direction.value}"
    if direction is not CaptureDirection.BOTH:
        return f"{reason}; capture.direction is {direction.value}"
    return reason
