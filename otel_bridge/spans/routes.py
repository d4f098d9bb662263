"""`http.route` as far as a path alone shows it: the path with its identifiers replaced.

It must not guess: a route is low in cardinality by definition (semantic conventions, HTTP server span), so a
path with any segment that is neither a plain word nor surely an identifier has no known route.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_PATH_LENGTH = 256
"""Characters; a longer path is data rather than a route. Also keeps the memo below 4096 x 256 characters."""

MAX_SEGMENTS = 10
"""Deeper paths are file trees and proxied URLs."""

# A word of a route: letters, single joints, at most a short number at the end (`v1`, `oauth2`,
# `order-items`).
_WORD = re.compile(r"[A-Za-z]{1,32}(?:[._-][A-Za-z]{1,32}){0,4}[0-9]{0,2}")

_IDENTIFIERS = (
    (re.compile(r"[0-9]+"), "{id}"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), "{uuid}"),
    # Object ids and digests. A digit is asked for, since short hexadecimal words exist (`deadbeef`,
    # `facade`).
    (re.compile(r"(?=[a-f]*[0-9])[0-9a-f]{8,128}", re.IGNORECASE), "{hash}"),
    # ULIDs, nanoids, signed tokens: long, and with digits among the letters.
    (re.compile(r"(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{20,}"), "{token}"),
)


@lru_cache(maxsize=4096)
def _infer(path: str) -> str | None:
    segments = path.split("/")
    if not path.startswith("/") or len(segments) > MAX_SEGMENTS + 1:
        return None
    route: list[str] = []
    for position, segment in enumerate(segments[1:], start=2):
        if not segment:
            # A trailing slash belongs to the route; an empty segment in the middle is a malformed path.
            if position != len(segments):
                return None
            route.append(segment)
            continue
        for pattern, placeholder in _IDENTIFIERS:
            if pattern.fullmatch(segment):
                route.append(placeholder)
                break
        else:
            if not _WORD.fullmatch(segment):
                return None
            route.append(segment)
    return "/" + "/".join(route)


def infer_route(path: str, status: int | None) -> str | None:
    """Return the route of a path such as `/users/17` (`/users/{id}`), or None when it is not certain enough.

    `status` is that of the response, None when none was seen. Only an answer that a handler gave confirms
    that the route exists: 404 and 405 answer scanners as well, and their paths have no bound.
    """
    if status is None or status in {400, 404, 405, 410, 414} or len(path) > MAX_PATH_LENGTH:
        return None
    return _infer(path)
