"""A packet capture as a source of events.

Owns the reading of the capture from start to end. It must not know formats (`file`), headers
(`layers`) or TCP (`tcp_flows`).

Contract: a capture is seen from nowhere in particular, so one conversation in it is delivered once, as the
socket of its server saw it: requests are INGRESS, every role is SERVER. That is what a live capture of the
server's host with `--direction ingress` reports, process and socket numbers aside, which no packet carries:
tgid and tid are None, inode and network namespace are 0. Times are those of the packets; the monotonic clock
of the events is Unix time. What the capture lacks comes out as gaps, never as a guess.

While a pipe is quiet no time passes: a pause of its writer says nothing of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ebpf.capture_ids import derive_capture_id
from ebpf.events import CaptureEvent, ClockSample, SocketEvent
from ebpf.input_stream import InputStream, StreamedItems
from ebpf.packets.counters import LOSSES, OBSERVATIONS, new_packet_counters
from ebpf.packets.file import Packet, PacketFile
from ebpf.packets.layers import PacketDecoder
from ebpf.packets.limits import PacketLimits
from ebpf.packets.tcp_flows import TcpFlows

_EVENTS_PER_POLL = 1024
"""Events returned at once, so that a replay's memory does not grow with its file."""
_PACKETS_PER_POLL = 8192
"""Packets read at once, so that a stop is noticed in a capture without HTTP."""


class PacketCapture:
    """A stream of pcap or pcapng as an `EventSource`.

    One that is cut or damaged is read as far as it goes; then `damage` says what is wrong.
    """

    def __init__(
        self,
        stream: InputStream,
        limits: PacketLimits | None = None,
        *,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin to read. Once `is_stopped` returns true, what has been read is delivered, and that is all."""
        limits = limits or PacketLimits()
        self.capture_id = b""
        """By the first packet: its time, its link layer and its bytes."""
        self._counts = new_packet_counters()
        self._file = PacketFile(stream, limits, self._counts)
        self._packets: StreamedItems[Packet] = StreamedItems(stream, self._file.packets(), is_stopped)
        self._decoder = PacketDecoder(limits, self._counts)
        self._flows = TcpFlows(limits, self._counts)
        self._unix_ns: int | None = None
        self._exhausted = False

    @property
    def damage(self) -> str | None:
        """What is wrong with the capture, as the rest of a sentence; None as far as it is whole."""
        return self._file.damage

    @property
    def is_cut(self) -> bool:
        """Whether the damage is that it ended too early, and no more."""
        return self._file.is_cut

    @property
    def exhausted(self) -> bool:
        """Whether the end was reached."""
        return self._exhausted

    @property
    def unopened(self) -> Mapping[str, int]:
        """Packets with a layer that was not opened, by the words for it: "in ESP (encrypted)"."""
        return self._decoder.unopened.counts

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:
        """Return the next events, [] at the end, or when some thousand packets gave no event.

        Waits, where a pipe is quiet, up to `timeout_seconds` for the first.
        """
        events: list[CaptureEvent] = []
        if self._exhausted:
            return events
        for number, packet in enumerate(self._packets.at_hand(timeout_seconds), 1):
            if self._unix_ns is None:
                unix_ns = packet.unix_ns or 0
                self.capture_id = _identify(packet)
                events.append(ClockSample(unix_ns, unix_ns))
            events += self._take(packet)
            if len(events) >= _EVENTS_PER_POLL or number >= _PACKETS_PER_POLL:
                break
        if self._packets.exhausted:
            events += self._finish()
        return events

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:  # noqa: ARG002  # nothing is live
        """Return []: all that a packet capture has is in its events."""
        return []

    def losses(self) -> dict[str, int]:
        """Return what the capture lacks, so far; `counters` says what each name counts."""
        return {name: self._counts[name] for name in LOSSES}

    def observations(self) -> dict[str, int]:
        """Return what else was counted; `counters` says what each name counts."""
        return {name: self._counts[name] for name in OBSERVATIONS}

    def close(self) -> None:
        """Release the input. Idempotent."""
        self._exhausted = True
        self._packets.close()

    def _take(self, packet: Packet) -> list[SocketEvent]:
        if packet.unix_ns is None:
            self._counts["undated_packets"] += 1
            self._unix_ns = self._unix_ns or 0
        else:
            self._unix_ns = packet.unix_ns
        segment = self._decoder.decode(packet, self._unix_ns)
        if segment is None:
            return []
        self._flows.take(segment)
        return self._flows.take_out()

    def _finish(self) -> list[SocketEvent]:
        self._exhausted = True
        self._decoder.finish()
        self._flows.finish()
        return self._flows.take_out()


def _identify(first: Packet) -> bytes:
    """Return the id of a capture by its first packet: any two captures differ in that, unless both are parts.

    Two selections from one capture that begin with the same packet have the same id.
    """
    return derive_capture_id(str((first.unix_ns, first.link_type, first.length)).encode(), first.data)
