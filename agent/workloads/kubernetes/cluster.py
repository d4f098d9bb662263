"""What is known of this node's pods, and of the cluster as far as they need it.

Owns the present state and the answers made from it. Fed by the threads of the watches, which take turns with
a lock; asked by the main loop, which takes none: an answer is an immutable value in a dict, made when
something changes and not when it is asked for. It must not talk to the API.

A container or pod that is gone stays known for a while: its last exchanges are still on their way.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from agent.workloads.kubernetes.annotations import (
    NO_ANNOTATIONS,
    CaptureAnnotations,
    InvalidAnnotation,
    parse_annotations,
)
from agent.workloads.kubernetes.objects import Namespace, Pod, Service
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.owners import OwnerChain
from agent.workloads.kubernetes.peer_addresses import PeerAddresses
from agent.workloads.kubernetes.pod_workloads import PodWorkloads, build_workloads
from agent.workloads.workload import Absence, ContainerReference, Finding, Workload

MAX_PODS = 2_048
"""Pods of one node: kubelet's default is 110, and clusters run some hundred at most."""
MAX_NAMESPACES = 20_000
"""Namespaces: twice what Kubernetes is tested with. Beyond it the unknown count as without annotations."""
RETAINED_SECONDS = 300.0
"""How long what is gone stays known: as long as an idle connection is (`limits.idle_seconds`)."""
MAX_RETAINED = 2_048
"""Containers and pods that are gone and still known: a full node replaced four times within that time, at
some kilobytes each."""
STATES = frozenset({"known_pods", "known_containers", "known_namespaces", "known_addresses", "retained"})
"""Those of `ClusterState.counters` that go down as well."""


