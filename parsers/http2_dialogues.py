"""Who listens to an HTTP/2 stream.

Owns the one place where that is chosen. It must not know frames, nor what the listeners understand.
"""

from __future__ import annotations

from ebpf.events import Direction, Role
from parsers.exchange import HttpRequest, HttpResponse, Incomplete, WebSocketSession
from parsers.grpc import GrpcDialogue, is_grpc
from parsers.http2_fields import FieldBlock
from parsers.limits import ParserLimits
from parsers.taps import Dialogue
from parsers.websocket import WebSocketDialogue, opens_websocket
from parsers.websocket_reader import WebSocketReader


def may_be_tapped(head: FieldBlock) -> bool:
    """Whether a head may make anybody listen; asked first, because records of heads cost time."""
    content_type = head.content_type
    return (content_type is not None and content_type.startswith(b"application/grpc")) or (
        head.protocol is not None
    )


def open_dialogue(
    request: HttpRequest | None,
    response: HttpResponse | None,
    requests: Direction,
    limits: ParserLimits,
    counts: dict[str, int],
) -> Dialogue | None:
    """Return who listens to a stream whose requests go in this direction, by the heads that are known."""
    if any(message is not None and is_grpc(message.headers) for message in (request, response)):
        return GrpcDialogue(limits, counts)
    if request is not None and request.protocol is not None and request.protocol.lower() == b"websocket":
        return WebSocketStream(requests, limits, counts)
    return None


class WebSocketStream:
    """A WebSocket on a stream of its own (RFC 8441), once the response has opened it."""

    __slots__ = ("_counts", "_dialogue", "_limits", "_requests", "request", "response")

    def __init__(self, requests: Direction, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._requests = requests
        self._limits = limits
        self._counts = counts
        self._dialogue: WebSocketDialogue | None = None
        self.request: WebSocketReader | None = None
        self.response: WebSocketReader | None = None

    @property
    def failure(self) -> Incomplete | None:
        """Why not everything that passed was read."""
        return None if self._dialogue is None else self._dialogue.failure

    def open_readers(self, request: HttpRequest | None, response: HttpResponse | None) -> None:
        """Begin to read once the handshake is accepted."""
        if self._dialogue is None and response is not None and opens_websocket(request, response):
            role = Role.CLIENT if self._requests is Direction.EGRESS else Role.SERVER
            self._dialogue = WebSocketDialogue(response, role, self._limits, self._counts)
            ingress, egress = self._dialogue.readers
            self.request, self.response = (
                (egress, ingress) if self._requests is Direction.EGRESS else (ingress, egress)
            )

    def build(self, _request: HttpRequest | None, _response: HttpResponse | None) -> WebSocketSession | None:
        """Return the session; None when the handshake did not open one."""
        return None if self._dialogue is None else self._dialogue.build_session()
