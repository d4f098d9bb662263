"""Reading HTTP/1 messages of one direction: pieces of a stream in, message starts and ends out.

Owns what requests and responses have in common: where a message begins and how it is read to its end. What
differs is in `sides`, how a body is read in `bodies`, and what is done about losses in `losses`. It must not
know the other direction: what a step needs of it comes as a `ReadingContext`.

Contract: `advance` returns after each thing that matters to the pairing; nothing behind it has been read
yet. Wire data never raises. Reading is linear in the bytes, however they are cut.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Generic

from ebpf.events import Origin
from parsers.exchange import Incomplete
from parsers.http1.beginnings import Search, may_be_method, may_begin_message
from parsers.http1.bodies import BODIES, BROKEN, WHOLE, Body, LengthBody
from parsers.http1.chunked import add_once
from parsers.http1.framing import Framing
from parsers.http1.message import Message, RecordT
from parsers.http1.outcome import (
    BETWEEN,
    IN_CHUNKED,
    IN_HEAD,
    IN_LENGTH,
    IN_TAIL,
    LAST_OUTSIDE_MESSAGE,
    LOST,
    OVER,
    Outcome,
)
from parsers.http1.reading_context import ReadingContext
from parsers.http1.sides import Opened, Side
from parsers.http_exchange import HttpRequest
from parsers.limits import ParserLimits
from parsers.stream import NO_PIECE, NOTHING_MISSING, Piece

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_MAX_SKIPPED_KEPT = 3
"""Bytes kept of the empty lines before a message: enough to tell one line from more."""
_PLAIN_HEAD_END = b"\r\n\r\n"
_NO_BODY: Final = Framing.NO_BODY
_KNOWN_LENGTH: Final = Framing.LENGTH
_NEED_MORE: Final = Outcome.NEED_MORE
_STARTED: Final = Outcome.STARTED
_FINISHED: Final = Outcome.FINISHED


class MessageReader(ABC, Generic[RecordT]):
    """Reads the messages of one direction; with `joined_late` it begins by looking for the first one.

    Read from outside: `state`; `message`; `loss`; `finished_by_inference` (no byte showed where the message
    ended); `refused` (what was read of a head that is none, until it is taken). Read and cleared from
    outside: `passed_over` (bytes in which messages may have begun were passed over), `passed_gap` (some of
    them are missing), `passed_message` (a message did begin there, or may have), `is_ambiguous` (what was
    read as a body may have been the next message).
    """

    __slots__ = (
        "_at",
        "_bare_end",
        "_body",
        "_counts",
        "_head_end_size",
        "_limits",
        "_partial",
        "_piece",
        "_queue",
        "_queued_bytes",
        "_search",
        "_side",
        "_skipped_lines",
        "_start_origin",
        "finished_by_inference",
        "has_input",
        "is_ambiguous",
        "loss",
        "message",
        "passed_gap",
        "passed_message",
        "passed_over",
        "refused",
        "state",
    )

    def __init__(
        self, side: Side[RecordT], limits: ParserLimits, counts: dict[str, int], *, joined_late: bool
    ) -> None:
        self._side = side
        self._limits = limits
        self._counts = counts
        self.state = LOST if joined_late else BETWEEN
        self._queue: deque[Piece] = deque()
        self._queued_bytes = 0
        self._piece = NO_PIECE
        self._at = 0
        self._partial = bytearray()
        self._skipped_lines = b""
        self._bare_end = False
        self._head_end_size = 4
        self._start_origin = NO_PIECE.origin
        self._body: Body | None = None
        self._search = Search(
            limits.max_header_block, of_requests=side.is_of_requests, any_method=joined_late
        )
        self.message: Message[RecordT] | None = None
        self.loss = Incomplete.LOST_BYTES
        self.has_input = False
        self.finished_by_inference = False
        self.passed_over = False
        self.passed_gap = False
        self.passed_message = False
        self.is_ambiguous = False
        self.refused: Message[RecordT] | None = None

    @property
    def is_in_message(self) -> bool:
        """Whether a message, or the head of one, has begun and not ended."""
        return self.state > LAST_OUTSIDE_MESSAGE

    @property
    def is_ending(self) -> bool:
        """Whether the end of the direction is among the input."""
        return self._queue[-1].ends if self._queue else self._piece.ends

    @property
    def buffered_bytes(self) -> int:
        """Bytes held that no message has taken yet."""
        held = len(self._partial) + self._search.held_bytes
        if self.state == IN_CHUNKED and self._body is not None:
            held += self._body.held_bytes
        return self._queued_bytes + len(self._piece.data) - self._at + held

    def add(self, piece: Piece) -> None:
        """Take the next piece of the stream."""
        if self.has_input:
            self._queue.append(piece)
            self._queued_bytes += len(piece.data)
        else:
            self._piece = piece
            self._at = 0
            self.has_input = True

    def end(self, ktime_ns: int) -> None:
        """Take the end of the direction, where only the end of the connection shows it."""
        self.add(Piece(b"", 0, NOTHING_MISSING, ktime_ns, Origin(ktime_ns), False, True))

    def advance(self, context: ReadingContext) -> Outcome:
        """Read on until something matters to the pairing or the input is used up."""
        while True:
            piece = self._piece
            if self._at < len(piece.data):
                outcome = self._begin(piece, context) if self.state == BETWEEN else self._read(piece, context)
            elif piece.gap:
                outcome = self._pass_gap(piece, context)
            elif piece.ends:
                outcome = self._pass_end(piece)
            elif self._queue:
                self._piece = piece = self._queue.popleft()
                self._queued_bytes -= len(piece.data)
                self._at = 0
                continue
            else:
                self.has_input = False
                return _NEED_MORE
            if outcome is not None:
                return outcome

    def abort(self, cause: Incomplete) -> None:
        """End the message in progress, if any, as not whole, and read nothing more."""
        if self.message is not None and not self.message.done:
            self.message.fail(cause, self._limits)
        self.state = OVER
        self.has_input = False
        self._queue.clear()
        self._search.take()
        self._queued_bytes = 0
        self._piece = NO_PIECE
        self._at = 0
        self._partial.clear()
        self._body = None
        self.refused = None

    def take_unread(self) -> list[Piece]:
        """Give up the input that no message has taken: bytes of another protocol, for its reader."""
        piece = self._piece
        unread = [piece._replace(data=piece.data[self._at :], starts_record=False), *self._queue]
        if not self.has_input:
            unread = unread[1:]
        self._queue.clear()
        self._queued_bytes = 0
        self.has_input = False
        return [each for each in unread if each.data or each.gap or each.ends]

    @abstractmethod
    def _pass_gap(self, piece: Piece, context: ReadingContext) -> Outcome | None:
        """Pass bytes that are missing."""

    @abstractmethod
    def _look_for_message(self, piece: Piece, context: ReadingContext) -> None:
        """Read bytes while the place is lost."""

    @abstractmethod
    def _pass_unseen(
        self, piece: Piece, message: Message[RecordT], context: ReadingContext
    ) -> Outcome | None:
        """Pass a gap, left on purpose, behind which the place in the chunked coding is unknown."""

    @abstractmethod
    def _read_tail(self, piece: Piece, message: Message[RecordT], context: ReadingContext) -> Outcome | None:
        """Read bytes behind such a gap."""

    @abstractmethod
    def end_tail(self, *, seen: bool) -> Outcome:
        """End the message whose rest passes unseen; `seen` says that something showed its end."""

    def _read(self, piece: Piece, context: ReadingContext) -> Outcome | None:
        state = self.state
        if state == IN_HEAD:
            return self._continue_head(piece, context)
        if state == LOST:
            self._look_for_message(piece, context)
            return None
        if state == OVER:
            self._discard(piece)
            return None
        message = self.message
        assert message is not None
        body = self._body
        if (
            context.may_lack_body
            and body is not None
            and not message.size
            and self._at == 0
            and piece.starts_record
            and not body.held_bytes
        ):
            if self._side.begins_message(piece.data):
                message.fields.anomalies.append("body_not_sent")
                self.finished_by_inference = True
                return self._finish(message)
            self.is_ambiguous = self._may_begin(piece.data)
        elif not message.size and self._at == 0 and piece.starts_record and message.awaits_continue:
            message.may_be_next = message.may_be_next or self._may_begin(piece.data)
        if body is None:  # in an unseen tail
            return self._read_tail(piece, message, context)
        self._at = body.take(piece.data, self._at, message, piece.ktime_ns, self._limits)
        end = body.end
        if end == WHOLE:
            return self._finish(message)
        return self._lose(Incomplete.INVALID) if end == BROKEN else None

    def _may_begin(self, start: bytes) -> bool:
        return may_be_method(start) or may_begin_message(start, self._limits.max_header_block)

    def _discard(self, piece: Piece) -> None:
        self._counts["discarded_bytes"] += len(piece.data) - self._at
        self._at = len(piece.data)

    def _begin(self, piece: Piece, context: ReadingContext) -> Outcome | None:
        if not context.may_begin:
            return Outcome.WAITING
        data = piece.data
        at = self._at
        if data[at] in b"\r\n":
            # RFC 9112 §2.2: a server should ignore at least one empty line before the request line.
            while at < len(data) and data[at] in b"\r\n":
                at += 1
            self._skipped_lines += data[self._at : at][:_MAX_SKIPPED_KEPT]
            self._skipped_lines = self._skipped_lines[:_MAX_SKIPPED_KEPT]
            self._at = at
            return None
        self.state = IN_HEAD
        self._start_origin = piece.origin
        end = data.find(b"\r\n\r\n", at)
        after = end + 4
        if end < 0 or data.find(b"\n\n", at, end) >= 0 or data.find(b"\n\r\n", at, end + 3) >= 0:
            match = _HEAD_END.search(data, at)
            if match is None:
                return self._continue_head(piece, context)
            end, after = match.span()
            self._bare_end = match[0] != _PLAIN_HEAD_END
        self._at = after
        self._head_end_size = after - end
        if end - at > self._limits.max_header_block:
            return self._refuse_head("oversized_heads", data[at:end], piece.ktime_ns)
        return self._open(data[at:end], piece, context)

    def _continue_head(self, piece: Piece, context: ReadingContext) -> Outcome | None:
        """Collect an unfinished head; only what is new is searched, so input cut into bytes stays linear."""
        partial = self._partial
        searched = len(partial)
        partial += memoryview(piece.data)[self._at :]
        self._at = len(piece.data)
        match = _HEAD_END.search(partial, max(0, searched - 3))
        if match is None:
            if len(partial) > self._limits.max_header_block:
                return self._refuse_head("oversized_heads", bytes(partial), piece.ktime_ns)
            side = self._side
            line_end = partial.find(b"\n", searched)
            if not side.is_plausible(bytes(partial[:8])) or (
                line_end >= 0 and b"\n" not in partial[:searched] and not side.begins_message(bytes(partial))
            ):
                return self._refuse_head("invalid_heads", bytes(partial), piece.ktime_ns)
            return None
        self._bare_end = match[0] != _PLAIN_HEAD_END
        block = bytes(partial[: match.start()])
        self._at -= len(partial) - match.end()
        self._head_end_size = match.end() - match.start()
        partial.clear()
        if len(block) > self._limits.max_header_block:
            return self._refuse_head("oversized_heads", block, piece.ktime_ns)
        return self._open(block, piece, context)

    def _open(self, block: bytes, piece: Piece, context: ReadingContext) -> Outcome:
        """Read a head that is complete."""
        start_ktime_ns = self._start_origin.ktime_ns
        opened = self._side.open(
            block, start_ktime_ns, max(start_ktime_ns, piece.ktime_ns), context.request_method
        )
        if opened is None:
            return self._refuse_head("invalid_heads", block + b"\r\n", piece.ktime_ns)
        outcome, self._at = self._start(opened, len(block), piece.data, self._at, piece.ktime_ns)
        return outcome

    def refuse_unfinished(self, ktime_ns: int) -> Outcome:
        """Take the head that has begun for one that is answered as it is."""
        return self._refuse_head("unfinished_heads", bytes(self._partial), ktime_ns)

    def _refuse_head(self, count: str, block: bytes, ktime_ns: int) -> Outcome:
        self._counts[count] += 1
        self._skipped_lines = b""
        self._bare_end = False
        self._note_refused(block, ktime_ns)
        return self._lose(Incomplete.INVALID)

    def _note_refused(self, block: bytes, ktime_ns: int) -> None:
        limits = self._limits
        start_ktime_ns = self._start_origin.ktime_ns
        described = self._side.describe_refused(
            block[: limits.max_header_block], start_ktime_ns, max(start_ktime_ns, ktime_ns)
        )
        if described is None:
            return
        record, fields = described
        self._drop_fields_beyond_bound(record)
        self.refused = refused = Message(record, fields, len(block), self._start_origin)
        refused.end_ktime_ns = record.end_ktime_ns
        refused.fail(Incomplete.INVALID, limits)

    def _drop_fields_beyond_bound(self, record: RecordT) -> None:
        headers = record.headers
        if len(headers) > self._limits.max_headers:
            record.dropped_headers = len(headers) - self._limits.max_headers
            record.headers = headers[: self._limits.max_headers]

    def _start(
        self, opened: Opened[RecordT] | Outcome, size: int, data: bytes, at: int, ktime_ns: int
    ) -> tuple[Outcome, int]:
        """Note a head of `size` bytes that ends in `data` at `at`, whether it begins a message or not.

        A body whose declared length is all there is taken at once. Return the position behind what was taken.
        """
        if isinstance(opened, Outcome):
            self._bare_end = False
            self.state = OVER if opened is Outcome.HTTP2 else BETWEEN
            return opened, at
        record, fields, framing, length = opened
        message = Message(record, fields, size, self._start_origin)
        message.end_ktime_ns = record.end_ktime_ns
        message.wire_size = size + self._head_end_size
        self._head_end_size = 4
        if self._skipped_lines:
            is_usual = self._skipped_lines == b"\r\n" and self._follows_post()
            self._skipped_lines = b""
            if not is_usual:
                fields.anomalies.append("leading_empty_line")
        if self._bare_end:
            self._bare_end = False
            add_once(fields.anomalies, "bare_lf")
        if len(record.headers) > self._limits.max_headers:
            self._drop_fields_beyond_bound(record)
        self.message = message
        self.finished_by_inference = False
        if framing is _NO_BODY:
            message.done = True
            self.state = BETWEEN
        elif framing is _KNOWN_LENGTH:
            message.declared_size = length
            if length <= len(data) - at:
                message.keep(data, at, length, ktime_ns, self._limits)
                message.finish(self._limits)
                self.state = BETWEEN
                at += length
            else:
                self._body = LengthBody(length)
                self.state = IN_LENGTH
        elif framing in BODIES:
            self._body = body = BODIES[framing](self._limits)
            self.state = body.state
        elif framing is Framing.TUNNEL:
            message.done = message.tunnel = True
            self.state = OVER
        else:
            message.fail(Incomplete.INVALID, self._limits)
            self.loss = Incomplete.INVALID
            self.state = LOST
        return _STARTED, at

    def _follows_post(self) -> bool:
        """Whether the message before is a POST: clients of old send an empty line behind its body.

        RFC 9112 §2.2; all servers pass over that one, whatever they make of others.
        """
        before = self.message
        return (
            before is not None and isinstance(before.record, HttpRequest) and before.record.method == b"POST"
        )

    def _finish(self, message: Message[RecordT]) -> Outcome:
        message.finish(self._limits)
        self.state = BETWEEN
        return _FINISHED

    def _lose(self, cause: Incomplete) -> Outcome:
        if self.state != IN_HEAD and self.state != BETWEEN:
            assert self.message is not None
            self.message.fail(cause, self._limits)
        self.state = LOST
        self._search.any_method = False
        self._partial.clear()
        self._body = None
        self.loss = cause
        return Outcome.LOST

    def _pass_end(self, piece: Piece) -> Outcome:
        if self.is_in_message and self.state != IN_HEAD:
            message = self.message
            assert message is not None
            if self.state == IN_TAIL:
                return self.end_tail(seen=False)
            body = self._body
            self._body = None
            if body is not None and body.ends_with_direction:
                return self._finish(message)
            message.fail(Incomplete.CLOSED, self._limits)
            self.state = BETWEEN
            return _FINISHED
        if self.state == IN_HEAD:
            self._counts["lost_heads"] += 1
            self._note_refused(bytes(self._partial), self._start_origin.ktime_ns)
            self._partial.clear()
        self.state = OVER
        self._piece = piece._replace(ends=False)
        return Outcome.ENDED
