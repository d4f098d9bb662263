"""The health server, asked over HTTP."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from agent import health
from agent.health import LIVE_SECONDS, HealthServer, HealthUnavailableError


@pytest.fixture(autouse=True)
def quick_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STOP_SECONDS", 0.001)


@contextmanager
def serving(host: str = "127.0.0.1", *, age_seconds: float = 0, ready: bool = True) -> Iterator[HealthServer]:
    server = HealthServer(
        host,
        0,
        CollectorRegistry(),
        ticked_at=lambda: time.monotonic() - age_seconds,
        is_ready=lambda: ready,
    )
    try:
        yield server
    finally:
        server.close()


def ask(
    server: HealthServer, path: str, method: str = "GET", host: str = "127.0.0.1"
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, server.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()
    finally:
        connection.close()


def test_a_loop_that_comes_round_is_alive() -> None:
    with serving() as server:
        assert ask(server, "/healthz")[0] == 200


def test_a_loop_that_does_not_come_round_is_not() -> None:
    with serving(age_seconds=LIVE_SECONDS + 1) as server:
        status, _, body = ask(server, "/healthz")
        assert status == 503
        assert b"stuck" in body


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_ready_is_attached(ready: bool, status: int) -> None:  # noqa: FBT001
    with serving(ready=ready) as server:
        assert ask(server, "/readyz")[0] == status


def test_metrics_are_in_prometheus_form() -> None:
    with serving() as server:
        status, content_type, _ = ask(server, "/metrics?name=x")
        assert status == 200
        assert content_type.startswith("text/plain; version=")


def test_head_answers_without_a_body() -> None:
    with serving() as server:
        assert ask(server, "/healthz", "HEAD") == (200, "text/plain; charset=utf-8", b"")


def test_other_paths_say_which_there_are() -> None:
    with serving() as server:
        status, _, body = ask(server, "/")
        assert status == 404
        assert b"/metrics" in body


def test_other_methods_are_refused() -> None:
    with serving() as server:
        assert ask(server, "/healthz", "POST")[0] == 501


def test_it_listens_on_ipv6_and_on_every_interface() -> None:
    with serving("::1") as server:
        assert ask(server, "/healthz", host="::1")[0] == 200
    with serving("") as server:
        assert ask(server, "/healthz")[0] == 200


def test_an_address_in_use_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HealthUnavailableError, match=f"127.0.0.1 port {port}: Address already in use"):
            HealthServer(
                "127.0.0.1", port, CollectorRegistry(), ticked_at=time.monotonic, is_ready=lambda: True
            )


def test_a_host_that_is_not_this_one_says_so() -> None:
    with pytest.raises(HealthUnavailableError, match=r"can't listen on 192\.0\.2\.1"):
        HealthServer("192.0.2.1", 0, CollectorRegistry(), ticked_at=time.monotonic, is_ready=lambda: True)
