"""The frames of HTTP/2 as such (RFC 9113 §4 and §6): their header, and what a header can say.

Owns the layout of a frame header, the rules that each type of frame obeys, and finding frames in bytes
when it is unknown where they begin. It must not know what a frame means for a stream, and it keeps nothing.
Types, flags and limits are hyperframe's, error codes and settings h2's.

Contract: a header in, a yes or no out. Two questions are apart: `breaks_protocol` finds what no receiver
survives, and nothing that merely looks odd; `is_plausible` finds what a sender would really send, and is
asked while it is in doubt whether this is a frame at all.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    FRAME_MAX_ALLOWED_LEN,
    FRAME_MAX_LEN,
    FRAMES,
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 §3.4)."""
HEADER_BYTES: Final = 9
DEFAULT_MAX_FRAME_SIZE: Final = FRAME_MAX_LEN
"""Payload bytes of a frame unless the receiver's SETTINGS_MAX_FRAME_SIZE allows more (RFC 9113 §6.5.2)."""
LARGEST_FRAME_SIZE: Final = FRAME_MAX_ALLOWED_LEN
"""What that setting can allow at most: a length has 24 bits."""


def _type_of(frame: type[Frame]) -> int:
    assert frame.type is not None
    return frame.type


def _flag_of(frame: type[Frame], name: str) -> int:
    return next(flag.bit for flag in frame.defined_flags if flag.name == name)


DATA: Final = _type_of(DataFrame)
HEADERS: Final = _type_of(HeadersFrame)
PRIORITY: Final = _type_of(PriorityFrame)
RST_STREAM: Final = _type_of(RstStreamFrame)
SETTINGS: Final = _type_of(SettingsFrame)
PUSH_PROMISE: Final = _type_of(PushPromiseFrame)
PING: Final = _type_of(PingFrame)
GOAWAY: Final = _type_of(GoAwayFrame)
WINDOW_UPDATE: Final = _type_of(WindowUpdateFrame)
CONTINUATION: Final = _type_of(ContinuationFrame)
_ALTSVC: Final = _type_of(AltSvcFrame)
_ORIGIN: Final = 0x0C
_PRIORITY_UPDATE: Final = 0x10

END_STREAM: Final = _flag_of(HeadersFrame, "END_STREAM")
ACK: Final = _flag_of(SettingsFrame, "ACK")
END_HEADERS: Final = _flag_of(HeadersFrame, "END_HEADERS")
PADDED: Final = _flag_of(HeadersFrame, "PADDED")
WITH_PRIORITY: Final = _flag_of(HeadersFrame, "PRIORITY")

# Numbers instead of members of h2's enumerations, which take several times as long to compare.
NO_ERROR: Final = int(ErrorCodes.NO_ERROR)
CANCEL: Final = int(ErrorCodes.CANCEL)
_MAX_FRAME_SIZE: Final = int(SettingCodes.MAX_FRAME_SIZE)

unpack_header: Final[Callable[[bytes | bytearray, int], tuple[int, int, int, int, int]]] = struct.Struct(
    ">HBBBL"
).unpack_from
"""Upper and lower part of the length, type, flags, stream id with its reserved bit."""

_ON_STREAM: Final = 1
_ON_CONNECTION: Final = 2
_ANYWHERE: Final = 3
_PLACES: Final = {"has-stream": _ON_STREAM, "no-stream": _ON_CONNECTION, "either": _ANYWHERE}
"""hyperframe's words for whether a type of frame names a stream."""
_ANY_LENGTH: Final = (0, LARGEST_FRAME_SIZE)
_LENGTHS: Final[dict[int, tuple[int, int]]] = {
    PRIORITY: (5, 5),
    RST_STREAM: (4, 4),
    PUSH_PROMISE: (4, LARGEST_FRAME_SIZE),
    PING: (8, 8),
    GOAWAY: (8, LARGEST_FRAME_SIZE),
    WINDOW_UPDATE: (4, 4),
    _ALTSVC: (2, LARGEST_FRAME_SIZE),
}
"""Least and greatest length, for types that do not take every length (RFC 9113 §6, RFC 7838 §4)."""
_RULES: Final[dict[int, tuple[int, int, int, int]]] = {
    **{
        _type_of(frame): (
            sum(flag.bit for flag in frame.defined_flags),
            *_LENGTHS.get(_type_of(frame), _ANY_LENGTH),
            _PLACES[str(frame.stream_association)],
        )
        for frame in FRAMES.values()
    },
    # RFC 8336 §2.1 and RFC 9218 §7.1, which hyperframe does not have.
    _ORIGIN: (0, *_ANY_LENGTH, _ON_CONNECTION),
    _PRIORITY_UPDATE: (0, 4, LARGEST_FRAME_SIZE, _ON_CONNECTION),
}
"""By type: the flags it has, its least and greatest length, and whether it names a stream."""

