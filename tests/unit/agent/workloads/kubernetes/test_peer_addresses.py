"""Who has an address, as pods and services come and go."""

import pytest

from agent.workloads.kubernetes import peer_addresses
from agent.workloads.kubernetes.objects import Pod, Service
from agent.workloads.kubernetes.peer_addresses import PeerAddresses


def pod(name: str, *addresses: str) -> Pod:
    return Pod(uid=name, name=name, namespace="shop", labels={}, annotations={}, addresses=addresses)


WEB = {"wirespan.peer.k8s.pod.name": "web", "wirespan.peer.k8s.namespace.name": "shop"}


def test_pods_and_services_are_told_apart() -> None:
    peers = PeerAddresses()
    assert peers.put(pod("web", "10.0.0.1", "fd00::1"))
    assert peers.put(Service(uid="s", name="front", namespace="shop", addresses=("10.96.0.1",)))
    assert peers.find("10.0.0.1") == peers.find("fd00::1") == WEB
    assert peers.find("10.96.0.1") == {
        "wirespan.peer.k8s.service.name": "front",
        "wirespan.peer.k8s.namespace.name": "shop",
    }
    assert peers.find("10.0.0.2") == {}


def test_an_address_follows_its_owner() -> None:
    peers = PeerAddresses()
    peers.put(pod("web", "10.0.0.1"))
    assert not peers.put(pod("web", "10.0.0.1"))
    assert peers.put(pod("web", "10.0.0.2"))
    assert peers.find("10.0.0.1") == {}
    assert peers.find("10.0.0.2") == WEB
    assert peers.put(pod("web"))
    assert len(peers) == 0
    assert not peers.remove("web")


def test_an_address_given_anew_is_not_taken_from_its_new_owner() -> None:
    peers = PeerAddresses()
    peers.put(pod("old", "10.0.0.1"))
    peers.put(pod("web", "10.0.0.1"))
    assert not peers.remove("old")
    assert peers.find("10.0.0.1") == WEB
    assert peers.remove("web")
    assert len(peers) == 0


def test_beyond_the_bound_addresses_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_addresses, "MAX_ADDRESSES", 2)
    peers = PeerAddresses()
    peers.put(pod("a", "10.0.0.1", "10.0.0.2", "10.0.0.3"))
    assert (len(peers), peers.refused) == (2, 1)
    peers.remove("a")
    peers.put(pod("web", "10.0.0.3"))
    assert peers.find("10.0.0.3") == WEB
