from __future__ import annotations

from agent.endpoints import MAX_ENDPOINTS, EndpointTable
from ebpf.events import SocketInfo
from otel_bridge.resources import ResourceBuilder


def server(address: str, port: int) -> SocketInfo:
    return SocketInfo("ipv4", address, port, "192.0.2.7", 40_000, 0, 0, 1)


def test_a_service_goes_by_its_endpoint_and_nothing_of_this_host() -> None:
    table = EndpointTable(ResourceBuilder({"host.id": "1"}).build_endpoint)
    resource = table.resource(server("192.0.2.1", 80))
    assert resource.service_name == "192.0.2.1:80"
    assert sorted(resource.attributes) == [
        "service.name",
        "telemetry.distro.name",
        "telemetry.distro.version",
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "telemetry.sdk.version",
    ]
    assert table.resource(server("192.0.2.1", 80)) is resource
    assert table.resource(server("2001:db8::1", 80)).service_name == "[2001:db8::1]:80"


def test_endpoints_are_bound_in_number() -> None:
    table = EndpointTable(ResourceBuilder({}).build_endpoint)
    first = table.resource(server("192.0.2.1", 1))
    for port in range(2, MAX_ENDPOINTS + 1):
        table.resource(server("192.0.2.1", port))
    assert table.resource(server("192.0.2.1", 1)) is first
    table.resource(server("192.0.2.1", MAX_ENDPOINTS + 1))
    again = table.resource(server("192.0.2.1", 1))
    assert again is not first
    assert again.attributes == first.attributes
