"""The length-prefixed messages of one direction of a gRPC call, as bytes pass.

Owns where a message begins and ends (gRPC over HTTP/2, "Length-Prefixed-Message"), and what of the messages
is kept. It must not know the call (`grpc`), nor what carries the bytes.

Contract: wire data never raises. All messages are counted; the content of the first ones is kept,
decompressed, within the body limit for all together, and always as a true beginning. What a gap does, by what
it lies in:

| in | then |
|---|---|
| one message | stepped over: it is counted, its content stops |
| a prefix, or more than one message | the place is lost: nothing is counted behind it (`flow.uncounted`) |
| base64 text (gRPC-Web) | likewise: there may have been padding, so how many bytes are missing is unknown |
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from ebpf.events import Missing
from parsers.content import build_body
from parsers.grpc.web import Base64Decoder, parse_trailers
from parsers.http_exchange import GrpcMessage, Headers, MessageFlow, Truncation, truncation_of
from parsers.limits import ParserLimits

_PREFIX: Final = Struct(">BI")
_PREFIX_BYTES: Final = _PREFIX.size
_COMPRESSED: Final = 0x01
_TRAILERS: Final = 0x80
"""Flag of the frame that ends a response of gRPC-Web."""


class GrpcReader:
    """Reads one direction of a call. `counts` are the tracker's counters, added to here.

    `encoding` is what `grpc-encoding` says of this direction. `web` says that trailers may come as a message
    (gRPC-Web), `text` that all of it is base64 (`application/grpc-web-text`).
    """

    __slots__ = (
        "_base64",
        "_content",
        "_counts",
        "_cut",
        "_encoding",
        "_flag",
        "_is_full",
        "_is_over",
        "_keeps",
        "_kept_bytes",
        "_limits",
        "_needed",
        "_prefix",
        "_room",
        "_size",
        "_web",
        "flow",
        "messages",
        "trailers",
    )

    def __init__(
        self,
        encoding: bytes,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        web: bool = False,
        text: bool = False,
    ) -> None:
        self._encoding = encoding
        self._limits = limits
        self._counts = counts
        self._web = web
        self._base64 = Base64Decoder() if text else None
        self._prefix = b""
        self._flag = 0
        self._size = 0
        self._needed = 0
        """Bytes that the message being read still lacks; 0 between two messages."""
        self._keeps = False
        self._room = 0
        self._content = bytearray()
        self._cut: Truncation | None = None
        self._kept_bytes = 0
        self._is_full = False
        self._is_over = False
        self.flow = MessageFlow()
        """What passed so far."""
        self.messages: list[GrpcMessage] = []
        """The first messages, and the beginning of one that did not end."""
        self.trailers: Headers | None = None
        """Trailers that came as a message; None when none did."""

    @property
    def held_bytes(self) -> int:
        """Bytes held."""
        waiting = len(self._prefix) + len(self._content)
        return self._kept_bytes + waiting + (0 if self._base64 is None else self._base64.held_bytes)

    def receive(self, data: bytes, ktime_ns: int) -> None:  # noqa: ARG002 - the protocol passes the time
        """Take the next bytes of the direction."""
        if self._is_over:
            return
        if self._base64 is not None:
            decoded = self._base64.decode(data)
            if decoded is None:
                self._fail()
                return
            data = decoded
        at, size = 0, len(data)
        while at < size and not self._is_over:
            if self._needed:
                count = min(self._needed, size - at)
                self._take(data, at, count)
                at += count
                continue
            if self._prefix or size - at < _PREFIX_BYTES:
                count = min(_PREFIX_BYTES - len(self._prefix), size - at)
                self._prefix += data[at : at + count]
                at += count
                if len(self._prefix) < _PREFIX_BYTES:
                    return
                flag, length = _PREFIX.unpack(self._prefix)
                self._prefix = b""
            else:
                flag, length = _PREFIX.unpack_from(data, at)
                at += _PREFIX_BYTES
            self._begin(flag, length)

    def miss(self, count: int | None, missing: Missing, ktime_ns: int) -> None:  # noqa: ARG002 - likewise
        """Take `count` unknown bytes, missing for these causes; None when not even their number is known."""
        if self._is_over or count == 0:
            return
        if self._needed and self._base64 is None and count is not None:
            if self._cut is None:
                self._cut = truncation_of(missing)
            step = min(count, self._needed)
            self._needed -= step
            if not self._needed:
                self._end_message()
            if count == step or self._is_over:
                return
        self._lose_place(missing)

    def keep_no_more(self) -> None:
        """Keep no more content, for want of room; messages are still counted."""
        self._is_full = True
        if self._needed and self._cut is None and not self._flag & _TRAILERS:
            self._cut = Truncation.LIMIT

    def end(self, ktime_ns: int) -> None:  # noqa: ARG002 - likewise
        """Take the end of the direction; nothing when it has ended."""
        if self._is_over:
            return
        if self._needed or self._prefix or (self._base64 is not None and self._base64.held_bytes):
            self._stop_counting(Truncation.GAP)
        self._is_over = True

    def _begin(self, flag: int, size: int) -> None:
        if flag & ~(_COMPRESSED | _TRAILERS) or (flag & _TRAILERS and not self._web):
            self._fail()
            return
        limits = self._limits
        self._flag, self._size, self._needed = flag, size, size
        if flag & _TRAILERS:
            self._keeps, self._room = True, limits.max_header_block
        else:
            self._room = limits.max_body - self._kept_bytes
            self._keeps = (
                limits.capture_bodies
                and not self._is_full
                and len(self.messages) < limits.max_grpc_messages
                and (self._room > 0 or not size)
            )
        if not size:
            self._end_message()

    def _take(self, data: bytes, at: int, count: int) -> None:
        if self._keeps and self._cut is None:
            room = self._room - len(self._content)
            if count > room:
                self._cut = Truncation.LIMIT
            self._content += data[at : at + min(count, room)]
        self._needed -= count
        if not self._needed:
            self._end_message()

    def _end_message(self) -> None:
        if self._flag & _TRAILERS:
            self._end_trailers()
            return
        self.flow.count += 1
        self.flow.size += self._size
        if self._keeps:
            self._keep_message()
        else:
            self._cut = None
            self._counts["grpc_messages_dropped"] += 1

    def _end_trailers(self) -> None:
        content, cut = self._take_content()
        if cut is None:
            self.trailers = parse_trailers(content, self._limits.max_headers)
        else:
            self._counts["grpc_trailers_lost"] += 1
        self._is_over = True

    def _keep_message(self) -> None:
        content, cut = self._take_content()
        if cut is not None:
            self._counts["grpc_messages_cut"] += 1
        self._kept_bytes += len(content)
        self.messages.append(GrpcMessage(self._size, content, bool(self._flag & _COMPRESSED), cut))

    def _take_content(self) -> tuple[bytes, Truncation | None]:
        """Return what was kept of the message, decompressed, and why it is short."""
        content, cut = bytes(self._content), self._cut
        self._content = bytearray()
        self._cut = None
        if not self._flag & _COMPRESSED:
            return content, cut
        # A compressed message without a coding is an error, which the decoder of no coding says as well.
        body = build_body(content, self._size, cut, [self._encoding], None, self._room)
        return body.content, body.truncation if body.coding is None else Truncation.DECODE_ERROR

    def _lose_place(self, missing: Missing) -> None:
        self._counts["grpc_places_lost"] += 1
        self._stop_counting(truncation_of(missing))

    def _fail(self) -> None:
        self._counts["grpc_invalid_messages"] += 1
        self._stop_counting(Truncation.DECODE_ERROR)

    def _stop_counting(self, cause: Truncation) -> None:
        """End here, in the middle of something; what came of a message is kept."""
        if self._needed and self._cut is None:
            self._cut = cause
        if self._needed and self._flag & _TRAILERS:
            self._end_trailers()
            return
        if self._needed and self._keeps and self._content:
            self._keep_message()
        self._prefix = b""
        self.flow.uncounted = True
        self._is_over = True
