"""Responses that no request asked for: how a server says why it closes a connection that is idle.

Owns how such a response looks. It must not know what was seen of the requests (`connection`).

Apache, HAProxy, gunicorn, Node.js and others send 408 when a request is late, 400 when the connection began
with what is none, 503 when they have no room (RFC 9110 §15.5.9 for 408). Then they close.
"""

from __future__ import annotations

from typing import Final

from parsers.http1.head import Fields

REQUEST_TIMEOUT: Final = 408
"""It says by itself that there was no request, and that the server closes."""
UNSOLICITED_STATUSES: Final = frozenset({400, REQUEST_TIMEOUT, 503})
"""Every other status speaks of a request."""


def closes_connection(fields: Fields, version: str) -> bool:
    """Whether the head of a response says that it is the last one (RFC 9112 §9.3)."""
    options = fields.framing.get(b"connection", b"").lower().replace(b" ", b"").split(b",")
    return b"close" in options or (version == "1.0" and b"keep-alive" not in options)
