"""What the frames of both directions mean: fields decoded, content handed on, streams begun and ended.

Owns the readers, the field decoders, and which side is the client, by what is sent. It must not keep streams
(`streams`) or read frames (`reader`).

| what is lost | what becomes of the streams |
|---|---|
| content of known length | nothing but that its body has a hole |
| a field block | its message is flagged; the dynamic table is unknown from there |
| the place in a direction | every message open in it is flagged, and every one that could have begun in it |

While it is in doubt whether a direction's bytes are frames, all that they say is flagged, and what they
cannot say, coming from this side, shows that they are none.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, Missing, Origin
from parsers.exchange import Incomplete
from parsers.http2.exchanges import ExchangeBuilder
from parsers.http2.fields import FieldBlock
from parsers.http2.frames import CANCEL, LARGEST_FRAME_SIZE, NO_ERROR
from parsers.http2.headers import HeaderDecoder
from parsers.http2.reader import FrameReader
from parsers.http2.stream import StreamHalf
from parsers.http2.streams import StreamTable
from parsers.http_exchange import StreamReset
from parsers.limits import ParserLimits
from parsers.stream import Piece

_UNKNOWN_BLOCK: Final = FieldBlock(hides_pseudo=True)


class Http2Session:
    """Both directions of one connection. `counts` are the tracker's counters, added to here."""

    __slots__ = ("_counts", "_decoders", "_limits", "readers", "table")

    def __init__(
        self, builder: ExchangeBuilder, limits: ParserLimits, counts: dict[str, int], *, joined_late: bool
    ) -> None:
        self._limits = limits
        self._counts = counts
        self._decoders = (HeaderDecoder(limits, counts), HeaderDecoder(limits, counts))
        self.readers = (
            FrameReader(self, Direction.INGRESS, limits, counts, joined_late=joined_late),
            FrameReader(self, Direction.EGRESS, limits, counts, joined_late=joined_late),
        )
        if joined_late:
            for decoder in self._decoders:
                decoder.taint()
        self.table = StreamTable(builder, self.readers, limits, counts)

    @property
    def is_in_message(self) -> bool:
        """Whether a message, or a frame, has begun and not ended."""
        first, second = self.readers
        return self.table.open_halves > 0 or first.is_in_frame or second.is_in_frame

    def count_held_bytes(self) -> int:
        """Return the bytes held for the whole connection."""
        first, second = self.readers
        ingress, egress = self._decoders
        return (
            self.table.held_bytes
            + first.held_bytes
            + second.held_bytes
            + ingress.held_bytes
            + egress.held_bytes
        )

    def note_preface(self, direction: Direction) -> None:
        """Take the direction of requests from the preface; nothing says it more clearly."""
        self.table.requests = None
        self.table.take_requests(direction)

    def note_max_frame_size(self, direction: Direction, size: int) -> None:
        """Expect frames of that size in the other direction."""
        reader = self.readers[1 - direction]
        reader.longest = max(reader.longest, min(size, LARGEST_FRAME_SIZE))

    def take_block(
        self,
        direction: Direction,
        stream_id: int,
        promised_id: int | None,
        block: bytes,
        origin: Origin,
        ktime_ns: int,
        *,
        ends: bool,
    ) -> bool:
        """Decode a field block and give it to its stream."""
        reader = self.readers[direction]
        fields = self._decode(direction, block)
        doubt = reader.doubt
        in_place = not fields.failed and self._fits_side(direction, stream_id, promised_id, fields)
        if doubt is not None and (fields.malformed or not in_place):
            return False
        if promised_id is not None:
            self._promise(direction, promised_id, fields, origin, doubt, malformed=not in_place)
            return True
        table = self.table
        stream = table.find_stream(direction, stream_id, ktime_ns, opens=True)
        if stream is None:
            return True
        half = stream.halves[direction] or table.begin_half(stream, direction, origin)
        if half.is_over:
            self._counts["http2_stray_frames"] += 1
            return True
        if doubt is not None:
            half.flag(doubt)
        if not in_place:
            half.malformed = True
        loss = reader.loss
        if half.take_fields(
            fields, ktime_ns, self._limits.max_interim, ends=ends, may_lack_head=loss is not None
        ):
            requests = table.requests
            if requests is not None:
                self._counts["requests" if direction is requests else "responses"] += 1
                table.note_head(stream, requests)
        elif half.head_lost and loss is not None:
            half.flag(loss)
        table.hold(stream, fields.size)
        if ends:
            table.end_half(half, ktime_ns)
            table.emit_if_over(stream)
        elif stream.tunnel:
            table.emit_if_over(stream)
        return True

    def lose_block(
        self,
        direction: Direction,
        stream_id: int,
        promised_id: int | None,
        cause: Incomplete,
        origin: Origin,
        *,
        ends: bool,
    ) -> None:
        """Flag the message of a lost block, and forget the dynamic table."""
        self._counts["lost_heads"] += 1
        self._decoders[direction].taint()
        if self.readers[direction].doubt is None:
            self._decoders[direction].trust()
        if promised_id is not None:
            self._promise(direction, promised_id, _UNKNOWN_BLOCK, origin, cause, malformed=False)
            return
        stream = self.table.find_stream(direction, stream_id, origin.ktime_ns, opens=True)
        if stream is None:
            return
        half = stream.halves[direction] or self.table.begin_half(stream, direction, origin)
        if half.is_over:
            return
        half.flag(cause)
        half.head_lost = half.head_lost or half.head is None
        if ends:
            self.table.end_half(half, origin.ktime_ns)
            self.table.emit_if_over(stream)

    def take_data(
        self, direction: Direction, stream_id: int, start: int, count: int, piece: Piece, *, ends: bool
    ) -> None:
        """Give content to its stream."""
        table = self.table
        found = table.find_half(direction, stream_id, piece.origin)
        if found is None:
            return
        stream, half = found
        if count:
            limits = self._limits
            room = limits.max_body - len(half.kept) if limits.capture_bodies else 0
            is_full = table.held_bytes + count > limits.max_http2_content
            if is_full and (room > 0 or half.listener is not None):
                self._counts["http2_refused_content"] += 1
                room = 0
            if stream.tunnel:
                half.touch(piece.ktime_ns)
            else:
                kept = half.keep(piece.data, start, count, piece.ktime_ns, room)
                if kept:
                    table.hold(stream, kept)
            listener = half.listener
            if listener is not None:
                if is_full:
                    listener.keep_no_more()
                listener.receive(piece.data[start : start + count], piece.ktime_ns)
                table.account(stream, half)
        if ends:
            table.end_half(half, piece.ktime_ns)
            table.emit_if_over(stream)

    def miss_data(
        self, direction: Direction, stream_id: int, count: int | None, missing: Missing, ktime_ns: int
    ) -> None:
        """Tell its stream that content is missing."""
        found = self.table.find_half(direction, stream_id, Origin(ktime_ns))
        if found is not None:
            _, half = found
            half.miss(count, missing, ktime_ns)

    def end_stream(self, direction: Direction, stream_id: int, ktime_ns: int) -> None:
        """Note that a message is over."""
        found = self.table.find_half(direction, stream_id, Origin(ktime_ns))
        if found is not None:
            stream, half = found
            self.table.end_half(half, ktime_ns)
            self.table.emit_if_over(stream)

    def reset_stream(
        self, direction: Direction, stream_id: int, error_code: int | None, ktime_ns: int
    ) -> None:
        """End a stream before its time, or just its request when the response is there in full."""
        stream = self.table.streams.get(stream_id)
        if stream is None:
            return
        stream.last_ktime_ns = ktime_ns
        doubt = self.readers[direction].doubt
        if doubt is not None:
            for half in stream.halves:
                if half is not None:
                    half.flag(doubt)
        requests = self.table.requests
        request, response = (None, None) if requests is None else stream.select(requests)
        if response is not None and response.is_over and error_code in (NO_ERROR, CANCEL):
            stream.answered_early = True
        elif (
            direction is requests
            and error_code in (NO_ERROR, CANCEL)
            and request is not None
            and request.is_over
            and response is not None
            and response.has_promised_length
        ):
            # The client has the length it was promised, and does not wait for the news that nothing follows.
            response.is_over = True
        elif stream.reset is None:
            stream.reset = StreamReset(direction, error_code)
        self.table.emit_if_over(stream)

    def go_away(self, direction: Direction, last_stream_id: int, ktime_ns: int) -> None:
        """End the streams that the sender of a GOAWAY has not taken (RFC 9113 §6.8)."""
        requests = self.table.requests
        if requests is None or self.readers[direction].doubt is not None:
            return
        self.table.last_taken[direction] = last_stream_id
        begun_by_client = 1 if direction is not requests else 0
        for stream in list(self.table.streams.values()):
            if (
                stream.stream_id > last_stream_id
                and stream.stream_id % 2 == begun_by_client
                and stream.halves[1 - requests] is None
            ):
                stream.last_ktime_ns = ktime_ns
                stream.reset = stream.reset or StreamReset(direction, None, untaken=True)
                self.table.emit_if_over(stream)

    def lose_place(self, direction: Direction, cause: Incomplete, missing: Missing, ktime_ns: int) -> None:
        """Flag every message that the lost frames may have belonged to, and forget the dynamic table."""
        self._decoders[direction].taint()
        for stream in list(self.table.streams.values()):
            half = stream.halves[direction]
            if half is None:
                stream.losses[direction] = stream.losses[direction] or cause
            elif not half.is_over:
                half.flag(cause)
                half.may_be_over = True
                half.miss(None, missing, ktime_ns)
            self.table.quiet.setdefault(stream.stream_id, ktime_ns)
            self.table.emit_if_over(stream)

    def trust(self, direction: Direction) -> None:
        """Note that what is read in a direction is beyond doubt again."""
        self._decoders[direction].trust()

    def _decode(self, direction: Direction, block: bytes) -> FieldBlock:
        decoder = self._decoders[direction]
        counts = self._counts
        fields = decoder.decode(block)
        if fields.unknown:
            counts["http2_unknown_fields"] += fields.unknown
        if fields.dropped:
            counts["http2_dropped_fields"] += fields.dropped
        if fields.failed:
            counts["http2_invalid_blocks"] += 1
            if self.readers[direction].doubt is None:
                # The peer ends the connection (RFC 9113 §4.3). What comes nevertheless refers to a table
                # that is unknown here.
                decoder.taint()
                decoder.trust()
        return fields

    def _fits_side(
        self, direction: Direction, stream_id: int, promised_id: int | None, fields: FieldBlock
    ) -> bool:
        """Whether a block can come from this side; it shows here which side is the client."""
        from_client: bool | None = None
        if promised_id is not None:
            from_client = False
        elif fields.is_request != fields.is_response:
            from_client = fields.is_request
        if self.table.requests is None:
            if from_client is not None:
                requests = direction if from_client else Direction(1 - direction)
                if self.readers[direction].doubt is None:
                    self.table.take_requests(requests)
                elif self.table.likely_requests is None:
                    self.table.likely_requests = requests
            return True
        if promised_id is not None:
            return direction is not self.table.requests and promised_id % 2 == 0
        if direction is self.table.requests:
            return from_client is not False and stream_id % 2 == 1
        return from_client is not True

    def _promise(
        self,
        direction: Direction,
        promised_id: int,
        fields: FieldBlock,
        origin: Origin,
        flaw: Incomplete | None,
        *,
        malformed: bool,
    ) -> None:
        """Take the request of a pushed stream (RFC 9113 §8.4)."""
        stream = self.table.find_stream(direction, promised_id, origin.ktime_ns, opens=True)
        if stream is None or stream.promise is not None:
            return
        promise = StreamHalf(origin.ktime_ns, origin.ktime_ns, origin, fields, is_over=True)
        promise.flaw = flaw
        promise.malformed = malformed or fields.malformed or fields.failed
        stream.promise = promise
        self._counts["requests"] += 1
        if self.table.requests is not None:
            self.table.builder.note_request(stream, promise)
        self.table.hold(stream, fields.size)
