"""Telling the author of an invalid annotation: a line in the log, an Event on the object, a count.

Owns that each is reported once. The Event's name is made from its content, so that neither a restart nor the
other agents of the cluster, which see the same namespaces, report it again.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict

from agent.workloads.kubernetes.annotations import InvalidAnnotation
from agent.workloads.kubernetes.api import EVENTS, ApiError, ConflictError
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.objects import Namespace, Pod
from agent.workloads.kubernetes.request_queue import RequestQueue, SideRequest

MAX_REPORTED = 4_096
"""Annotations remembered as reported: a dozen for each pod of a full node."""
REASON = "InvalidAnnotation"
COMPONENT = "wirespan"
NAMESPACE_OF_CLUSTER_EVENTS = "default"
"""Where Events on objects that are in no namespace go, as the API server demands."""
MAX_NAME_IN_EVENT = 200
"""Characters of the object's name in the Event's, which may have 253."""

log = logging.getLogger(__name__)


class InvalidAnnotationReports:
    """Tells each invalid annotation once. Thread-safe."""

    def __init__(self, api: KubernetesApi, requests: RequestQueue, node: str) -> None:
        self._api = api
        self._requests = requests
        self._node = node
        self._lock = threading.Lock()
        self._told: OrderedDict[str, None] = OrderedDict()

    def report(self, subject: Pod | Namespace, invalid: InvalidAnnotation) -> None:
        """Tell of an annotation, unless that was done already."""
        said = f"{subject.uid}\0{invalid.key}\0{invalid.value}"
        digest = hashlib.sha256(said.encode(errors="replace")).hexdigest()[:16]
        with self._lock:
            if digest in self._told:
                self._told.move_to_end(digest)
                return
            self._told[digest] = None
            if len(self._told) > MAX_REPORTED:
                self._told.popitem(last=False)
                self._api.journal.count("forgotten_reports")
        self._api.journal.count("invalid_annotations")
        log.warning("%s: %s", _shown(subject), invalid)
        namespace = subject.namespace if isinstance(subject, Pod) else NAMESPACE_OF_CLUSTER_EVENTS
        event = self._event(subject, namespace, invalid, digest)

        def send() -> None:
            try:
                self._api.create(EVENTS, namespace, event)
            except ConflictError:
                return
            self._api.journal.count("events_created")

        def give_up(_: ApiError) -> None:
            self._api.journal.count("events_not_created")

        if not self._requests.put(SideRequest(send, give_up)):
            self._api.journal.count("events_not_created")

    def _event(
        self, subject: Pod | Namespace, namespace: str, invalid: InvalidAnnotation, digest: str
    ) -> dict[str, object]:
        # What is cut off must not leave a separator at the end, which no name may have.
        name = subject.name[:MAX_NAME_IN_EVENT].rstrip("-.")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        involved = {
            "apiVersion": "v1",
            "kind": type(subject).__name__,
            "name": subject.name,
            "uid": subject.uid,
        }
        if isinstance(subject, Pod):
            involved["namespace"] = namespace
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{digest}", "namespace": namespace},
            "involvedObject": involved,
            "type": "Warning",
            "reason": REASON,
            "message": str(invalid),
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _shown(subject: Pod | Namespace) -> str:
    if isinstance(subject, Pod):
        return f"pod {subject.namespace}/{subject.name}"
    return f"namespace {subject.name}"
