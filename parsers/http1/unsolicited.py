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


def may_be_unsolicited(fields: Fields, version: str, status: int | None, *, is_over: bool) -> bool:
    """Whether a response without a request may be one of these.

    `is_over` says that the direction or the connection ends behind it. Else the response has to say itself
    that it is the last one (RFC 9112 §9.3).
    """
    if status not in UNSOLICITED_STATUSES:
        return False
    options = fields.framing.get(b"connection", b"").lower().replace(b" ", b"").split(b",")
    is_last = b"close" in options or (version == "1.0" and b"keep-alive" not in options)
    return is_over or is_last or status == REQUEST_TIMEOUT
