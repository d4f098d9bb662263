"""Multipart bodies: the contents of their parts.

Owns the format (RFC 2046 §5.1), as far as it separates parts. It must not know what the parts hold.

Contract: a part counts once the delimiter behind it was seen. Lines may end with LF alone. Any bytes are a
multipart body, of no part perhaps. Time is linear.
"""

from __future__ import annotations

import re

MAX_BOUNDARY = 70
"""Characters of a boundary (RFC 2046 §5.1.1)."""

_BOUNDARY = re.compile(
    rb";[ \t]*boundary=(?:\"([^\"\r\n]{1,%d})\"|([^\s;,\"]{1,%d}))" % (MAX_BOUNDARY, MAX_BOUNDARY),
    re.IGNORECASE,
)
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


def find_boundary(content_type: bytes) -> bytes | None:
    """Return the boundary that a Content-Type names; None when there is none."""
    match = _BOUNDARY.search(content_type)
    return None if match is None else match[1] or match[2]


def read_parts(content: bytes, boundary: bytes) -> tuple[list[bytes], bool]:
    """Return the contents of the parts, and whether the delimiter that ends the body was seen."""
    delimiter = re.compile(rb"(?:\A|\r?\n)--%b(--)?[ \t]*(?:\r?\n|\Z)" % re.escape(boundary))
    parts: list[bytes] = []
    begin: int | None = None
    found = delimiter.search(content)
    while found is not None:
        if begin is not None:
            # Its head ends with an empty line, which is the first one where there are no fields.
            head_end = _LINE_END.match(content, begin, found.start()) or _HEAD_END.search(
                content, begin, found.start()
            )
            if head_end is not None:
                parts.append(content[head_end.end() : found.start()])
        if found[1] is not None:
            return parts, True
        # The line end of a delimiter may belong to the next one.
        begin = found.end()
        found = delimiter.search(content, max(found.start() + 1, begin - 2))
    return parts, False
