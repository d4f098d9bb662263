"""An invalid annotation is told once; tests/kubernetes has the Events themselves."""

import time
from collections.abc import Callable, Iterator

import pytest

from agent.workloads.kubernetes import invalid_annotations
from agent.workloads.kubernetes.annotations import InvalidAnnotation
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.invalid_annotations import InvalidAnnotationReports
from agent.workloads.kubernetes.objects import Namespace, Pod
from agent.workloads.kubernetes.request_queue import MAX_REQUESTS, RequestQueue
from tests.unit.agent.workloads.kubernetes.conftest import PACE, ScriptedApi

POD = Pod(uid="u", name="web", namespace="shop", labels={}, annotations={})
WRONG = InvalidAnnotation("wirespan.io/capture", "si", '"true" or "false"')


@pytest.fixture
def requests(api: KubernetesApi) -> Iterator[RequestQueue]:
    opened = RequestQueue(api.journal, PACE)
    opened.start()
    yield opened
    opened.close(time.monotonic() + 10)


@pytest.fixture
def reports(api: KubernetesApi, requests: RequestQueue) -> InvalidAnnotationReports:
    return InvalidAnnotationReports(api, requests, "node-1")


def test_it_is_a_line_a_count_and_an_event(
    api: KubernetesApi,
    scripted: ScriptedApi,
    reports: InvalidAnnotationReports,
    caplog: pytest.LogCaptureFixture,
    until: Callable[[Callable[[], object]], None],
) -> None:
    scripted.say({}, status=201)
    for _ in range(3):
        reports.report(POD, WRONG)
    until(lambda: api.journal.counters().get("events_created") == 1)
    assert caplog.messages == [f"pod shop/web: {WRONG}"]
    assert api.journal.counters()["invalid_annotations"] == 1
    (request,) = scripted.requests
    assert request.path == "/api/v1/namespaces/shop/events"
    assert request.body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "web",
        "namespace": "shop",
        "uid": "u",
    }
    assert (request.body["type"], request.body["reason"]) == ("Warning", "InvalidAnnotation")
    assert request.body["source"] == {"component": "wirespan", "host": "node-1"}


def test_the_events_name_follows_from_what_it_says(
    api: KubernetesApi,
    scripted: ScriptedApi,
    requests: RequestQueue,
    reports: InvalidAnnotationReports,
    until: Callable[[Callable[[], object]], None],
) -> None:
    other = InvalidAnnotationReports(api, requests, "node-2")
    namespace = Namespace(uid="n", name="shop", annotations={})
    scripted.say({}, status=201)
    scripted.say({}, status=409)
    scripted.say({}, status=201)
    reports.report(namespace, WRONG)
    other.report(namespace, WRONG)
    reports.report(namespace, InvalidAnnotation("wirespan.io/capture", "no", "x"))
    until(lambda: api.journal.counters().get("events_created") == 2)
    first, again, different = (request.body["metadata"] for request in scripted.requests)
    assert first == again
    assert first["name"] != different["name"]
    assert first["namespace"] == "default"
    assert "events_not_created" not in api.journal.counters()


def test_an_event_that_can_not_be_created_is_counted(
    api: KubernetesApi,
    scripted: ScriptedApi,
    reports: InvalidAnnotationReports,
    until: Callable[[Callable[[], object]], None],
) -> None:
    scripted.say({}, status=403)
    reports.report(POD, WRONG)
    until(lambda: api.journal.counters().get("events_not_created") == 1)


def test_with_a_full_queue_the_event_is_not_created(api: KubernetesApi) -> None:
    idle = RequestQueue(api.journal, PACE)
    reports = InvalidAnnotationReports(api, idle, "node-1")
    for number in range(MAX_REQUESTS + 1):
        reports.report(POD, InvalidAnnotation("wirespan.io/capture", str(number), "x"))
    assert api.journal.counters()["events_not_created"] == 1


def test_the_memory_of_what_was_told_is_bounded(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(invalid_annotations, "MAX_REPORTED", 2)
    reports = InvalidAnnotationReports(api, RequestQueue(api.journal, PACE), "node-1")
    for value in ("a", "b", "a", "c", "a", "b"):
        reports.report(POD, InvalidAnnotation("wirespan.io/capture", value, "x"))
    # b was forgotten for c, a was not, having been met again
    assert len(caplog.messages) == 4
    assert api.journal.counters()["forgotten_reports"] == 2
