"""Containers of a real Docker Engine, captured by the installed command."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebpf.events import Policy
from tests.containers.engine import IMAGE, PORT, Container, Engine
from tests.e2e.conftest import CLIENT, SERVER, curl, read_spans
from tests.policy_map import KernelPolicy, policies_of, wait_for_policies
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
BOTH = KernelPolicy(Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS, Policy.IGNORE, has_ports=False)
BRIEF_CONTAINERS = 7
SHORT_PROCESSES = 10_000
FORKING_SECONDS = 150.0


@pytest.fixture
def containers(docker_engine: Engine) -> Iterator[Callable[..., Container]]:
    """Start containers that are removed after the test."""
    started: list[Container] = []

    def start(*command: str, name: str, **options: object) -> Container:
        container = docker_engine.run_container(*command, name=name, **options)  # type: ignore[arg-type]
        started.append(container)
        return container

    yield start
    for container in started:
        container.remove()


def serve(containers: Callable[..., Container], name: str, **options: object) -> Container:
    server = containers("python3", "/srv/server.py", str(PORT), name=name, **options)
    server.wait_for_output("listening")
    return server


def environment(engine: Engine) -> dict[str, str]:
    return {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"}


def test_only_the_selected_container_is_captured_and_from_its_first_request_on(
    agent: StartAgent, docker_engine: Engine, containers: Callable[..., Container], tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    earlier = serve(containers, "shop-1", labels={"com.docker.compose.service": "shop"})
    running = agent(
        "run",
        "--container",
        "shop-*",
        "--spans-file",
        str(spans_file),
        env=environment(docker_engine),
    )
    later, other = serve(containers, "shop-2"), serve(containers, "till")
    for number in range(3):
        for server in (earlier, later, other):
            curl(f"http://{server.address}:{PORT}/{number}")
    wait_for_policies(running.process.pid, lambda found: found == {earlier.pid: BOTH, later.pid: BOTH})
    running.stop()
    spans = read_spans(spans_file)
    assert {span.kind for span in spans} == {SERVER}
    assert Counter(
        (span.resource["container.name"], span.attributes["url.path"]) for span in spans
    ) == Counter((name, f"/{number}") for name in ("shop-1", "shop-2") for number in range(3))
    for span in spans:
        shown = (earlier if span.resource["container.name"] == "shop-1" else later).inspect()
        assert span.resource["container.id"] == shown["Id"]
        assert span.resource["container.name"] == shown["Name"].removeprefix("/")
        assert span.resource["container.image.name"] == shown["Config"]["Image"].rpartition(":")[0] or IMAGE
        assert span.resource["process.pid"] == shown["State"]["Pid"]
        service = shown["Config"]["Labels"].get("com.docker.compose.service")
        assert span.resource["service.name"] == (service or span.resource["container.name"])
        assert "wirespan.incomplete" not in span.attributes
    labelled = {span.resource["container.name"]: span.resource for span in spans}
    assert labelled["shop-1"]["container.label.com.docker.compose.service"] == "shop"


def test_a_container_that_lives_for_one_request_is_captured(
    agent: StartAgent, docker_engine: Engine, containers: Callable[..., Container], tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    server = serve(containers, "catalogue")
    running = agent(
        "run", "--container", "brief-?", "--spans-file", str(spans_file), env=environment(docker_engine)
    )
    address = server.address
    ids = {}
    for number in range(BRIEF_CONTAINERS):
        for name in (f"brief-{number}", f"other-{number}"):
            brief = containers("python3", "/srv/client.py", address, str(PORT), f"/{name}", name=name)
            assert brief.wait() == 0
            ids[name] = brief.container_id
    running.stop()
    spans = read_spans(spans_file)
    assert {span.kind for span in spans} == {CLIENT}
    assert sorted(
        (span.resource["container.name"], span.resource["container.id"], span.attributes["url.full"])
        for span in spans
    ) == [
        (name, ids[name], f"http://{address}:{PORT}/{name}")
        for name in (f"brief-{number}" for number in range(BRIEF_CONTAINERS))
    ]
    for span in spans:
        assert span.attributes["http.response.status_code"] == 200
        assert "wirespan.incomplete" not in span.attributes
        assert span.attributes["wirespan.peer.container.name"] == "catalogue"


@pytest.mark.parametrize("selection", [("--container", "shop"), ()], ids=["selected", "everything"])
def test_a_server_that_forks_for_each_connection_is_captured(
    agent: StartAgent,
    docker_engine: Engine,
    containers: Callable[..., Container],
    tmp_path: Path,
    selection: tuple[str, ...],
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    shop, till = (serve(containers, name, options=("--env", "FORKS=1")) for name in ("shop", "till"))
    running = agent(
        *("run", *selection, "--port", str(PORT), "--direction", "ingress", "--spans-file", str(spans_file)),
        env=environment(docker_engine),
    )
    for number in range(BRIEF_CONTAINERS):
        for server in (shop, till):
            curl(f"http://{server.address}:{PORT}/{number}")
    running.stop()
    spans = read_spans(spans_file)
    assert Counter(
        (span.resource["service.name"], span.resource["container.name"], span.attributes["url.path"])
        for span in spans
    ) == Counter(
        (name, name, f"/{number}")
        for name in (("shop",) if selection else ("shop", "till"))
        for number in range(BRIEF_CONTAINERS)
    )
    assert not {span.resource["process.pid"] for span in spans} & {shop.pid, till.pid}
    assert len({span.resource["process.pid"] for span in spans}) == len(spans)


def test_without_a_selection_containers_are_named(
    agent: StartAgent, docker_engine: Engine, containers: Callable[..., Container], tmp_path: Path
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    running = agent(
        "run", "--port", str(PORT), "--spans-file", str(spans_file), env=environment(docker_engine)
    )
    server = serve(containers, "shop")
    address = server.address
    curl(f"http://{address}:{PORT}/x")
    running.stop()
    client, served = read_spans(spans_file)
    assert served.resource["container.name"] == served.resource["service.name"] == "shop"
    assert "container.id" not in client.resource
    assert client.attributes["wirespan.peer.container.name"] == "shop"


def test_nothing_remains_in_the_policy_map_of_short_lived_processes(
    agent: StartAgent, docker_engine: Engine, containers: Callable[..., Container]
) -> None:
    running = agent("run", "--container", "shop", "--spans-file", "/dev/null", env=environment(docker_engine))
    selected, other = serve(containers, "shop"), serve(containers, "till")
    selected.execute("python3", "/srv/forker.py", str(SHORT_PROCESSES), seconds=FORKING_SECONDS)
    other.execute("python3", "/srv/forker.py", str(SHORT_PROCESSES // 10))
    wait_for_policies(running.process.pid, lambda found: found == {selected.pid: BOTH})
    assert other.pid not in policies_of(running.process.pid)
    running.stop()
