"""What a connection speaks after it has left HTTP/1.

Owns that choice. It must not read what is spoken then.
"""

from __future__ import annotations

from parsers.connection import Connection
from parsers.exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.stream import Piece


def choose_successor(
    connection: Connection,
    limits: ParserLimits,
    counts: dict[str, int],
    handshake: HttpExchange | None,
    unread: tuple[list[Piece], list[Piece]],
) -> Connection | None:
    """Return what reads the connection from here on; None when nobody understands it.

    `handshake` is the exchange that switched the protocol, which the successor then has to emit; None when
    the client just began with the preface of HTTP/2. `unread` are the pieces behind it, by direction; the
    preface is among them.
    """
    if handshake is None:
        counts["connections_http2"] += 1
    return None
