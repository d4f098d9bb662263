"""A connection that became a tunnel, by a CONNECT or by a 101 to a protocol that is not known.

Owns judging by its beginning what a tunnel carries, and what is held meanwhile. It must not read messages:
the connection that takes over does.

Contract: at most `ParserLimits.max_tunnel_start` bytes of both directions together are held. The exchanges in
the tunnel have it in their prologue. What is not HTTP costs one look, and none of it is kept.

| the first bytes of a direction are | then |
|---|---|
| a request line of HTTP/1, of any method | both directions go on as HTTP/1 |
| a status line | the other direction decides; when it is silent for `reorder_ns` both go on as HTTP/1 |
| the preface of HTTP/2 | both directions go on as HTTP/2 |
| a SETTINGS frame | the other direction decides: a server of HTTP/2 may be first |
| a header of the PROXY protocol | the header is noted, and what is behind it decides |
| anything else: TLS, the greeting of a server | the connection is ignored |

A gap before anything is decided makes the tunnel ignored: bytes behind a gap are the middle of something.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Protocol

from ebpf.events import Direction, Role
from parsers.connection import Connection
from parsers.exchange import Exchange, Incomplete
from parsers.http1.head import is_request_start, is_response_start
from parsers.http1.sides import HTTP2_PREFACE
from parsers.http2.frames import SETTINGS
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.prologue import Prologue, Tunnel, add_headers, add_tunnel
from parsers.proxy_protocol import HeaderReader
from parsers.stream import Piece

MAX_EMPTY_LINES: Final = 8
"""Bytes of line ends in front of a request or status line."""
MAX_FIRST_SETTINGS: Final = 240
"""Bytes of the settings that a server begins with: 40 of them, and there are about ten."""

_INGRESS: Final = Direction.INGRESS
_EGRESS: Final = Direction.EGRESS
_STATUS_PREFIX: Final = b"HTTP/1."
_STATUS_BYTES: Final = 13
"""Enough of a status line to recognise it: `HTTP/1.1 200 `."""
_FIRST_LOOKS: Final = 64
"""Bytes up to which a beginning is judged each time that some are added; then when they have doubled."""
# RFC 9110 §5.6.2: a method is a token; a request line has no control characters in it.
_LINE_BEGINNING: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+(?: [\t\x20-\x7e\x80-\xff]*\r?)?")


class TakesOver(Protocol):
    """What makes the connection that reads on inside a tunnel, once it is known what is spoken there."""

    def __call__(
        self,
        origin: Connection,
        limits: ParserLimits,
        counts: dict[str, int],
        *,
        joined_late: bool,
        unread: tuple[list[Piece], list[Piece]],
    ) -> Connection:
        """Return it; `unread` are the pieces from the first byte inside the tunnel on, by direction."""


class Beginning(Enum):
    """What the first bytes of a direction are."""

    NEED_MORE = "need_more"
    REQUEST = "request"
    """A request line of HTTP/1."""
    RESPONSE = "response"
    """A status line."""
    HTTP2 = "http2"
    """A client's preface."""
    SETTINGS = "settings"
    """What a server of HTTP/2 begins with."""
    OTHER = "other"


def judge_beginning(data: bytes) -> Beginning:
    """Judge the first bytes of a direction; a few empty lines in front are passed (RFC 9112 §2.2)."""
    start = data.lstrip(b"\r\n")
    if len(data) - len(start) > MAX_EMPTY_LINES:
        return Beginning.OTHER
    if not start:
        return Beginning.NEED_MORE
    if start.startswith(HTTP2_PREFACE):
        return Beginning.HTTP2
    if start[: len(_STATUS_PREFIX)] == _STATUS_PREFIX[: len(start)]:
        if len(start) < _STATUS_BYTES:
            return Beginning.NEED_MORE
        return Beginning.RESPONSE if is_response_start(start) else Beginning.OTHER
    if start[0] == 0:
        return _judge_settings(start)
    end = start.find(b"\n")
    if end < 0:
        return Beginning.NEED_MORE if _LINE_BEGINNING.fullmatch(start) is not None else Beginning.OTHER
    if HTTP2_PREFACE.startswith(start):
        return Beginning.NEED_MORE
    return Beginning.REQUEST if is_request_start(start, len(start)) else Beginning.OTHER


