"""What gunicorn serves: a known length, or chunks when the path asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the path and the length of the request's body."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    text = f"{environ['PATH_INFO']} {len(body)}\n".encode()
    headers = [("Content-Type", "text/plain")]
    if not environ["PATH_INFO"].startswith("/chunked"):
        headers.append(("Content-Length", str(len(text))))
    start_response("200 OK", headers)
    return [text[:4], text[4:]]
