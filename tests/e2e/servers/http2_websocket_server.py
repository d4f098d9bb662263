"""WebSockets over HTTP/2 (RFC 8441): `python -m tests.e2e.servers.http2_websocket_server`.

The first line of output is its port. It is hypercorn, over cleartext with prior knowledge. On `/refused` it
refuses every client. Elsewhere it repeats what it is told; told `bye`, it closes with code 4001.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await converse(scope, receive, send)
    else:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})


async def converse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["http_version"] == "2"
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close", "code": 1000})
        return
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
        else:
            repeated = {kind: message[kind] for kind in ("text", "bytes") if message.get(kind) is not None}
            await send({"type": "websocket.send", **repeated})


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.accesslog = config.errorlog = None
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await serve(application, config)  # type: ignore[arg-type] # hypercorn spells out every message


if __name__ == "__main__":
    asyncio.run(main())
