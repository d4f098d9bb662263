"""Requests, what answers mean, credentials, and watches that end in every way."""

import contextlib
import threading

import pytest

from agent.workloads.kubernetes import client as client_module
from agent.workloads.kubernetes.api import (
    EVENTS,
    PODS,
    REPLICA_SETS,
    ApiDeniedError,
    ApiError,
    ApiFailedError,
    ApiUnreachableError,
    ConflictError,
    NoSuchObjectError,
    ResourceExpiredError,
)
from agent.workloads.kubernetes.client import KubernetesApi
from tests.unit.agent.workloads.kubernetes.conftest import ScriptedApi

STATUS = {"kind": "Status", "message": "said by\n the server"}


def test_a_list_is_asked_for_with_credentials_and_counted(api: KubernetesApi, scripted: ScriptedApi) -> None:
    scripted.say({"items": []})
    assert api.list(PODS, {"fieldSelector": "spec.nodeName=a b"}) == {"items": []}
    (request,) = scripted.requests
    assert request.path == "/api/v1/pods"
    assert request.query == {"fieldSelector": "spec.nodeName=a b"}
    assert request.token == "Bearer first"
    counters = api.journal.counters()
    assert counters["requests_pods"] == 1
    assert counters["received_bytes_pods"] == len('{"items": []}\n')


def test_objects_have_their_paths_and_bodies(api: KubernetesApi, scripted: ScriptedApi) -> None:
    scripted.say({"metadata": {"name": "x"}})
    scripted.say({}, status=201)
    api.owner_metadata(REPLICA_SETS, "shop", "web-5d4")
    api.create(EVENTS, "shop", {"reason": "x"})
    got, created = scripted.requests
    assert got.path == "/apis/apps/v1/namespaces/shop/replicasets/web-5d4"
    assert (created.method, created.path) == ("POST", "/api/v1/namespaces/shop/events")
    assert created.body == {"reason": "x"}


@pytest.mark.parametrize(
    ("status", "meaning", "part"),
    [
        (403, ApiDeniedError, 'grant its user the verb "list" on pods in a ClusterRole'),
        (404, NoSuchObjectError, "said by the server"),
        (409, ConflictError, "said by the server"),
        (410, ResourceExpiredError, "said by the server"),
        (429, ApiFailedError, "list pods failed (429: said by the server)"),
        (500, ApiFailedError, "500"),
        (504, ApiUnreachableError, "504"),
    ],
)
def test_a_refusal_has_its_meaning(
    api: KubernetesApi, scripted: ScriptedApi, status: int, meaning: type[ApiError], part: str
) -> None:
    scripted.say(STATUS, status=status)
    with pytest.raises(meaning) as raised:
        api.list(PODS, {})
    assert part in str(raised.value)


def test_a_refusal_without_a_status_shows_its_beginning(api: KubernetesApi, scripted: ScriptedApi) -> None:
    scripted.say(b"<html>bad gateway" + b"x" * 1000, status=502)
    with pytest.raises(ApiFailedError) as raised:
        api.list(PODS, {})
    assert "<html>bad gateway" in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_namespace_that_is_being_deleted_is_no_matter_of_rights(
    api: KubernetesApi, scripted: ScriptedApi
) -> None:
    causes = {"causes": [{"reason": "NamespaceTerminating"}]}
    scripted.say({**STATUS, "details": causes}, status=403)
    with pytest.raises(ConflictError):
        api.create(EVENTS, "shop", {})
    assert "denied" not in api.journal.counters()


def test_refused_credentials_are_read_again_once(api: KubernetesApi, scripted: ScriptedApi) -> None:
    (scripted.folder / "token").write_text("second")
    scripted.say(STATUS, status=401)
    scripted.say({"items": []})
    api.list(PODS, {})
    assert [request.token for request in scripted.requests] == ["Bearer first", "Bearer second"]
    assert api.journal.counters()["credentials_renewed"] == 1
    scripted.say(STATUS, status=401)
    scripted.say(STATUS, status=401)
    with pytest.raises(ApiDeniedError, match="the token or certificate is not accepted"):
        api.list(PODS, {})
    assert len(scripted.requests) == 4


