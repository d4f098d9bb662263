"""An invalid annotation: one Event, one log line, one count, and the default holds."""

from collections.abc import Callable

import pytest

from ebpf.events import Policy
from tests.kubernetes.api_server import ApiServer, Document, wait_until
from tests.kubernetes.conftest import Discovered, Site

pytestmark = pytest.mark.kubernetes


def events(server: ApiServer, namespace: str, uid: str) -> list[Document]:
    path = f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.uid={uid}"
    items: list[Document] = server.request("GET", path)["items"]
    return items


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in caplog.messages if "is not valid" in each]


def test_it_is_told_once_whatever_else_changes_and_whoever_else_sees_it(
    api_server: ApiServer,
    site: Site,
    discover: Callable[..., Discovered],
    caplog: pytest.LogCaptureFixture,
) -> None:
    created = site.run_pod("web", annotations={"direction": "inwards"})
    discovered = discover()
    uid = created["metadata"]["uid"]
    (event,) = wait_until(lambda: events(api_server, site.namespace, uid))
    assert (event["type"], event["reason"]) == ("Warning", "InvalidAnnotation")
    assert "wirespan.io/direction: 'inwards'" in event["message"]
    assert "ingress, egress or both" in event["message"]
    assert event["involvedObject"]["name"] == "web"
    assert discovered.decision("web").roles == Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS

    # the pod changes in other ways
    api_server.annotate(site.pod_path("web"), capture="true")
    site.report_running("web", ip="10.6.0.1")
    discovered.until("web", lambda _: bool(discovered.discovery.peer("10.6.0.1")))
    assert len(lines(caplog)) == 1
    assert discovered.counter("invalid_annotations") == 1
    # another agent, or this one after a restart, says it in its log but makes no second Event
    other = discover()
    wait_until(lambda: other.counter("requests_events") == 1)
    other.decision("web")
    assert len(events(api_server, site.namespace, uid)) == 1

    # another value is another matter
    api_server.annotate(site.pod_path("web"), direction="outwards")
    wait_until(lambda: len(events(api_server, site.namespace, uid)) == 2)
    assert discovered.counter("invalid_annotations") == 2


def test_that_of_a_namespace_is_told_on_the_namespace(
    api_server: ApiServer,
    site: Site,
    discover: Callable[..., Discovered],
    caplog: pytest.LogCaptureFixture,
) -> None:
    discovered = discover()
    api_server.annotate(site.path, captrue="true")
    uid = api_server.request("GET", site.path)["metadata"]["uid"]
    (event,) = wait_until(lambda: events(api_server, "default", uid))
    assert "did you mean wirespan.io/capture?" in event["message"]
    assert event["involvedObject"]["kind"] == "Namespace"
    wait_until(lambda: discovered.counter("events_created") >= 1)
    assert len([each for each in lines(caplog) if f"namespace {site.namespace}:" in each]) == 1
    # the other tests' namespaces must not find it there
    api_server.annotate(site.path, captrue=None)
