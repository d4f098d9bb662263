"""Measure what discovering pods costs: memory, requests and bytes on one node of a cluster of some size.

    python -m tests.bench.kubernetes_discovery [--pods N] [--on-node N] [--churn N] [--json FILE]

The API server is a real one (`make apiserver`), the agent's side a process of its own that has loaded what a
run loads before discovery begins. Figures go to docs/performance.md by hand.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from tests.kubernetes.api_server import (
    ADMIN_TOKEN,
    ApiServer,
    Document,
    missing_parts,
    pod_document,
    running_api_server,
    status_document,
    wait_until,
)

NODE = "measured-node"
NAMESPACES = 20
LOOKUPS = 200_000
KIB = 1024
PAGE = os.sysconf("SC_PAGE_SIZE")


def realistic_pod(name: str, node: str) -> Document:
    """Return a pod of the size that Deployments make: two containers, environment, probes, volumes."""
    labels = {
        "app.kubernetes.io/name": "shop",
        "app.kubernetes.io/instance": name,
        "pod-template-hash": "5d4f",
    }
    document = pod_document(name, node=node, containers=("app", "proxy"), labels=labels)
    document["metadata"]["annotations"] = {f"example.com/annotation-{n}": "x" * 60 for n in range(5)}
    for container in document["spec"]["containers"]:
        container["env"] = [{"name": f"SETTING_{n}", "value": "some value " * 3} for n in range(15)]
        container["resources"] = {"requests": {"cpu": "100m", "memory": "64Mi"}}
        container["livenessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}}
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    document["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    return document


def container_ids(number: int) -> dict[str, str]:
    return {name: f"{number:08x}{name}".encode().hex().ljust(64, "0") for name in ("app", "proxy")}


def run_pod(server: ApiServer, number: int, node: str) -> str:
    """Create a pod with running containers and return its path."""
    path = f"/api/v1/namespaces/space-{number % NAMESPACES}/pods"
    name = f"pod-{number}"
    server.create(path, realistic_pod(name, node))
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    server.request("PATCH", f"{path}/{name}/status", status_document(container_ids(number), address))
    return f"{path}/{name}"


class Measured:
    """The agent's side, in a process of its own, told what to do line by line."""

    def __init__(self, server: ApiServer) -> None:
        account = server.folder / "account"
        account.mkdir()
        (account / "token").write_text(ADMIN_TOKEN)
        (account / "ca.crt").write_bytes(server.ca.read_bytes())
        in_pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.kubernetes_discovery", "--measure", str(account)],
            env={**os.environ, **in_pod},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> dict[str, Any]:
        """Return its counters and memory now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def measure(account: Path) -> None:
    """Discover as in a pod with this service account; answer each line of input with the cost so far."""
    import agent.session  # noqa: F401 (what a run has loaded anyway)
    import otel_bridge.delivery.grpc_transport  # noqa: F401
    from agent.workloads.kubernetes.discovery import KubernetesDiscovery
    from agent.workloads.kubernetes.options import KubernetesOptions
    from agent.workloads.workload import ContainerReference

    before = resident()
    from kubernetes.config import incluster_config

    incluster_config.SERVICE_TOKEN_FILENAME = str(account / "token")
    incluster_config.SERVICE_CERT_FILENAME = str(account / "ca.crt")
    loaded = resident()
    discovery = KubernetesDiscovery(KubernetesOptions(node=NODE))
    begun = time.monotonic()
    discovery.wait_until_known(60)
    seconds = time.monotonic() - begun
    reference = ContainerReference(container_ids(0)["app"])
    for _ in sys.stdin:
        processor = time.process_time()
        for _ in range(LOOKUPS):
            discovery.find(reference)
        lookup = (time.process_time() - processor) / LOOKUPS
        answer = {
            "before_bytes": before,
            "library_bytes": loaded - before,
            "resident_bytes": resident(),
            "seconds_until_known": seconds,
            "lookup_ns": lookup * 1e9,
            "processor_seconds": time.process_time(),
            **discovery.counters(),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    discovery.close()


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def total(counters: dict[str, Any], prefix: str) -> int:
    return sum(value for name, value in counters.items() if name.startswith(prefix))


def whole_cluster_bytes(server: ApiServer) -> int:
    """Return what a list of all pods would have transferred."""
    return len(json.dumps(server.request("GET", "/api/v1/pods"), separators=(",", ":")))


def table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(("| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)))


def benchmark(pods: int, on_node: int, churn: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, running_api_server(Path(folder)) as server:
        for number in range(NAMESPACES):
            server.create_namespace(f"space-{number}")
        for number in range(pods):
            run_pod(server, number, NODE if number < on_node else f"other-{number % 50}")
        measured = Measured(server)
        try:
            at_start = measured.ask()
            for number in range(pods, pods + churn):
                # one in twenty is of this node, as at the start
                server.delete(run_pod(server, number, NODE if number % 20 == 0 else "other-1"))
            last = run_pod(server, pods + churn, NODE)
            wait_until(lambda: measured.ask()["known_pods"] == on_node + 1, "the last pod is known")
            server.delete(last)
            after = measured.ask()
        finally:
            measured.close()
        return {
            "pods": pods,
            "on_node": on_node,
            "churn": churn,
            "at_start": at_start,
            "after": after,
            "whole_cluster_bytes": whole_cluster_bytes(server),
        }


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    start, after = found["at_start"], found["after"]
    mib = KIB * KIB
    return [
        ("pods on the node / in the cluster", f"{found['on_node']} / {found['pods']}"),
        ("memory before, with everything a run loads", f"{start['before_bytes'] / mib:.1f} MiB"),
        ("memory that discovery adds", f"{(start['resident_bytes'] - start['before_bytes']) / mib:.1f} MiB"),
        ("of that the client library", f"{start['library_bytes'] / mib:.1f} MiB"),
        ("until all is known", f"{start['seconds_until_known']:.2f} s"),
        ("requests at start", str(total(start, "requests_"))),
        ("received at start", f"{total(start, 'received_bytes_') / KIB:.0f} KiB"),
        ("a list of the whole cluster's pods", f"{found['whole_cluster_bytes'] / KIB:.0f} KiB"),
        (
            f"requests for {found['churn']} pods that come and go",
            str(total(after, "requests_") - total(start, "requests_")),
        ),
        (
            "received for them",
            f"{(total(after, 'received_bytes_') - total(start, 'received_bytes_')) / KIB:.0f} KiB",
        ),
        ("memory after them", f"{(after['resident_bytes'] - start['before_bytes']) / mib:.1f} MiB"),
        ("one look-up of a container", f"{start['lookup_ns']:.0f} ns"),
    ]


@click.command()
@click.option("--pods", default=5_000, show_default=True)
@click.option("--on-node", default=250, show_default=True)
@click.option("--churn", default=1_000, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--measure", "account", type=click.Path(path_type=Path), hidden=True)
def main(pods: int, on_node: int, churn: int, json_file: Path | None, account: Path | None) -> None:
    """Measure what discovering pods costs."""
    if account is not None:
        measure(account)
        return
    missing = missing_parts()
    if missing is not None:
        raise click.ClickException(missing)
    found = benchmark(pods, on_node, churn)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2))
    click.echo(table(rows(found)))


if __name__ == "__main__":
    main()
