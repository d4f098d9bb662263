"""Exchanges as the bytes of connections: HTTP/1 as written here, HTTP/2 by h2 with its HPACK encoder.

Owns bytes, and which socket call moves which of them. It must not know a record of the kernel side.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.traffic import AUTHORITY, Exchange, Message
from tests.unit.parsers.http2_peers import Dialogue

STREAMS_AT_ONCE = 8
"""Most streams that a client has open at once over HTTP/2."""
_WINDOW_BYTES = 1 << 30
"""Of flow control, so that all bytes of a conversation fit."""


@dataclass(frozen=True, slots=True)
class Call:
    """One socket call of either side."""

    from_client: bool
    data: bytes


def write_http1(exchange: Exchange, chance: random.Random) -> tuple[list[Call], list[Call]]:
    """Return the calls of a request and of its response: some write head and body at once, some apart."""
    start = f"{exchange.method} {exchange.target} HTTP/1.1\r\nHost: {AUTHORITY}\r\n"
    request = _write_message(start, exchange.request, chance, has_body=bool(exchange.request.body))
    start = f"HTTP/1.1 {exchange.status} {exchange.reason}\r\n"
    response = _write_message(start, exchange.response, chance, has_body=exchange.status not in (204, 304))
    return [Call(from_client=True, data=data) for data in request], [
        Call(from_client=False, data=data) for data in response
    ]


def _write_message(start: str, message: Message, chance: random.Random, *, has_body: bool) -> list[bytes]:
    head = start + "".join(f"{name.title()}: {value}\r\n" for name, value in message.fields)
    body = [message.body]
    if message.pieces:
        head += "Transfer-Encoding: chunked\r\n"
        starts = (0, *message.pieces)
        body = [
            b"%x\r\n%b\r\n" % (end - at, message.body[at:end])
            for at, end in zip(starts, message.pieces, strict=False)
        ]
        body.append(b"0\r\n\r\n")
    elif has_body:
        head += f"Content-Length: {len(message.body)}\r\n"
    parts = [f"{head}\r\n".encode(), *filter(None, body)]
    return parts if chance.random() < 0.3 else [b"".join(parts)]


def write_http2(exchanges: Sequence[Exchange], chance: random.Random) -> list[Call]:
    """Return the calls of one connection: several streams at once, answered in any order."""
    peers = Dialogue()
    for peer in (peers.client, peers.server):
        peer.increment_flow_control_window(_WINDOW_BYTES)
    peers.flush()
    left = list(reversed(exchanges))
    while left:
        asked = []
        for _ in range(min(len(left), chance.randint(1, STREAMS_AT_ONCE))):
            exchange = left.pop()
            pseudo = {
                ":method": exchange.method,
                ":scheme": "http",
                ":authority": AUTHORITY,
                ":path": exchange.target,
            }
            stream = peers.ask(
                _encode_fields(pseudo, exchange.request), exchange.request.body or None, flush=False
            )
            peers.calls.append((True, peers.client.data_to_send()))
            peers.server.receive_data(peers.calls[-1][1])
            asked.append((stream, exchange))
        peers.flush()
        chance.shuffle(asked)
        for stream, exchange in asked:
            fields = _encode_fields({":status": str(exchange.status)}, exchange.response)
            peers.answer(stream, fields, exchange.response.body or None, flush=False)
            peers.calls.append((False, peers.server.data_to_send()))
            peers.client.receive_data(peers.calls[-1][1])
        peers.flush()
    return [Call(from_client, data) for from_client, data in peers.calls]


def _encode_fields(pseudo: dict[str, str], message: Message) -> list[tuple[bytes, bytes]]:
    fields = [*pseudo.items(), *message.fields]
    if message.body and not message.pieces:
        fields.append(("content-length", str(len(message.body))))
    return [(name.encode(), value.encode()) for name, value in fields]
