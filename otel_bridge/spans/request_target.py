"""Request targets, taken apart and without credentials.

Owns the forms of a target (RFC 9112 §3.2). It must not decide which attribute a part becomes, or judge
whether an authority is well-formed (`addresses`).

Contract: targets recur, so what was made of one is remembered, but only where nothing was redacted.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.spans.message_text import decode_value

MAX_TARGETS_REMEMBERED = 4096
"""Targets kept; a full memory starts afresh. With the next bound below 6 MiB."""

MAX_REMEMBERED_TARGET_LENGTH = 256
"""Bytes of a target; a longer one carries data, and does not recur."""


class RequestTarget(NamedTuple):
    """The parts of a target; "" for what is not there."""

    scheme: str
    """In lower case."""
    authority: str
    """As sent: with user info if there was any."""
    path: str
    """Redacted. Empty in the authority form of CONNECT, which asks for a tunnel and not for a resource."""
    mark: str
    """`?` when a query follows, though it be empty."""
    query: str
    """Redacted."""


class TargetReader:
    """Reads request targets; its memory serves all requests."""

    __slots__ = ("_rules", "remembered")

    def __init__(self, rules: Redactor | None) -> None:
        self._rules = rules
        self.remembered: dict[tuple[bytes, bytes], tuple[RequestTarget, int]] = {}
        """What was made of targets, by method and target; at most MAX_TARGETS_REMEMBERED."""

    def read(self, method: bytes, target: bytes) -> tuple[RequestTarget, int]:
        """Return the parts of a target and the number of values redacted in them."""
        key = (method, target)
        known = self.remembered.get(key)
        if known is not None:
            return known
        scheme, authority, rest = _split(method, decode_value(target))
        path, mark, query = rest.partition("?")
        rules = self._rules
        if rules is None:
            return RequestTarget(scheme, authority, path, mark, query), 0
        path, in_path = rules.path(path)
        query, in_query = rules.query(query)
        count = in_path + in_query
        read = RequestTarget(scheme, authority, path, mark, query), count
        if count == 0 and "@" not in authority and len(target) <= MAX_REMEMBERED_TARGET_LENGTH:
            if len(self.remembered) >= MAX_TARGETS_REMEMBERED:
                self.remembered.clear()
            self.remembered[key] = read
        return read


def _split(method: bytes, target: str) -> tuple[str, str, str]:
    """Return scheme, authority and rest of a request target."""
    if target.startswith("/"):
        return "", "", target
    if method == b"CONNECT":
        return "", target, ""
    scheme, separator, rest = target.partition("://")
    if not separator:
        return "", "", target
    authority = rest.split("/", 1)[0].split("?", 1)[0]
    return scheme.lower(), authority, rest[len(authority) :] or "/"