def _judge_settings(start: bytes) -> Beginning:
    size = start[2] if len(start) > 2 else 0
    header = bytes((0, 0, size, SETTINGS, 0, 0, 0, 0, 0))
    if start[: len(header)] != header[: len(start)] or size > MAX_FIRST_SETTINGS or size % 6:
        return Beginning.OTHER
    return Beginning.NEED_MORE if len(start) < len(header) else Beginning.SETTINGS


class TunnelConnection(Connection):
    """One connection from where it became a tunnel until it is known what is spoken in it.

    `handshake` is the exchange that made it one, and is emitted by then; `unread` is what follows, by
    direction. `http1` and `http2` make what takes over. They are given from outside because a connection of
    HTTP/1 is also what becomes a tunnel.
    """

    __slots__ = (
        "_answered_since_ktime_ns",
        "_beginnings",
        "_has_gap",
        "_http1",
        "_http2",
        "_is_unsure",
        "_judged_bytes",
        "_pieces",
        "_readers",
        "_starts",
        "_tunnel",
    )

    def __init__(
        self,
        origin: Connection,
        limits: ParserLimits,
        counts: dict[str, int],
        handshake: HttpExchange,
        unread: tuple[list[Piece], list[Piece]],
        *,
        http1: TakesOver,
        http2: TakesOver,
    ) -> None:
        super().__init__(origin, limits, counts)
        self._http1 = http1
        self._http2 = http2
        self.role = handshake.role
        self._tunnel = _describe(handshake)
        # Where the pair of the handshake is in doubt, so is the place at which the tunnel begins.
        self._is_unsure = handshake.incomplete is not None
        self._has_gap = False
        self._answered_since_ktime_ns: int | None = None
        """Since when a response waits for what it answers."""
        self._readers = (HeaderReader(limits, counts), HeaderReader(limits, counts))
        self._pieces: tuple[list[Piece], list[Piece]] = ([], [])
        self._starts = (bytearray(), bytearray())
        self._beginnings = [Beginning.NEED_MORE, Beginning.NEED_MORE]
        self._judged_bytes = [0, 0]
        for direction in (_INGRESS, _EGRESS):
            self._add(direction, unread[direction])

    @property
    def is_in_message(self) -> bool:
        """No: nothing in a tunnel is waited for."""
        return False

    @property
    def due_ktime_ns(self) -> int:
        """As for every connection, and when a response has waited for what it answers."""
        due = super().due_ktime_ns
        if self._answered_since_ktime_ns is not None and not self.is_ignored:
            due = min(due, self._answered_since_ktime_ns + self._limits.reorder_ns)
        return due

    def _take_role(self, role: Role) -> None:
        """Do nothing: the handshake showed the role."""

    def _note_prologue(self, prologue: Prologue) -> None:
        """Do nothing: headers inside the tunnel are read here."""

    def _add(self, direction: Direction, pieces: list[Piece]) -> None:
        reader = self._readers[direction]
        if not reader.is_over:
            pieces = reader.take(pieces)
        start = self._starts[direction]
        ends_line = False
        for piece in pieces:
            self._pieces[direction].append(piece)
            if not self._has_gap:
                start += piece.data
                ends_line = ends_line or b"\n" in piece.data
                self._has_gap = piece.gap > 0
        # A long line that comes byte by byte is not looked at for each of them: that would be quadratic.
        is_due = ends_line or len(start) <= _FIRST_LOOKS or len(start) >= 2 * self._judged_bytes[direction]
        if is_due and self._beginnings[direction] is Beginning.NEED_MORE:
            self._judged_bytes[direction] = len(start)
            self._beginnings[direction] = judge_beginning(bytes(start))

    def _pump(self, ktime_ns: int) -> None:
        if self.is_ignored:
            return
        beginnings = self._beginnings
        if Beginning.OTHER in beginnings:
            self._turn_away("tunnels_other")
        elif Beginning.REQUEST in beginnings:
            self._go_on(is_http2=False)
        elif Beginning.HTTP2 in beginnings:
            self._go_on(is_http2=True)
        elif Beginning.RESPONSE in beginnings and self._answered_since_ktime_ns is None:
            self._answered_since_ktime_ns = ktime_ns
        elif self._has_gap or self._count_held() > self._limits.max_tunnel_start:
            self._turn_away("tunnels_unjudged")

    def _go_on(self, *, is_http2: bool) -> None:
        self._counts["tunnels_http"] += 1
        ingress, egress = self._readers
        pieces = self._pieces
        for direction in (_INGRESS, _EGRESS):
            pieces[direction].extend(self._readers[direction].give_up())
        headers = ingress.headers + egress.headers
        if headers:
            self.prologue = add_headers(self.prologue, headers)
        self.prologue = add_tunnel(self.prologue, self._tunnel)
        requests = self._find_requests(is_http2=is_http2)
        self.role = Role.CLIENT if requests is _EGRESS else Role.SERVER
        take_over = self._http2 if is_http2 else self._http1
        self.successor = take_over(
            self, self._limits, self._counts, joined_late=self._is_unsure, unread=pieces
        )
        self.is_ignored = True
        self._drop()

    def finish(self, cause: Incomplete) -> list[Exchange]:
        """End the connection; a response that waits for its request is read without it."""
        if not self.is_ignored and Beginning.RESPONSE in self._beginnings:
            self._go_on(is_http2=False)
        return super().finish(cause)

    def _find_requests(self, *, is_http2: bool) -> Direction:
        """Return the direction of requests inside: mostly that of the tunnel's own, but a 101 may turn it."""
        for direction in (_INGRESS, _EGRESS):
            beginning = self._beginnings[direction]
            if beginning is (Beginning.HTTP2 if is_http2 else Beginning.REQUEST):
                return direction
        return _INGRESS if self._beginnings[_EGRESS] is Beginning.RESPONSE else _EGRESS

    def _turn_away(self, count: str) -> None:
        self._counts[count] += 1
        self._counts["discarded_bytes"] += self._count_held()
        self.ignore()

    def _count_held(self) -> int:
        first, second = self._readers
        return sum(map(len, self._starts)) + first.held_bytes + second.held_bytes

    def _take_out(self) -> list[Exchange]:
        return []

    def _take_stock(self) -> None:
        first, second = self.streams
        is_answered = self._answered_since_ktime_ns is not None and not self.is_ignored
        self.needs_attention = self._is_waiting or is_answered
        self.held_bytes = first.held_bytes + second.held_bytes + self._count_held()

    def _finish(self, cause: Incomplete) -> None:  # noqa: ARG002 - nothing in a tunnel is pending
        self._turn_away("tunnels_other")

    def _drop(self) -> None:
        self._pieces = ([], [])
        self._starts = (bytearray(), bytearray())
        self._readers = (
            HeaderReader(self._limits, self._counts),
            HeaderReader(self._limits, self._counts),
        )

    def _expire(self, ktime_ns: int) -> None:
        if self.due_ktime_ns <= ktime_ns and Beginning.RESPONSE in self._beginnings and not self.is_ignored:
            self._go_on(is_http2=False)


def _describe(handshake: HttpExchange) -> Tunnel:
    request, response = handshake.request, handshake.response
    if response is not None and response.status == 101:
        names = [value for name, value in response.headers if name.lower() == b"upgrade"]
        return Tunnel(protocol=names[0] if names else None)
    return Tunnel(authority=None if request is None else request.target)
