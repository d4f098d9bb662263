"""List, watch, resume, expire, back off: against a server that behaves as badly as the test wants."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from agent.workloads.kubernetes.api import NAMESPACES, PODS
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.collection_watch import (
    MAX_REFUSALS,
    PAGE_OBJECTS,
    ROUTINE_BREAKS,
    CollectionConsumer,
    CollectionWatch,
    RetryPace,
)
from tests.unit.agent.workloads.kubernetes.conftest import PACE, ScriptedApi


def listed(version: str, *names: str, more: str | None = None) -> dict[str, Any]:
    metadata = {"resourceVersion": version, **({"continue": more} if more else {})}
    return {"metadata": metadata, "items": [{"metadata": {"name": name}} for name in names]}


def event(kind: str, version: str, name: str = "x") -> dict[str, Any]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}}


GONE = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}


class Told:
    """What a consumer was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.changed = threading.Condition()
        self.breaks_at: str | None = None
        self.consumer: CollectionConsumer[str] = CollectionConsumer(
            parse=self._parse,
            replace=lambda names: self._tell("replace", names),
            put=lambda name: self._tell("put", name),
            remove=lambda name: self._tell("remove", name),
            deny=lambda: self._tell("deny", None),
        )

    def until(self, *expected: tuple[str, Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.told) >= len(expected), 10), self.told
            assert self.told == list(expected)

    def _parse(self, document: Mapping[str, Any]) -> str | None:
        name: str = document["metadata"]["name"]
        if name == self.breaks_at:
            raise ZeroDivisionError("a bug of the test")
        return None if name == "of no interest" else name

    def _tell(self, what: str, value: Any) -> None:
        with self.changed:
            self.told.append((what, value))
            self.changed.notify_all()


@pytest.fixture
def watch(api: KubernetesApi) -> Iterator[Callable[..., Told]]:
    """Start to follow the pods of a node, or a whole collection."""
    with contextlib.ExitStack() as closing:

        def start(*, of_node: bool = True, pace: RetryPace = PACE, told: Told | None = None) -> Told:
            told = told or Told()
            resource, selector = (PODS, "spec.nodeName=n") if of_node else (NAMESPACES, None)
            started = CollectionWatch(api, resource, told.consumer, field_selector=selector, pace=pace)
            closing.callback(lambda: started.close(time.monotonic() + 10))
            started.start()
            return told

        yield start


def test_it_lists_then_watches_from_there(watch: Callable[..., Told], scripted: ScriptedApi) -> None:
    scripted.say(listed("7", "a", "of no interest", "b"))
    scripted.say(
        event("ADDED", "8", "c"),
        event("MODIFIED", "9", "a"),
        event("ADDED", "10", "of no interest"),
        event("DELETED", "11", "b"),
        stays_open=True,
    )
    watch().until(("replace", ["a", "b"]), ("put", "c"), ("put", "a"), ("remove", "b"))
    first, second = scripted.requests
    # from the server's cache, which no other request has to wait for
    assert first.query == {"fieldSelector": "spec.nodeName=n", "resourceVersion": "0"}
    assert second.query["resourceVersion"] == "7"
    assert second.query["allowWatchBookmarks"] == "true"
    assert 240 <= int(second.query["timeoutSeconds"]) <= 480


def test_a_whole_collection_comes_in_pages(watch: Callable[..., Told], scripted: ScriptedApi) -> None:
    scripted.say(listed("7", "a", more="token"))
    scripted.say(listed("7", "b"))
    scripted.say(stays_open=True)
    watch(of_node=False).until(("replace", ["a", "b"]))
    scripted.until_requests(3)
    first, second, third = scripted.requests
    assert first.query == {"limit": str(PAGE_OBJECTS)}
    assert second.query == {"limit": str(PAGE_OBJECTS), "continue": "token"}
    assert third.query["resourceVersion"] == "7"


