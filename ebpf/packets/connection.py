"""One connection of a packet capture as the socket of its server saw it: judged, then delivered as events.

Owns the judging of the first bytes, as bpf/connections.h does it, and the numbering of events. It must not
know sequence numbers (`tcp_stream`) or wait for anything (`tcp_flow`).

Contract: nothing is emitted of a connection that carries no HTTP. Both directions come in order, each
stretch once.
"""

from __future__ import annotations

import socket
from typing import Final

from ebpf.events import Direction, EventKind, Missing, Origin, Protocol, Role, SocketEvent, SocketInfo
from ebpf.inference import JUDGED_BYTES, Inference, infer, infer_frames, infer_settings
from ebpf.packets.layers import Endpoint
from ebpf.packets.limits import PacketLimits
from ebpf.packets.tcp_stream import Piece

_NOTHING_MISSING: Final = Missing(0)
_STATUS_LINE: Final = b"HTTP/1."
_TLS_HEADER_BYTES: Final = 5
_TLS_HELLOS: Final = (b"\1", b"\2")  # types of handshake messages (RFC 8446 section 4)
_NEXT_IDENTITY: Final = 1 << 32
"""Added to the id of a connection whose bytes did not begin a request; ids count connections from 1."""
_MAPPED_IPV4: Final = bytes(10) + b"\xff\xff"
_REQUESTS: Final = (Inference.REQUEST, Inference.HTTP2_REQUEST)
_RESPONSES: Final = (Inference.RESPONSE, Inference.HTTP2_RESPONSE)
_HTTP2: Final = (Inference.HTTP2_REQUEST, Inference.HTTP2_RESPONSE)


