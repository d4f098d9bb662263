"""A JSON-RPC 2.0 server for the end-to-end tests: `python -m tests.e2e.servers.json_rpc_server ADDRESS`.

The first line of output is the port. It knows `add` and `divide`, takes batches and notifications, and
answers as server-sent events when asked to accept nothing else.
"""

import json
import sys
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any

from tests.e2e.servers.threaded_server import Handler as AnsweringHandler

METHODS: dict[str, Callable[..., Any]] = {
    "add": lambda first, second: first + second,
    "divide": lambda first, second: first / second,
}


def respond(call: dict[str, Any]) -> dict[str, Any] | None:
    """Return the response to a call, None for a notification."""
    outcome: dict[str, Any]
    if call["method"] not in METHODS:
        outcome = {"error": {"code": -32601, "message": "Method not found"}}
    else:
        try:
            outcome = {"result": METHODS[call["method"]](*call["params"])}
        except ArithmeticError as error:
            outcome = {"error": {"code": -32000, "message": str(error)}}
    return {"jsonrpc": "2.0", "id": call["id"], **outcome} if "id" in call else None


class Handler(AnsweringHandler):
    def do_POST(self) -> None:  # noqa: N802 (the name is the library's)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered: Any = None
        if isinstance(asked, list):
            # JSON-RPC allows any order; clients go by the ids.
            answered = [response for call in reversed(asked) if (response := respond(call)) is not None]
        else:
            answered = respond(asked)
        content = json.dumps(answered).encode() if answered else b""
        if self.headers["Accept"] == "text/event-stream":
            self.answer(b"event: message\ndata: " + content + b"\n\n", "text/event-stream")
        else:
            self.answer(content, "application/json")


def main() -> None:
    server = ThreadingHTTPServer((sys.argv[1], 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
