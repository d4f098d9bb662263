"""Bodies that hold several messages: event streams, lines, text sequences, multipart.

Owns which media type frames messages how. It must not know what they say (`graphql`, `json_rpc`).

Contract: only messages that are there to their end come out, so that of a body that was cut those before the
cut are read, and nothing is invented. At most `ParserLimits.max_framed_messages` come out; time is linear.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from parsers.event_stream import read_events
from parsers.http_exchange import Body, Truncation
from parsers.limits import ParserLimits
from parsers.media_types import MAX_TYPES_REMEMBERED, read_content_type
from parsers.multipart import find_boundary, read_parts

_LINES = frozenset(
    """
        x-ndjson ndjson nd-json x-nd-json jsonl x-jsonl json-lines jsonlines x-jsonlines x-json-lines ldjson
        x-ldjson json-stream x-json-stream
    """.split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
)
_SEQUENCES = frozenset(("json-seq", "x-json-seq"))
_RECORD_SEPARATOR = "\x1e"
_DEFAULT_BOUNDARY = b"-"
"""Incremental delivery over HTTP: the boundary where the type names none."""
_UNTRUSTED = (Truncation.DECODE_ERROR,)
"""Cuts behind which the content may be wrong before its end."""


class FramedMessages(NamedTuple):
    """The messages of a body."""

    texts: list[str]
    whole: bool
    """No message is missing."""
    events: list[str] | None = None
    """Of an event stream: the type of each message's event."""


@lru_cache(maxsize=MAX_TYPES_REMEMBERED)
def find_framing(content_type: bytes) -> Callable[[Body, bytes], FramedMessages] | None:
    """Return what reads the messages of a body of a type; None when such a body is one message."""
    media_type = read_content_type(content_type).media_type
    family, _, subtype = media_type.partition("/")
    if media_type == "text/event-stream":
        return _read_event_stream
    if family == "multipart":
        return _read_multipart
    if subtype in _SEQUENCES or subtype.endswith("+json-seq"):
        return _read_sequence
    return _read_lines if subtype in _LINES or subtype.endswith(("+ndjson", "+jsonl")) else None


def read_framed_messages(
    body: Body, content_type: bytes, limits: ParserLimits, counts: dict[str, int]
) -> FramedMessages | None:
    """Return the messages of a body; None when its type frames none, or what was kept of it is coded."""
    read = find_framing(content_type)
    is_coded = body.coding is not None and body.coding.is_applied
    if read is None or is_coded or body.truncation in _UNTRUSTED:
        return None
    framed = read(body, content_type)
    excess = len(framed.texts) - limits.max_framed_messages
    if excess > 0:
        counts["framed_messages_unread"] += excess
        framed = framed._replace(texts=framed.texts[: limits.max_framed_messages], whole=False)
    return framed


def _read_event_stream(body: Body, _: bytes) -> FramedMessages:
    # Always UTF-8, whatever the type says.
    events, ended = read_events(body.content.decode("utf-8", "replace"))
    return FramedMessages(
        [event.data for event in events], ended and body.truncation is None, [event.type for event in events]
    )


def _read_multipart(body: Body, content_type: bytes) -> FramedMessages:
    parts, ended = read_parts(body.content, find_boundary(content_type) or _DEFAULT_BOUNDARY)
    return FramedMessages([part.decode("utf-8", "replace") for part in parts], ended)


def _read_lines(body: Body, _: bytes) -> FramedMessages:
    lines = body.content.decode(body.charset or "utf-8", "replace").removeprefix("\ufeff").split("\n")
    if body.truncation is not None:
        # The cut may have divided the last one.
        lines.pop()
    return FramedMessages([line for line in lines if line.strip()], body.truncation is None)


def _read_sequence(body: Body, _: bytes) -> FramedMessages:
    texts = body.content.decode(body.charset or "utf-8", "replace").split(_RECORD_SEPARATOR)
    if body.truncation is not None and not texts[-1].endswith("\n"):
        # RFC 7464 §2.4: a line feed shows that a text was not cut.
        texts.pop()
    return FramedMessages([text for text in texts if text.strip()], body.truncation is None)
