"""The two sides of HTTP/1: what reading a request and reading a response do differently.

Owns the making of request and response records from heads, and how each of them begins. Everything both
sides share is in `reader`, which is given one of them: two kinds of readers would be slower, since Python
remembers at each place in its code the one type that was met there.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar, Final, Generic, TypeAlias

from parsers.http1.field_lines import is_token
from parsers.http1.framing import Framing, decide_request_framing, decide_response_framing
from parsers.http1.head import (
    Fields,
    RequestHead,
    ResponseHead,
    is_request_start,
    is_response_start,
    parse_plain_request,
    parse_plain_response,
    parse_request_head,
    parse_response_head,
    parse_trailers,
)
from parsers.http1.message import RecordT
from parsers.http1.outcome import Outcome
from parsers.http_exchange import Body, HttpRequest, HttpResponse
from parsers.limits import ParserLimits

_NO_BODY: Final = Framing.NO_BODY
_TUNNEL: Final = Framing.TUNNEL
_STATUS_PREFIX = b"HTTP/1."
# Shared, for every message replaces it when it ends.
_BODY_TO_COME: Final = Body(None, b"", None)
_CLAIMED_VERSION = re.compile(rb"HTTP/([0-9]{1,2}(?:\.[0-9]{1,2})?)")
_HTTP2_START_LINE = b"PRI * HTTP/2.0"
HTTP2_PREFACE = _HTTP2_START_LINE + b"\r\n\r\n"
"""The beginning of the client's preface (RFC 9113 §3.4), which reads as the head of a request."""

Opened: TypeAlias = tuple[RecordT, Fields, Framing, int]
"""A message whose head was read: its record, its fields, how its end is found, and the length of its body
where that is declared."""


class Side(ABC, Generic[RecordT]):
    """What a reader asks when a message begins, or may begin."""

    __slots__ = ()

    is_of_requests: ClassVar[bool]

    @abstractmethod
    def open(
        self, block: bytes, start_ktime_ns: int, ktime_ns: int, request_method: bytes | None
    ) -> Opened[RecordT] | Outcome | None:
        """Read a head whose first byte passed at `start_ktime_ns` and whose last one passed at `ktime_ns`.

        Return the message; INTERIM or HTTP2 for a head that begins none; None when it is no head at all.
        `request_method` is that of the request that a response answers, None when it is unknown.
        """

    @abstractmethod
    def open_plain(
        self, block: bytes, ktime_ns: int, request_method: bytes | None
    ) -> Opened[RecordT] | Outcome | None:
        """Read a head that passed at once, by the fast lane; None when it is not plain."""

    @abstractmethod
    def begins_message(self, data: bytes) -> bool:
        """Whether a record begins with a message, for finding the place after a loss."""

    @abstractmethod
    def is_plausible(self, start: bytes) -> bool:
        """Whether the first bytes of an unfinished head can still become one."""

    @abstractmethod
    def describe_refused(
        self, block: bytes, start_ktime_ns: int, ktime_ns: int
    ) -> tuple[RecordT, Fields] | None:
        """Return what can be read of a head that is none; None on the side on which it is of no use."""


