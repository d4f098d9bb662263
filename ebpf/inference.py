"""Judging a connection by its first bytes, as the kernel side does, for sources that have no kernel.

Owns the rules of bpf/inference.h in Python; tests/native holds both to the same answers. It must not remember
anything between two questions: which bytes are first, and how often to ask, is for the caller.
"""

from __future__ import annotations

import re
from enum import Enum

from ebpf.http_prefixes import HTTP_PREFIXES

JUDGED_BYTES = 16
"""Bytes that can matter: line breaks and the longest prefix, or an HTTP/2 frame's header and the first fields
behind it."""
LEADING_BREAKS = 8
"""CR and LF skipped before a request line (RFC 9112 section 2.2 asks for at least one CRLF)."""
FRAME_HEADER_BYTES = 9
MAX_FRAME_PAYLOAD = 16_384
"""SETTINGS_MAX_FRAME_SIZE unless an end asks for more (RFC 9113 section 6.5.2)."""
MAX_SETTINGS_BYTES = 60
"""Ten settings of six bytes: two more than are registered."""
MAX_LEADING_FIELDS = 4
"""An HTTP/2 request has four fields before its ordinary ones."""

_PREFIX_BYTES = 8
_PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of the PROXY protocol's second version
# As far as bytes reach: a token (RFC 9110 section 5.6.2), white space and a visible byte.
_REQUEST_LINE = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:\Z|[ \t]+(?:\Z|[^\x00-\x20]))")
_TLS_HANDSHAKE = b"\x16\x03"  # record type and major version (RFC 8446 section 5.1)
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 0x01
_END_HEADERS, _PADDED, _PRIORITY = 0x04, 0x08, 0x20


class Inference(Enum):
    """What first bytes say."""

    NO_MATCH = "no_match"
    NEED_MORE = "need_more"
    """They can still become a match."""
    REQUEST = "request"
    RESPONSE = "response"
    HTTP2_REQUEST = "http2_request"
    """A client speaks HTTP/2."""
    HTTP2_RESPONSE = "http2_response"
    """A server speaks HTTP/2."""
    HTTP2_FRAMES = "http2_frames"
    """Either end speaks HTTP/2."""
    TLS = "tls"
    POSSIBLE_REQUEST = "possible_request"
    """A request of a method that is not listed, or one behind a PROXY header: the answer decides."""


# PROTOCOL: what its C function says, for packet captures.
_PREFIXES = (
    *((prefix, Inference[meaning.removeprefix("INFERENCE_")]) for prefix, meaning in HTTP_PREFIXES),
    (_TLS_HANDSHAKE, Inference.TLS),
)


def infer(first: bytes) -> Inference:
    """Judge the first bytes of a direction, or of a message."""
    if first and _PROXY_SIGNATURE.startswith(first[: len(_PROXY_SIGNATURE)]):
        return Inference.NEED_MORE if len(first) < len(_PROXY_SIGNATURE) else Inference.POSSIBLE_REQUEST
    at = 0
    end = min(len(first), LEADING_BREAKS)
    while at < end and first[at] in b"\r\n":
        at += 1
    start = first[at : min(JUDGED_BYTES, at + _PREFIX_BYTES)]
    incomplete = False
    for prefix, meaning in _PREFIXES:
        if start.startswith(prefix):
            return meaning
        incomplete = incomplete or prefix.startswith(start)
    if incomplete:
        return Inference.NEED_MORE
    possible = _REQUEST_LINE.match(first[at:JUDGED_BYTES])
    return Inference.POSSIBLE_REQUEST if possible else Inference.NO_MATCH


def infer_settings(first: bytes) -> Inference:
    """Judge whether a server begins with HTTP/2: with a SETTINGS frame (RFC 9113 section 3.4).

    It may come before the client's preface.
    """
    start = first[:FRAME_HEADER_BYTES]
    size = start[2] if len(start) > 2 else 0
    expected = bytes((0, 0, size, _SETTINGS, 0, 0, 0, 0, 0))
    if not start or not expected.startswith(start) or size > MAX_SETTINGS_BYTES or size % 6:
        return Inference.NO_MATCH
    return Inference.HTTP2_RESPONSE if len(start) == FRAME_HEADER_BYTES else Inference.NEED_MORE


