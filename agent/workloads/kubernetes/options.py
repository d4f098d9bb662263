"""What can be said about Kubernetes: where its API is, which node this is, what is captured and exported.

Owns the options type alone, so that reading the configuration loads nothing of the client.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.workloads.kubernetes.capture_rules import CaptureRules

NODE_VARIABLE = "NODE_NAME"
"""Environment variable that a DaemonSet sets from the pod's `spec.nodeName`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """How pods are discovered."""

    node: str
    rules: CaptureRules = field(default_factory=CaptureRules)
    kubeconfig: str | None = None
    """None: the pod's service account, else the usual kubeconfig."""
    cluster_name: str | None = None
    labels: tuple[str, ...] = ()
    """Shell patterns over the keys of labels that become attributes."""
    annotations: tuple[str, ...] = ()
    """The same of annotations."""


def default_node(environ: Mapping[str, str]) -> str:
    """Return the node's name: as the DaemonSet says, else what kubelet takes it from, the host's name."""
    return environ.get(NODE_VARIABLE) or socket.gethostname().strip().lower()
