"""What uvicorn serves in these tests: the answer of the plan, in two parts."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.e2e.tls.plan import Request

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = Request(scope["method"], scope["path"], body.decode()).answer.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer[:11], "more_body": True})
    await send({"type": "http.response.body", "body": answer[11:]})
