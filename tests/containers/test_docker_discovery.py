"""Discovery at work on a real Docker Engine."""

from __future__ import annotations

import urllib.request

import pytest

from agent.workloads.docker.engine import DockerDiscovery
from agent.workloads.workload import Absence, ContainerReference, Workload
from tests.containers.conftest import RunServer
from tests.containers.engine import IMAGE, NETWORK, PORT, Container, Engine, until

pytestmark = pytest.mark.containers

PEER = "wirespan.peer.container.name"


def find(discovery: DockerDiscovery, container: Container) -> Workload:
    """Return what discovery knows of a container, once it does."""
    reference = ContainerReference(container.container_id)
    until(lambda: discovery.find(reference) is not Absence.PENDING, "discovery does not know the container")
    found = discovery.find(reference)
    assert isinstance(found, Workload)
    return found


def wait_until_followed(discovery: DockerDiscovery) -> None:
    until(lambda: discovery.counters()["followed"] == 1, "discovery does not follow the events")


def wait_for_peer(discovery: DockerDiscovery, address: str, name: str | None) -> None:
    expected = {} if name is None else {PEER: name}
    until(lambda: discovery.peer(address) == expected, f"{address} is not {name}")


def test_names_image_and_labels_are_those_that_inspect_shows(
    docker_engine: Engine, run_server: RunServer
) -> None:
    labels = {
        "com.docker.compose.service": "web",
        "com.docker.compose.project": "shop",
        "team": "a",
        "t": "x",
    }
    server = run_server("shop-web-1", labels=labels, image=f"{IMAGE}:1.0")
    discovery = DockerDiscovery(docker_engine.socket, labels=["com.docker.*", "team"])
    try:
        found = find(discovery, server)
        wait_for_peer(discovery, server.address, "shop-web-1")
    finally:
        discovery.close()
    shown = server.inspect()
    assert found == Workload(
        container_id=shown["Id"],
        names=(shown["Name"].removeprefix("/"), "web"),
        attributes={
            "container.id": shown["Id"],
            "container.name": shown["Name"].removeprefix("/"),
            "container.image.name": shown["Config"]["Image"].removesuffix(":1.0"),
            "container.runtime.name": "docker",
            "container.label.com.docker.compose.project": "shop",
            "container.label.com.docker.compose.service": "web",
            "container.label.team": shown["Config"]["Labels"]["team"],
        },
    )
    assert found.attributes["container.image.name"] == IMAGE


def test_a_new_container_is_known_by_its_events(discovery: DockerDiscovery, run_server: RunServer) -> None:
    wait_until_followed(discovery)
    version = discovery.version
    server = run_server("new")
    wait_for_peer(discovery, server.address, "new")
    assert discovery.version > version
    found = discovery.find(ContainerReference(server.container_id))
    assert isinstance(found, Workload)
    assert found.names == ("new",)


def test_a_container_that_is_gone_already_is_known_by_its_events(
    docker_engine: Engine, discovery: DockerDiscovery
) -> None:
    wait_until_followed(discovery)
    ended = docker_engine.run_container("python3", "-c", "", name="short", options=("--rm",))
    until(lambda: discovery.counters()["containers_ended"] == 1)
    found = discovery.find(ContainerReference(ended.container_id))
    assert isinstance(found, Workload)
    assert (found.names, found.attributes["container.image.name"]) == (("short",), IMAGE)


def test_a_container_that_no_event_told_of_is_asked_for(
    docker_engine: Engine, discovery: DockerDiscovery, run_server: RunServer
) -> None:
    stopped = run_server("stopped")
    stopped.stop()
    late = DockerDiscovery(docker_engine.socket)
    try:
        wait_until_followed(late)
        assert late.find(ContainerReference(stopped.container_id)) is Absence.PENDING
        assert find(late, stopped).names == ("stopped",)
    finally:
        late.close()
    assert find(discovery, stopped).names == ("stopped",)


def test_a_container_that_the_engine_does_not_have_is_unknown(discovery: DockerDiscovery) -> None:
    reference = ContainerReference("0" * 64)
    assert discovery.find(reference) is Absence.PENDING
    until(lambda: discovery.find(reference) is Absence.UNKNOWN)
    inspections = discovery.counters()["inspections"]
    assert discovery.find(reference) is Absence.UNKNOWN
    assert discovery.counters()["inspections"] == inspections == 1


def test_a_renamed_container_goes_by_its_new_name(discovery: DockerDiscovery, run_server: RunServer) -> None:
    server = run_server("before")
    assert find(discovery, server).names == ("before",)
    wait_for_peer(discovery, server.address, "before")
    server.engine.docker("rename", "before", "after")
    until(lambda: find(discovery, server).names == ("after",))
    assert find(discovery, server).attributes["container.name"] == "after"
    wait_for_peer(discovery, server.address, "after")


