"""Both ends of an exchange: authorities, forwarded addresses and socket addresses.

Owns the reading of `Host`, `Forwarded` and `X-Forwarded-*` values. It must not decide which attribute they
become.

Contract: what is not well-formed is None; an address is never invented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ebpf.events import SocketInfo

MAX_AUTHORITIES_REMEMBERED = 1024
"""Parsed authorities kept; a workload sees few, a scanner's push each other out."""

MAX_AUTHORITY_LENGTH = 1024
"""Characters; a host name has 253 at most (RFC 1035 §2.3.4), the rest is room for user info."""

# RFC 9110 §7.2 and RFC 3986 §3.2: a name, an IPv4 address or a bracketed IPv6 address, then perhaps a port.
_AUTHORITY = re.compile(
    r"(?:[^@/?#\s]*@)?(?:\[([0-9A-Fa-f:.]+(?:%[^\]\s]+)?)\]|([^:@/?#\s\[\]]+))(?::([0-9]{0,5}))?"
)

# RFC 7239 §4: the first element is the hop next to the client.
_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for=(?:"([^"]*)"|([^;,\s"]+))', re.IGNORECASE)
_FORWARDED_PROTO = re.compile(r'(?:^|;)\s*proto="?(https?)\b', re.IGNORECASE)
_SCHEMES = frozenset({"http", "https"})


class HostPort(NamedTuple):
    """A host (name or address, without brackets) and its port where one was given."""

    host: str
    port: int | None


def parse_authority(text: str) -> HostPort | None:
    """Parse `host`, `host:port`, `[ipv6]:port`; user info is left out. None when it is not an authority."""
    return _parse_authority(text) if len(text) <= MAX_AUTHORITY_LENGTH else None


@lru_cache(maxsize=MAX_AUTHORITIES_REMEMBERED)
def _parse_authority(text: str) -> HostPort | None:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = int(match[3]) if match[3] else None
    if port is not None and not 0 < port < 65536:
        return None
    return HostPort(match[1] or match[2], port)


def forwarded_client(headers: Mapping[str, Sequence[str]]) -> HostPort | None:
    """Return the client that the first proxy named in `Forwarded` (RFC 7239) or `X-Forwarded-For`."""
    forwarded = headers.get("forwarded")
    if forwarded is not None:
        match = _FORWARDED_FOR.search(forwarded[0].partition(",")[0])
        # `unknown` and obfuscated identifiers (§6.3) name no address.
        node = (match[1] or match[2] or "") if match is not None else ""
        return None if node == "unknown" or node.startswith("_") else parse_authority(node)
    x_forwarded_for = headers.get("x-forwarded-for")
    if x_forwarded_for is None:
        return None
    first = x_forwarded_for[0].partition(",")[0].strip()
    # Unlike in `Forwarded`, IPv6 addresses come without brackets.
    return HostPort(first, None) if first.count(":") > 1 and "[" not in first else parse_authority(first)


def forwarded_scheme(headers: Mapping[str, Sequence[str]]) -> str | None:
    """Return `http` or `https` as the first proxy saw it, from `Forwarded` or `X-Forwarded-Proto`."""
    forwarded = headers.get("forwarded")
    if forwarded is not None:
        match = _FORWARDED_PROTO.search(forwarded[0].partition(",")[0])
        return match[1].lower() if match is not None else None
    x_forwarded_proto = headers.get("x-forwarded-proto")
    if x_forwarded_proto is None:
        return None
    scheme = x_forwarded_proto[0].partition(",")[0].strip().lower()
    return scheme if scheme in _SCHEMES else None


def format_authority(address: HostPort) -> str:
    """Return `host:port` as a URL has it: IPv6 addresses in brackets."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return host if address.port is None else f"{host}:{address.port}"


def network_attributes(socket: SocketInfo) -> Mapping[str, str | int]:
    """Return the `network.*` attributes of a socket in the order of the conventions; unknown ones are absent.

    A Unix socket's address is its path; it has no ports and no network type.
    """
    return _network_attributes(
        socket.family, socket.remote_address, socket.remote_port, socket.local_address, socket.local_port
    )


# By the five facts and not by the socket, which is no key: what is known of it may change.
@lru_cache(maxsize=MAX_AUTHORITIES_REMEMBERED)
def _network_attributes(
    family: str, peer: str | None, peer_port: int | None, local: str | None, local_port: int | None
) -> Mapping[str, str | int]:
    if family == "unknown":
        return {}
    is_unix = family == "unix"
    candidates: tuple[tuple[str, str | int | None], ...] = (
        ("network.peer.address", peer),
        ("network.peer.port", peer_port),
        ("network.local.address", local),
        ("network.local.port", local_port),
        ("network.transport", "unix" if is_unix else "tcp"),
        ("network.type", None if is_unix else family),
    )
    return {name: value for name, value in candidates if value is not None}