class RequestSide(Side[HttpRequest]):
    """The side of requests."""

    __slots__ = ("_max_header_block",)

    is_of_requests = True

    def __init__(self, limits: ParserLimits) -> None:
        self._max_header_block = limits.max_header_block

    def open(
        self,
        block: bytes,
        start_ktime_ns: int,
        ktime_ns: int,
        request_method: bytes | None,  # noqa: ARG002 - of the side
    ) -> Opened[HttpRequest] | Outcome | None:
        """Read a head by the first lane that takes it."""
        head = parse_request_head(block)
        if head is None:
            return Outcome.HTTP2 if block == _HTTP2_START_LINE else None
        return self._begin(head, start_ktime_ns, ktime_ns)

    def open_plain(
        self,
        block: bytes,
        ktime_ns: int,
        request_method: bytes | None,  # noqa: ARG002 - of the side
    ) -> Opened[HttpRequest] | Outcome | None:
        """Read a head by the fast lane."""
        head = parse_plain_request(block)
        return None if head is None else self._begin(head, ktime_ns, ktime_ns)

    def _begin(self, head: RequestHead, start_ktime_ns: int, ktime_ns: int) -> Opened[HttpRequest]:
        framing, length = decide_request_framing(head)
        fields = head.fields
        record = HttpRequest(
            head.method,
            head.target,
            head.version,
            fields.headers,
            Body(0, b"", None) if framing is _NO_BODY else _BODY_TO_COME,
            start_ktime_ns,
            ktime_ns,
        )
        return record, fields, framing, length

    def begins_message(self, data: bytes) -> bool:
        """Whether a record begins with a request line, or with the preface of HTTP/2."""
        return data.startswith(_HTTP2_START_LINE) or is_request_start(data, self._max_header_block)

    def is_plausible(self, start: bytes) -> bool:
        """Whether a method may begin so."""
        return 0x21 <= start[0] <= 0x7E

    def describe_refused(
        self, block: bytes, start_ktime_ns: int, ktime_ns: int
    ) -> tuple[HttpRequest, Fields]:
        """Return method, target and version as far as they are there in full, and the fields behind them."""
        line, line_end, section = block.partition(b"\n")
        words = line.removesuffix(b"\r").split(b" ")
        # The last word, and the last line, are whole only where something follows them.
        whole = words if line_end else words[:-1]
        lines = section.rpartition(b"\n")[0].removesuffix(b"\r")
        version = _CLAIMED_VERSION.fullmatch(whole[-1]) if len(whole) > 2 else None
        fields = parse_trailers(lines) if lines else Fields([], {})
        method = whole[0] if whole and whole[0] and is_token(whole[0]) else None
        is_readable = method is not None and len(whole) in (2, 3) and b"\x00" not in whole[1]
        record = HttpRequest(
            method,
            (whole[1] or None) if is_readable else None,
            "" if version is None else version[1].decode(),
            fields.headers,
            _BODY_TO_COME,
            start_ktime_ns,
            ktime_ns,
        )
        return record, fields


class ResponseSide(Side[HttpResponse]):
    """The side of responses."""

    __slots__ = ("interim_status",)

    is_of_requests = False

    def __init__(self) -> None:
        self.interim_status = 0
        """Status of the 1xx response that was read last."""

    def open(
        self, block: bytes, start_ktime_ns: int, ktime_ns: int, request_method: bytes | None
    ) -> Opened[HttpResponse] | Outcome | None:
        """Read a head by the first lane that takes it."""
        head = parse_response_head(block)
        return None if head is None else self._begin(head, start_ktime_ns, ktime_ns, request_method)

    def open_plain(
        self, block: bytes, ktime_ns: int, request_method: bytes | None
    ) -> Opened[HttpResponse] | Outcome | None:
        """Read a head by the fast lane."""
        head = parse_plain_response(block)
        return None if head is None else self._begin(head, ktime_ns, ktime_ns, request_method)

    def _begin(
        self, head: ResponseHead, start_ktime_ns: int, ktime_ns: int, request_method: bytes | None
    ) -> Opened[HttpResponse] | Outcome:
        status = head.status
        if status < 200 and status != 101:
            self.interim_status = status
            return Outcome.INTERIM
        framing, length = decide_response_framing(head, request_method)
        fields = head.fields
        record = HttpResponse(
            status,
            head.reason,
            head.version,
            fields.headers,
            Body(0, b"", None) if framing is _NO_BODY or framing is _TUNNEL else _BODY_TO_COME,
            start_ktime_ns,
            ktime_ns,
        )
        return record, fields, framing, length

    def begins_message(self, data: bytes) -> bool:
        """Whether a record begins with a status line."""
        return is_response_start(data)

    def is_plausible(self, start: bytes) -> bool:
        """Whether a status line may begin so."""
        return _STATUS_PREFIX.startswith(start[:7])

    def describe_refused(self, block: bytes, start_ktime_ns: int, ktime_ns: int) -> None:  # noqa: ARG002 - of the side
        """Return None: what is no response answers nothing."""
        return


def detect_side(start: bytes, *, joined_late: bool) -> bool | None:
    """Return whether a direction carries requests, by its first bytes; None when they do not show it yet.

    After a late join, bytes may be from the middle of a message, so only the whole beginning of one shows it.
    """
    if start.startswith(_STATUS_PREFIX):
        return False
    if joined_late:
        return True if is_request_start(start, len(start)) else None
    return None if _STATUS_PREFIX.startswith(start) else True