def test_a_stopped_container_keeps_its_names_and_gives_up_its_address(
    discovery: DockerDiscovery, run_server: RunServer
) -> None:
    server = run_server("ending")
    address = server.address
    wait_for_peer(discovery, address, "ending")
    known = find(discovery, server)
    server.stop()
    wait_for_peer(discovery, address, None)
    assert find(discovery, server) == known
    server.remove()
    until(lambda: discovery.counters()["containers_running"] == 0)
    assert find(discovery, server) == known

    # The Engine gives the lowest free address.
    successor = run_server("successor")
    assert successor.address == address
    wait_for_peer(discovery, address, "successor")


def test_a_container_that_is_started_again_gets_an_address_again(
    discovery: DockerDiscovery, run_server: RunServer
) -> None:
    server = run_server("again")
    wait_for_peer(discovery, server.address, "again")
    server.stop()
    until(lambda: discovery.counters()["containers_ended"] == 1)
    server.engine.docker("start", server.container_id)
    wait_for_peer(discovery, server.address, "again")
    assert discovery.counters()["containers_ended"] == 0


def test_a_container_has_an_address_in_each_network_that_it_is_connected_to(
    docker_engine: Engine, discovery: DockerDiscovery, run_server: RunServer
) -> None:
    docker_engine.docker("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "second")
    server = run_server("both")
    docker_engine.docker("network", "connect", "second", "both")
    second = server.inspect()["NetworkSettings"]["Networks"]["second"]
    for address in (server.address, second["IPAddress"], second["GlobalIPv6Address"]):
        wait_for_peer(discovery, address, "both")
    docker_engine.docker("network", "disconnect", NETWORK, "both")
    docker_engine.docker("network", "disconnect", "second", "both")
    wait_for_peer(discovery, second["IPAddress"], None)
    wait_for_peer(discovery, second["GlobalIPv6Address"], None)
    docker_engine.docker("network", "rm", "second")


def test_a_container_in_the_network_of_the_host_has_no_address_of_its_own(
    docker_engine: Engine, discovery: DockerDiscovery, run_server: RunServer
) -> None:
    host = run_server("hosted", network="host", port=0)
    assert find(discovery, host).names == ("hosted",)
    until(lambda: discovery.counters()["inspections"] > 0)
    assert discovery.peer("127.0.0.1") == {}
    assert discovery.peer("") == {}


def test_an_engine_that_is_restarted(
    docker_engine: Engine, discovery: DockerDiscovery, run_server: RunServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = run_server("survivor")
    address = server.address
    wait_for_peer(discovery, address, "survivor")
    known = find(discovery, server)

    docker_engine.stop()
    try:
        until(lambda: discovery.counters()["followed"] == 0)
        assert find(discovery, server) == known
        unknown = ContainerReference("1" * 64)
        assert discovery.find(unknown) is Absence.PENDING
        until(lambda: "is not available, will try again" in caplog.text)
        assert discovery.find(unknown) is Absence.PENDING
    finally:
        docker_engine.start()

    wait_until_followed(discovery)
    until(lambda: discovery.find(unknown) is Absence.UNKNOWN)
    wait_for_peer(discovery, address, None)
    assert find(discovery, server) == known
    docker_engine.docker("start", "survivor")
    wait_for_peer(discovery, server.address, "survivor")
    assert find(discovery, run_server("later")).names == ("later",)


def test_a_container_that_lives_for_one_request_that_it_makes(
    docker_engine: Engine, discovery: DockerDiscovery, run_server: RunServer
) -> None:
    """The names of both ends are known, although one of them is gone as soon as it was there."""
    server = run_server("server")
    wait_for_peer(discovery, server.address, "server")
    client = docker_engine.run_container(
        "python3", "/srv/client.py", server.address, str(PORT), "/hello", name="client"
    )
    try:
        assert client.wait() == 0
        assert docker_engine.docker("logs", client.container_id) == "server has /hello"
        found = discovery.find(ContainerReference(client.container_id))
        assert isinstance(found, Workload)
        assert found.names == ("client",)
    finally:
        client.remove()


def test_a_container_that_lives_for_one_request_that_it_serves(
    docker_engine: Engine, discovery: DockerDiscovery
) -> None:
    wait_until_followed(discovery)
    server = docker_engine.run_container("python3", "/srv/server.py", str(PORT), "1", name="once")
    try:
        server.wait_for_output("listening")
        with urllib.request.urlopen(f"http://{server.address}:{PORT}/hello", timeout=10) as response:
            assert response.read() == b"server has /hello\n"
        assert server.wait() == 0
        assert find(discovery, server).names == ("once",)
    finally:
        server.remove()