class ClusterState:
    """Pods of this node, namespaces and services."""

    def __init__(
        self,
        options: KubernetesOptions,
        *,
        chain: Callable[[Pod], OwnerChain],
        report: Callable[[Pod | Namespace, InvalidAnnotation], None],
        monotonic_now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take owners from `chain`, and say invalid annotations to `report`."""
        self._options = options
        self._chain = chain
        self._report = report
        self._now = monotonic_now
        self._lock = threading.RLock()
        self._pods: dict[str, tuple[Pod, CaptureAnnotations]] = {}
        self._published: dict[str, PodWorkloads] = {}
        self._namespaces: dict[str, tuple[Namespace, CaptureAnnotations]] = {}
        self._by_container_id: dict[str, Workload] = {}
        self._by_pod_uid: dict[str, Workload] = {}
        self._pod_addresses = PeerAddresses()
        self._service_addresses = PeerAddresses()
        self._retained: OrderedDict[tuple[str, bool], float] = OrderedDict()
        """Container ids (True) and pod UIDs (False) that are gone, with when to forget them."""
        self._pods_denied = False
        self._namespaces_denied = False
        self._refused_pods = 0
        self._refused_namespaces = 0
        self._forgotten_early = 0
        self._left_out = 0
        self.version = 0
        """Raised whenever some answer may have changed."""
        self.has_pods = threading.Event()
        """Set once the pods were listed, or may not be."""
        self.has_namespaces = threading.Event()
        """The same of namespaces."""

    # asked by the main loop

    def find(self, reference: ContainerReference) -> Finding:
        """Return what is known of a container now."""
        workload = self._by_container_id.get(reference.container_id)
        if workload is not None:
            return workload
        whole = self._by_pod_uid.get(reference.pod_uid or "")
        if whole is not None:
            attributes = {**whole.attributes, "container.id": reference.container_id}
            return dataclasses.replace(whole, container_id=reference.container_id, attributes=attributes)
        return Absence.UNKNOWN if self._pods_denied else Absence.PENDING

    def peer(self, address: str) -> Mapping[str, str]:
        """Return the known owner of an address."""
        return self._pod_addresses.find(address) or self._service_addresses.find(address)

    def counters(self) -> dict[str, int]:
        """Return how much is known, and what there was no room for."""
        return {
            "known_pods": len(self._pods),
            "known_containers": len(self._by_container_id),
            "known_namespaces": len(self._namespaces),
            "known_addresses": len(self._pod_addresses) + len(self._service_addresses),
            "retained": len(self._retained),
            "forgotten_early": self._forgotten_early,
            "refused_pods": self._refused_pods,
            "refused_namespaces": self._refused_namespaces,
            "refused_addresses": self._pod_addresses.refused + self._service_addresses.refused,
            "attributes_left_out": self._left_out,
        }

    def pods(self) -> list[tuple[Pod, PodWorkloads]]:
        """Return the pods with what is published of them, by namespace and name."""
        with self._lock:
            found = [(pod, self._published[uid]) for uid, (pod, _) in self._pods.items()]
        return sorted(found, key=lambda each: (each[0].namespace, each[0].name))

    def namespace_annotations(self, name: str) -> CaptureAnnotations | None:
        """Return a namespace's valid annotations; None while they aren't known."""
        known = self._namespaces.get(name)
        if known is not None:
            return known[1]
        return NO_ANNOTATIONS if self._namespaces_denied or self._refused_namespaces else None

    # called by the watches

    def replace_pods(self, pods: Iterable[Pod]) -> None:
        """Take these for all pods of the node."""
        with self._lock:
            if self._pods_denied:
                self._pods_denied = False
                self.version += 1
            by_uid = {pod.uid: pod for pod in pods}
            for uid in self._pods.keys() - by_uid.keys():
                self._remove_pod(uid)
            for pod in by_uid.values():
                self.put_pod(pod)
        self.has_pods.set()

    def put_pod(self, pod: Pod) -> None:
        """Take a pod that is new or changed."""
        with self._lock:
            known = self._pods.get(pod.uid)
            if known is not None and known[0] == pod:
                return
            if known is None and len(self._pods) >= MAX_PODS:
                self._refused_pods += 1
                return
            annotations, invalid = parse_annotations(pod.annotations)
            self._pods[pod.uid] = (pod, annotations)
            if self._pod_addresses.put(pod):
                self.version += 1
            self._publish(pod, annotations)
            self._forget_expired()
        for each in invalid:
            self._report(pod, each)

    def remove_pod(self, pod: Pod) -> None:
        """Take a pod for gone."""
        with self._lock:
            self._remove_pod(pod.uid)

    def deny_pods(self) -> None:
        """Go without pods: what is known stays, nothing more will come."""
        with self._lock:
            if not self._pods_denied:
                self._pods_denied = True
                self.version += 1
        self.has_pods.set()

    def replace_namespaces(self, namespaces: Iterable[Namespace]) -> None:
        """Take these for all namespaces."""
        with self._lock:
            self._namespaces_denied = False
            by_name = {namespace.name: namespace for namespace in namespaces}
            for name in self._namespaces.keys() - by_name.keys():
                del self._namespaces[name]
            for namespace in by_name.values():
                self.put_namespace(namespace)
        self.has_namespaces.set()

    def put_namespace(self, namespace: Namespace) -> None:
        """Take a namespace that is new or changed."""
        with self._lock:
            known = self._namespaces.get(namespace.name)
            if known is not None and known[0] == namespace:
                return
            if known is None and len(self._namespaces) >= MAX_NAMESPACES:
                self._refused_namespaces += 1
                return
            annotations, invalid = parse_annotations(namespace.annotations)
            self._namespaces[namespace.name] = (namespace, annotations)
            self._publish_all(lambda pod: pod.namespace == namespace.name)
        for each in invalid:
            self._report(namespace, each)

    def remove_namespace(self, namespace: Namespace) -> None:
        """Take a namespace for gone; its pods are, by then."""
        with self._lock:
            self._namespaces.pop(namespace.name, None)

    def deny_namespaces(self) -> None:
        """Go without the annotations of namespaces, those that are known aside."""
        with self._lock:
            if not self._namespaces_denied:
                self._namespaces_denied = True
                self._publish_all(lambda _: True)
        self.has_namespaces.set()

    def replace_services(self, services: Iterable[Service]) -> None:
        """Take these for all services."""
        with self._lock:
            by_uid = {service.uid: service for service in services}
            for uid in self._service_addresses.uids() - by_uid.keys():
                self._service_addresses.remove(uid)
                self.version += 1
            for service in by_uid.values():
                self.put_service(service)

    def put_service(self, service: Service) -> None:
        """Take a service that is new or changed."""
        with self._lock:
            if self._service_addresses.put(service):
                self.version += 1

    def remove_service(self, service: Service) -> None:
        """Take a service for gone."""
        with self._lock:
            if self._service_addresses.remove(service.uid):
                self.version += 1

    def deny_services(self) -> None:
        """Go without the names of services."""

    def resolve_owner(self, uid: str) -> None:
        """Take it that more is known of an owner."""
        with self._lock:
            self._publish_all(lambda pod: pod.owner is not None and pod.owner.uid == uid)

    # under the lock

    def _publish_all(self, concerned: Callable[[Pod], bool]) -> None:
        for pod, annotated in self._pods.values():
            if concerned(pod):
                self._publish(pod, annotated)

    def _publish(self, pod: Pod, annotations: CaptureAnnotations) -> None:
        namespace_annotations = self.namespace_annotations(pod.namespace)
        built = build_workloads(self._options, pod, self._chain(pod), annotations, namespace_annotations)
        before = self._published.get(pod.uid)
        if before == built:
            return
        self._published[pod.uid] = built
        if before is None or before.left_out != built.left_out:
            self._left_out += built.left_out
        for container_id, workload in built.by_container_id.items():
            self._by_container_id[container_id] = workload
            self._retained.pop((container_id, True), None)
        for uid in _uids(pod):
            self._by_pod_uid[uid] = built.whole
            self._retained.pop((uid, False), None)
        if before is not None:
            self._retain((old, True) for old in before.by_container_id if old not in built.by_container_id)
        self.version += 1

    def _remove_pod(self, uid: str) -> None:
        known = self._pods.pop(uid, None)
        if known is None:
            return
        built = self._published.pop(uid)
        self._retain((container_id, True) for container_id in built.by_container_id)
        self._retain((each, False) for each in _uids(known[0]))
        if self._pod_addresses.remove(uid):
            self.version += 1
        self._forget_expired()

    def _retain(self, keys: Iterable[tuple[str, bool]]) -> None:
        until = self._now() + RETAINED_SECONDS
        for key in keys:
            self._retained[key] = until
        while len(self._retained) > MAX_RETAINED:
            self._forget(self._retained.popitem(last=False)[0])
            self._forgotten_early += 1

    def _forget_expired(self) -> None:
        now = self._now()
        while self._retained and next(iter(self._retained.values())) <= now:
            self._forget(self._retained.popitem(last=False)[0])

    def _forget(self, key: tuple[str, bool]) -> None:
        name, is_container = key
        if (self._by_container_id if is_container else self._by_pod_uid).pop(name, None) is not None:
            self.version += 1


def _uids(pod: Pod) -> tuple[str, ...]:
    """Return what a cgroup may call a pod: its UID, or where it mirrors a static pod the UID of that."""
    return (pod.uid,) if pod.static_uid is None else (pod.uid, pod.static_uid)
