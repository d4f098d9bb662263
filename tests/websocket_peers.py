"""Bytes of WebSockets: frames made by hand, and those that real endpoints send."""

from __future__ import annotations

from dataclasses import dataclass, field

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

KEY = b"\x12\x34\x56\x78"

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""A request for a WebSocket."""


def accept(*fields: bytes) -> bytes:
    """Return the response that accepts it, with these field lines besides."""
    lines = b"".join(line + b"\r\n" for line in fields)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + lines + b"\r\n"
    )


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes = b"",
    length: int | None = None,
    width: int | None = None,
) -> bytes:
    """Return one frame; `length` announces another length, in so many bytes as `width` says (0, 2, 8)."""
    length = len(payload) if length is None else length
    if width is None:
        width = 0 if length <= 125 else 2 if length <= 0xFFFF else 8
    second = {0: length, 2: 126, 8: 127}[width]
    head = bytes([(0x80 if fin else 0) | rsv | opcode, second | (0x80 if key else 0)])
    head += length.to_bytes(width, "big") if width else b""
    if key:
        payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    return head + key + payload


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return one frame of a client."""
    return frame(opcode, payload, fin=fin, rsv=rsv, key=KEY)


@dataclass
class Peers:
    """A client and a server behind their handshake. What one sends, the other receives at once."""

    client_keeps_window: bool = True
    server_keeps_window: bool = True
    client_bits: int = 15
    server_bits: int = 15
    compressed: bool = True
    client: ClientProtocol = field(init=False)
    server: ServerProtocol = field(init=False)

    def __post_init__(self) -> None:
        self.client = ClientProtocol(parse_uri("ws://a/"), state=OPEN)
        self.server = ServerProtocol(state=OPEN)
        if self.compressed:
            loses_client, loses_server = not self.client_keeps_window, not self.server_keeps_window
            self.client.extensions = [
                PerMessageDeflate(loses_server, loses_client, self.server_bits, self.client_bits)
            ]
            self.server.extensions = [
                PerMessageDeflate(loses_client, loses_server, self.client_bits, self.server_bits)
            ]

    @property
    def agreed(self) -> bytes:
        """The field line of the server's response that says what was agreed on."""
        if not self.compressed:
            return b"X-None: 1"
        parts = [b"Sec-WebSocket-Extensions: permessage-deflate"]
        parts += [] if self.client_keeps_window else [b"client_no_context_takeover"]
        parts += [] if self.server_keeps_window else [b"server_no_context_takeover"]
        parts += [] if self.client_bits == 15 else [b"client_max_window_bits=%d" % self.client_bits]
        parts += [] if self.server_bits == 15 else [b"server_max_window_bits=%d" % self.server_bits]
        return b"; ".join(parts)

    def send(
        self, *, from_client: bool, opcode: int, payload: bytes, fin: bool = True, key: bytes = KEY
    ) -> bytes:
        """Let one side send a frame; return its bytes, which the other side has taken.

        The other side answers nothing of itself. The mask is `key`, where an endpoint would draw one.
        """
        sender: Protocol = self.client if from_client else self.server
        receiver: Protocol = self.server if from_client else self.client
        coded = Frame(Opcode(opcode), payload, fin)
        for extension in sender.extensions:
            coded = extension.encode(coded)
        rsv = 0x40 if coded.rsv1 else 0
        data = frame(opcode, bytes(coded.data), fin=fin, rsv=rsv, key=key if from_client else b"")
        receiver.receive_data(data)
        (received,) = receiver.events_received()
        assert isinstance(received, Frame)
        assert (received.opcode, bytes(received.data), received.fin) == (opcode, payload, fin)
        return data
