"""Compression of WebSocket messages: permessage-deflate (RFC 7692), as negotiated and within bounds.

Owns what the handshake agreed on, and the window of one direction. It must not know frames.

Contract: output is never wrong. Raw deflate that refers to bytes before those that the decoder has seen is an
error to zlib, so a decoder that starts afresh behind a loss gives the right bytes or none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from parsers.content import BOMB_RATIO
from parsers.http_exchange import Headers, Truncation

_EXTENSIONS: Final = b"sec-websocket-extensions"
PERMESSAGE_DEFLATE: Final = "permessage-deflate"
_MESSAGE_TAIL: Final = b"\x00\x00\xff\xff"
"""RFC 7692 §7.2.1: what the sender took off the end of each message."""
_MIN_WINDOW_BITS: Final = 9
"""zlib compresses with 9 bits when 8 are asked for, so some senders do."""
_DECODER_BYTES: Final = 7_168
"""What zlib holds for a decoder besides its window (zconf.h)."""


@dataclass(frozen=True, slots=True)
class Compression:
    """How one direction compresses its messages."""

    window_bits: int = zlib.MAX_WBITS
    keeps_window: bool = True
    """A message may refer to the ones before it (context takeover)."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the handshake's response agreed on."""

    from_client: Compression | None = None
    from_server: Compression | None = None
    unknown: bool = False
    """Another extension is in use, whose meaning of frames is not known here."""


def read_extensions(headers: Headers) -> Negotiated:
    """Return what the response's `Sec-WebSocket-Extensions` says (RFC 6455 §9.1, RFC 7692 §7.1).

    A parameter that the RFC does not know, or an impossible window, makes the whole extension unknown: its
    messages are then not decoded.
    """
    values = b",".join(value for name, value in headers if name.lower() == _EXTENSIONS)
    negotiated = Negotiated()
    for offer in values.split(b","):
        name, *parameters = (part.strip(b" \t") for part in offer.split(b";"))
        if not name:
            continue
        known = None
        if name.lower() == PERMESSAGE_DEFLATE.encode() and negotiated.from_server is None:
            known = _read_parameters(parameters)
        if known is None:
            return Negotiated(unknown=True)
        negotiated = known
    return negotiated


def _read_parameters(parameters: list[bytes]) -> Negotiated | None:
    bits = {b"server": zlib.MAX_WBITS, b"client": zlib.MAX_WBITS}
    keeps = {b"server": True, b"client": True}
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        side, _, what = name.strip(b" \t").lower().partition(b"_")
        value = value.strip(b' \t"')
        if side not in bits:
            return None
        if what == b"no_context_takeover":
            keeps[side] = False
        elif what != b"max_window_bits":
            return None
        elif value.isdigit() and 8 <= int(value[:3]) <= zlib.MAX_WBITS:
            bits[side] = max(int(value[:3]), _MIN_WINDOW_BITS)
        elif value:
            return None
    return Negotiated(
        from_client=Compression(bits[b"client"], keeps[b"client"]),
        from_server=Compression(bits[b"server"], keeps[b"server"]),
    )


class MessageInflater:
    """Decompresses the messages of one direction, one after the other.

    `begin`, any number of `inflate`, `end`. When `truncation` is set, the content of the message in progress
    stops at what has come out so far.
    """

    __slots__ = ("_compression", "_consumed", "_decoder", "_left", "_produced", "_why_lost", "truncation")

    def __init__(self, compression: Compression) -> None:
        self._compression = compression
        self._decoder: zlib._Decompress | None = None
        self._why_lost = Truncation.DECODE_ERROR
        self._consumed = 0
        self._produced = 0
        self._left: int | None = None
        """Bytes behind a final block that are still to come as padding; None before that block."""
        self.truncation: Truncation | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes held: the window, and what goes with it."""
        return 0 if self._decoder is None else (1 << self._compression.window_bits) + _DECODER_BYTES

    def begin(self) -> None:
        """Begin a message."""
        self.truncation = None
        self._consumed = self._produced = 0
        self._left = None
        if self._decoder is None:
            self._decoder = zlib.decompressobj(-self._compression.window_bits)

    def inflate(self, data: bytes, room: int) -> bytes:
        """Return what the next bytes of the message decode to, at most `room` bytes.

        More than that ends the content, for LIMIT or, by its ratio, for BOMB.
        """
        decoder = self._decoder
        if self.truncation is not None or decoder is None:
            return b""
        if self._left is not None:
            self._pass_padding(len(data))
            return b""
        try:
            content = decoder.decompress(data, room + 1)
        except zlib.error:
            self._give_up(self._why_lost)
            return b""
        self._consumed += len(data) - len(decoder.unconsumed_tail)
        self._produced += len(content)
        if len(content) > room:
            bomb = self._consumed * BOMB_RATIO < self._produced
            self._give_up(Truncation.BOMB if bomb else Truncation.LIMIT)
            return content[:room]
        if decoder.eof:
            # RFC 7692 §7.2.3.4: a sender may end a message with a final block, and pads it with a zero byte.
            self._left = 1
            self._pass_padding(len(decoder.unused_data))
        return content

    def end(self, room: int) -> bytes:
        """End the message; return the rest of it, at most `room` bytes."""
        content = b"" if self._left is not None else self.inflate(_MESSAGE_TAIL, room)
        if self._left is not None or not self._compression.keeps_window:
            self._decoder = None
        return content

    def lose(self, cause: Truncation) -> None:
        """Note that bytes of this direction are missing: the window is not what the sender's was."""
        if self._compression.keeps_window:
            self._why_lost = cause
        self._give_up(cause)

    def _pass_padding(self, count: int) -> None:
        assert self._left is not None
        if count > self._left:
            self._give_up(Truncation.DECODE_ERROR)
        else:
            self._left -= count

    def _give_up(self, cause: Truncation) -> None:
        if self.truncation is None:
            self.truncation = cause
        self._decoder = None
