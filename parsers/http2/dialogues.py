"""What listens to an HTTP/2 stream.

Owns the one place where that is chosen. It must not know frames, nor what the listeners understand.
"""

from __future__ import annotations

from typing import Final

from ebpf.events import Direction, Role
from parsers.content_listener import Dialogue
from parsers.exchange import Incomplete
from parsers.grpc.call import GrpcDialogue, is_grpc
from parsers.http2.fields import FieldBlock
from parsers.http_exchange import HttpRequest, HttpResponse, WebSocketSession
from parsers.limits import ParserLimits
from parsers.websocket.dialogue import WebSocketDialogue, opens_websocket
from parsers.websocket.reader import WebSocketReader

_GRPC: Final = b"application/grpc"
_WEBSOCKET: Final = b"websocket"
_ENDS_SESSION: Final = (Incomplete.CLOSED, Incomplete.RESET)


def may_be_tapped(head: FieldBlock) -> bool:
    """Whether a head may open a dialogue; asked first, because records of heads cost time."""
    content_type = head.content_type
    return (content_type is not None and content_type[: len(_GRPC)].lower() == _GRPC) or (
        head.protocol is not None
    )


def open_dialogue(
    request: HttpRequest | None,
    response: HttpResponse | None,
    requests: Direction,
    limits: ParserLimits,
    counts: dict[str, int],
) -> Dialogue | None:
    """Return what listens to a stream whose requests go in this direction, by the heads that are known."""
    if request is not None and request.method == b"CONNECT":
        # RFC 8441 §4: only with this method does the protocol mean anything.
        protocol = request.protocol
        opens = protocol is not None and protocol.lower() == _WEBSOCKET
        return WebSocketStream(requests, limits, counts) if opens else None
    if any(message is not None and is_grpc(message.headers) for message in (request, response)):
        return GrpcDialogue(limits, counts)
    return None


class WebSocketStream:
    """A WebSocket on a stream of its own (RFC 8441), once the response has opened it.

    The end of its stream means what the end of the connection means over HTTP/1 (RFC 8441 §5): see
    `websocket.connection`.
    """

    __slots__ = ("_counts", "_dialogue", "_limits", "_requests", "request", "response")

    def __init__(self, requests: Direction, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._requests = requests
        self._limits = limits
        self._counts = counts
        self._dialogue: WebSocketDialogue | None = None
        self.request: WebSocketReader | None = None
        self.response: WebSocketReader | None = None

    def open_readers(self, request: HttpRequest | None, response: HttpResponse | None) -> None:
        """Begin to read once the handshake is accepted."""
        if self._dialogue is None and response is not None and opens_websocket(request, response):
            role = Role.CLIENT if self._requests is Direction.EGRESS else Role.SERVER
            self._dialogue = WebSocketDialogue(response, role, self._limits, self._counts)
            ingress, egress = self._dialogue.readers
            self.request, self.response = (
                (egress, ingress) if self._requests is Direction.EGRESS else (ingress, egress)
            )

    def decide_incomplete(self, cause: Incomplete | None) -> Incomplete | None:
        """Return why the session is not whole.

        It is when both ends sent a close frame, whatever ended the stream then, and when the stream ended
        between two messages after one end said that it is done.
        """
        dialogue = self._dialogue
        if dialogue is None:
            return cause
        if dialogue.failure is not None:
            return dialogue.failure
        if dialogue.is_over:
            return None
        if dialogue.is_in_message:
            return cause or Incomplete.CLOSED
        return None if cause in _ENDS_SESSION and dialogue.was_ended else cause

    def build(self, _request: HttpRequest | None, _response: HttpResponse | None) -> WebSocketSession | None:
        """Return the session; None when the handshake did not open one."""
        return None if self._dialogue is None else self._dialogue.build_session()
