"""Where an HTTP/1 message ends: RFC 9112 §6.3, decided as real servers and clients see it.

Owns that decision only; it must not read a body. What a strict parser would refuse is named in the head's
anomalies.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from parsers.content_codings import split_content_codings
from parsers.http1.head import Fields, RequestHead, ResponseHead

_MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length that is believed, leading zeros aside: always below 2**63, the bound of common
servers."""

METHODS_THAT_FRAME: Final = frozenset({b"HEAD", b"CONNECT"})
"""Methods whose responses may end otherwise than their own fields say (rules 1 and 2)."""


class Framing(IntEnum):
    """How the end of a message is found. Numbers: a table finds them faster than other members."""

    NO_BODY = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_END = 3
    """The end of the connection ends the message; only a response can be so."""
    TUNNEL = 4
    """The connection leaves HTTP behind this head."""
    AMBIGUOUS = 5
    """The end cannot be found, or two servers would find different ones."""


_NO_BODY: Final = Framing.NO_BODY
_LENGTH: Final = Framing.LENGTH


def decide_request_framing(head: RequestHead) -> tuple[Framing, int]:
    """Return how the request ends, and the length of its body where that is declared."""
    fields = head.fields
    framing = fields.framing
    if not framing:
        return _NO_BODY, 0
    if b"transfer-encoding" in framing:
        # Rule 4: in a request a final coding other than chunked leaves the length unknown, and the server
        # says 400.
        if not _is_chunked(fields, head.version):
            return Framing.AMBIGUOUS, 0
        if framing[b"transfer-encoding"].lower() != b"chunked" and "repeated_chunked" not in fields.anomalies:
            # §7: servers take `gzip, chunked`, refuse it with 501, or take it for chunked alone.
            fields.anomalies.append("unsupported_transfer_coding")
        return Framing.CHUNKED, 0
    if b"content-length" not in framing:
        # Rule 7: a request without either field has no body.
        return _NO_BODY, 0
    return _decide_by_length(fields)


def decide_response_framing(head: ResponseHead, method: bytes | None) -> tuple[Framing, int]:
    """Return how the response to `method` ends (None: unknown), and the length of its body where declared."""
    status = head.status
    # Rule 1: no body after HEAD, nor with 1xx, 204, 304, whatever the fields say.
    if status == 101:
        return Framing.TUNNEL, 0
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return _NO_BODY, 0
    # Rule 2: 2xx to CONNECT opens a tunnel, and both fields are ignored.
    if method == b"CONNECT" and status < 300:
        return Framing.TUNNEL, 0
    fields = head.fields
    framing = fields.framing
    if b"transfer-encoding" in framing:
        # Rule 4: in a response a final coding other than chunked means until the connection closes.
        chunked = _is_chunked(fields, head.version)
        return (Framing.CHUNKED, 0) if chunked else (Framing.UNTIL_END, 0)
    if b"content-length" in framing:
        return _decide_by_length(fields)
    # Rule 8: no declared length, so until the connection closes.
    return Framing.UNTIL_END, 0


def split_codings(fields: Fields) -> list[bytes]:
    """Return the codings of a body, lower-cased, in the order they were applied: content, then transfer."""
    framing = fields.framing
    return split_content_codings(framing.get(b"content-encoding", b"")) + split_content_codings(
        framing.get(b"transfer-encoding", b"")
    )


def _is_chunked(fields: Fields, version: str) -> bool:
    codings = _split_list(fields.framing[b"transfer-encoding"])
    anomalies = fields.anomalies
    if b"content-length" in fields.framing:
        # Rule 3: Transfer-Encoding overrides, and this might be an attempt at request smuggling.
        anomalies.append("transfer_encoding_with_content_length")
    if version == "1.0":
        # §6.1: HTTP/1.0 did not define the field; a recipient must take the framing for faulty.
        anomalies.append("transfer_encoding_in_http10")
    if codings.count(b"chunked") > 1:
        # §7.1: chunked must not be applied twice.
        anomalies.append("repeated_chunked")
    chunked = bool(codings) and codings[-1] == b"chunked"
    if not chunked:
        anomalies.append("transfer_encoding_not_chunked")
    return chunked


def _decide_by_length(fields: Fields) -> tuple[Framing, int]:
    value = fields.framing[b"content-length"]
    if _is_length(value):
        # Rule 6: a valid Content-Length is the length of the body.
        length = int(value.lstrip(b"0") or b"0")
        return (_LENGTH, length) if length else (_NO_BODY, 0)
    members = _split_list(value)
    # Rule 5: an invalid Content-Length is unrecoverable unless all members of a list are the same valid
    # number.
    if not all(map(_is_length, members)) or not members:
        fields.anomalies.append("invalid_content_length")
        return Framing.AMBIGUOUS, 0
    if len({member.lstrip(b"0") for member in members}) > 1:
        fields.anomalies.append("conflicting_content_length")
        return Framing.AMBIGUOUS, 0
    fields.anomalies.append("duplicate_content_length")
    length = int(members[0].lstrip(b"0") or b"0")
    return (_LENGTH, length) if length else (_NO_BODY, 0)


def _is_length(value: bytes) -> bool:
    # The number counts: servers take any number of leading zeros.
    return value.isdigit() and (
        len(value) <= _MAX_LENGTH_DIGITS or len(value.lstrip(b"0")) <= _MAX_LENGTH_DIGITS
    )


def _split_list(value: bytes) -> list[bytes]:
    return [member for part in value.split(b",") if (member := part.strip(b" \t").lower())]
