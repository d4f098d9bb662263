"""What missing bytes do to the messages of one direction, and how the place is found again.

Owns gaps, and what is read while the place is lost. It must not decide what a message begins with:
`beginnings` does.

What a gap does, by what it lies in:

| in | then |
|---|---|
| a body of known length, a chunk, a body until the end | stepped over: the size counts, the content stops |
| elsewhere in a chunked body, left on purpose | the message goes on in its unseen tail (`tail`) |
| everything else | the place is lost: bytes are passed over up to a record that begins like a message |
"""

from __future__ import annotations

from parsers.exchange import Incomplete
from parsers.http1.bodies import WHOLE
from parsers.http1.message import RecordT, is_by_design
from parsers.http1.outcome import (
    BETWEEN,
    IN_CHUNKED,
    IN_HEAD,
    IN_TAIL,
    LOST,
    OVER,
    Outcome,
)
from parsers.http1.reader import MessageReader
from parsers.http1.reading_context import ReadingContext
from parsers.stream import Piece


class LossReader(MessageReader[RecordT]):
    """A reader that goes on behind losses."""

    __slots__ = ()

    def _pass_gap(self, piece: Piece, context: ReadingContext) -> Outcome | None:
        state = self.state
        if state > IN_HEAD and state != IN_TAIL:
            message, body = self.message, self._body
            assert message is not None
            assert body is not None
            is_first = not message.size
            count = body.step_over(piece, message)
            if count is not None:
                if is_first and message.awaits_continue:
                    # The next message may have begun in what is missing.
                    self.is_ambiguous = context.may_lack_body
                    message.may_be_next = True
                self._piece = piece._replace(gap=piece.gap - count)
                if body.end != WHOLE:
                    return None
                self.finished_by_inference = True
                return self._finish(message)
        self._piece = piece._replace(gap=0)
        if state in (LOST, OVER):
            self._give_up_held()
            self._search.any_method = False
            self.passed_over = self.passed_gap = True
            return None
        if state in (IN_CHUNKED, IN_TAIL) and is_by_design(piece.missing):
            assert self.message is not None
            self.message.wire_size += piece.gap
            return self._pass_unseen(piece, self.message, context)
        if state == IN_HEAD:
            self._counts["lost_heads"] += 1
        elif state != BETWEEN:
            assert self.message is not None
            self.message.step_over(0, piece.missing, piece.ktime_ns)
        return self._lose(Incomplete.LOST_BYTES)

    def _look_for_message(self, piece: Piece, context: ReadingContext) -> None:
        search = self._search
        data = piece.data
        if self._at == 0 and piece.starts_record and not context.may_resynchronise:
            self.passed_message = self.passed_message or search.match(data) is not False
        if self._at == 0 and piece.starts_record and context.may_resynchronise:
            verdict = search.match(data)
            if not verdict and search.held:
                continued = search.continues(data)
                if continued:
                    first, *rest = search.take()
                    self._queue.extendleft([piece, *reversed(rest)])
                    self._queued_bytes += len(data) + sum(len(part.data) for part in rest)
                    self._piece = first
                    verdict = True
                elif continued is None:
                    verdict = None
                else:
                    self._give_up_held()
                    verdict = search.match(data)
            if verdict:
                self._give_up_held()
                self.state = BETWEEN
                self._counts["resynchronised"] += 1
                return
            if verdict is None:
                search.hold(piece._replace(gap=0, ends=False))
                self._at = len(data)
                return
        self._give_up_held()
        self.passed_over = True
        search.pass_over(data)
        self._discard(piece)

    def _give_up_held(self) -> None:
        """Discard held records that began like a message and went on like none."""
        held = self._search.take()
        if held:
            self.passed_over = True
            self._counts["discarded_bytes"] += sum(len(piece.data) for piece in held)
            self._search.pass_over(held[-1].data)
