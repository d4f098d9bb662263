"""Which rule decides on a container, and what it says."""

import pytest

from agent.selection_rules import CaptureDirection
from agent.workloads.kubernetes.annotations import CaptureAnnotations
from agent.workloads.kubernetes.capture_rules import CaptureDefault, CaptureRules, PodProperties, decide
from agent.workloads.kubernetes.label_selector import parse_selector
from ebpf.events import Policy

NOTHING, INGRESS, EGRESS = Policy.IGNORE, Policy.CAPTURE_INGRESS, Policy.CAPTURE_EGRESS
BOTH = INGRESS | EGRESS
NONE = CaptureDefault.NONE
WEB = parse_selector("app=web")
API = parse_selector("app=api")

CASES = [
    # rules, pod, roles, part of the reason
    (CaptureRules(), {}, BOTH, "kubernetes.default is all"),
    (CaptureRules(default=NONE), {}, NOTHING, "kubernetes.default is none"),
    (CaptureRules(direction=CaptureDirection.INGRESS), {}, INGRESS, "capture.direction is ingress"),
    # namespaces
    (CaptureRules(namespaces=("sh*",)), {}, BOTH, "in kubernetes.namespaces (sh*)"),
    (CaptureRules(namespaces=("sh*",), default=NONE), {}, BOTH, "in kubernetes.namespaces (sh*)"),
    (CaptureRules(namespaces=("bank",)), {}, NOTHING, "not in kubernetes.namespaces"),
    (CaptureRules(exclude_namespaces=("*op",)), {}, NOTHING, "kubernetes.exclude_namespaces (*op)"),
    (CaptureRules(namespaces=("shop",), exclude_namespaces=("shop",)), {}, NOTHING, "exclude_namespaces"),
    # selectors
    (CaptureRules(selector=WEB), {}, BOTH, "kubernetes.selector (app=web) matches"),
    (CaptureRules(selector=API), {}, NOTHING, "kubernetes.selector (app=api) does not match"),
    (CaptureRules(selector=WEB, namespaces=("bank",)), {}, NOTHING, "not in kubernetes.namespaces"),
    (CaptureRules(selector=API, namespaces=("shop",)), {}, NOTHING, "kubernetes.selector (app=api)"),
    (CaptureRules(ingress_selector=WEB, default=NONE), {}, INGRESS, "egress: kubernetes.default is none"),
    (CaptureRules(egress_selector=WEB, default=NONE), {}, EGRESS, "egress: kubernetes.egress_selector"),
    (CaptureRules(ingress_selector=API), {}, EGRESS, "ingress: kubernetes.ingress_selector (app=api) does"),
    (CaptureRules(ingress_selector=API, selector=WEB), {}, EGRESS, "egress: kubernetes.selector"),
    (CaptureRules(ingress_selector=WEB, egress_selector=API), {}, INGRESS, "ingress_selector (app=web) m"),
    (CaptureRules(ingress_selector=API, egress_selector=API), {}, NOTHING, "egress_selector (app=api) does"),
    (
        CaptureRules(ingress_selector=WEB, default=NONE, direction=CaptureDirection.EGRESS),
        {},
        NOTHING,
        "kubernetes.default is none; capture.direction is egress",
    ),
    # annotations over the configuration
    (CaptureRules(), {"pod": {"capture": False}}, NOTHING, 'wirespan.io/capture of the pod is "false"'),
    (CaptureRules(), {"namespace": {"capture": False}}, NOTHING, "wirespan.io/capture of the namespace"),
    (CaptureRules(default=NONE), {"pod": {"capture": True}}, BOTH, 'of the pod is "true"'),
    (CaptureRules(exclude_namespaces=("shop",)), {"pod": {"capture": True}}, BOTH, "of the pod"),
    (CaptureRules(exclude_namespaces=("shop",)), {"namespace": {"capture": True}}, BOTH, "of the namespace"),
    (CaptureRules(selector=API), {"namespace": {"capture": True}}, BOTH, "of the namespace"),
    (
        CaptureRules(default=NONE, direction=CaptureDirection.INGRESS),
        {"pod": {"capture": True}},
        INGRESS,
        "capture.direction is ingress",
    ),
    # the pod over its namespace
    (CaptureRules(), {"pod": {"capture": True}, "namespace": {"capture": False}}, BOTH, "of the pod"),
    (CaptureRules(), {"pod": {"capture": False}, "namespace": {"capture": True}}, NOTHING, "of the pod"),
    # direction
    (
        CaptureRules(direction=CaptureDirection.INGRESS),
        {"pod": {"direction": CaptureDirection.EGRESS}},
        EGRESS,
        "wirespan.io/direction of the pod is egress",
    ),
    (
        CaptureRules(direction=CaptureDirection.INGRESS),
        {"namespace": {"direction": CaptureDirection.BOTH}},
        BOTH,
        "wirespan.io/direction of the namespace is both",
    ),
    (CaptureRules(default=NONE), {"pod": {"direction": CaptureDirection.BOTH}}, NOTHING, "default is none"),
    (
        CaptureRules(ingress_selector=WEB, egress_selector=API),
        {"pod": {"direction": CaptureDirection.EGRESS}},
        NOTHING,
        "kubernetes.egress_selector (app=api) does not match",
    ),
    (
        CaptureRules(),
        {"pod": {"capture": True}, "namespace": {"direction": CaptureDirection.INGRESS}},
        INGRESS,
        "of the namespace is ingress",
    ),
    # containers
    (CaptureRules(), {"pod": {"containers": frozenset({"app", "nginx"})}}, BOTH, "default is all"),
    (CaptureRules(), {"pod": {"containers": frozenset({"nginx"})}}, NOTHING, "of the pod names nginx only"),
    (CaptureRules(), {"namespace": {"containers": frozenset({"nginx"})}}, NOTHING, "of the namespace names"),
]