class PacketConnection:
    """One connection; `index` distinguishes its directions by their sender, `endpoints[index]`.

    Events are appended to `out`. `counts` is added to: the verdicts and `bytes_left_alone`, `missing_bytes`,
    `uncaptured_bytes`.
    """

    __slots__ = (
        "_awaits_answer",
        "_client",
        "_connection_id",
        "_counts",
        "_endpoints",
        "_first",
        "_is_left_alone",
        "_joined_late",
        "_limits",
        "_origins",
        "_out",
        "_passed",
        "_pending",
        "_socket",
        "_turn",
        "_turns",
        "_unjudged",
        "_unjudged_bytes",
        "_unknown",
    )

    def __init__(
        self,
        connection_id: int,
        endpoints: tuple[Endpoint, Endpoint],
        limits: PacketLimits,
        counts: dict[str, int],
        out: list[SocketEvent],
    ) -> None:
        self._connection_id = connection_id
        self._endpoints = endpoints
        self._limits = limits
        self._counts = counts
        self._out = out
        self._client: int | None = None
        self._joined_late = False
        self._socket: SocketInfo | None = None
        self._is_left_alone = False
        self._first = [b"", b""]
        self._pending: list[tuple[int, Piece]] = []
        """What came while the first bytes could still become a match: a few bytes, and ends."""
        self._origins = [0, 0]
        """By direction, the position that events call 0."""
        self._passed = [0, 0]
        """By direction, how far it has been delivered."""
        self._turn: int | None = None
        self._turns = 0
        self._unjudged: int | None = None
        """Direction whose bytes were emitted before the connection is judged."""
        self._unjudged_bytes = 0
        """Length of those bytes."""
        self._unknown = [False, False]
        """By direction, whether bytes passed that can't be had any more."""
        self._awaits_answer = False
        """Whether it is left alone as TLS, and an answer in plain text would show that it is none."""

    def meet_client(self, index: int) -> None:
        """Note which end opened the connection; the first call counts."""
        if self._client is None:
            self._client = index

    def join_late(self) -> None:
        """Note that it is unknown what came before; too late once the beginning was delivered."""
        if self._socket is None:
            self._forget_first()
            self._joined_late = True

    def receive(self, index: int, piece: Piece) -> None:
        """Take the next stretch of a direction; `ends` is not looked at."""
        self._passed[index] = piece.end
        if self._socket is not None:
            self._tell(index, piece)
        elif self._is_left_alone and not self._is_plain_answer(index, piece):
            self._counts["bytes_left_alone"] += piece.length
        else:
            self._judge(index, piece)

    def lose(self, index: int, position: int, length: int, unix_ns: int) -> None:
        """Take note that the next stretch of a direction is missing."""
        self._passed[index] = position + length
        if self._is_left_alone:
            return
        self._counts["missing_bytes"] += length
        if self._socket is not None:
            self._emit(EventKind.DATA, index, position, length, b"", unix_ns)
        else:
            self.join_late()

    def end(self, index: int, position: int, unix_ns: int) -> None:
        """Take note that a direction is over at a position."""
        if self._socket is not None:
            self._emit(EventKind.ENDED, index, position, 0, b"", unix_ns)
        elif not self._is_left_alone and not self._joined_late:
            self._pending.append((index, Piece(position, 0, b"", unix_ns, 0, True)))

    def close(self, unix_ns: int) -> None:
        """Take note that the connection is over."""
        if self._socket is not None:
            self._emit(EventKind.CLOSED, 0, self._origins[0], 0, b"", unix_ns)
        else:
            self.stop()
        self._is_left_alone = True
        self._socket = None

    def stop(self) -> None:
        """Take note that nothing more will come: what is not judged by now never will be."""
        if self._socket is None and not self._is_left_alone and self._turns:
            self._leave_alone("connections_not_http")

    def _is_plain_answer(self, index: int, piece: Piece) -> bool:
        """Whether a connection that began like TLS is HTTP after all, and not left alone from here on."""
        if not self._awaits_answer or index == self._turn:
            return False
        self._awaits_answer = False
        if not piece.payload.startswith(_STATUS_LINE):
            return False
        self._is_left_alone = False
        return True

    def _judge(self, index: int, piece: Piece) -> None:
        if self._turn != index:
            self._take_turn(index)
        known = self._first[index] + piece.payload[: JUDGED_BYTES - len(self._first[index])]
        self._first[index] = known
        self._pending.append((index, piece))
        inference = self._infer(index, known, piece)
        if inference is Inference.NEED_MORE and len(piece.payload) < piece.length:
            self.join_late()
        elif inference is Inference.NEED_MORE:
            return
        elif inference is Inference.TLS:
            self._awaits_answer = self._turns == 1
            self._unknown[index] = True
            self._leave_alone("connections_tls")
        elif inference is Inference.HTTP2_FRAMES:
            # HTTP/2 surely, but nothing to begin with: the next head is, and shows which end is the client.
            self._turns = 0
            self._forget_first()
        elif inference is Inference.NO_MATCH or inference is Inference.POSSIBLE_REQUEST:
            self._pass_unmatched(index, piece, inference)
        else:
            self._open(index, inference)

    def _take_turn(self, index: int) -> None:
        """Note that a direction has its turn: what came before of it is over."""
        self._turn = index
        self._turns += 1
        if self._joined_late:
            self._forget_first()
        else:
            if self._unjudged == index:
                self._disown_unjudged()
            self._forget_direction(index)

    def _pass_unmatched(self, index: int, piece: Piece, inference: Inference) -> None:
        """Decide what becomes of bytes that don't show whether the connection is HTTP."""
        if self._joined_late and len(self._pending) > 1:
            # What came before it was the end of something: perhaps this is a beginning.
            self._forget_first()
            self._judge(index, piece)
        elif self._unjudged == index:
            self._tell_unjudged(index)
        elif self._turns >= self._limits.max_undecided_turns:
            self._leave_alone("connections_not_http")
        elif self._joined_late:
            self._forget_first()
        else:
            if self._unjudged is not None:
                self._disown_unjudged()
            if inference is Inference.POSSIBLE_REQUEST:
                self._unjudged = index
                self._unknown[index] = False
                self._origins[index] = self._first_position(index)
                self._tell_unjudged(index)
            else:
                self._unknown[index] = True
                self._counts["bytes_left_alone"] += sum(
                    held.length for which, held in self._pending if which == index
                )
                self._forget_direction(index)

    def _infer(self, index: int, known: bytes, piece: Piece) -> Inference:
        inference = infer(known)
        if inference is Inference.TLS and not self._is_tls_believed(index, known, piece):
            return Inference.NO_MATCH
        if inference is Inference.NEED_MORE and self._unjudged == index:
            return Inference.NO_MATCH  # in the middle of what is handed on nothing is held back
        if inference is not Inference.NO_MATCH and inference is not Inference.POSSIBLE_REQUEST:
            return inference
        if self._joined_late:
            # It may as well be text in the middle of a body.
            is_first = len(self._pending) == 1
            return infer_frames(piece.payload, piece.length) if is_first else Inference.NO_MATCH
        if index == self._client:
            return inference
        is_first = self._turns <= 2 and not self._unknown[index]
        return infer_settings(known) if is_first else Inference.NO_MATCH

    def _is_tls_believed(self, index: int, known: bytes, piece: Piece) -> bool:
        """Whether two bytes are taken for TLS: at the beginning, or where more of it shows."""
        if self._joined_late:
            return False  # two bytes in the middle of a stream prove nothing
        if self._turns < 2 and self._unjudged != index:
            return True
        message = known[_TLS_HEADER_BYTES : _TLS_HEADER_BYTES + 1]
        return known[2:3] <= b"\x04" and (piece.length == _TLS_HEADER_BYTES or message in _TLS_HELLOS)

    def _first_position(self, index: int) -> int:
        """Return the position of the first pending byte of a direction, else of its next one."""
        positions = [piece.position for which, piece in self._pending if which == index and piece.length]
        return positions[0] if positions else self._passed[index]

    def _forget_first(self) -> None:
        self._first = [b"", b""]
        self._pending.clear()

    def _forget_direction(self, index: int) -> None:
        """Forget what is pending of one direction; its end, if that was seen, stays known."""
        self._first[index] = b""
        self._pending = [
            (which, piece) for which, piece in self._pending if which != index or not piece.length
        ]

    def _disown_unjudged(self) -> None:
        """Go on under another id: what was emitted before did not begin a request after all."""
        assert self._unjudged is not None
        self._unknown[self._unjudged] = True
        self._unjudged = None
        self._counts["bytes_left_alone"] += self._unjudged_bytes
        self._unjudged_bytes = 0
        self._connection_id += _NEXT_IDENTITY

    def _leave_alone(self, counter: str) -> None:
        self._counts[counter] += 1
        self._is_left_alone = True
        pending_bytes = sum(piece.length for _, piece in self._pending)
        self._counts["bytes_left_alone"] += pending_bytes + self._unjudged_bytes
        self._forget_first()

    def _open(self, index: int, inference: Inference) -> None:
        if self._client is None:
            self._client = index if inference in _REQUESTS else 1 - index
        # PROTOCOL: which one a sure inference means, and the count of its connections.
        protocol = Protocol.HTTP2 if inference in _HTTP2 else Protocol.HTTP1
        self._counts["connections_http2" if protocol is Protocol.HTTP2 else "connections_http"] += 1
        pending = self._pending
        other = 1 - index
        if self._unjudged != index:
            # Both directions are numbered from the first message start.
            self._origins[index] = self._first_position(index)
        if self._joined_late:
            self._origins[other] = self._passed[other]
        elif self._unjudged != other:
            self._origins[other] = self._first_position(other)
            # The request is among what can't be had any more, if this is an answer.
            self._joined_late = self._unknown[other] and inference in _RESPONSES
        self._socket = self._describe_socket(protocol)
        self._emit(EventKind.OPENED, self._client, self._origins[self._client], 0, b"", pending[0][1].unix_ns)
        self._pending = []
        for which, piece in pending:
            if piece.ends and not piece.length:
                self.end(which, piece.position, piece.unix_ns)
            else:
                self._tell(which, piece)
        self._forget_first()

    def _describe_socket(self, protocol: Protocol) -> SocketInfo:
        assert self._client is not None
        client, server = self._endpoints[self._client], self._endpoints[1 - self._client]
        (family, remote), (_, local) = _textual(client.address), _textual(server.address)
        return SocketInfo(
            family, local, server.port, remote, client.port, 0, 0, self._connection_id, protocol
        )

    def _tell(self, index: int, piece: Piece) -> None:
        self._counts["uncaptured_bytes"] += piece.length - len(piece.payload)
        self._emit(EventKind.DATA, index, piece.position, piece.length, piece.payload, piece.unix_ns)

    def _tell_unjudged(self, index: int) -> None:
        """Hand on what is pending of a direction, as far as the bound allows."""
        room = self._limits.max_unjudged
        for which, piece in self._pending:
            if which == index and piece.length:
                at = piece.position - self._origins[index]
                payload = piece.payload[: max(0, room - at)]
                self._emit(EventKind.UNJUDGED, index, piece.position, piece.length, payload, piece.unix_ns)
                self._unjudged_bytes += piece.length
        self._forget_direction(index)

    def _emit(
        self, kind: EventKind, index: int, position: int, length: int, payload: bytes, unix_ns: int
    ) -> None:
        missing = _NOTHING_MISSING
        if kind is EventKind.UNJUDGED and len(payload) < length:
            missing = Missing.BUDGET
        self._out.append(
            SocketEvent(
                kind,
                unix_ns,
                self._connection_id,
                Origin(unix_ns),
                Direction.INGRESS if index == self._client else Direction.EGRESS,
                position - self._origins[index],
                length,
                payload,
                missing,
                Role.SERVER,
                self._joined_late,
                self._socket or self._describe_socket(Protocol.HTTP1),
            )
        )


def _textual(address: bytes) -> tuple[str, str]:
    """Return family and text of an address; IPv4-mapped IPv6 addresses appear as IPv4."""
    if len(address) == 4 or address.startswith(_MAPPED_IPV4):
        return "ipv4", socket.inet_ntop(socket.AF_INET, address[-4:])
    return "ipv6", socket.inet_ntop(socket.AF_INET6, address)