def test_a_watch_that_ends_is_resumed_from_the_last_event_or_bookmark(
    watch: Callable[..., Told], scripted: ScriptedApi, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.say(listed("7"))
    scripted.say(event("ADDED", "8", "a"))
    scripted.say(event("BOOKMARK", "20"))
    scripted.say(event("ADDED", "21", "b"), breaks_off=True)
    scripted.say(stays_open=True)
    watch().until(("replace", []), ("put", "a"), ("put", "b"))
    scripted.until_requests(5)
    versions = [request.query["resourceVersion"] for request in scripted.requests]
    assert versions == ["0", "7", "8", "20", "21"]
    assert caplog.messages == []


def test_connections_that_are_cut_in_a_row_are_trouble_which_is_said_once(
    watch: Callable[..., Told],
    scripted: ScriptedApi,
    api: KubernetesApi,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "agent.workloads.kubernetes.journal")
    scripted.say(listed("7"))
    for _ in range(ROUTINE_BREAKS + 3):
        scripted.say(breaks_off=True)
    scripted.say(event("ADDED", "8", "a"), stays_open=True)
    watch().until(("replace", []), ("put", "a"))
    assert api.journal.counters()["cut_connections"] == ROUTINE_BREAKS
    assert api.journal.counters()["unreachable"] == 3
    (trouble, end) = caplog.messages
    assert "broke off" in trouble
    assert "reachable again" in end


@pytest.mark.parametrize("in_the_stream", [True, False])
def test_an_expired_version_is_listed_anew(
    watch: Callable[..., Told],
    scripted: ScriptedApi,
    api: KubernetesApi,
    in_the_stream: bool,  # noqa: FBT001
) -> None:
    scripted.say(listed("7", "a"))
    if in_the_stream:
        scripted.say(GONE)
    else:
        scripted.say({"message": "too old"}, status=410)
    scripted.say(listed("90", "b"))
    scripted.say(stays_open=True)
    watch().until(("replace", ["a"]), ("replace", ["b"]))
    scripted.until_requests(4)
    # the newest there is: the cache may be as old as what has expired
    assert scripted.requests[2].query == {"fieldSelector": "spec.nodeName=n"}
    assert scripted.requests[3].query["resourceVersion"] == "90"
    assert api.journal.counters()["expired_pods"] == 1


def test_a_page_that_expired_starts_the_list_over(watch: Callable[..., Told], scripted: ScriptedApi) -> None:
    scripted.say(listed("7", "a", more="token"))
    scripted.say({"message": "the token is too old"}, status=410)
    scripted.say(listed("8", "a", "b"))
    scripted.say(stays_open=True)
    watch(of_node=False).until(("replace", ["a", "b"]))


def test_a_server_that_can_not_is_asked_again_and_the_state_is_left_alone(
    watch: Callable[..., Told], scripted: ScriptedApi, api: KubernetesApi
) -> None:
    scripted.say({}, status=500)
    scripted.say(b"{")
    scripted.say(listed("7", "a"))
    scripted.say({}, status=503)
    scripted.say(event("ADDED", "8", "b"), stays_open=True)
    watch().until(("replace", ["a"]), ("put", "b"))
    assert api.journal.counters()["unreachable"] == 3


def test_a_version_that_the_server_never_reaches_is_given_up(
    watch: Callable[..., Told], scripted: ScriptedApi
) -> None:
    scripted.say(listed("900", "a"))
    for _ in range(MAX_REFUSALS):
        scripted.say({"message": "Too large resource version"}, status=504)
    scripted.say(listed("5", "b"))
    scripted.say(stays_open=True)
    watch().until(("replace", ["a"]), ("replace", ["b"]))
    scripted.until_requests(MAX_REFUSALS + 3)
    assert scripted.requests[-2].query["resourceVersion"] == "0"
    assert scripted.requests[-1].query["resourceVersion"] == "5"


def test_what_is_denied_is_gone_without_until_it_is_allowed(
    watch: Callable[..., Told], scripted: ScriptedApi
) -> None:
    scripted.say({}, status=403)
    scripted.say(listed("7", "a"))
    scripted.say({}, status=403)
    scripted.say(listed("8", "a"))
    scripted.say(stays_open=True)
    watch().until(("deny", None), ("replace", ["a"]), ("deny", None), ("replace", ["a"]))


def test_a_bug_is_said_and_does_not_end_it(
    watch: Callable[..., Told], scripted: ScriptedApi, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    told.breaks_at = "odd"
    scripted.say(listed("7", "a"))
    scripted.say(event("ADDED", "8", "odd"))
    scripted.say(listed("9", "b"))
    scripted.say(stays_open=True)
    watch(told=told).until(("replace", ["a"]), ("replace", ["b"]))
    assert "a bug while watching pods: ZeroDivisionError: a bug of the test" in caplog.text


def test_closing_does_not_wait_out_a_pause(api: KubernetesApi, scripted: ScriptedApi) -> None:
    told = Told()
    scripted.say({}, status=403)
    endless = RetryPace(first=3600, most=3600, denied=3600)
    started = CollectionWatch(api, PODS, told.consumer, field_selector="x", pace=endless)
    started.start()
    told.until(("deny", None))
    started.close(time.monotonic() + 10)
    assert "watch-pods" not in [thread.name for thread in threading.enumerate()]
    started.close(time.monotonic())


def test_waits_double_up_to_a_bound_with_jitter(api: KubernetesApi) -> None:
    pace = RetryPace(first=1, most=8, denied=60)
    paused = CollectionWatch(api, PODS, Told().consumer, field_selector="x", pace=pace)
    for whole in (1, 2, 4, 8, 8, 8):
        assert whole / 2 <= paused._back_off() <= whole
