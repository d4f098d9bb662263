"""Which peers are believed, and which header of the PROXY protocol counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_bridge.spans.trust import DEFAULT_TRUSTED_PROXIES, MAX_PEERS_REMEMBERED, TrustedPeers
from parsers.proxy_protocol import ProxyHeader
from tests.unit.otel_bridge.exchanges import SERVER_SOCKET

PRIVATE, PUBLIC = "10.0.0.1", "203.0.113.7"


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.31.255.255",
        "192.168.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
    ],
)
def test_addresses_that_are_not_of_the_internet_are_trusted_by_default(address: str) -> None:
    assert TrustedPeers().trusts_address(address)


@pytest.mark.parametrize(
    "address", ["203.0.113.7", "172.32.0.1", "100.128.0.1", "11.0.0.1", "2001:db8::1", "/run/a.sock", "", "a"]
)
def test_others_are_not(address: str) -> None:
    assert not TrustedPeers().trusts_address(address)


def test_networks_may_be_addresses_and_have_host_bits() -> None:
    peers = TrustedPeers(["203.0.113.7", "2001:db8::5/64"])
    assert peers.trusts_address("203.0.113.7")
    assert peers.trusts_address("2001:db8::ffff")
    assert not peers.trusts_address("203.0.113.8")
    assert not peers.trusts_address("10.0.0.1")


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="load-balancer"):
        TrustedPeers(["load-balancer"])


def test_every_default_is_written_as_a_network() -> None:
    TrustedPeers(DEFAULT_TRUSTED_PROXIES)
    assert all("/" in network for network in DEFAULT_TRUSTED_PROXIES)


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        ("unix", None, True),
        ("unix", "/run/a.sock", True),
        ("ipv4", PRIVATE, True),
        ("ipv4", PUBLIC, False),
        ("ipv4", None, False),
        ("unknown", None, False),
    ],
)
def test_a_peer_is_trusted_by_its_socket(family: str, address: str | None, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    socket = replace(SERVER_SOCKET, family=family, remote_address=address)
    assert TrustedPeers().trusts_peer(socket) is expected


def header(source: str | None) -> ProxyHeader:
    return ProxyHeader(1, source, 1, "192.0.2.1", 2)


@pytest.mark.parametrize(
    ("peer", "sources", "chosen", "is_trusted"),
    [
        (PRIVATE, [PUBLIC], 0, True),
        (PUBLIC, [PRIVATE], 0, False),
        # A proxy that knows nothing of the one before it: the inner header is nearer to the client.
        (PRIVATE, ["10.0.0.9", PUBLIC], 1, True),
        (PRIVATE, ["10.0.0.9", "10.0.0.10", PUBLIC], 2, True),
        # A client that writes a header of its own is not believed.
        (PRIVATE, [PUBLIC, "10.0.0.9"], 0, True),
        (PRIVATE, ["10.0.0.9", PUBLIC, "198.51.100.1"], 1, True),
        (PUBLIC, ["10.0.0.9", "10.0.0.10"], 0, False),
        # A header that names no source leaves the sender what it was.
        (PRIVATE, [None, PUBLIC], 1, True),
    ],
)
def test_the_last_header_of_a_trusted_sender_counts(
    peer: str,
    sources: list[str | None],
    chosen: int,
    is_trusted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    headers = tuple(header(source) for source in sources)
    claim = TrustedPeers().select_claim(headers, replace(SERVER_SOCKET, remote_address=peer))
    assert claim == (headers[chosen], is_trusted)


def test_the_memory_of_peers_is_bounded() -> None:
    peers = TrustedPeers()
    for number in range(MAX_PEERS_REMEMBERED + 10):
        assert peers.trusts_address(f"10.0.{number >> 8}.{number & 255}")
    assert len(peers.remembered) == 10
