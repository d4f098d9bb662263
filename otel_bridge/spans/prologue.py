"""What stood in front of HTTP on a connection, as attributes.

Owns the attributes `wirespan.proxy_protocol.*` and `wirespan.tunnel`. It must not decide which header is
believed (`trust`), or what the addresses of client and server are (`spans`).
"""

from __future__ import annotations

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.span import AttributeValue
from otel_bridge.spans.addresses import HostPort, format_authority, parse_authority
from otel_bridge.spans.message_text import decode_value
from otel_bridge.spans.trust import ProxyClaim
from parsers.prologue import Prologue, Tunnel

_UNNAMED_PROTOCOL = "upgrade"


def tunnel_end(prologue: Prologue) -> HostPort | None:
    """Return where the innermost CONNECT goes; None when there is none, or its authority is none."""
    for tunnel in reversed(prologue.tunnels):
        if tunnel.authority is not None:
            return parse_authority(decode_value(tunnel.authority))
    return None


def add_prologue_attributes(
    attributes: dict[str, AttributeValue],
    prologue: Prologue,
    claim: ProxyClaim | None,
    rules: Redactor | None,
    *,
    is_server: bool,
) -> int:
    """Add what stood in front; return how many values were redacted.

    `claim` is the header of the PROXY protocol that counts, None without any. Whether it is believed matters
    to the server only.
    """
    redacted = 0
    if claim is not None:
        header = claim.header
        prefix = "wirespan.proxy_protocol."
        attributes[f"{prefix}version"] = header.version
        if is_server:
            attributes[f"{prefix}trusted"] = claim.is_trusted
        for name, value in (
            ("source.address", header.source_address),
            ("source.port", header.source_port),
            ("destination.address", header.destination_address),
            ("destination.port", header.destination_port),
            ("authority", header.authority),
        ):
            if value is not None:
                attributes[prefix + name] = value
        if header.tls:
            attributes[f"{prefix}tls"] = True
    if prologue.tunnels:
        names = []
        for tunnel in prologue.tunnels:
            name, count = _name_tunnel(tunnel, rules)
            names.append(name)
            redacted += count
        attributes["wirespan.tunnel"] = tuple(names)
    return redacted


def _name_tunnel(tunnel: Tunnel, rules: Redactor | None) -> tuple[str, int]:
    """Return the authority of a CONNECT without its user info, or the protocol of a 101."""
    if tunnel.authority is None:
        text = _UNNAMED_PROTOCOL if tunnel.protocol is None else decode_value(tunnel.protocol)
    else:
        text = decode_value(tunnel.authority)
        named = parse_authority(text)
        if named is not None:
            return format_authority(named), 0
        text = text.rpartition("@")[2]
    return (text, 0) if rules is None else rules.header(text)
