"""Which workload a pod belongs to: through its ReplicaSet to the Deployment, through its Job to the CronJob.

Owns the attributes of workloads, and the cache of what owns what. An owner's owner is asked for once, on the
side; until the answer is there the chain isn't resolved. Where it may not be asked for, what is sure without
it stands: the Deployment's name is that of the ReplicaSet without the template hash, which is the
Deployment controller's own label. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.workloads.kubernetes.api import JOBS, REPLICA_SETS, ApiError, NoSuchObjectError, Resource
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.objects import TEMPLATE_HASH_LABEL, Owner, Pod, parse_owner
from agent.workloads.kubernetes.request_queue import RequestQueue, SideRequest

MAX_OWNERS = 2_048
"""Owners remembered: several times the pods of a full node (250), as they are replaced."""

_ATTRIBUTES = {
    "ReplicaSet": "k8s.replicaset.name",
    "Deployment": "k8s.deployment.name",
    "StatefulSet": "k8s.statefulset.name",
    "DaemonSet": "k8s.daemonset.name",
    "Job": "k8s.job.name",
    "CronJob": "k8s.cronjob.name",
}
_OWNED = {"ReplicaSet": REPLICA_SETS, "Job": JOBS}
"""Kinds that have an owner themselves."""


@dataclass(frozen=True, slots=True)
class OwnerChain:
    """The workloads that a pod belongs to."""

    attributes: Mapping[str, str]
    is_resolved: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What came of asking for an owner's owner."""

    owner: Owner | None
    was_answered: bool


class OwnerChains:
    """Answers from its cache, and asks for what isn't there."""

    def __init__(self, api: KubernetesApi, requests: RequestQueue, resolved: Callable[[str], None]) -> None:
        """Set the callback that gets the UID of an owner when more is known of it, from another thread."""
        self._api = api
        self._requests = requests
        self._resolved = resolved
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known | None] = OrderedDict()
        """By the owner's UID; None while it is asked for."""

    def chain(self, pod: Pod) -> OwnerChain:
        """Return the workloads of a pod as far as they are known."""
        owner = pod.owner
        if owner is None or owner.kind not in _ATTRIBUTES:
            return OwnerChain({}, is_resolved=True)
        attributes = {_ATTRIBUTES[owner.kind]: owner.name}
        resource = _OWNED.get(owner.kind)
        if resource is None:
            return OwnerChain(attributes, is_resolved=True)
        known = self._lookup(owner, resource, pod.namespace)
        if known is None:
            return OwnerChain(attributes, is_resolved=False)
        above = known.owner if known.was_answered else _sure_owner(pod, owner)
        if above is not None and above.kind in _ATTRIBUTES:
            attributes[_ATTRIBUTES[above.kind]] = above.name
        return OwnerChain(attributes, is_resolved=True)

    def _lookup(self, owner: Owner, resource: Resource, namespace: str) -> _Known | None:
        with self._lock:
            if owner.uid in self._known:
                self._known.move_to_end(owner.uid)
                return self._known[owner.uid]
            self._known[owner.uid] = None
            if len(self._known) > MAX_OWNERS:
                self._known.popitem(last=False)
                self._api.journal.count("forgotten_owners")

        def ask() -> None:
            document = self._api.owner_metadata(resource, namespace, owner.name)
            uid = (document.get("metadata") or {}).get("uid")
            if uid != owner.uid:
                raise NoSuchObjectError(f"{resource} {owner.name} is another one by now")
            self._learn(owner.uid, _Known(parse_owner(document), was_answered=True))

        def give_up(_: ApiError) -> None:
            self._learn(owner.uid, _Known(None, was_answered=False))

        if not self._requests.put(SideRequest(ask, give_up)):
            unanswered = _Known(None, was_answered=False)
            with self._lock:
                self._known[owner.uid] = unanswered
            return unanswered
        return None

    def _learn(self, uid: str, known: _Known) -> None:
        with self._lock:
            if uid in self._known:
                self._known[uid] = known
        self._resolved(uid)


def _sure_owner(pod: Pod, owner: Owner) -> Owner | None:
    template_hash = pod.labels.get(TEMPLATE_HASH_LABEL)
    if owner.kind != "ReplicaSet" or not template_hash:
        return None
    name = owner.name.removesuffix(f"-{template_hash}")
    return Owner("Deployment", name, "") if name and name != owner.name else None
