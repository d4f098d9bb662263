"""The streams of one HTTP/2 connection: which are in flight, which a frame belongs to, when one is over.

Owns the table of streams and its bounds. It must not decode (`session`) or make exchanges
(`exchanges`).

Contract: a request and a response belong together because they carry the same stream id, never by order or
time. Two threads may report their calls in either order, so a response that is over waits for its request,
for `ParserLimits.reorder_ns`. Frames of a stream that has ended begin no new one.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, Origin
from parsers.connection import NEVER_NS
from parsers.exchange import Incomplete
from parsers.http2.exchanges import ExchangeBuilder
from parsers.http2.reader import FrameReader
from parsers.http2.stream import Http2Stream, StreamHalf
from parsers.http_exchange import HttpExchange, StreamReset
from parsers.limits import ParserLimits
from parsers.stream import NOTHING_MISSING

_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_LAST_POSSIBLE: Final = (1 << 31) - 1


class StreamTable:
    """The streams of one connection. `counts` are the tracker's counters, added to here."""

    __slots__ = (
        "_counts",
        "_ended",
        "_floors",
        "_limits",
        "_readers",
        "_waiting",
        "builder",
        "held_bytes",
        "last_taken",
        "likely_requests",
        "open_halves",
        "quiet",
        "requests",
        "streams",
    )

    def __init__(
        self,
        builder: ExchangeBuilder,
        readers: tuple[FrameReader, FrameReader],
        limits: ParserLimits,
        counts: dict[str, int],
    ) -> None:
        self._readers = readers
        self._limits = limits
        self._counts = counts
        self.builder = builder
        self.streams: dict[int, Http2Stream] = {}
        """In flight, oldest first."""
        self.requests: Direction | None = None
        """The direction in which the client sends; None while it is not known."""
        self.likely_requests: Direction | None = None
        """The same by frames that are in doubt."""
        self.held_bytes = 0
        """Held for the messages of all streams."""
        self.open_halves = 0
        """Messages that have begun and not ended."""
        self._ended: dict[int, None] = {}
        self._floors = [0, 0]
        """By parity of the id: streams up to here that are not in flight have ended long ago."""
        self.last_taken = [_LAST_POSSIBLE, _LAST_POSSIBLE]
        """By direction of a GOAWAY: the last stream that its sender takes."""
        self._waiting: dict[int, int] = {}
        """Streams that are over but for a request that was not seen, and since when; oldest first."""
        self.quiet: dict[int, int] = {}
        """Streams whose end may be lost, and when they were last looked at; oldest first."""

    @property
    def is_waiting(self) -> bool:
        """Whether `expire` will have something to decide."""
        return bool(self._waiting or self.quiet)

    @property
    def due_ktime_ns(self) -> int:
        """When `expire` has something to decide; `NEVER_NS` when nothing waits."""
        due = NEVER_NS
        for since in self._waiting.values():
            due = since + self._limits.reorder_ns
            break
        for since in self.quiet.values():
            due = min(due, since + self._limits.idle_ns)
            break
        return due

    def take_requests(self, requests: Direction) -> None:
        """Learn in which direction the client sends."""
        if self.requests is None:
            self.requests = requests
            self._note_heads(requests)
            for stream in list(self.streams.values()):
                self.emit_if_over(stream)

    def open_handshake(self, handshake: HttpExchange, requests: Direction, ktime_ns: int) -> None:
        """Take the exchange of an upgrade: its response comes on stream 1 (RFC 7540 §3.2)."""
        self.take_requests(requests)
        stream = Http2Stream(1, ktime_ns)
        stream.handshake = handshake
        stream.halves[requests] = StreamHalf(ktime_ns, ktime_ns, handshake.origin, is_over=True)
        self.streams[1] = stream

    def expire(self, ktime_ns: int) -> None:
        """Let time pass: give up on requests that did not come, and on streams that may have ended."""
        limits = self._limits
        for stream_id, since in list(self._waiting.items()):
            if ktime_ns - since < limits.reorder_ns:
                break
            stream = self.streams[stream_id]
            if stream.reset is not None or any(half is None for half in stream.halves):
                self._emit(stream, None)
            else:
                # The request has come, and is not over yet.
                del self._waiting[stream_id]
        for stream_id, since in list(self.quiet.items()):
            if ktime_ns - since < limits.idle_ns:
                break
            stream = self.streams[stream_id]
            if ktime_ns - stream.last_ktime_ns < limits.idle_ns:
                del self.quiet[stream_id]
                self.quiet[stream_id] = stream.last_ktime_ns
            else:
                self._emit(stream, Incomplete.TIMED_OUT)

    def finish(self, cause: Incomplete, closed_ktime_ns: int | None) -> None:
        """Give up everything in flight; `closed_ktime_ns` says when the connection ended, if it did."""
        if self.requests is None and self.likely_requests is not None:
            self.requests = self.likely_requests
            self._note_heads(self.requests)
        for stream in list(self.streams.values()):
            requests = self.requests
            if requests is not None:
                sender = 1 - requests if stream.stream_id % 2 else requests
                if stream.stream_id > self.last_taken[sender] and stream.halves[1 - requests] is None:
                    stream.reset = stream.reset or StreamReset(Direction(sender), None, untaken=True)
            if closed_ktime_ns is not None:
                stream.last_ktime_ns = closed_ktime_ns
            self._emit(stream, cause)

    def end_direction(self, direction: Direction, ktime_ns: int) -> None:
        """Note that a direction is over: what its streams wait for will not come."""
        requests = self.requests
        if requests is None or direction is requests:
            return
        for stream in list(self.streams.values()):
            request, response = stream.select(requests)
            if request is not None and (response is None or not response.is_over):
                stream.last_ktime_ns = ktime_ns
                self._emit(stream, Incomplete.CLOSED)

    def find_stream(
        self, direction: Direction, stream_id: int, ktime_ns: int, *, opens: bool
    ) -> Http2Stream | None:
        """Return the stream, new when the frame `opens` one; None for one that is over or never began."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.last_ktime_ns = ktime_ns
            return stream
        if (
            stream_id in self._ended
            or stream_id <= self._floors[stream_id % 2]
            or not (opens or self._readers[direction].loss is not None)
        ):
            self._counts["http2_stray_frames"] += 1
            return None
        streams = self.streams
        if len(streams) >= self._limits.max_http2_streams:
            self._counts["http2_streams_evicted"] += 1
            self._emit(next(iter(streams.values())), Incomplete.EVICTED)
        streams[stream_id] = stream = Http2Stream(stream_id, ktime_ns)
        for side in (_INGRESS, _EGRESS):
            reader = self._readers[side]
            if reader.doubt is not None and reader.is_lost:
                stream.losses[side] = reader.loss
                self.quiet.setdefault(stream_id, ktime_ns)
        return stream

    def begin_half(self, stream: Http2Stream, direction: Direction, origin: Origin) -> StreamHalf:
        """Begin the message of a stream in a direction."""
        half = StreamHalf(origin.ktime_ns, origin.ktime_ns, origin)
        half.flaw = stream.losses[direction]
        stream.halves[direction] = half
        self.open_halves += 1
        return half

    def find_half(
        self, direction: Direction, stream_id: int, origin: Origin
    ) -> tuple[Http2Stream, StreamHalf] | None:
        """Return the message that content belongs to; None when there is none any more."""
        stream = self.find_stream(direction, stream_id, origin.ktime_ns, opens=False)
        if stream is None:
            return None
        half = stream.halves[direction] or self.begin_half(stream, direction, origin)
        if half.is_over:
            self._counts["http2_stray_frames"] += 1
            return None
        reader = self._readers[direction]
        if half.head is None and not half.head_lost:
            # Content before a head: its beginning is lost as well.
            half.head_lost = True
            half.flag(reader.loss or Incomplete.INVALID)
            half.miss(None, NOTHING_MISSING, origin.ktime_ns)
        if reader.doubt is not None:
            half.flag(reader.doubt)
        return stream, half

    def end_half(self, half: StreamHalf, ktime_ns: int) -> None:
        """Note that a message is over."""
        half.is_over = True
        half.touch(ktime_ns)
        self.open_halves -= 1
        if half.listener is not None:
            half.listener.end(ktime_ns)

    def hold(self, stream: Http2Stream, count: int) -> None:
        """Note that bytes are held for a stream, or let go when `count` is negative."""
        stream.held_bytes += count
        self.held_bytes += count

    def account(self, stream: Http2Stream, half: StreamHalf) -> None:
        """Note what the listener of a message holds."""
        if half.listener is not None:
            held = half.listener.held_bytes
            self.hold(stream, held - half.listener_bytes)
            half.listener_bytes = held

    def note_head(self, stream: Http2Stream, requests: Direction) -> None:
        """Let the builder take note of a head, and account for what it has opened."""
        self.builder.note_head(stream, requests)
        if stream.dialogue is not None:
            for half in stream.halves:
                if half is not None:
                    self.account(stream, half)

    def _note_heads(self, requests: Direction) -> None:
        """Catch up on the heads that came while it was not known which side is the client."""
        for stream in self.streams.values():
            self.note_head(stream, requests)

    def emit_if_over(self, stream: Http2Stream) -> None:
        """Emit the exchange of a stream if nothing more is to come, or not for long."""
        requests = self.requests
        if requests is None:
            return
        request, response = stream.select(requests)
        if stream.tunnel and stream.dialogue is None:
            for half in (request, response):
                if half is not None and not half.is_over:
                    self.end_half(half, half.end_ktime_ns)
        elif stream.reset is None and (response is None or not response.is_over):
            return
        if request is None:
            self._waiting.setdefault(stream.stream_id, stream.last_ktime_ns)
        elif request.is_over or request.may_be_over or stream.reset is not None or stream.answered_early:
            self._emit(stream, None)

    def _emit(self, stream: Http2Stream, cause: Incomplete | None) -> None:
        """Make the exchange of a stream, and remember that it has ended."""
        stream_id = stream.stream_id
        del self.streams[stream_id]
        if self._waiting:
            self._waiting.pop(stream_id, None)
        if self.quiet:
            self.quiet.pop(stream_id, None)
        self.held_bytes -= stream.held_bytes
        for half in stream.halves:
            if half is not None and not half.is_over:
                self.open_halves -= 1
        ended = self._ended
        ended[stream_id] = None
        if len(ended) > self._limits.max_ended_streams:
            self._counts["http2_forgotten_streams"] += 1
            oldest = next(iter(ended))
            del ended[oldest]
            self._floors[oldest % 2] = max(self._floors[oldest % 2], oldest)
        requests = self.requests
        if requests is None:
            self._counts["http2_unattributed_streams"] += 1
            return
        request, response = stream.select(requests)
        absence: Incomplete | None = None
        if request is None:
            reader = self._readers[requests]
            absence = reader.loss or (Incomplete.LOST_BYTES if reader.is_touched else Incomplete.ONE_SIDE)
        elif response is None:
            reader = self._readers[1 - requests]
            absence = stream.losses[1 - requests] if reader.is_touched else Incomplete.ONE_SIDE
        self.builder.emit(stream, requests, cause, absence)
