"""What uvicorn serves: a known length, or chunks when the path asks for them."""

from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with the path and the length of the request's body."""
    assert scope["type"] == "http"
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    text = f"{scope['path']} {length}\n".encode()
    headers = [(b"content-type", b"text/plain")]
    if not scope["path"].startswith("/chunked"):
        headers.append((b"content-length", str(len(text)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text[:4], "more_body": True})
    await send({"type": "http.response.body", "body": text[4:]})
