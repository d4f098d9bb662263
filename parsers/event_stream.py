"""Server-sent events: the events of a `text/event-stream` body.

Owns the format (WHATWG HTML, "Server-sent events", §9.2.5 and §9.2.6). It must not know what the data means.

Contract: an event counts once the empty line behind it was seen, as for a browser; what stands behind the
last one may be part of an event and is left out. Any text is a stream of events, of none perhaps. Time is
linear.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Only these three end a line; `str.splitlines` takes more.
_LINE_END = re.compile(r"\r\n|\n|\r")


class ServerSentEvent(NamedTuple):
    """One event that has data."""

    type: str
    """The last `event` field; `message` where there is none."""
    data: str
    """Its `data` fields, joined by line feeds."""


def read_events(text: str) -> tuple[list[ServerSentEvent], bool]:
    """Return the events of a stream that was decoded as UTF-8, and whether nothing follows the last one."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    # What no line end follows may go on.
    rest = lines.pop()
    events: list[ServerSentEvent] = []
    kind = ""
    data: list[str] = []
    is_pending = False
    for line in lines:
        if not line:
            if data:
                events.append(ServerSentEvent(kind or "message", "\n".join(data)))
                data = []
            kind = ""
            is_pending = False
            continue
        is_pending = True
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif name == "event":
            kind = value.removeprefix(" ")
    return events, not rest and not is_pending
