"""What stood in front of HTTP on a connection: headers of the PROXY protocol, and tunnels.

Owns that record. It must not read bytes (`proxy_protocol`, `tunnel`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from parsers.proxy_protocol import ProxyHeader


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel set up in plain text, in which HTTP is spoken."""

    authority: bytes | None = None
    """Target of the CONNECT that set it up, as sent; None when a 101 did."""
    protocol: bytes | None = None
    """What the 101 switched to, as the response says; None when a CONNECT set it up, or the 101 is silent."""


@dataclass(frozen=True, slots=True)
class Prologue:
    """What every exchange of a connection has in front of it. In the order in which it passed."""

    proxy_headers: tuple[ProxyHeader, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    """The outermost one first."""


def add_headers(prologue: Prologue | None, headers: list[ProxyHeader]) -> Prologue:
    """Return a prologue with headers that came after what is in it."""
    known = prologue or Prologue()
    return replace(known, proxy_headers=(*known.proxy_headers, *headers))


def add_tunnel(prologue: Prologue | None, tunnel: Tunnel) -> Prologue:
    """Return a prologue with a tunnel inside those that are in it."""
    known = prologue or Prologue()
    return replace(known, tunnels=(*known.tunnels, tunnel))
