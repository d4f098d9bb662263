"""JSON-RPC and GraphQL answered by streams: `python -m tests.e2e.servers.streaming_server`.

The first line of output is its port. It is hypercorn, for HTTP/1.1 and HTTP/2 with prior knowledge. `/mcp`
answers as a server of the Model Context Protocol does (streamable HTTP): by server-sent events, in which a
notification and a request of its own come before the response. With `Accept: application/x-ndjson` or
`application/json-seq` it frames the same so. `/graphql` executes by graphql-core: each result of an operation
is an event (GraphQL over SSE, distinct connections), or with `Accept: multipart/mixed` a part. Over a
WebSocket `/mcp` takes calls as they are, and `/graphql` the subprotocol `graphql-transport-ws`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from graphql import ExecutionResult, build_schema, parse, subscribe
from hypercorn.asyncio import serve
from hypercorn.config import Config

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SCHEMA = build_schema("type Query { none: Int } type Subscription { countdown(from: Int!): Int }")
EVENT_STREAM = "text/event-stream"


class Root:
    """Resolves the subscription: it counts down and breaks at 0."""

    async def countdown(self, _info: Any, **arguments: int) -> AsyncIterator[dict[str, Any]]:
        for number in range(arguments["from"], -1, -1):
            yield {"countdown": number if number else ValueError("ignition")}


async def respond(call: Any) -> AsyncIterator[Any]:
    """Return what a server says until it has responded to a call, or to a batch."""
    yield {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": 1, "progress": 1},
    }
    calls = call if isinstance(call, list) else [call]
    yield {"jsonrpc": "2.0", "method": "sampling/createMessage", "id": calls[0]["id"], "params": {}}
    for each in calls:
        response = {"jsonrpc": "2.0", "id": each["id"]}
        if each["method"] == "tools/list":
            yield {**response, "result": {"tools": []}}
        else:
            yield {**response, "error": {"code": -32601, "message": f"Method not found: {each['method']}"}}


async def execute(members: dict[str, Any]) -> AsyncIterator[Any]:
    """Return the results of a subscription, one after the other."""
    results: Any = subscribe(SCHEMA, parse(members["query"]), Root())
    if inspect.isawaitable(results):
        # graphql-core before 3.3.
        results = await results
    if isinstance(results, ExecutionResult):
        yield results.formatted
        return
    async for result in results:
        yield result.formatted


def encode(message: Any, accepted: str, kind: str, number: int) -> bytes:
    """Return a message in its framing."""
    text = json.dumps(message)
    if accepted == "application/x-ndjson":
        return f"{text}\n".encode()
    if accepted == "application/json-seq":
        return f"\x1e{text}\n".encode()
    if accepted == "multipart/mixed":
        return f"Content-Type: application/json\r\n\r\n{text}\r\n---\r\n".encode()
    data = json.dumps(message, indent=1).replace("\n", "\r\ndata: ")
    return f"event: {kind}\r\nid: {number}\r\ndata: {data}\r\n\r\n".encode()


async def converse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer each message of a WebSocket until it is closed."""
    await receive()
    is_graphql = scope["path"] == "/graphql"
    await send({"type": "websocket.accept", "subprotocol": "graphql-transport-ws" if is_graphql else None})

    async def say(message: Any) -> None:
        await send({"type": "websocket.send", "text": json.dumps(message)})

    while (received := await receive())["type"] == "websocket.receive":
        asked = json.loads(received["text"])
        if not is_graphql:
            async for message in respond(asked):
                await say(message)
        elif asked["type"] == "connection_init":
            await say({"type": "connection_ack"})
        else:
            async for result in execute(asked["payload"]):
                await say({"id": asked["id"], "type": "next", "payload": result})
            await say({"id": asked["id"], "type": "complete"})


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        return
    if scope["type"] == "websocket":
        await converse(scope, receive, send)
        return
    content = b""
    more = True
    while more:
        received = await receive()
        content += received.get("body", b"")
        more = received.get("more_body", False)
    asked = json.loads(content)
    accepted = dict(scope["headers"])[b"accept"].decode()
    is_graphql = scope["path"] == "/graphql"
    content_type = f'{accepted}; boundary="-"' if accepted == "multipart/mixed" else accepted

    async def write(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", content_type.encode())],
        }
    )
    if accepted == EVENT_STREAM:
        await write(b":\r\n\r\n")
    if accepted == "multipart/mixed":
        await write(b"---\r\n")
    number = 0
    async for message in execute(asked) if is_graphql else respond(asked):
        await write(encode(message, accepted, "next" if is_graphql else "message", number))
        number += 1
    if accepted == "multipart/mixed":
        await write(b"Content-Type: application/json\r\n\r\n{}\r\n-----\r\n")
    elif is_graphql:
        await write(b"event: complete\r\ndata:\r\n\r\n")
    await send({"type": "http.response.body", "body": b""})


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
