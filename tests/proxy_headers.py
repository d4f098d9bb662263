"""PROXY protocol headers as a proxy would write them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from parsers.proxy_protocol import SIGNATURE

LOCAL, PROXY = 0x20, 0x21
AUTHORITY, SSL, AWS = 0x02, 0x20, 0xEA


def header_v1(
    source: str = "192.0.2.10", port: int = 56_324, destination: str = "192.0.2.20", to_port: int = 443
) -> bytes:
    """Return a header of version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {port} {to_port}\r\n".encode()


def header_v2(
    source: str = "192.0.2.10",
    port: int = 56_324,
    destination: str = "192.0.2.20",
    to_port: int = 443,
    *fields: tuple[int, bytes],
) -> bytes:
    """Return a header of version 2 for TCP; `fields` are type and value of what follows the addresses."""
    family = 0x21 if ":" in source else 0x11
    addresses = ip_address(source).packed + ip_address(destination).packed
    return frame_v2(PROXY, family, addresses + struct.pack("!HH", port, to_port), *fields)


def frame_v2(command: int, family: int, addresses: bytes = b"", *fields: tuple[int, bytes]) -> bytes:
    """Return a header of version 2 of these parts."""
    rest = addresses + b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in fields)
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest
