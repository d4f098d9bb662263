"""A WSGI application: it reads a request to its end and says in the header X-Read what it read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    try:
        body = environ["wsgi.input"].read()
    except Exception as error:  # noqa: BLE001  # whatever the server has against the body
        start_response("400 Bad Request", [("Content-Length", "0"), ("X-Error", type(error).__name__)])
        return []
    words = (environ["REQUEST_METHOD"], environ["RAW_URI"], environ.get("HTTP_HOST", ""))
    read = [word.encode("latin-1").hex() for word in words]
    read += [str(len(body)), hashlib.sha1(body).hexdigest()]
    start_response("200 OK", [("Content-Length", "4"), ("X-Read", " ".join(read))])
    return [b"read"]