def test_credentials_that_are_gone_are_waited_for(api: KubernetesApi, scripted: ScriptedApi) -> None:
    (scripted.folder / "kubeconfig").unlink()
    scripted.say(STATUS, status=401)
    with pytest.raises(ApiUnreachableError, match="credentials can't be read"):
        api.list(PODS, {})


@pytest.mark.parametrize("content", [b"{", b"[]", b""])
def test_an_answer_that_is_no_object_is_as_good_as_none(
    api: KubernetesApi, scripted: ScriptedApi, content: bytes
) -> None:
    scripted.say(content or b" ")
    with pytest.raises(ApiUnreachableError):
        api.list(PODS, {})


def test_an_answer_beyond_the_bound_is_refused_and_counted(
    api: KubernetesApi, scripted: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    scripted.say({"items": "x" * 2000})
    with pytest.raises(ApiUnreachableError, match="longer than 1000 bytes"):
        api.list(PODS, {})
    assert api.journal.counters()["oversized_answers"] == 1


def test_a_watch_yields_events_however_they_are_cut(api: KubernetesApi, scripted: ScriptedApi) -> None:
    first = b'{"type":"ADDED","object":{"a":1}}\n{"type":"MODI'
    scripted.say(first, b'FIED","object":{"a":2}}\n', b"\n")
    stream = api.watch(PODS, {"resourceVersion": "5"}, 300)
    with contextlib.closing(stream):
        assert list(stream.events()) == [("ADDED", {"a": 1}), ("MODIFIED", {"a": 2})]
    assert scripted.requests[0].query == {"resourceVersion": "5", "watch": "true", "timeoutSeconds": "300"}


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ({"type": "ERROR", "object": {"code": 410, "message": "too old"}}, ResourceExpiredError),
        ({"type": "ERROR", "object": {"code": 500, "message": "oh"}}, ApiFailedError),
        ({"type": "ADDED"}, ApiUnreachableError),
        ({"object": {}}, ApiUnreachableError),
        (b"<html>\n", ApiUnreachableError),
    ],
)
def test_a_watch_that_goes_wrong_says_how(
    api: KubernetesApi, scripted: ScriptedApi, line: object, meaning: type[ApiError]
) -> None:
    scripted.say(line)
    with pytest.raises(meaning):
        list(api.watch(PODS, {}, 300).events())


def test_a_watch_that_breaks_off_is_trouble(api: KubernetesApi, scripted: ScriptedApi) -> None:
    scripted.say({"type": "ADDED", "object": {}}, breaks_off=True)
    events = api.watch(PODS, {}, 300).events()
    assert next(events) == ("ADDED", {})
    with pytest.raises(ApiUnreachableError, match="broke off"):
        next(events)


def test_an_event_beyond_the_bound_is_refused_and_counted(
    api: KubernetesApi, scripted: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_EVENT_BYTES", 1000)
    scripted.say(b"x" * 2000)
    with pytest.raises(ApiUnreachableError, match="longer than 1000 bytes"):
        list(api.watch(PODS, {}, 300).events())
    assert api.journal.counters()["oversized_answers"] == 1


def test_another_thread_can_abort_a_watch(api: KubernetesApi, scripted: ScriptedApi) -> None:
    scripted.say({"type": "ADDED", "object": {}}, stays_open=True)
    stream = api.watch(PODS, {}, 300)
    read = threading.Event()
    ended = threading.Event()

    def follow() -> None:
        with contextlib.suppress(ApiUnreachableError):
            for _ in stream.events():
                read.set()
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    assert read.wait(10)
    stream.abort()
    assert ended.wait(10)
    stream.close()
    stream.abort()


def test_the_bulk_of_an_object_is_dropped_but_never_a_label(
    api: KubernetesApi, scripted: ScriptedApi
) -> None:
    scripted.say(
        {
            "metadata": {"labels": {"env": "test", "args": "none"}, "managedFields": [{"manager": "x"}]},
            "spec": {"containers": [{"name": "app", "env": [{"name": "A"}], "resources": {"limits": {}}}]},
        }
    )
    assert api.list(PODS, {}) == {
        "metadata": {"labels": {"env": "test", "args": "none"}},
        "spec": {"containers": [{"name": "app"}]},
    }
