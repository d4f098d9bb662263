"""OTLP over HTTP with protobuf bodies: one kept connection, one POST per request.

The session, its TLS settings and the classification of failures are those of the official exporter's
transport. Its export loop is not used: it takes redirects for success and drops what it cannot deliver within
its time-out.
"""

from __future__ import annotations

import gzip
import re
from http.client import HTTPException
from time import time
from typing import Any

import requests
from opentelemetry.exporter.http.transport._requests import RequestsHTTPResult, RequestsHTTPTransport
from opentelemetry.exporter.otlp.proto.http import _OTLP_HTTP_HEADERS
from urllib3.exceptions import HTTPError

from otel_bridge.delivery.answers import read_http_answer
from otel_bridge.delivery.attempt_deadline import AttemptDeadline, mount
from otel_bridge.delivery.options import ExportOptions, OtlpCompression
from otel_bridge.delivery.transport import MAX_RESPONSE_BYTES, Outcome, TryAgain

_SETTINGS_FRAME = re.compile(r"[\x00-\xff]{3}\x04\x00\x00\x00\x00\x00", re.DOTALL)
"""The header of the frame that a server begins HTTP/2 with (RFC 9113 §3.4 and §6.5): length, type, no flags,
stream 0. An HTTP/1 client takes it for a status line and quotes it."""


class HttpTransport:
    """A session to one URL."""

    def __init__(self, options: ExportOptions) -> None:
        session = _Session()
        # Answers are read by hand, up to a bound.
        session.stream = True
        self._deadline = AttemptDeadline()
        mount(session, self._deadline)
        # Else an entry in ~/.netrc would replace a configured Authorization header.
        session.auth = _keep_headers
        certificates = None
        if options.client_certificate is not None and options.client_key is not None:
            certificates = (str(options.client_certificate), str(options.client_key))
        self._transport = RequestsHTTPTransport(
            verify=str(options.certificate) if options.certificate is not None else True,
            cert=certificates,
            session=session,
        )
        self._url = options.endpoint
        self._headers = {**_OTLP_HTTP_HEADERS, **dict(options.headers)}
        self._gzip = options.compression is OtlpCompression.GZIP
        if self._gzip:
            self._headers["Content-Encoding"] = "gzip"

    def send(self, request: bytes, timeout_seconds: float) -> Outcome:
        """POST a serialised ExportTraceServiceRequest."""
        body = gzip.compress(request, compresslevel=6) if self._gzip else request
        with self._deadline.after(timeout_seconds):
            result = self._transport.request(
                "POST", self._url, headers=self._headers, timeout=timeout_seconds, data=body
            )
            if result.error is None:
                assert isinstance(result, RequestsHTTPResult)
                assert result.response is not None
                outcome = _read(result.response)
            else:
                outcome = _read_error(result.error)
        if self._deadline.is_over:
            return TryAgain(f"no whole answer within {timeout_seconds:g} s")
        return outcome

    def close(self) -> None:
        """Close the connections that no request is using."""
        self._transport.close()
        self._deadline.close()


def _read_error(error: BaseException) -> Outcome:
    root = _root(error)
    said = f"{type(error).__name__}: {root}"
    if _SETTINGS_FRAME.match(str(root)):
        said = "the port speaks HTTP/2 only: set the OTLP protocol to grpc, or use the port for HTTP"
    return TryAgain(said)


def _root(error: BaseException) -> BaseException:
    """Return what the system said; each layer above it only wraps it in its own description."""
    while error.__context__ is not None:
        error = error.__context__
    return error


class _Session(requests.Session):
    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # The base class prefers REQUESTS_CA_BUNDLE to the session's certificate; the one for OTLP must win.
        return super().merge_environment_settings(url, proxies, stream, verify or self.verify, cert)


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _read(response: requests.Response) -> Outcome:
    status = response.status_code
    try:
        answer = response.raw.read(MAX_RESPONSE_BYTES, decode_content=True)
        # Only a connection whose answer was read to its end can carry the next request.
        if response.raw.read(1, decode_content=True):
            response.close()
        else:
            response.raw.release_conn()
    except (HTTPError, OSError, HTTPException) as error:
        response.close()
        if 200 <= status < 300:
            return TryAgain(f"HTTP {status}, then {type(error).__name__}: {error}")
        answer = b""
    headers = response.headers
    return read_http_answer(
        status,
        response.reason or "",
        answer,
        content_type=headers.get("Content-Type", ""),
        retry_after=headers.get("Retry-After"),
        location=headers.get("Location"),
        now_unix_seconds=time(),
    )
