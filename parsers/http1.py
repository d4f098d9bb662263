"""The two sides of HTTP/1: what reading a request and reading a response do differently.

Owns the making of request and response records from heads. Everything both sides share is in `http1_reader`.
"""

from __future__ import annotations

from typing import Final

from parsers.exchange import Body, HttpRequest, HttpResponse
from parsers.http1_framing import Framing, decide_request_framing, decide_response_framing
from parsers.http1_head import is_request_start, is_response_start, parse_request_head, parse_response_head
from parsers.http1_message import Message
from parsers.http1_reader import MessageReader, Outcome
from parsers.limits import ParserLimits

_NO_BODY: Final = Framing.NO_BODY
_TUNNEL: Final = Framing.TUNNEL
_STATUS_PREFIX = b"HTTP/1."
_HTTP2_PREFACE = b"PRI * HTTP/2.0"


class RequestReader(MessageReader[HttpRequest]):
    """Reads requests."""

    __slots__ = ()

    def _open(self, block: bytes) -> Outcome:
        head = parse_request_head(block)
        if head is None:
            if block.startswith(_HTTP2_PREFACE):
                self._leave_http()
                return Outcome.HTTP2
            return self._refuse_head("invalid_heads")
        framing, length = decide_request_framing(head)
        start = self._start_ktime_ns
        record = HttpRequest(
            head.method,
            head.target,
            head.version,
            head.fields.headers,
            Body(0 if framing is _NO_BODY else None, b"", None),
            start,
            max(start, self._piece.ktime_ns),
        )
        return self._start(Message(record, head.fields, len(block), self._start_tgid), framing, length)

    def _begins_message(self, data: bytes) -> bool:
        return data.startswith(_HTTP2_PREFACE) or is_request_start(data, self._limits.max_header_block)

    def _is_plausible(self, start: bytes) -> bool:
        return 0x21 <= start[0] <= 0x7E


class ResponseReader(MessageReader[HttpResponse]):
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
        if head.status < 200 and head.status != 101:
            self._pass_over_head()
            self.interim_status = head.status
            return Outcome.INTERIM
        framing, length = decide_response_framing(head, self.request_method)
        start = self._start_ktime_ns
        record = HttpResponse(
            head.status,
            head.reason,
            head.version,
            head.fields.headers,
            Body(0 if framing is _NO_BODY or framing is _TUNNEL else None, b"", None),
            start,
            max(start, self._piece.ktime_ns),
        )
        return self._start(Message(record, head.fields, len(block), self._start_tgid), framing, length)

    def _begins_message(self, data: bytes) -> bool:
        return is_response_start(data)

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