_ALIGNED_FRAMES: Final = 2
"""Frames in a row that make a beginning, where a socket call's bytes begin."""
_SCANNED_FRAMES: Final = 3
"""The same in the middle of bytes, where more places are tried."""
# A plausible header, as far as a pattern can show it: it may begin at any byte, so nothing is consumed. The
# first byte is 0 below a length of 65,536.
_CANDIDATE = re.compile(
    rb"(?=\x00[\x00-\xff](?:[\x00-\xff]\x00[\x00\x01\x08\x09]|[\x00-\xff]\x01[\x00-\x2d]"
    rb"|[\x00-\xff][\x05\x09][\x00\x04\x08\x0c]|\x04[\x03\x08]\x00|[\x00-\xff][\x04\x06][\x00\x01]"
    rb"|[\x00-\xff]\x07\x00|\x05\x02\x00)[\x00-\x7f])"
)


def breaks_protocol(length: int, kind: int, stream_id: int) -> bool:
    """Whether no receiver goes on after a frame with this header (RFC 9113 §6: connection errors)."""
    rule = _RULES.get(kind)
    if rule is None or kind > CONTINUATION:
        return False
    _, least, most, place = rule
    if (not least <= length <= most and kind != PRIORITY) or (kind == SETTINGS and length % 6):
        return True
    return (place == _ON_STREAM and not stream_id) or (place == _ON_CONNECTION and stream_id != 0)


def is_plausible(length: int, kind: int, flags: int, stream_id: int, longest: int) -> bool:
    """Whether a sender would send this header: `stream_id` with its reserved bit, `longest` the length."""
    rule = _RULES.get(kind)
    if rule is None or length > longest or stream_id >> 31:
        return False
    legal, least, most, place = rule
    if flags & ~legal or not least <= length <= most:
        return False
    if stream_id:
        if place == _ON_CONNECTION:
            return False
    elif place == _ON_STREAM:
        return False
    if kind == SETTINGS:
        return not (length if flags & ACK else length % 6)
    if kind == HEADERS:
        return length > (flags & PADDED > 0) + (5 if flags & WITH_PRIORITY else 0)
    return kind != DATA or not flags & PADDED or length > 0


def find_max_frame_size(settings: bytes) -> int | None:
    """Return SETTINGS_MAX_FRAME_SIZE of a SETTINGS payload, the last one; None when it does not say."""
    size: int | None = None
    for start in range(0, len(settings) - 5, 6):
        if int.from_bytes(settings[start : start + 2], "big") == _MAX_FRAME_SIZE:
            size = int.from_bytes(settings[start + 2 : start + 6], "big")
    return size


def measure_chain(data: bytes, at: int, longest: int, enough: int) -> tuple[int, int]:
    """Follow plausible frames from `at`; stop at the `enough`th header.

    Returns the number of headers and where the next one is expected, which may be beyond the data; the
    number is 0 when the chain breaks.
    """
    count = 0
    end = len(data)
    while at + HEADER_BYTES <= end and count < enough:
        high, low, kind, flags, stream_id = unpack_header(data, at)
        length = high << 8 | low
        if not is_plausible(length, kind, flags, stream_id, longest):
            return 0, 0
        count += 1
        at += HEADER_BYTES + length
    return count, at


def begins_frames(data: bytes, at: int = 0, longest: int = DEFAULT_MAX_FRAME_SIZE) -> bool:
    """Whether the bytes of a socket call begin with frames: two in a row, or one that ends with the call."""
    count, after = measure_chain(data, at, longest, _ALIGNED_FRAMES)
    return count == _ALIGNED_FRAMES or (count == 1 and after == len(data))


def find_frames(data: bytes, at: int, longest: int) -> int | None:
    """Return where frames begin in the middle of bytes: three in a row, or two that end with the bytes."""
    for match in _CANDIDATE.finditer(data, at):
        start = match.start()
        count, after = measure_chain(data, start, longest, _SCANNED_FRAMES)
        if count == _SCANNED_FRAMES or (count == _ALIGNED_FRAMES and after == len(data)):
            return start
    return None
