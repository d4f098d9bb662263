"""How the beginning of a message is recognised where the place in the stream is unknown.

After a late join, or behind lost bytes, the stream goes on somewhere in a message. The next message is
looked for only at the beginning of a record, that is of a call's bytes: a start line may stand inside a body,
but hardly where a call begins.

Owns that search: what a record must begin with, and records that hold the first part of a start line. It must
not read a head: once the line is there, the records go back to the reader.

| a record begins with | then |
|---|---|
| a whole start line, of a response or with a method of `HTTP_PREFIXES` | it is a message |
| a whole request line with any other token for a method, nothing being lost right before | it is a message |
| the first part of either, its line end missing | it waits for the next record of the same direction |
| anything else | it is passed over |

A record that waits goes on with the next one where the two make a start line. The next one is read anew
where it begins a start line by itself, with a method of `HTTP_PREFIXES`.

`ET / HTTP/1.1` is a request line by its form. Behind a lost byte it is more likely the rest of `GET /`, so a
method outside the list is believed only where the byte before is known, and ends no token.
"""

from __future__ import annotations

import re
from typing import Final

from ebpf.http_prefixes import HTTP_PREFIXES
from parsers.http1.head import is_request_start, is_response_start
from parsers.stream import Piece

KNOWN_BEGINNINGS: Final = tuple(
    prefix for prefix, meaning in HTTP_PREFIXES if meaning != "INFERENCE_RESPONSE"
)

_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]"
_PART_OF_METHOD = re.compile(_TOKEN + rb"+(?: [\x21-\x7e\x80-\xff]*)?")
_ENDS_IN_TOKEN = re.compile(_TOKEN + rb"\Z")
_STRICT_REQUEST_LINE = re.compile(_TOKEN + rb"+ [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r?\n")
_TARGET_BEGINS = re.compile(_TOKEN + rb"+ (?:[/*]|https?://)")
_PART_OF_LINE = re.compile(rb"[\x20-\x7e\x80-\xff]*\r?")
_PART_OF_STATUS_LINE = re.compile(
    rb"H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9](?: (?:[1-9](?:[0-9](?:[0-9])?)?)?)?)?)?)?)?)?)?)?"
)
_MATCHED_BYTES = 64
"""First bytes of a line that are looked at anew with each record: they hold a method and where the target
begins."""


def match_request_line(start: bytes, limit: int, *, any_method: bool) -> bool | None:
    """Whether bytes begin with a request line of at most `limit` bytes; None when they still may.

    With `any_method`, methods are not only those that are in use everywhere.
    """
    is_known = start.startswith(KNOWN_BEGINNINGS)
    if b"\n" in start[:limit]:
        if is_known:
            return is_request_start(start, limit)
        return any_method and _STRICT_REQUEST_LINE.match(start) is not None
    if len(start) > limit or _PART_OF_LINE.fullmatch(start) is None:
        return False
    if is_known or any(prefix.startswith(start) for prefix in KNOWN_BEGINNINGS):
        return None
    return None if any_method and _TARGET_BEGINS.match(start) is not None else False


def match_status_line(start: bytes) -> bool | None:
    """Whether bytes begin with a status line; None when they still may."""
    if is_response_start(start):
        return True
    return None if _PART_OF_STATUS_LINE.fullmatch(start) is not None else False


def may_begin_message(start: bytes, limit: int) -> bool:
    """Whether bytes may be the first part of a start line of at most `limit` bytes."""
    return bool(start) and (
        match_request_line(start, limit, any_method=True) is not False
        or match_status_line(start) is not False
    )


def may_be_method(start: bytes) -> bool:
    """Whether bytes may be a method or its first part, with or without what a target may begin with."""
    return _PART_OF_METHOD.fullmatch(start) is not None


def ends_in_token(data: bytes) -> bool:
    """Whether the last byte is one that a method may have."""
    return _ENDS_IN_TOKEN.search(data, len(data) - 1) is not None


class Search:
    """The search in one direction. `any_method` says whether nothing is lost right before what comes next."""

    __slots__ = ("_limit", "_line", "_of_requests", "any_method", "held", "held_bytes")

    def __init__(self, limit: int, *, of_requests: bool, any_method: bool) -> None:
        self._limit = limit
        self._of_requests = of_requests
        self._line = bytearray()
        self.any_method = any_method
        self.held: list[Piece] = []
        """Records that hold the first part of a start line."""
        self.held_bytes = 0

    def match(self, data: bytes) -> bool | None:
        """Whether a record begins with a message by itself; None when it still may."""
        is_after_token = bool(self.held) and ends_in_token(self.held[-1].data)
        return self._match(data, any_method=self.any_method and not is_after_token)

    def continues(self, data: bytes) -> bool | None:
        """Whether the line that is held becomes a start line with these bytes; None when it still may."""
        line = self._line
        before = len(line)
        line += data
        if before > _MATCHED_BYTES and b"\n" not in data:
            return None if len(line) <= self._limit and _PART_OF_LINE.fullmatch(data) is not None else False
        whole = bytes(line)
        verdict = self._match(whole, any_method=self.any_method)
        if verdict and self._of_requests and _STRICT_REQUEST_LINE.match(whole) is None:
            return False
        return verdict

    def hold(self, piece: Piece) -> None:
        """Keep a record that may be the first part of a start line, or go on with one."""
        if not self.held:
            self._line += piece.data
        self.held.append(piece)
        self.held_bytes += len(piece.data)

    def take(self) -> list[Piece]:
        """Give up the records that are held."""
        held, self.held = self.held, []
        self.held_bytes = 0
        self._line.clear()
        return held

    def pass_over(self, data: bytes) -> None:
        """Note bytes that are not looked at any more."""
        self.any_method = not ends_in_token(data)

    def _match(self, start: bytes, *, any_method: bool) -> bool | None:
        if self._of_requests:
            return match_request_line(start, self._limit, any_method=any_method)
        return match_status_line(start)
