"""Both directions of one TCP connection of a packet capture: when bytes are delivered, and when given up.

Owns that order. It must not look into the bytes (`connection`), and it has no clock: time is that of
the packets.

Contract: a stretch is delivered after everything before it, after its receiver's acknowledgement, and after
everything that its sender had received by then. So events stand in the order of cause and
effect, in whatever order the capture wrote the packets. Nothing waits for ever:

| what is missing | how long it is waited for |
|---|---|
| bytes that their receiver acknowledged | `PacketLimits.order_ns`; then they are a gap |
| unacknowledged bytes, before others | `hole_ns`, or until a bound is hit; then they are a gap |
| the acknowledgement | `hole_ns`, or until a bound is hit; then the stretch is delivered |
| the receiver altogether | `one_sided_ns`; then the stretch is delivered |
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ebpf.packets.connection import PacketConnection
from ebpf.packets.layers import TcpSegment
from ebpf.packets.limits import PacketLimits
from ebpf.packets.tcp_stream import Piece, TcpStream

NEVER_NS: Final = 1 << 64
"""A time that does not come."""


class _Decision(NamedTuple):
    """What is decided when nothing comes: a hole before the first held stretch, else that stretch goes."""

    due_unix_ns: int
    is_no_hole: bool
    direction: int


class TcpFlow:
    """One connection; `index` distinguishes its directions, see `PacketConnection`. `counts` is added to."""

    __slots__ = (
        "_connection",
        "_counts",
        "_limits",
        "_reset_unix_ns",
        "alarm_unix_ns",
        "closed_unix_ns",
        "streams",
    )

    def __init__(self, connection: PacketConnection, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._connection = connection
        self._limits = limits
        self._counts = counts
        self._reset_unix_ns: int | None = None
        self.streams = (TcpStream(limits, counts), TcpStream(limits, counts))
        self.alarm_unix_ns = NEVER_NS
        """When the table that holds this flow looks at it next."""
        self.closed_unix_ns: int | None = None
        """When it was over; what comes afterwards is not delivered."""

    @property
    def held_bytes(self) -> int:
        """Bytes that wait."""
        return self.streams[0].held_bytes + self.streams[1].held_bytes

    @property
    def due_unix_ns(self) -> int:
        """When `attend` has something to decide; `NEVER_NS` when nothing waits."""
        if self.closed_unix_ns is not None:
            return NEVER_NS
        decision = self._next_decision()
        due = NEVER_NS if decision is None else decision.due_unix_ns
        if self._reset_unix_ns is not None:
            due = min(due, self._reset_unix_ns + self._limits.order_ns)
        return due

    def is_forgotten(self, unix_ns: int) -> bool:
        """Whether it was over so long ago that no packet can be a stray one of it."""
        return self.closed_unix_ns is not None and unix_ns - self.closed_unix_ns >= self._limits.stray_ns

    def is_foreign(self, index: int, segment: TcpSegment) -> bool:
        """Whether a segment belongs to another connection with the same addresses and ports."""
        stream = self.streams[index]
        if not stream.is_known:
            return False
        if segment.syn:
            return not stream.begins_at(segment.sequence + 1)
        return not stream.is_plausible(segment.sequence)

    def take(self, index: int, segment: TcpSegment) -> None:
        """Take a segment that is not foreign."""
        if self.closed_unix_ns is not None:
            self._counts["duplicate_bytes"] += segment.length
            return
        stream, other = self.streams[index], self.streams[1 - index]
        sequence = segment.sequence + segment.syn
        if segment.syn:
            self._connection.meet_client(index if segment.acknowledgement is None else 1 - index)
        needs = 0
        if segment.acknowledgement is not None:
            if not other.is_known:
                spoke = stream.has_data_before(sequence)
                self._begin(other, segment.acknowledgement, is_birth=segment.syn, may_be_answer=spoke)
            needs = other.acknowledge(segment.acknowledgement, segment.unix_ns)
        if not stream.is_known:
            self._begin(stream, sequence, is_birth=segment.syn, may_be_answer=other.has_data)
        if segment.length or segment.fin:
            position = stream.locate(sequence)
            stream.insert(
                Piece(position, segment.length, segment.payload, segment.unix_ns, needs, segment.fin)
            )
        if segment.rst and self._reset_unix_ns is None:
            self._reset_unix_ns = segment.unix_ns
        self._release()
        while (
            len(stream.held) > self._limits.max_held_pieces or stream.held_bytes > self._limits.max_held_bytes
        ):
            self._counts["hold_bounds_hit"] += 1
            self._decide(index)
            self._release()

    def attend(self, unix_ns: int) -> None:
        """Let time pass up to `unix_ns`."""
        while (decision := self._next_decision()) is not None and decision.due_unix_ns <= unix_ns:
            self._decide(decision.direction)
            self._release()
        reset = self._reset_unix_ns
        if reset is not None and reset + self._limits.order_ns <= unix_ns:
            self.finish()

    def finish(self) -> None:
        """Tell everything that waits: nothing more comes."""
        while (decision := self._next_decision()) is not None:
            self._decide(decision.direction)
            self._release()
        if self._reset_unix_ns is not None:
            self._close(self._reset_unix_ns)

    def stop(self) -> None:
        """Tell everything that waits, and that the connection is followed no further."""
        self.finish()
        self._connection.stop()

    def abandon(self, unix_ns: int) -> None:
        """Tell everything that waits, and the end: another connection has the endpoints now."""
        self.finish()
        self._close(unix_ns)

    def _begin(self, stream: TcpStream, sequence: int, *, is_birth: bool, may_be_answer: bool) -> None:
        """Begin a direction at a sequence number.

        `is_birth` when nothing was before; `may_be_answer` when the other direction has spoken already.
        """
        if not is_birth:
            self._connection.join_late()
            # What the other one said may have been answered before: a byte stands for the unknown number of
            # missing ones.
            sequence -= may_be_answer
        stream.begin(sequence)

    def _next_decision(self) -> _Decision | None:
        """Return what is decided next; of two at the same time a hole."""
        if self.closed_unix_ns is not None:
            return None
        limits = self._limits
        decisions = []
        for index, stream in enumerate(self.streams):
            if stream.is_hole_acknowledged:
                decisions.append(_Decision(stream.acknowledged_unix_ns + limits.order_ns, False, index))
            elif stream.held:
                piece = stream.held[0]
                wait_ns = limits.order_ns
                if stream.hole:
                    wait_ns = limits.hole_ns
                elif piece.end > stream.acknowledged:
                    wait_ns = limits.hole_ns if stream.is_acknowledged else limits.one_sided_ns
                elif self.streams[1 - index].is_hole_acknowledged:
                    continue  # that hole comes first, and is decided
                decisions.append(_Decision(piece.unix_ns + wait_ns, not stream.hole, index))
        return min(decisions, default=None)

    def _decide(self, index: int) -> None:
        """Give up the hole before the first held stretch of a direction; when there is none, deliver it."""
        if self._comes_second(index):
            index = 1 - index
        stream, other = self.streams[index], self.streams[1 - index]
        length = stream.hole
        if not length:
            self._deliver(index)
            return
        if other.held and stream.next < other.held[0].needs < stream.next + length:
            # What waits for a part of the hole came before the rest of it.
            length = other.held[0].needs - stream.next
        unix_ns = stream.held[0].unix_ns if stream.held else stream.acknowledged_unix_ns
        if stream.is_hole_acknowledged:
            length = min(length, stream.acknowledged - stream.next)
            unix_ns = stream.acknowledged_unix_ns
        self._connection.lose(index, stream.next, length, unix_ns)
        stream.skip(length)

    def _comes_second(self, index: int) -> bool:
        """Whether what the other direction holds came before, or with, the hole of this one.

        A request behind a hole may be answered in a hole: the loss of the answer is delivered behind the
        request.
        """
        stream, other = self.streams[index], self.streams[1 - index]
        if not (stream.hole and other.hole and other.held):
            return False
        piece = other.held[0]
        precedes = piece.needs <= stream.next and piece.end <= other.acknowledged
        return precedes and not (stream.held and stream.held[0].needs <= other.next)

    def _release(self) -> None:
        """Tell what waits for nothing any more."""
        streams = self.streams
        progress = True
        while progress:
            progress = False
            for index in (0, 1):
                stream, other = streams[index], streams[1 - index]
                while stream.held:
                    piece = stream.held[0]
                    if (
                        piece.position > stream.next
                        or piece.end > stream.acknowledged
                        or piece.needs > other.next
                    ):
                        break
                    self._deliver(index)
                    progress = True

    def _deliver(self, index: int) -> None:
        piece = self.streams[index].take()
        if piece.length:
            self._connection.receive(index, piece)
        if piece.ends:
            self._connection.end(index, piece.end, piece.unix_ns)
            if self.streams[1 - index].is_over:
                self._close(piece.unix_ns)

    def _close(self, unix_ns: int) -> None:
        if self.closed_unix_ns is None:
            self.closed_unix_ns = unix_ns
            self._connection.close(unix_ns)
            for stream in self.streams:
                stream.drop()
