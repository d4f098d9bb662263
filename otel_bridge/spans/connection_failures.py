"""Failures that no status shows: a connection, or an HTTP/2 stream, ended before the response did.

Owns which of them are errors, and their names. A status is judged elsewhere (`spans`, `rpc`).

Contract: an error is what was seen to fail. What was merely not seen is none, nor is a client that takes no
more of a stream.

| the exchange is | `error.type` |
|---|---|
| closed, without a whole response | `connection_closed` |
| reset by a client with CANCEL or NO_ERROR, or that refuses a push | none |
| reset by a GOAWAY of the server, which had not begun with it | `GOAWAY` |
| reset otherwise | name of the error code (RFC 9113 §7), `_OTHER` for one that has none or was not seen |
| anything else | none |
"""

from __future__ import annotations

from typing import Final

from h2.errors import ErrorCodes

from ebpf.events import Direction, Role
from otel_bridge.span import AttributeValue
from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange, StreamReset

_CODE_NAMES: Final = {int(code): code.name for code in ErrorCodes}
"""By code, as h2 has them (RFC 9113 §7)."""

_NO_ERROR: Final = int(ErrorCodes.NO_ERROR)
_REFUSED_STREAM: Final = int(ErrorCodes.REFUSED_STREAM)
_CANCEL: Final = int(ErrorCodes.CANCEL)
_UNNAMED: Final = "_OTHER"


def find_failure(exchange: HttpExchange) -> str | None:
    """Return the `error.type` of an exchange that was seen to fail without a status; None of any other."""
    if exchange.incomplete is Incomplete.CLOSED:
        return None if exchange.answered else "connection_closed"
    if exchange.incomplete is not Incomplete.RESET:
        return None
    reset = exchange.reset
    if reset is None:
        return _UNNAMED
    sent_by_client = (exchange.role is Role.CLIENT) == (reset.direction is Direction.EGRESS)
    if sent_by_client and _is_given_up(reset, pushed=exchange.pushed):
        return None
    if reset.untaken:
        return "GOAWAY"
    return _code_name(reset.code) or _UNNAMED


def reset_attributes(reset: StreamReset) -> dict[str, AttributeValue]:
    """Return what a span says of the frame that gave its stream up."""
    attributes: dict[str, AttributeValue] = {
        "wirespan.reset.direction": "sent" if reset.direction is Direction.EGRESS else "received"
    }
    if reset.untaken:
        attributes["wirespan.reset.code"] = "GOAWAY"
    elif reset.code is not None:
        attributes["wirespan.reset.code"] = _code_name(reset.code) or str(reset.code)
    return attributes


def _is_given_up(reset: StreamReset, *, pushed: bool) -> bool:
    """Whether a client just takes no more of a stream; a code that was not seen is not taken for an error."""
    if reset.code is None or reset.code in (_NO_ERROR, _CANCEL):
        return True
    # RFC 9113 §8.4.2: a client refuses a push with either code.
    return pushed and reset.code == _REFUSED_STREAM


def _code_name(code: int | None) -> str | None:
    return None if code is None else _CODE_NAMES.get(code)
