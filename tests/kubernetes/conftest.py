"""One API server for all tests here; each test has a node and a namespace of its own, and its pods."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.workloads.kubernetes.collection_watch import RetryPace
from agent.workloads.kubernetes.discovery import KubernetesDiscovery
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.workload import CaptureDecision, ContainerReference, Workload
from tests.kubernetes.api_server import (
    ApiServer,
    Document,
    pod_document,
    status_document,
    wait_until,
)

PACE = RetryPace(first=0.05, most=0.4, denied=0.4)
"""A test has no minute to wait until rights are looked at again."""
_numbers = itertools.count(1)


@dataclass
class Site:
    """A node and a namespace that no other test has."""

    server: ApiServer
    number: int
    node: str = field(init=False)
    namespace: str = field(init=False)
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.node = f"node-{self.number}"
        self.namespace = f"site-{self.number}"
        self.path = self.server.create_namespace(self.namespace)

    def pod_path(self, name: str) -> str:
        return f"{self.path}/pods/{name}"

    def create_pod(self, name: str, *, node: str | None = None, **properties: Any) -> Document:
        document = pod_document(name, node=node or self.node, **properties)
        return self.server.create(f"{self.path}/pods", document)

    def report_running(self, name: str, *containers: str, ip: str | None = None, **further: Any) -> None:
        """Say of a pod's containers that they run, under the ids that `container_id` gives."""
        ids = {container: self.container_id(name, container) for container in containers or ("app",)}
        status = status_document(ids, ip, **further)
        self.server.request("PATCH", f"{self.pod_path(name)}/status", status)

    def run_pod(self, name: str, *, ip: str | None = None, **properties: Any) -> Document:
        created = self.create_pod(name, **properties)
        self.report_running(name, *properties.get("containers", ("app",)), ip=ip)
        return created

    def container_id(self, pod: str, container: str = "app", generation: int = 0) -> str:
        return f"{self.number:04x}{pod}{container}{generation}".encode().hex().ljust(64, "0")[:64]

    def reference(self, pod: str, container: str = "app") -> ContainerReference:
        return ContainerReference(self.container_id(pod, container))


@pytest.fixture
def site(api_server: ApiServer) -> Site:
    return Site(api_server, next(_numbers))


class Discovered:
    """A discovery, and what it answers in the terms of a site."""

    def __init__(self, discovery: KubernetesDiscovery, site: Site) -> None:
        self.discovery = discovery
        self._site = site

    def workload(self, pod: str, container: str = "app") -> Workload | None:
        found = self.discovery.find(self._site.reference(pod, container))
        return found if isinstance(found, Workload) else None

    def decision(self, pod: str, container: str = "app") -> CaptureDecision:
        """Return the decision once the container is known."""
        workload: Workload = wait_until(lambda: self.workload(pod, container), f"{pod} is known")
        assert workload.decision is not None
        return workload.decision

    def until(self, pod: str, holds: Callable[[Workload], bool], container: str = "app") -> Workload:
        """Wait until something holds for a container."""

        def looked_at() -> Workload | None:
            workload = self.workload(pod, container)
            return workload if workload is not None and holds(workload) else None

        found: Workload = wait_until(looked_at, f"what is waited for of {pod}; now {self.workload(pod)}")
        return found

    def counter(self, name: str) -> int:
        return self.discovery.counters().get(name, 0)


@pytest.fixture
def discover(api_server: ApiServer, site: Site) -> Iterator[Callable[..., Discovered]]:
    """Start a discovery for the site's node, and wait until it knows what there is."""
    with contextlib.ExitStack() as closing:

        def start(*, kubeconfig: str | None = None, **options: Any) -> Discovered:
            chosen = KubernetesOptions(
                node=site.node, kubeconfig=kubeconfig or api_server.admin_kubeconfig(), **options
            )
            discovery = KubernetesDiscovery(chosen, PACE)
            closing.callback(discovery.close)
            assert discovery.wait_until_known(30)
            return Discovered(discovery, site)

        yield start
