"""The sample API and its traffic, without a capture."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from demo.command.services import DemoUnavailableError, Services
from demo.command.traffic import SCENARIO, route_of


def test_the_traffic_meets_with_every_kind_of_answer() -> None:
    with Services(len(SCENARIO), 0.1) as services:
        services.begin()
        tally = services.tally()
    assert tally == Counter(
        {
            ("POST", "/login", 200): 1,
            ("GET", "/products", 200): 1,
            ("GET", "/products/{id}", 200): 2,
            ("GET", "/products/{id}", 404): 1,
            ("POST", "/orders", 201): 1,
            ("GET", "/catalogue", 200): 1,
            ("GET", "/events", 200): 1,
            ("PUT", "/products/{id}/description", 200): 1,
            ("GET", "/stock", 500): 1,
            ("GET", "/reports/{id}", 200): 1,
            ("GET", "/nowhere", 404): 1,
        }
    )


def test_the_services_end_with_their_context() -> None:
    with Services(1, 0.1) as services:
        children = list(services.names)
        assert sorted(services.names.values()) in (["api", "client"], ["api", "client", "nginx"])
        assert services.vantages == 2 * (len(children) - 1)
    for child in children:
        assert subprocess.run(["kill", "-0", str(child)], check=False, stderr=subprocess.DEVNULL).returncode


def test_traffic_that_fails_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with Services(1, 0.1) as services:
        services.end("api")
        services.end("nginx")
        services.begin()
        with pytest.raises(DemoUnavailableError, match="traffic failed"):
            services.tally()
    assert "Connection" in capfd.readouterr().err


def test_the_traffic_sends_nothing_before_it_is_told_to() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "demo.command.traffic", "1", "0", "0"],
        input=b"\n",
        stdout=subprocess.PIPE,
        check=True,
    )
    assert json.loads(ended.stdout) == []


@pytest.mark.parametrize(
    ("path", "route"),
    [("/products/7?x=1", "/products/{id}"), ("/products", "/products"), ("/a/1/b/22", "/a/{id}/b/{id}")],
)
def test_numbers_in_paths_become_placeholders(path: str, route: str) -> None:
    assert route_of(path) == route
