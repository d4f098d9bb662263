"""One HTTP/1 message while it is read: what of its body passed, what is kept, and why it is not whole.

Owns the bookkeeping of a message's body. It must not find out where the body ends: `bodies` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ebpf.events import Missing, Origin
from parsers.content import build_body
from parsers.exchange import Incomplete
from parsers.http1.framing import split_codings
from parsers.http1.head import Fields
from parsers.http_exchange import HttpRequest, HttpResponse, Truncation, truncation_of
from parsers.limits import ParserLimits

RecordT = TypeVar("RecordT", bound=HttpRequest | HttpResponse)

_EVENT_STREAM = b"text/event-stream"


def is_by_design(missing: Missing) -> bool:
    """Whether a gap of these causes was left on purpose: it lies inside one turn, nothing being lost."""
    return truncation_of(missing) is not Truncation.GAP


@dataclass(slots=True)
class Message(Generic[RecordT]):
    """A message from its head on; `record` is complete once `done`."""

    record: RecordT
    fields: Fields
    head_size: int
    origin: Origin
    """The call that moved its first byte."""
    done: bool = False
    """Nothing more will be added."""
    failure: Incomplete | None = None
    tunnel: bool = False
    """The connection leaves HTTP behind this message."""
    end_ktime_ns: int = 0
    """When its last byte so far passed; the record's once it is done."""
    size: int = 0
    """Bytes of the body that passed, known or not."""
    declared_size: int | None = None
    kept: bytes | bytearray = b""
    gap_cause: Truncation | None = None
    """Why the content stops early; nothing behind a gap is kept, because content with a hole would
    mislead."""
    wire_size: int = 0
    """Bytes of a message with a chunked body that passed, its head and its coding included."""
    may_be_next: bool = False
    """It may wait for 100 (RFC 9110 §10.1.1), and its body begins as the next message would, or is missing
    there: the client may have left the body out."""
    in_tail: bool = False
    """The rest of its chunked body passes unseen: content and coding cannot be told apart."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes held on behalf of this message."""
        return self.head_size + (len(self.record.body.content) if self.done else len(self.kept))

    @property
    def awaits_continue(self) -> bool:
        """Whether its sender may wait for 100 before it sends the body."""
        return b"expect" in self.fields.framing

    @property
    def is_event_stream(self) -> bool:
        """Whether it is a stream of server-sent events, which may be quiet for as long as it likes."""
        media_type = self.fields.framing.get(b"content-type", b"").partition(b";")[0]
        return media_type.strip().lower() == _EVENT_STREAM

    def keep(self, data: bytes, start: int, count: int, ktime_ns: int, limits: ParserLimits) -> None:
        """Note that `count` bytes of the body passed, and keep as many as the bound allows."""
        if self.done:
            return
        self.size += count
        if ktime_ns > self.end_ktime_ns:
            self.end_ktime_ns = ktime_ns
        if self.gap_cause is not None or not limits.capture_bodies:
            return
        kept = self.kept
        room = limits.max_body - len(kept)
        if count > room:
            if not room:
                return
            count = room
        part = data if count == len(data) else data[start : start + count]
        if not kept:
            self.kept = part
        else:
            if isinstance(kept, bytes):
                self.kept = kept = bytearray(kept)
            kept += part

    def step_over(self, count: int, missing: Missing, ktime_ns: int) -> None:
        """Account for a gap of `count` bytes in the body."""
        if self.done:
            return
        self.size += count
        if ktime_ns > self.end_ktime_ns:
            self.end_ktime_ns = ktime_ns
        if self.gap_cause is None:
            self.gap_cause = truncation_of(missing)

    def finish(self, limits: ParserLimits) -> None:
        """End the message as whole; nothing when it was given up before."""
        if self.done:
            return
        self._end(self.size, limits)

    def fail(self, cause: Incomplete, limits: ParserLimits) -> None:
        """End the message as it is, not whole; nothing when it has ended."""
        if self.done:
            return
        self.failure = cause
        # The connection's end is the body's end too; otherwise only a declared length shows what was to come.
        self._end(self.size if cause is Incomplete.CLOSED else self.declared_size, limits)

    def _end(self, size: int | None, limits: ParserLimits) -> None:
        self.done = True
        kept = bytes(self.kept)
        self.kept = b""
        cut: Truncation | None = None
        if limits.capture_bodies and (len(kept) < self.size or self.gap_cause is not None):
            cut = Truncation.LIMIT if len(kept) >= limits.max_body else self.gap_cause
        framing = self.fields.framing
        codings = (
            split_codings(self.fields)
            if b"content-encoding" in framing or b"transfer-encoding" in framing
            else []
        )
        if codings and kept and cut is None and self.failure is not None:
            # What a cut coding lacks is no decoding error.
            cut = Truncation.GAP
        content_type = framing.get(b"content-type")
        if self.in_tail:
            size = None
            if self.failure is None:
                self.record.wire_size = self.wire_size
        record = self.record
        record.end_ktime_ns = self.end_ktime_ns
        record.body = build_body(kept, size, cut, codings, content_type, limits.max_body)
