"""The OpenTelemetry resource of a server that is known by its endpoint alone.

Owns the endpoints that were met. A packet capture says nothing of processes, so a service goes by the address
and port that it is reached at. It must not know what a resource says.

Contract: one `Resource` object per endpoint, as long as no `MAX_ENDPOINTS` others have come since.
"""

from __future__ import annotations

from collections.abc import Callable

from ebpf.events import SocketInfo
from otel_bridge.span import Resource

MAX_ENDPOINTS = 4_096
"""Resources kept for sharing, about 1 KiB each; the oldest goes, and an equal one is built if it returns."""


class EndpointTable:
    """All servers of a capture, by address and port."""

    def __init__(self, build_resource: Callable[[str, int], Resource]) -> None:
        self._build_resource = build_resource
        self._resources: dict[tuple[str, int], Resource] = {}

    def resource(self, socket: SocketInfo) -> Resource:
        """Return the resource of the server whose socket this is."""
        address, port = socket.local_address, socket.local_port
        assert address is not None, "a connection of a packet capture has addresses"
        assert port is not None, "and ports"
        resource = self._resources.get((address, port))
        if resource is None:
            if len(self._resources) >= MAX_ENDPOINTS:
                del self._resources[next(iter(self._resources))]
            resource = self._resources[address, port] = self._build_resource(address, port)
        return resource
