"""What the agent may not do: said once, counted, gone without, and tried again."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.workloads.kubernetes.capture_rules import CaptureDefault, CaptureRules
from agent.workloads.workload import Absence
from ebpf.events import Policy
from tests.kubernetes.api_server import ApiServer, wait_until
from tests.kubernetes.conftest import Discovered, Site
from tests.kubernetes.relay import Relay

pytestmark = pytest.mark.kubernetes

READ = "list,watch"
CORE = ("", "pods,namespaces", READ)
JOURNAL = "agent.workloads.kubernetes.journal"


def denials(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in caplog.messages if "not allowed to" in each]


def test_without_any_right_it_is_said_once_and_tried_again(
    api_server: ApiServer,
    site: Site,
    discover: Callable[..., Discovered],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", JOURNAL)
    site.run_pod("web")
    account = f"without-rights-{site.number}"
    discovered = discover(kubeconfig=api_server.create_service_account(account))
    assert discovered.discovery.find(site.reference("web")) is Absence.UNKNOWN
    wait_until(lambda: discovered.counter("denied") >= 9)
    said = sorted(denials(caplog))
    assert len(said) == 3
    for resource, line in zip(("namespaces", "pods", "services"), said, strict=True):
        assert f"not allowed to list {resource} (403: " in line
        assert f'grant its user the verb "list" on {resource} in a ClusterRole' in line

    api_server.grant(account, CORE)
    discovered.until("web", lambda each: each.is_resolved)
    assert "Kubernetes API: list pods is allowed now" in caplog.messages


def test_rights_that_are_taken_away_leave_the_last_known_state(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web")
    account = f"once-{site.number}"
    kubeconfig = api_server.create_service_account(account)
    role = api_server.grant(account, CORE)
    with contextlib.closing(Relay(api_server.port)) as relay:
        relayed = Path(kubeconfig).with_suffix(".relayed")
        text = Path(kubeconfig).read_text().replace(api_server.url, f"https://127.0.0.1:{relay.port}")
        relayed.write_text(text)
        discovered = discover(kubeconfig=str(relayed))
        known = discovered.until("web", lambda each: each.is_resolved)
        api_server.delete(role)
        # a watch is judged when it begins
        wait_until(lambda: relay.cut() or discovered.counter("denied") > 3)
        assert discovered.workload("web") == known


def test_without_services_namespaces_or_owners_the_rest_works(
    api_server: ApiServer,
    site: Site,
    discover: Callable[..., Discovered],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", JOURNAL)
    api_server.annotate(site.path, capture="true")
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "shop-7f9", "uid": "11111111-1111-1111-1111-111111111111"},
    }
    site.run_pod("web", labels={"pod-template-hash": "7f9"}, owner=owner)
    job = {**owner, "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "nightly-1", "uid": "2-2"}}
    site.run_pod("job", owner=job)
    account = f"pods-only-{site.number}"
    kubeconfig = api_server.create_service_account(account)
    api_server.grant(account, ("", "pods", READ))
    discovered = discover(kubeconfig=kubeconfig, rules=CaptureRules(default=CaptureDefault.NONE))
    web = discovered.until("web", lambda each: each.is_resolved)
    assert web.attributes["k8s.deployment.name"] == "shop"
    nightly = discovered.until("job", lambda each: each.is_resolved)
    assert nightly.attributes["k8s.job.name"] == "nightly-1"
    assert "k8s.cronjob.name" not in nightly.attributes
    assert web.decision is not None
    assert web.decision.roles == Policy.IGNORE
    assert discovered.discovery.peer("10.96.0.1") == {}
    assert discovered.counter("requests_pods") == 2
    said = {line.split(" (403")[0].partition("not allowed to ")[2] for line in denials(caplog)}
    assert said == {"list namespaces", "list services", "get replicasets.apps", "get jobs.batch"}
    assert len(denials(caplog)) == 4


def test_without_the_right_to_create_events_an_invalid_annotation_is_still_said(
    api_server: ApiServer,
    site: Site,
    discover: Callable[..., Discovered],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.run_pod("web", annotations={"capture": "maybe"})
    site.run_pod("api", annotations={"ports": "http"})
    account = f"no-events-{site.number}"
    kubeconfig = api_server.create_service_account(account)
    api_server.grant(account, ("", "pods,namespaces,services", READ))
    discovered = discover(kubeconfig=kubeconfig)
    wait_until(lambda: discovered.counter("events_not_created") == 2)
    assert discovered.counter("invalid_annotations") == 2
    assert len([each for each in caplog.messages if "is not valid" in each]) == 2
    (said,) = denials(caplog)
    assert "not allowed to create events" in said


def test_a_token_that_was_replaced_is_read_again(
    api_server: ApiServer, site: Site, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web")
    account = f"rotated-{site.number}"
    kubeconfig = Path(api_server.create_service_account(account))
    api_server.grant(account, ("", "pods,namespaces,services", READ))
    with contextlib.closing(Relay(api_server.port)) as relay:
        text = kubeconfig.read_text().replace(api_server.url, f"https://127.0.0.1:{relay.port}")
        kubeconfig.write_text(text)
        discovered = discover(kubeconfig=str(kubeconfig))
        # An account that is made anew has another UID: tokens of the deleted one are refused.
        path = "/api/v1/namespaces/default/serviceaccounts"
        api_server.delete(f"{path}/{account}")
        api_server.create(path, {"metadata": {"name": account}})
        token_file = api_server.folder / f"{account}.token"
        token_file.write_text(api_server.new_token(account))
        # The server remembers for some seconds that a token was good.
        wait_until(lambda: relay.cut() or discovered.counter("credentials_renewed"), seconds=60)
        api_server.annotate(site.pod_path("web"), direction="egress")
        discovered.until(
            "web", lambda each: each.decision is not None and each.decision.roles == Policy.CAPTURE_EGRESS
        )
        assert discovered.counter("denied") == 0
