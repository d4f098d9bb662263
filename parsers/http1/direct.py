"""The short way into a reader: one call's bytes, in order, with nothing before them that is still unread.

Owns nothing of HTTP/1; it calls what `reader` has, without the queue of pieces and the steps between.
It must give the answer that the long way gives; a property test holds it to that.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Origin
from parsers.http1.message import RecordT
from parsers.http1.outcome import IN_LENGTH, Outcome
from parsers.http1.tail import TailReader
from parsers.stream import NOTHING_MISSING, Piece

_NEED_MORE: Final = Outcome.NEED_MORE


class DirectReader(TailReader[RecordT]):
    """A reader that can be handed the bytes of a call when it is between messages or in a plain body."""

    __slots__ = ()

    def read_directly(self, data: bytes, origin: Origin, request_method: bytes | None) -> Outcome | None:
        """Read a call's bytes; None when they go the long way, nothing of them being taken then.

        `request_method` is that of the request that a response answers; a reader of requests ignores it.

        The caller makes sure that there is no input left, and that a message may begin here or the body of
        one goes on. What the outcome does not cover is left as input (`has_input`).
        """
        ktime_ns = origin.ktime_ns
        if self.state == IN_LENGTH:
            message, body = self.message, self._body
            assert message is not None
            assert body is not None
            needed = body.needed - len(data)
            if needed < 0:
                return None
            message.keep(data, 0, len(data), ktime_ns, self._limits)
            body.needed = needed
            return _NEED_MORE if needed else self._finish(message)
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > self._limits.max_header_block:
            return None
        self._start_origin = origin
        opened = self._side.open_plain(data[:end], ktime_ns, request_method)
        if opened is None:
            return None
        outcome, at = self._start(opened, end, data, end + 4, ktime_ns)
        if at < len(data) and self.state == IN_LENGTH:
            message, body = self.message, self._body
            assert message is not None
            assert body is not None
            at = body.take(data, at, message, ktime_ns, self._limits)
        if at < len(data):
            self.add(Piece(data, 0, NOTHING_MISSING, ktime_ns, origin, True))
            self._at = at
        return outcome