def infer_frames(data: bytes, length: int) -> Inference:
    """Judge whether a record of `length` bytes carries HTTP/2 in the middle of a connection.

    `data` is the part of it that is known. One frame that is exactly the record, or two in a row, are
    believed: a length that comes first and is right to the byte, and a type, flags and stream that go
    together, are more than chance gives.
    """
    first_length = frame_bytes(data[:JUDGED_BYTES])
    following = data[first_length : first_length + JUDGED_BYTES]
    if not first_length or (first_length != length and not frame_bytes(following)):
        return Inference.NO_MATCH
    sender = _infer_sender(data[:JUDGED_BYTES])
    return _infer_sender(following) if sender is Inference.HTTP2_FRAMES else sender


def frame_bytes(start: bytes) -> int:
    """Return the bytes of the frame that begins so, its header included; 0 when no HTTP/2 frame does.

    Flags, stream and length must be those that the type allows (RFC 9113 section 6). PRIORITY, PUSH_PROMISE
    and CONTINUATION are left out: they are rare, and never where a message starts.
    """
    if len(start) < FRAME_HEADER_BYTES:
        return 0
    length = int.from_bytes(start[:3], "big")
    kind, flags = start[3], start[4]
    stream = int.from_bytes(start[5:9], "big")
    # Clients open the odd ones; the highest bit is reserved.
    client_stream = stream & 1 == 1 and stream < 1 << 31
    if kind == _DATA:  # empty only at the end of a stream
        legal = (
            client_stream
            and not flags & ~(_END_STREAM | _PADDED)
            and (length > 0 or flags & _END_STREAM != 0)
        )
    elif kind == _HEADERS:
        legal = (
            client_stream and length > 0 and not flags & ~(_END_STREAM | _END_HEADERS | _PADDED | _PRIORITY)
        )
    elif kind == _RST_STREAM:
        legal = client_stream and not flags and length == 4
    elif kind == _SETTINGS:
        legal = not stream and (
            length == 0 if flags == _ACK else not flags and length > 0 and length % 6 == 0
        )
    elif kind == _PING:
        legal = not stream and not flags & ~_ACK and length == 8
    elif kind == _GOAWAY:
        legal = not stream and not flags and length >= 8
    elif kind == _WINDOW_UPDATE:
        legal = (client_stream or not stream) and not flags and length == 4
    else:
        legal = False
    return FRAME_HEADER_BYTES + length if legal and length <= MAX_FRAME_PAYLOAD else 0


def _infer_sender(start: bytes) -> Inference:
    """Judge which side sent a HEADERS frame, by the pseudo-fields that its block begins with.

    Those of requests and of responses have fixed numbers (RFC 7541 appendix A). Numbers beyond that table
    were given out earlier, and say nothing.
    """
    if len(start) < FRAME_HEADER_BYTES or start[3] != _HEADERS:
        return Inference.HTTP2_FRAMES
    flags = start[4]
    at = FRAME_HEADER_BYTES + (1 if flags & _PADDED else 0) + (5 if flags & _PRIORITY else 0)
    for field in start[at : min(JUDGED_BYTES, at + MAX_LEADING_FIELDS)]:
        number = field & 0x0F
        # A whole field, or a literal value that is indexed, is not, or never may be (section 6).
        if field >> 4 in (0x8, 0x4, 0x0, 0x1):
            if 1 <= number <= 7:
                return Inference.HTTP2_REQUEST  # :authority, :method, :path, :scheme
            if 8 <= number <= 14:
                return Inference.HTTP2_RESPONSE  # :status
        if field < 0xBE or field == 0xFF:  # ends or goes on otherwise than as one number above 61
            break
    return Inference.HTTP2_FRAMES
