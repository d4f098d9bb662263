"""The rest of a chunked body that passes unseen: the byte budget of its turn ended inside it.

The next chunk's size lies among the bytes that were left out. From there on content and coding cannot be told
apart, and the end of the body cannot be found. Owns what bytes and gaps mean then. It must not decide by
time, or by the other direction: `tail_end` does.

Contract: the message stays in its tail, nothing more of it being kept, until

| what comes | then |
|---|---|
| a record that begins the next message, where one may begin | it is over |
| a record that ends like the last chunk | it is over, probably: the next message is looked for |
| the end of the direction; `end_tail` | it is over |
| other bytes or gaps when the next message is due; a message where none may begin; a real loss | lost |

Its size and its trailers stay unknown. Its time is that of the last byte known to have passed.
"""

from __future__ import annotations

from typing import Final

from parsers.exchange import Incomplete
from parsers.http1.chunked import ends_like_chunked_body
from parsers.http1.losses import LossReader
from parsers.http1.message import Message, RecordT
from parsers.http1.outcome import IN_TAIL, LOST, Outcome
from parsers.http1.reading_context import ReadingContext
from parsers.stream import Piece

END_NOT_SEEN: Final = "end_not_seen"
"""Anomaly of a message that counts as over although nothing said so: more of it may have come."""


class TailReader(LossReader[RecordT]):
    """A reader that goes on behind the captured part of a chunked body."""

    __slots__ = ()

    def end_tail(self, *, seen: bool) -> Outcome:
        """End the message in its tail as whole, and look for the next one."""
        assert self.message is not None
        if not seen:
            self.message.fields.anomalies.append(END_NOT_SEEN)
        self.message.finish(self._limits)
        self.finished_by_inference = True
        self.state = LOST
        return Outcome.FINISHED

    def lose_tail(self) -> Outcome:
        """End the message in its tail as not whole, and look for the next one."""
        self._lose(Incomplete.LOST_BYTES)
        return Outcome.TAIL_LOST

    def _read_tail(self, piece: Piece, message: Message[RecordT], context: ReadingContext) -> Outcome | None:
        data = piece.data
        is_record = self._at == 0 and piece.starts_record
        begins = is_record and self._side.begins_message(data)
        if begins and context.may_resynchronise:
            self.finished_by_inference = True
            return self._finish(message)
        if begins or context.is_next_due:
            return self.lose_tail()
        message.step_over(0, piece.missing, piece.ktime_ns)
        message.wire_size += len(data) - self._at
        self._at = len(data)
        return (
            self.end_tail(seen=True) if is_record and not piece.gap and ends_like_chunked_body(data) else None
        )

    def _pass_unseen(
        self, piece: Piece, message: Message[RecordT], context: ReadingContext
    ) -> Outcome | None:
        message.step_over(0, piece.missing, piece.ktime_ns)
        if self.state == IN_TAIL:
            return self.lose_tail() if context.is_next_due else None
        message.in_tail = True
        self._body = None
        self.state = IN_TAIL
        return Outcome.TAIL
