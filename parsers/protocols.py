"""The protocols that are read, a row each, and what each of them owes: its contract.

Owns the table, and which class reads a connection from its first event on. It must not look into bytes. What
a connection goes over to later (a tunnel, a WebSocket, HTTP/2 by an upgrade) is decided by the protocol that
was spoken before.

A protocol is a folder beside this file, and a row here. Contract of the folder:

* A subclass of `connection.Connection` reads both directions. It gets pieces in their order, gaps among them,
  and hands out exchanges. It reads no clock and does no I/O.
* Its exchanges are a subclass of `exchange.Exchange`. One that is not whole says why (`incomplete`), and a
  pair that is in doubt is flagged. Bytes that are missing are never filled in.
* It joins late: a connection may begin in the middle of anything (`connection.begins_late`), lose bytes, or
  show one direction only.
* `held_bytes` says what it holds, and every queue in it has a bound in `limits` and a count in `counters`.
* Wire data never raises. What raises all the same is a bug: it costs the connection, and is counted.

Outside of the folder a protocol has one C function, by which the kernel side recognises its connections, and
a row or a line at each place that `PROTOCOL:` marks; docs/design/0013-protocols.md is the recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ebpf.events import Protocol, SocketEvent
from parsers.application import recognise
from parsers.connection import Connection, begins_late
from parsers.exchange import Exchange
from parsers.http1.connection import Http1Connection
from parsers.http2.connection import Http2Connection
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits

Open: TypeAlias = Callable[[SocketEvent, ParserLimits, dict[str, int]], Connection]
"""Makes what reads a connection, of its first event; the counters are the tracker's, added to by it."""

Recognise: TypeAlias = Callable[[Any, ParserLimits, dict[str, int]], None]
"""Adds to a finished exchange of its kind what only the content shows."""


@dataclass(frozen=True, slots=True)
class ProtocolRow:
    """One protocol, as the tracker needs it."""

    name: str
    number: int
    """`SocketInfo.protocol` of its connections: an `ebpf.events.Protocol`."""
    open: Open
    kind: type[Exchange]
    """What its connections hand out; protocols may share one."""
    recognise: Recognise | None = None
    """Called once for each exchange of this kind, before it leaves the parsers; None: nothing is added."""


def open_http2(event: SocketEvent, limits: ParserLimits, counts: dict[str, int]) -> Connection:
    """Return what reads a connection that the source judged to speak HTTP/2."""
    return Http2Connection(event, limits, counts, joined_late=begins_late(event))


# PROTOCOL: a row for its connections.
PROTOCOLS: tuple[ProtocolRow, ...] = (
    ProtocolRow("http1", Protocol.HTTP1, Http1Connection, HttpExchange, recognise),
    ProtocolRow("http2", Protocol.HTTP2, open_http2, HttpExchange, recognise),
)
