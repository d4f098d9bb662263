"""Annotations, namespaces and selectors as they are changed in a real API server."""

from collections.abc import Callable

import pytest

from agent.selection_rules import CaptureDirection
from agent.workloads.kubernetes.capture_rules import CaptureDefault, CaptureRules
from agent.workloads.kubernetes.label_selector import parse_selector
from agent.workloads.workload import Workload
from ebpf.events import Policy
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import Discovered, Site

pytestmark = pytest.mark.kubernetes

NOTHING, INGRESS, EGRESS = Policy.IGNORE, Policy.CAPTURE_INGRESS, Policy.CAPTURE_EGRESS
BOTH = INGRESS | EGRESS
NONE = CaptureRules(default=CaptureDefault.NONE)


def has_roles(roles: Policy) -> Callable[[Workload], bool]:
    return lambda workload: workload.decision is not None and workload.decision.roles == roles


def test_annotations_of_the_pod_are_heeded_as_they_come_change_and_go(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web", containers=("app", "proxy"))
    discovered = discover(rules=NONE)
    assert discovered.decision("web").roles == NOTHING
    version = discovered.discovery.version
    path = site.pod_path("web")

    api_server.annotate(path, capture="true")
    discovered.until("web", has_roles(BOTH))
    assert discovered.discovery.version > version

    api_server.annotate(path, direction="egress", ports="80,443", bodies="false", service_name="checkout")
    changed = discovered.until("web", has_roles(EGRESS))
    assert changed.decision is not None
    assert changed.decision.ports == {80, 443}
    assert not changed.decision.bodies
    assert changed.attributes["service.name"] == "checkout"

    api_server.annotate(path, containers="proxy")
    discovered.until("web", has_roles(NOTHING))
    assert discovered.decision("web", "proxy").roles == EGRESS

    api_server.annotate(path, direction=None, containers=None, ports=None, service_name=None)
    changed = discovered.until("web", has_roles(BOTH))
    assert changed.decision is not None
    assert changed.decision.ports == frozenset()
    assert "service.name" not in changed.attributes

    api_server.annotate(path, capture="false")
    discovered.until("web", has_roles(NOTHING))
    api_server.annotate(path, capture=None)
    gone = discovered.until(
        "web", lambda each: each.decision is not None and "default" in each.decision.reason
    )
    assert has_roles(NOTHING)(gone)


def test_annotations_of_the_namespace_hold_for_its_pods_unless_they_say_otherwise(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("plain")
    site.run_pod("own", annotations={"capture": "true", "direction": "ingress"})
    discovered = discover(rules=NONE)
    assert discovered.decision("plain").roles == NOTHING
    assert discovered.decision("own").roles == INGRESS

    api_server.annotate(site.path, capture="true", direction="egress")
    discovered.until("plain", has_roles(EGRESS))
    assert discovered.decision("own").roles == INGRESS

    api_server.annotate(site.path, capture="false", direction=None)
    discovered.until("plain", has_roles(NOTHING))
    assert discovered.decision("own").roles == INGRESS

    api_server.annotate(site.path, capture=None)
    discovered.until(
        "plain", lambda each: each.decision is not None and "kubernetes.default" in each.decision.reason
    )


def test_namespaces_and_selectors_of_the_configuration_decide(
    site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web", labels={"app": "web", "tier": "front"})
    site.run_pod("api", labels={"app": "api"})
    within = discover(rules=CaptureRules(namespaces=(site.namespace,)))
    assert within.decision("web").roles == BOTH
    without = discover(rules=CaptureRules(exclude_namespaces=("site-*",)))
    assert without.decision("web").roles == NOTHING
    split = discover(
        rules=CaptureRules(
            ingress_selector=parse_selector("app in (api)"),
            egress_selector=parse_selector("app=web,tier=front"),
        )
    )
    assert split.decision("web").roles == EGRESS
    assert split.decision("api").roles == INGRESS
    gateway = discover(
        rules=CaptureRules(selector=parse_selector("app=web"), direction=CaptureDirection.EGRESS)
    )
    assert gateway.decision("web").roles == EGRESS
    assert gateway.decision("api").roles == NOTHING


def test_a_label_that_changes_changes_the_decision(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web", labels={"app": "web"})
    discovered = discover(rules=CaptureRules(selector=parse_selector("app=web,!canary")), labels=("app",))
    assert discovered.decision("web").roles == BOTH
    api_server.request("PATCH", site.pod_path("web"), {"metadata": {"labels": {"canary": "1"}}})
    changed = discovered.until("web", has_roles(NOTHING))
    assert changed.attributes["k8s.pod.label.app"] == "web"
    assert "k8s.pod.label.canary" not in changed.attributes


def test_a_selector_means_what_it_means_to_the_api_server(api_server: ApiServer, site: Site) -> None:
    from urllib.parse import quote

    labelled = {
        "a": {"app": "web", "tier": "a"},
        "b": {"app": "web", "tier": "b", "canary": ""},
        "c": {"app": "api", "rank": "7", "example.com/x": "y"},
        "d": {},
    }
    for name, labels in labelled.items():
        site.create_pod(name, labels=labels)
    for text in (
        *("", "app", "!app", "app=web", "app==web", "app!=web", "canary=", "canary", "rank>6", "rank<7"),
        *("tier in (a,b)", "tier notin (a)", "tier in (a,)", "tier in ()", "app=web,tier notin (b),!canary"),
        *("example.com/x=y", "app in (web, api) , !rank", "in=x", "rank > 1,app=api", "tier,app"),
    ):
        listed = api_server.request("GET", f"{site.path}/pods?labelSelector={quote(text)}")
        expected = {item["metadata"]["name"] for item in listed["items"]}
        selector = parse_selector(text)
        assert {name for name, labels in labelled.items() if selector.matches(labels)} == expected, text
