"""What a connection speaks after it has left HTTP/1.

Owns that choice. It must not read what is spoken then.
"""

from __future__ import annotations

from parsers.connection import Connection
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import HttpExchange, HttpResponse
from parsers.limits import ParserLimits
from parsers.stream import Piece
from parsers.tunnel import TakesOver, TunnelConnection
from parsers.websocket.connection import WebSocketConnection
from parsers.websocket.dialogue import opens_websocket


def choose_successor(
    connection: Connection,
    limits: ParserLimits,
    counts: dict[str, int],
    handshake: HttpExchange | None,
    unread: tuple[list[Piece], list[Piece]],
    http1: TakesOver,
) -> Connection | None:
    """Return what reads the connection from here on; None when nothing in it will be looked at.

    `handshake` is the exchange that switched the protocol; None when the client just began with the preface
    of HTTP/2. The successor has to emit it, unless it is a tunnel: what a tunnel carries is no part of the
    exchange that set it up. `unread` are the pieces behind the handshake, by direction; the preface is
    among them. `http1` makes what reads HTTP/1 inside a tunnel.
    """
    if handshake is None:
        return Http2Connection(connection, limits, counts, joined_late=False, unread=unread)
    response = handshake.response
    if response is None:
        return None
    if opens_websocket(handshake.request, response):
        return WebSocketConnection(connection, limits, counts, handshake, response, unread)
    if opens_http2(response):
        return Http2Connection(
            connection, limits, counts, joined_late=False, unread=unread, handshake=handshake
        )
    known = connection.prologue
    if known is not None and len(known.tunnels) >= limits.max_tunnels:
        counts["tunnels_unjudged"] += 1
        return None
    return TunnelConnection(connection, limits, counts, handshake, unread, http1=http1, http2=Http2Connection)


def opens_http2(response: HttpResponse) -> bool:
    """Whether a response switches to HTTP/2 over cleartext TCP (RFC 7540 §3.2)."""
    return response.status == 101 and any(
        name.lower() == b"upgrade" and value.lower() == b"h2c" for name, value in response.headers
    )
