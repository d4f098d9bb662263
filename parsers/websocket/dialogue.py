"""A WebSocket behind its handshake: both directions together, as one session.

Owns what the handshake says about the session, and what the two readers add up to. It must not know what
carries the frames: a connection that left HTTP/1 (RFC 6455), or a stream of HTTP/2 (RFC 8441).

Contract: `readers` take the bytes of their direction as they pass; `build_session` may be called at any time
and says what was seen until then.
"""

from __future__ import annotations

from ebpf.events import Direction, Role
from parsers.exchange import Incomplete
from parsers.http_exchange import HttpRequest, HttpResponse, WebSocketSession
from parsers.limits import ParserLimits
from parsers.websocket.deflate import PERMESSAGE_DEFLATE, MessageInflater, Negotiated, read_extensions
from parsers.websocket.log import MessageLog
from parsers.websocket.reader import WebSocketReader

_WEBSOCKET = b"websocket"


def opens_websocket(request: HttpRequest | None, response: HttpResponse) -> bool:
    """Whether this handshake leaves HTTP for WebSocket (RFC 6455 §4.2.2, RFC 8441 §5)."""
    if response.status == 101:
        return any(
            name.lower() == b"upgrade" and value.strip().lower() == _WEBSOCKET
            for name, value in response.headers
        )
    if request is None or request.protocol is None or response.status is None:
        return False
    return request.protocol.lower() == _WEBSOCKET and 200 <= response.status < 300


class WebSocketDialogue:
    """Both directions of a WebSocket whose handshake ended with `response`.

    `role` is this socket's; `counts` are the tracker's counters, added to here.
    """

    __slots__ = ("_compression", "_log", "_subprotocol", "readers")

    def __init__(
        self, response: HttpResponse, role: Role, limits: ParserLimits, counts: dict[str, int]
    ) -> None:
        self._log = MessageLog(limits, counts)
        self._log.pass_time(response.end_ktime_ns)
        self._subprotocol = _read_subprotocol(response)
        negotiated = read_extensions(response.headers)
        if response.unknown_headers or response.dropped_headers:
            # The extensions may be among them.
            negotiated = Negotiated(unknown=True)
        self._compression = None if negotiated.from_client is None else PERMESSAGE_DEFLATE
        counts["websockets"] += 1

        def build_reader(direction: Direction) -> WebSocketReader:
            from_client = (direction is Direction.EGRESS) == (role is Role.CLIENT)
            compression = negotiated.from_client if from_client else negotiated.from_server
            return WebSocketReader(
                direction,
                self._log,
                limits,
                counts,
                masked=from_client,
                inflater=None if compression is None else MessageInflater(compression),
                any_extension=negotiated.unknown,
            )

        self.readers = (build_reader(Direction.INGRESS), build_reader(Direction.EGRESS))
        """By direction."""

    @property
    def is_over(self) -> bool:
        """Whether neither direction can bring anything more."""
        first, second = self.readers
        return first.is_over and second.is_over

    @property
    def is_in_message(self) -> bool:
        """Whether either direction is in the middle of a message."""
        first, second = self.readers
        return first.is_in_message or second.is_in_message

    @property
    def was_ended(self) -> bool:
        """Whether an endpoint said that it is done, by a close frame or by ending its direction."""
        return any(reader.is_done for reader in self.readers)

    @property
    def failure(self) -> Incomplete | None:
        """Why not everything that passed was read; None also when the capture's budget is why."""
        first, second = self.readers
        return first.failure or second.failure

    @property
    def held_bytes(self) -> int:
        """Bytes held for this session."""
        first, second = self.readers
        return first.held_bytes + second.held_bytes

    def build_session(self) -> WebSocketSession:
        """Return what passed so far."""
        log = self._log
        ingress, egress = self.readers
        return WebSocketSession(
            messages=log.in_order(),
            ingress=ingress.flow,
            egress=egress.flow,
            dropped_messages=log.dropped,
            subprotocol=self._subprotocol,
            compression=self._compression,
            close_code=log.close_code,
            close_reason=log.close_reason,
            closed_by=log.closed_by,
            end_ktime_ns=log.last_ktime_ns,
        )


def _read_subprotocol(response: HttpResponse) -> str | None:
    for name, value in response.headers:
        if name.lower() == b"sec-websocket-protocol":
            return value.decode("latin-1")
    return None
