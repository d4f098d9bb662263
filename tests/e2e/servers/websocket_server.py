"""A WebSocket server: `python -m tests.e2e.servers.websocket_server IMPLEMENTATION`; it prints its port.

It repeats what it is told, but for some words:

| text | then it |
|---|---|
| `fragments` | sends a message in several frames, with a ping in between |
| `push COUNT SIZE` | sends so many binary messages of so many bytes, without waiting for anything |
| `bye` | closes with code 4001 |
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence

import websockets
from aiohttp import WSMsgType, web
from websockets.asyncio.server import ServerConnection

FRAGMENTS = ["a message ", "in several ", "frames"]


async def _serve_websockets() -> int:
    async def fragments(connection: ServerConnection) -> AsyncIterator[str]:
        for fragment in FRAGMENTS:
            yield fragment
            await (await connection.ping(b"in between"))

    async def converse(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "fragments":
                await connection.send(fragments(connection))
            elif isinstance(message, str) and message.startswith("push "):
                _, count, size = message.split()
                for _ in range(int(count)):
                    await connection.send(bytes(int(size)))
            elif message == "bye":
                await connection.close(4001, "as you wish")
            else:
                await connection.send(message)

    def select(
        _: ServerConnection, offered: Sequence[websockets.Subprotocol]
    ) -> websockets.Subprotocol | None:
        return offered[0] if offered else None

    server = await websockets.serve(converse, "127.0.0.1", 0, select_subprotocol=select)
    return int(server.sockets[0].getsockname()[1])


async def _serve_aiohttp() -> int:
    async def converse(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(protocols=["chat"])
        await connection.prepare(request)
        async for message in connection:
            if message.type is WSMsgType.BINARY:
                await connection.send_bytes(message.data)
            elif message.data == "bye":
                await connection.close(code=4001, message=b"as you wish")
            else:
                await connection.send_str(message.data)
        return connection

    application = web.Application()
    application.router.add_get("/{tail:.*}", converse)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def _main() -> None:
    serve = {"websockets": _serve_websockets, "aiohttp": _serve_aiohttp}[sys.argv[1]]
    print(await serve(), flush=True)  # noqa: T201 - the test that started the server reads the port
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
