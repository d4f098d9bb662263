"""One HTTP/2 stream while it is read: what passed in each direction, and the records made of it.

Owns the bookkeeping of a stream and the making of its request and response. It must not know other streams,
nor when a stream is over: `streams` reports it.

Contract: what is whole is flagged by nothing; everything else carries the cause with it from the moment it
happened (`flaw`), whatever comes later. Content is kept from its beginning without a hole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ebpf.events import Direction, Missing, Origin
from parsers.content import build_body
from parsers.content_codings import split_content_codings
from parsers.content_listener import ContentListener, Dialogue
from parsers.exchange import Incomplete
from parsers.http2.fields import FieldBlock
from parsers.http_exchange import (
    Body,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    StreamReset,
    Truncation,
    missing_of,
    truncation_of,
)
from parsers.limits import ParserLimits

_VERSION: Final = "2"
_NOTHING: Final = FieldBlock()
# Shared, for it is replaced when the message ends.
_BODY_TO_COME: Final = Body(None, b"", None)


@dataclass(slots=True)
class StreamHalf:
    """One direction of a stream: a message, from its first frame on."""

    start_ktime_ns: int
    end_ktime_ns: int
    origin: Origin
    """The call that moved its first byte."""
    head: FieldBlock | None = None
    """None before the head, and when it was lost."""
    trailers: FieldBlock | None = None
    head_lost: bool = False
    """Content came without a head, or the head's block was lost."""
    interim: tuple[int, ...] = ()
    unknown: int = 0
    """Unknown fields of heads that something else took the place of."""
    is_over: bool = False
    """Its last frame was read."""
    may_be_over: bool = False
    """Its last frame may be among what was lost."""
    flaw: Incomplete | None = None
    """Why it is not whole, or not surely what it seems; the first cause stays."""
    malformed: bool = False
    """Frames follow each other as no peer accepts."""
    size: int = 0
    """Bytes of content that passed, known or not."""
    size_unknown: bool = False
    kept: bytes | bytearray = b""
    cut: Truncation | None = None
    """Why the content stops early; nothing behind a hole is kept."""
    listener: ContentListener | None = None
    listener_bytes: int = 0
    """What the listener held when it was last asked."""

    def flag(self, cause: Incomplete) -> None:
        """Note why the message is not whole."""
        if self.flaw is None:
            self.flaw = cause

    def touch(self, ktime_ns: int) -> None:
        """Note that something of the message passed."""
        if ktime_ns > self.end_ktime_ns:
            self.end_ktime_ns = ktime_ns

    def keep(self, data: bytes, start: int, count: int, ktime_ns: int, room: int) -> int:
        """Note that content passed; keep as much as there is `room` for, and return how much that was."""
        self.size += count
        self.touch(ktime_ns)
        if self.cut is not None:
            return 0
        if count > room:
            self.cut = Truncation.LIMIT
            if room <= 0:
                return 0
            count = room
        part = data[start : start + count]
        kept = self.kept
        if not kept:
            self.kept = part
        else:
            if isinstance(kept, bytes):
                self.kept = kept = bytearray(kept)
            kept += part
        return count

    def miss(self, count: int | None, missing: Missing, ktime_ns: int) -> None:
        """Note that content passed that is not known."""
        if count is None:
            self.size_unknown = True
        else:
            self.size += count
        self.touch(ktime_ns)
        if self.cut is None:
            self.cut = truncation_of(missing)
        if self.listener is not None:
            self.listener.miss(count, missing, ktime_ns)

    def take_fields(
        self, block: FieldBlock, ktime_ns: int, max_interim: int, *, ends: bool, may_lack_head: bool
    ) -> bool:
        """Take a block as interim response, head or trailers; return whether it is the head now.

        `may_lack_head` says that the head may be among what was lost in this direction.
        """
        self.touch(ktime_ns)
        if block.failed or block.malformed:
            self.malformed = True
        names_itself = block.is_request or block.is_response
        head = self.head
        # A head whose very kind is hidden may turn out to have been that of an interim response.
        may_be_interim = head is not None and head.hides_pseudo and not (head.is_request or head.is_response)
        if block.status is not None and block.status < 200 and not ends and (head is None or may_be_interim):
            if len(self.interim) < max_interim:
                self.interim += (block.status,)
            self.unknown += block.unknown + (head.unknown if head is not None else 0)
            self.head = None
            return False
        if head is None:
            if names_itself or (block.hides_pseudo and not (ends and self.head_lost)):
                self.head = block
                return True
            if not self.head_lost and not may_lack_head:
                # The first block is the head, even if it is not what a head should be.
                self.malformed = True
                self.head = block
                return True
            self.head_lost = True
        elif names_itself or (block.hides_pseudo and not ends):
            if may_be_interim:
                self.unknown += head.unknown
            else:
                self.malformed = True
            self.head = block
            return True
        elif not ends:
            # RFC 9113 §8.1: trailers end the stream.
            self.malformed = True
        if self.trailers is not None:
            self.malformed = True
        self.trailers = block
        return False

    def find_flaw(self) -> Incomplete | None:
        """Return why the message is not whole, unknown fields aside; None when it is."""
        if self.flaw is not None:
            return self.flaw
        if self.malformed:
            return Incomplete.INVALID
        if self.head is not None or (self.interim and not self.head_lost and not self.is_over):
            # Behind interim responses alone, the message itself has not begun.
            return None
        return Incomplete.LOST_BYTES

    @property
    def has_unknown(self) -> bool:
        """Whether a field of it is unknown, or not surely what it seems."""
        head = self.head
        if self.unknown or (head is not None and (head.unknown or head.in_doubt)):
            return True
        trailers = self.trailers
        return trailers is not None and (trailers.unknown > 0 or trailers.in_doubt)

    @property
    def has_promised_length(self) -> bool:
        """Whether just as much content passed as its head says will (RFC 9113 §8.1.1)."""
        if self.head is None or self.size_unknown:
            return False
        promised = [value for name, value in self.head.headers if name == b"content-length"]
        return promised == [str(self.size).encode()]

    def open_listener(self, listener: ContentListener) -> None:
        """Attach a listener, and hand it the content that passed before."""
        self.listener = listener
        if self.kept:
            listener.receive(bytes(self.kept), self.end_ktime_ns)
        count = None if self.size_unknown else self.size - len(self.kept)
        if count != 0:
            listener.miss(count, missing_of(self.cut), self.end_ktime_ns)
        if self.is_over:
            listener.end(self.end_ktime_ns)

    def become_tunnel(self) -> None:
        """Take what passed for no content: behind a CONNECT it is another protocol (RFC 9110 §9.3.6)."""
        self.kept = b""
        self.size = 0
        self.size_unknown = False
        self.cut = None

    def build_body(self, limits: ParserLimits, *, ended: bool) -> Body:
        """Build the record of the content; `ended` says that no more of it passed than was seen."""
        kept = bytes(self.kept)
        cut = self.cut if limits.capture_bodies else None
        head = self.head or _NOTHING
        codings: list[bytes] = []
        if head.content_encoding is not None and kept:
            codings = split_content_codings(head.content_encoding)
            if codings and cut is None and not self.is_over:
                # What a cut coding lacks is no decoding error.
                cut = Truncation.GAP
        size = self.size if ended and not self.size_unknown else None
        return build_body(kept, size, cut, codings, head.content_type, limits.max_body)


