"""The two sides of HTTP/1: what reading a request and reading a response do differently.

Owns the making of request and response records from heads. Everything both sides share is in `reader`.
"""

from __future__ import annotations

from typing import Final

from ebpf.http_prefixes import HTTP_PREFIXES
from parsers.exchange import Body, HttpRequest, HttpResponse
from parsers.http1.direct import DirectReader
from parsers.http1.framing import Framing, decide_request_framing, decide_response_framing
from parsers.http1.head import (
    RequestHead,
    ResponseHead,
    is_request_start,
    is_response_start,
    parse_plain_request,
    parse_plain_response,
    parse_request_head,
    parse_response_head,
)
from parsers.http1.message import Message
from parsers.http1.outcome import Outcome
from parsers.limits import ParserLimits

_NO_BODY: Final = Framing.NO_BODY
_TUNNEL: Final = Framing.TUNNEL
_STATUS_PREFIX = b"HTTP/1."
# Shared, for every message replaces it when it ends.
_BODY_TO_COME: Final = Body(None, b"", None)
_HTTP2_START_LINE = b"PRI * HTTP/2.0"
HTTP2_PREFACE = _HTTP2_START_LINE + b"\r\n\r\n"
"""The beginning of the client's preface (RFC 9113 §3.4), which reads as the head of a request."""

_KNOWN_BEGINNINGS = tuple(prefix for prefix, meaning in HTTP_PREFIXES if meaning != "INFERENCE_RESPONSE")


class RequestReader(DirectReader[HttpRequest]):
    """Reads requests."""

    __slots__ = ()

    def _open(self, block: bytes) -> Outcome:
        head = parse_request_head(block)
        if head is None:
            if block == _HTTP2_START_LINE:
                self._leave_http()
                return Outcome.HTTP2
            return self._refuse_head("invalid_heads")
        return self._take_head(head, len(block), self._piece.ktime_ns)

    def _open_plain(self, block: bytes) -> Outcome | None:
        head = parse_plain_request(block)
        return None if head is None else self._take_head(head, len(block), self._start_ktime_ns)

    def _take_head(self, head: RequestHead, size: int, ktime_ns: int) -> Outcome:
        framing, length = decide_request_framing(head)
        start = self._start_ktime_ns
        fields = head.fields
        record = HttpRequest(
            head.method,
            head.target,
            head.version,
            fields.headers,
            Body(0, b"", None) if framing is _NO_BODY else _BODY_TO_COME,
            start,
            ktime_ns if ktime_ns > start else start,
        )
        return self._start(Message(record, fields, size, self._start_tgid), framing, length)

    def _begins_message(self, data: bytes) -> bool:
        return data.startswith(_HTTP2_START_LINE) or is_request_start(data, self._limits.max_header_block)

    def _surely_begins_message(self, data: bytes) -> bool:
        # `ET / HTTP/1.1` is a request line too, of a method that nobody uses.
        return data.startswith(_KNOWN_BEGINNINGS) and self._begins_message(data)

    def _is_plausible(self, start: bytes) -> bool:
        return 0x21 <= start[0] <= 0x7E


class ResponseReader(DirectReader[HttpResponse]):
    """Reads responses; `request_method`, set from outside, is that of the next request, None when unknown."""

    __slots__ = ("interim_status", "request_method")

    def __init__(self, limits: ParserLimits, counts: dict[str, int], *, joined_late: bool) -> None:
        super().__init__(limits, counts, joined_late=joined_late)
        self.request_method: bytes | None = None
        self.interim_status = 0

    def _open(self, block: bytes) -> Outcome:
        head = parse_response_head(block)
        if head is None:
            return self._refuse_head("invalid_heads")
        return self._take_head(head, len(block), self._piece.ktime_ns)

    def _open_plain(self, block: bytes) -> Outcome | None:
        head = parse_plain_response(block)
        return None if head is None else self._take_head(head, len(block), self._start_ktime_ns)

    def _take_head(self, head: ResponseHead, size: int, ktime_ns: int) -> Outcome:
        status = head.status
        if status < 200 and status != 101:
            self._pass_over_head()
            self.interim_status = status
            return Outcome.INTERIM
        framing, length = decide_response_framing(head, self.request_method)
        start = self._start_ktime_ns
        fields = head.fields
        record = HttpResponse(
            status,
            head.reason,
            head.version,
            fields.headers,
            Body(0, b"", None) if framing is _NO_BODY or framing is _TUNNEL else _BODY_TO_COME,
            start,
            ktime_ns if ktime_ns > start else start,
        )
        return self._start(Message(record, fields, size, self._start_tgid), framing, length)

    def _begins_message(self, data: bytes) -> bool:
        return is_response_start(data)

    def _surely_begins_message(self, data: bytes) -> bool:
        return self._begins_message(data)

    def _is_plausible(self, start: bytes) -> bool:
        return _STATUS_PREFIX.startswith(start[:7])


def detect_side(start: bytes, *, joined_late: bool) -> bool | None:
    """Tell by its first bytes whether a direction carries requests; None when they do not tell yet.

    Joined late, bytes may be from the middle of a message, so only the whole beginning of one tells.
    """
    if start.startswith(_STATUS_PREFIX):
        return False
    if joined_late:
        return True if is_request_start(start, len(start)) else None
    return None if _STATUS_PREFIX.startswith(start) else True
