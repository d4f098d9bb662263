"""Requests in the background: their order, their retries, their end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.workloads.kubernetes.api import ApiDeniedError, ApiError, ApiUnreachableError
from agent.workloads.kubernetes.collection_watch import RetryPace
from agent.workloads.kubernetes.journal import ApiJournal
from agent.workloads.kubernetes.request_queue import ATTEMPTS, MAX_REQUESTS, RequestQueue, SideRequest
from tests.unit.agent.workloads.kubernetes.conftest import PACE


@pytest.fixture
def journal() -> ApiJournal:
    return ApiJournal()


@pytest.fixture
def queue(journal: ApiJournal) -> Iterator[RequestQueue]:
    opened = RequestQueue(journal, PACE)
    with contextlib.ExitStack() as closing:
        closing.callback(lambda: opened.close(time.monotonic() + 10))
        opened.start()
        yield opened


class Asked:
    """A request that fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.sent = 0
        self.given_up: ApiError | None = None
        self.ended = threading.Event()

    def request(self) -> SideRequest:
        def send() -> None:
            self.sent += 1
            if self.failures:
                raise self.failures.pop(0)
            self.ended.set()

        def give_up(error: ApiError) -> None:
            self.given_up = error
            self.ended.set()

        return SideRequest(send, give_up)


def test_a_request_is_made(queue: RequestQueue) -> None:
    asked = Asked()
    assert queue.put(asked.request())
    assert asked.ended.wait(10)
    assert (asked.sent, asked.given_up) == (1, None)


def test_an_unreachable_server_is_asked_again_up_to_a_bound(queue: RequestQueue, journal: ApiJournal) -> None:
    patient = Asked(*[ApiUnreachableError("away")] * (ATTEMPTS - 1))
    queue.put(patient.request())
    assert patient.ended.wait(10)
    assert patient.given_up is None
    lost = Asked(*[ApiUnreachableError("away")] * ATTEMPTS)
    queue.put(lost.request())
    assert lost.ended.wait(10)
    assert lost.sent == ATTEMPTS
    assert str(lost.given_up) == "away"
    assert journal.counters() == {"abandoned_requests": 1}


@pytest.mark.parametrize("failure", [ApiDeniedError("no"), ZeroDivisionError("a bug")])
def test_any_other_failure_is_final(queue: RequestQueue, failure: Exception) -> None:
    asked = Asked(failure)
    queue.put(asked.request())
    assert asked.ended.wait(10)
    assert asked.sent == 1
    assert asked.given_up is not None
    after = Asked()
    queue.put(after.request())
    assert after.ended.wait(10)


def test_beyond_the_bound_requests_are_refused_and_counted(journal: ApiJournal) -> None:
    full = RequestQueue(journal, PACE)
    assert all(full.put(Asked().request()) for _ in range(MAX_REQUESTS))
    assert not full.put(Asked().request())
    assert journal.counters() == {"refused_requests": 1}


def test_closing_does_not_wait_out_a_pause(
    journal: ApiJournal, until: Callable[[Callable[[], object]], None]
) -> None:
    endless = RequestQueue(journal, RetryPace(first=3600, most=3600))
    endless.start()
    asked = Asked(ApiUnreachableError("away"))
    endless.put(asked.request())
    until(lambda: asked.sent == 1)
    endless.close(time.monotonic() + 10)
    assert "kubernetes-requests" not in [thread.name for thread in threading.enumerate()]
    assert asked.given_up is None
    endless.close(time.monotonic())