@dataclass(slots=True)
class Http2Stream:
    """A stream from its first frame on."""

    stream_id: int
    last_ktime_ns: int
    halves: list[StreamHalf | None] = field(default_factory=lambda: [None, None])
    """By direction."""
    losses: list[Incomplete | None] = field(default_factory=lambda: [None, None])
    """Why frames of the stream may be missing in a direction in which none was seen yet."""
    promise: StreamHalf | None = None
    """The promised request of a pushed stream: it came in the direction of its response."""
    handshake: HttpExchange | None = None
    """Of stream 1 behind an upgrade: the exchange of HTTP/1 that is answered here (RFC 7540 §3.2)."""
    reset: StreamReset | None = None
    """How one end gave it up; the first frame that says so counts."""
    tunnel: bool = False
    """It left HTTP behind its heads (RFC 9113 §8.5)."""
    answered_early: bool = False
    """The server answered in full before the request was over, and the rest does not come (RFC 9113
    §8.1)."""
    held_bytes: int = 0
    dialogue: Dialogue | None = None
    is_noted: bool = False
    """It was noted that its request has begun."""

    def select(self, requests: Direction) -> tuple[StreamHalf | None, StreamHalf | None]:
        """Return request and response, with `requests` as the direction in which the client sends."""
        halves = self.halves
        return self.promise or halves[requests], halves[1 - requests]


def build_request(half: StreamHalf, body: Body | None) -> HttpRequest:
    """Build the record of a request; without `body` it is that of a head alone."""
    head = half.head or _NOTHING
    trailers = half.trailers or _NOTHING
    is_plain_connect = head.method == b"CONNECT" and head.path is None
    return HttpRequest(
        head.method,
        head.authority if is_plain_connect else head.path,
        _VERSION,
        list(head.headers),
        _BODY_TO_COME if body is None else body,
        half.start_ktime_ns,
        half.end_ktime_ns,
        list(trailers.headers),
        head.dropped + trailers.dropped,
        head.unknown + trailers.unknown + half.unknown,
        head.scheme,
        head.authority,
        head.protocol,
    )


def build_response(half: StreamHalf, body: Body | None) -> HttpResponse:
    """Build the record of a response; without `body` it is that of a head alone."""
    head = half.head or _NOTHING
    trailers = half.trailers or _NOTHING
    return HttpResponse(
        head.status,
        b"",
        _VERSION,
        list(head.headers),
        _BODY_TO_COME if body is None else body,
        half.start_ktime_ns,
        half.end_ktime_ns,
        list(trailers.headers),
        head.dropped + trailers.dropped,
        half.interim,
        head.unknown + trailers.unknown + half.unknown,
    )
