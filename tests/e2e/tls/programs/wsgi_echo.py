"""What gunicorn serves in these tests: the answer of the plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.e2e.tls.plan import Request

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    answer = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], body).answer.encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]
