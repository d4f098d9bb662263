"""OTLP over HTTP with protobuf bodies: one kept connection, one POST per request.

The session, its TLS settings and the classification of failures are those of the official exporter's
transport. Its export loop is not used: it takes redirects for success and drops what it cannot deliver within
its time-out.
"""

from __future__ import annotations

import gzip
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import requests
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.http.transport._requests import RequestsHTTPResult, RequestsHTTPTransport
from opentelemetry.exporter.otlp.proto.http import _OTLP_HTTP_HEADERS
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from urllib3.exceptions import HTTPError

from otel_bridge.delivery.options import ExportOptions, OtlpCompression
from otel_bridge.delivery.transport import (
    MAX_RESPONSE_BYTES,
    Delivered,
    Outcome,
    Refused,
    TooLarge,
    TryAgain,
)

# OTLP specification, "Retryable Response Codes" of OTLP/HTTP.
_TRANSIENT = frozenset({429, 502, 503, 504})
_TOO_LARGE = 413


class HttpTransport:
    """A session to one URL."""

    def __init__(self, options: ExportOptions) -> None:
        session = _Session()
        # Answers are read by hand, up to a bound.
        session.stream = True
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
        result = self._transport.request(
            "POST", self._url, headers=self._headers, timeout=timeout_seconds, data=body
        )
        if result.error is not None:
            return TryAgain(f"{type(result.error).__name__}: {_root(result.error)}")
        assert isinstance(result, RequestsHTTPResult)
        assert result.response is not None
        return _outcome(result.response)

    def close(self) -> None:
        """Close the connections that no request is using."""
        self._transport.close()


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


def _outcome(response: requests.Response) -> Outcome:
    status = response.status_code
    try:
        answer = response.raw.read(MAX_RESPONSE_BYTES, decode_content=True)
        # Only a connection whose answer was read to its end can carry the next request.
        if response.raw.read(1):
            response.close()
        else:
            response.raw.release_conn()
    except (HTTPError, OSError) as error:
        response.close()
        if 200 <= status < 300:
            return TryAgain(f"HTTP {status}, then {type(error).__name__}: {error}")
        answer = b""
    if 200 <= status < 300:
        return _delivered(answer)
    reason = f"HTTP {status} {response.reason}: {_message(answer)}"
    if status == _TOO_LARGE:
        return TooLarge(reason)
    if status in _TRANSIENT:
        return TryAgain(reason, _retry_after(response.headers.get("Retry-After")))
    return Refused(reason)


def _delivered(answer: bytes) -> Delivered:
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        # The status is the answer; some backends put text beside it.
        return Delivered()
    return Delivered(partial.rejected_spans, partial.error_message)


def _message(answer: bytes) -> str:
    """Return the message of a google.rpc.Status, or the beginning of whatever else was sent."""
    try:
        message = Status.FromString(answer).message
    except DecodeError:
        message = ""
    return message or answer[:200].decode("utf-8", "replace")


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date (RFC 9110 §10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