def pod(
    *,
    pod: dict[str, object] | None = None,
    namespace: dict[str, object] | None = None,
) -> PodProperties:
    return PodProperties(
        namespace="shop",
        labels={"app": "web"},
        annotations=CaptureAnnotations(**pod or {}),  # type: ignore[arg-type]
        namespace_annotations=CaptureAnnotations(**namespace or {}),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("rules", "annotated", "roles", "part"), CASES)
def test_the_nearest_rule_decides(
    rules: CaptureRules, annotated: dict[str, dict[str, object]], roles: Policy, part: str
) -> None:
    decision = decide(rules, pod(**annotated), "app")
    assert decision.roles == roles
    assert part in decision.reason


def test_ports_and_bodies_come_from_the_nearest_place_too() -> None:
    near = {"ports": frozenset({80})}
    far = {"ports": frozenset({81}), "bodies": False, "tls": False}
    decision = decide(CaptureRules(), pod(pod=near, namespace=far), "app")
    assert decision.ports == {80}
    assert decision.bodies is False
    assert decision.tls is False
    assert decide(CaptureRules(), pod(pod={"bodies": True}, namespace=far), "app").bodies is True
    assert decide(CaptureRules(bodies=False), pod(), "app").bodies is False
    assert decide(CaptureRules(), pod(pod={"tls": True}, namespace=far), "app").tls is True
    assert decide(CaptureRules(), pod(), "app").tls is True
    assert decide(CaptureRules(), pod(), "app").ports == frozenset()


def test_a_name_that_is_not_known_yet_is_waited_for_only_where_it_matters() -> None:
    named: dict[str, object] = {"containers": frozenset({"app"})}
    pending = decide(CaptureRules(), pod(pod=named), None)
    assert pending.roles is None
    assert "not known yet" in pending.reason
    assert decide(CaptureRules(default=NONE), pod(pod=named), None).roles == NOTHING
    assert decide(CaptureRules(), pod(), None).roles == BOTH


def test_a_namespace_that_is_not_known_yet_is_waited_for() -> None:
    decision = decide(CaptureRules(), PodProperties(namespace="shop", namespace_annotations=None), "app")
    assert decision.roles is None
    assert "namespace shop" in decision.reason
