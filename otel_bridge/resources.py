"""The resource of a workload: what its spans say about where they come from.

Owns the attribute names and the order in which they are merged. It must not find out anything: the facts of a
process and the attributes of the host are given.

Of several values for one name the last of these counts: attributes of the host, facts of the process, what is
known of its container and pod. The service goes by the names in `_service_name`.

Contract: what the facts do not say is absent. The caller asks once per process and keeps the object, since
spans are grouped by its identity.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from uuid import UUID, uuid5

from opentelemetry.sdk.version import __version__ as sdk_version

from ebpf.events import ProcessFacts
from otel_bridge.redaction.redactor import Redactor
from otel_bridge.scope import SCOPE_NAME, scope_version
from otel_bridge.span import AttributeValue, Resource

UNKNOWN_SERVICE = "unknown_service"
"""What the conventions call a service without a name."""

# Labels and annotations hold whatever their authors put there.
_CHOSEN_PREFIXES = ("container.label.", "k8s.pod.label.", "k8s.pod.annotation.")

# A container within a pod goes by its workload: several containers of one pod are told apart by name.
_NAMING_ATTRIBUTES = (
    "k8s.deployment.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    "k8s.pod.name",
    "k8s.container.name",
    # the name of a container of docker-compose is made of this one, its project and a number
    "container.label.com.docker.compose.service",
    "container.name",
)

# The namespace that the conventions set for `service.instance.id` made of inherent facts.
_INSTANCE_NAMESPACE = UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")

_DEFAULT_REDACTOR = Redactor()


class ResourceBuilder:
    """Builds resources with what all workloads of this host share.

    `host_attributes` describe the host and its deployment; they win over what the host says of itself.
    `redactor` is for command lines, labels and annotations; None leaves them as they are.
    """

    __slots__ = ("_host", "_redactor", "_shared", "_telemetry")

    def __init__(
        self,
        host_attributes: Mapping[str, AttributeValue] | None = None,
        *,
        redactor: Redactor | None = _DEFAULT_REDACTOR,
    ) -> None:
        self._redactor = redactor
        self._host = socket.gethostname()
        self._telemetry: dict[str, AttributeValue] = {
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version,
            "telemetry.distro.name": SCOPE_NAME,
            "telemetry.distro.version": scope_version(),
        }
        self._shared: dict[str, AttributeValue] = {
            "host.name": self._host,
            **self._telemetry,
            **(host_attributes or {}),
        }

    def build(self, facts: ProcessFacts) -> Resource:
        """Return the resource of a process, with what is known of the container and pod that it runs in."""
        executable_path = _text(facts.executable_path or "")
        executable_name = executable_path.rpartition("/")[2]
        workload = facts.workload or {}
        attributes: dict[str, AttributeValue] = {
            "service.name": _service_name(workload, _text(facts.service_name or ""), executable_name)
        }
        if facts.start_unix_ns is not None:
            # A tgid is given again and again; with its start it is one process.
            instance = uuid5(_INSTANCE_NAMESPACE, f"{self._host}/{facts.tgid}/{facts.start_unix_ns}")
            attributes["service.instance.id"] = str(instance)
        if facts.tgid:
            attributes["process.pid"] = facts.tgid
        if executable_path:
            attributes["process.executable.name"] = executable_name
            attributes["process.executable.path"] = executable_path
        if facts.command_line:
            redacted = " ".join(facts.command_line)
            if self._redactor is not None:
                redacted = self._redactor.command_line(facts.command_line)
            attributes["process.command_line"] = _text(redacted)
        return Resource(attributes | self._shared | self._describe_workload(workload))

    def _describe_workload(self, workload: Mapping[str, str]) -> dict[str, AttributeValue]:
        described: dict[str, AttributeValue] = {}
        for name, value in workload.items():
            if name == "service.name":
                continue
            prefix = next((each for each in _CHOSEN_PREFIXES if name.startswith(each)), None)
            if prefix is not None and self._redactor is not None:
                described[name] = self._redactor.named_text(name.removeprefix(prefix), value)
            else:
                described[name] = value
        return described

    def build_endpoint(self, address: str, port: int) -> Resource:
        """Return the resource of a server that is known by its endpoint only, and named by it.

        Nothing of this host is in it, for the server may have run anywhere.
        """
        host = f"[{address}]" if ":" in address else address
        return Resource({"service.name": f"{host}:{port}", **self._telemetry})


def _service_name(workload: Mapping[str, str], declared: str, executable_name: str) -> str:
    """Return what a service is called: by an annotation, by itself, or after what it runs as.

    The order of the workload's kinds is that of the conventions ("Kubernetes attributes", `service.name`).
    """
    if annotated := workload.get("service.name"):
        return annotated
    if declared:
        return declared
    for name in _NAMING_ATTRIBUTES:
        if value := workload.get(name):
            return value
    return executable_name or UNKNOWN_SERVICE


def _text(name: str) -> str:
    """Return text of /proc for export; what is no text arrives as surrogates, which no encoder takes."""
    return name.encode("utf-8", "replace").decode()
