"""Who has an IP address: pods of this node, services of the cluster.

Owns the attributes below `wirespan.peer.`. An address is given again once its pod has ended, so it is
forgotten at once, and never taken from its present owner. Written under the caller's lock; read without
one, for what is published is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.workloads.kubernetes.objects import Pod, Service

MAX_ADDRESSES = 32_768
"""Addresses known at once: those of ten thousand services in both families, which is what Kubernetes is
tested with."""

_NO_OWNER: Mapping[str, str] = MappingProxyType({})


class PeerAddresses:
    """Attributes by address."""

    def __init__(self) -> None:
        self._attributes: dict[str, Mapping[str, str]] = {}
        self._owner_uids: dict[str, str] = {}
        self._by_uid: dict[str, tuple[str, ...]] = {}
        self.refused = 0
        """Addresses that there was no room for."""

    def find(self, address: str) -> Mapping[str, str]:
        """Return the attributes of an address's owner; {} when none is known."""
        return self._attributes.get(address, _NO_OWNER)

    def uids(self) -> set[str]:
        """Return whose addresses are known."""
        return set(self._by_uid)

    def put(self, owner: Pod | Service) -> bool:
        """Take the addresses of a pod or service; return whether something changed."""
        if isinstance(owner, Pod):
            named = {"wirespan.peer.k8s.pod.name": owner.name}
        else:
            named = {"wirespan.peer.k8s.service.name": owner.name}
        attributes = {**named, "wirespan.peer.k8s.namespace.name": owner.namespace}
        gone = set(self._by_uid.get(owner.uid, ())) - set(owner.addresses)
        changed = self._drop(owner.uid, gone)
        kept = []
        for address in owner.addresses:
            if address not in self._attributes and len(self._attributes) >= MAX_ADDRESSES:
                self.refused += 1
                continue
            changed |= self._attributes.get(address) != attributes
            self._attributes[address] = attributes
            self._owner_uids[address] = owner.uid
            kept.append(address)
        if kept:
            self._by_uid[owner.uid] = tuple(kept)
        else:
            self._by_uid.pop(owner.uid, None)
        return changed

    def remove(self, uid: str) -> bool:
        """Forget the addresses of a pod or service; return whether something changed."""
        return self._drop(uid, set(self._by_uid.pop(uid, ())))

    def __len__(self) -> int:
        return len(self._attributes)

    def _drop(self, uid: str, addresses: set[str]) -> bool:
        changed = False
        for address in addresses:
            if self._owner_uids.get(address) == uid:
                del self._owner_uids[address]
                del self._attributes[address]
                changed = True
        return changed
