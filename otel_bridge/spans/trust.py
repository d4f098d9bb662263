"""Which peers are trusted to name the client that they act for.

Owns the networks of trusted proxies, and which of several PROXY protocol headers counts. It must not decide
which attribute a claim becomes.

Contract: a header is believed when its sender is trusted: the peer of the socket for the first header, the
source of the one before for every other. A client behind a trusted proxy can write a header too, and is not
believed for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from ebpf.events import SocketInfo
from parsers.proxy_protocol import ProxyHeader

DEFAULT_TRUSTED_PROXIES = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "::1/128",
    "fe80::/10",
)
"""Addresses that are not of the internet: RFC 1918, RFC 4193, RFC 6598, loopback and link-local."""

MAX_PEERS_REMEMBERED = 1024
"""Peers kept with the answer for each; a full memory starts afresh. A server has a handful of proxies."""


class ProxyClaim(NamedTuple):
    """The header that counts, and whether its sender is believed."""

    header: ProxyHeader
    is_trusted: bool


class TrustedPeers:
    """The peers that are believed: those in the networks, and every peer of a Unix socket.

    Args:
        networks: Addresses, or networks as `address/length`.

    Raises:
        ValueError: One of them is neither.

    """

    __slots__ = ("_networks", "remembered")

    def __init__(self, networks: Iterable[str] = DEFAULT_TRUSTED_PROXIES) -> None:
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        self.remembered: dict[str, bool] = {}
        """Answers by address; at most MAX_PEERS_REMEMBERED."""

    def trusts_peer(self, socket: SocketInfo) -> bool:
        """Whether the other end of a socket is believed; one whose address is unknown is not."""
        if socket.family == "unix":
            return True
        return socket.remote_address is not None and self.trusts_address(socket.remote_address)

    def trusts_address(self, address: str) -> bool:
        """Whether an address is in one of the networks."""
        known = self.remembered.get(address)
        if known is None:
            if len(self.remembered) >= MAX_PEERS_REMEMBERED:
                self.remembered.clear()
            known = self.remembered[address] = self._look_up(address)
        return known

    def select_claim(self, headers: tuple[ProxyHeader, ...], socket: SocketInfo) -> ProxyClaim:
        """Return the last header that a trusted sender wrote, else the first; there is at least one.

        The first header is that of the proxy next to the server, so the last one is nearest to the client.
        """
        header = headers[0]
        if not self.trusts_peer(socket):
            return ProxyClaim(header, is_trusted=False)
        for following in headers[1:]:
            sender = header.source_address
            if sender is not None and not self.trusts_address(sender):
                break
            header = following
        return ProxyClaim(header, is_trusted=True)

    def _look_up(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
