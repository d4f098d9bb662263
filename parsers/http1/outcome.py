"""Why a reader of HTTP/1 messages returns, and what it can be in the middle of.

Owns the two vocabularies that a reader shares with `conversation`. It must not read anything.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Outcome(Enum):
    """Why `MessageReader.advance` returned."""

    NEED_MORE = "need_more"
    """All input is read."""
    WAITING = "waiting"
    """A message could begin here, but `ReadingContext.may_begin` forbids it."""
    STARTED = "started"
    """`message` has its head; when it is done, that is all of it."""
    FINISHED = "finished"
    """`message` is done."""
    INTERIM = "interim"
    """A 1xx response passed: `interim_status`."""
    TAIL = "tail"
    """The rest of `message` passes unseen: the byte budget ended inside a chunked body."""
    LOST = "lost"
    """The place in the stream is lost, for `loss`; the message in progress, when there was one, is done and
    failed."""
    TAIL_LOST = "tail_lost"
    """As LOST, in an unseen tail: whether what came belongs to it or to the next message is unknown."""
    ENDED = "ended"
    """The direction is over."""
    HTTP2 = "http2"
    """The client speaks HTTP/2 from here on (RFC 9113 §3.4)."""


# States of a reader. Plain numbers: looking up a member of an enumeration takes longer than comparing it.
OVER: Final = 0
"""Nothing is read any more."""
LOST: Final = 1
"""Bytes are passed over up to a record that begins like a message."""
BETWEEN: Final = 2
"""The next byte begins a message."""
LAST_OUTSIDE_MESSAGE: Final = BETWEEN
IN_HEAD: Final = 3
IN_LENGTH: Final = 4
"""The next byte belongs to a body of known length."""
IN_CHUNKED: Final = 5
"""The next byte belongs to a body in the chunked coding: to a line of it, or to a chunk."""
IN_TAIL: Final = 6
"""The next byte belongs to a chunked body, its place in the coding being unknown, or to the next message."""
UNTIL_END: Final = 7
"""The next byte belongs to a body that the end of the direction ends."""
