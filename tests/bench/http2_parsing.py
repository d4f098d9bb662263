"""What parsing HTTP/2 takes, and how much of it is HPACK: conversations of h2's peers, read as events.

No kernel and no agent: events in, exchanges out, on one core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ebpf.events import SocketEvent
from parsers.counters import new_counters
from parsers.http2.fields import FieldBlock
from parsers.http2.headers import HeaderDecoder
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.unit.parsers.http2_peers import Dialogue, tell

EXCHANGES = 3000
STREAMS_AT_ONCE = 100
BODY = b'{"order":"' + b"y" * 1012 + b'"}'
_FIELDS = (
    (b"user-agent", b"h2load nghttp2/1.52.0"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"content-length", b"1024"),
)


def build_conversation(*, new_paths: bool) -> list[SocketEvent]:
    """Return a client's conversation with a server: 100 streams at once, 1 KiB of JSON each way."""
    peers = Dialogue()
    for peer in (peers.client, peers.server):
        peer.increment_flow_control_window(1 << 30)
    peers.flush()
    for first in range(0, EXCHANGES, STREAMS_AT_ONCE):
        streams = []
        for number in range(first, first + STREAMS_AT_ONCE):
            path = b"/orders/%d?page=%d" % (number, number) if new_paths else b"/orders"
            head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"shop"), (b":path", path)]
            streams.append(peers.ask([*head, *_FIELDS], BODY, flush=False))
            # One call a message, as small requests and answers are written.
            peers.calls.append((True, peers.client.data_to_send()))
            peers.server.receive_data(peers.calls[-1][1])
        peers.flush()
        for stream in streams:
            peers.answer(stream, [(b":status", b"200"), *_FIELDS[2:]], BODY, flush=False)
            peers.calls.append((False, peers.server.data_to_send()))
            peers.client.receive_data(peers.calls[-1][1])
        peers.flush()
    return tell(peers.calls).events


def microseconds_per_exchange(events: list[SocketEvent]) -> float:
    """Return the time from events to exchanges.

    Raises:
        RuntimeError: Not every exchange came out whole, so that the figure means nothing.
    """
    tracker = ConnectionTracker(ParserLimits())
    exchanges = []
    started = time.perf_counter()
    for event in events:
        exchanges += tracker.feed(event)
    elapsed = time.perf_counter() - started
    whole = sum(exchange.incomplete is None for exchange in exchanges)
    if whole != EXCHANGES:
        raise RuntimeError(f"{whole} of {EXCHANGES} exchanges came out whole")
    return elapsed / EXCHANGES * 1e6


def hpack_microseconds_per_exchange(events: list[SocketEvent]) -> float:
    """Return the time that decoding the same field blocks takes by itself."""
    blocks: list[tuple[int, bytes]] = []
    with _noting(blocks):
        microseconds_per_exchange(events)
    decoders: dict[int, HeaderDecoder] = {}
    for decoder, _ in blocks:
        decoders.setdefault(decoder, HeaderDecoder(ParserLimits(), new_counters()))
    started = time.perf_counter()
    for decoder, block in blocks:
        decoders[decoder].decode(block)
    return (time.perf_counter() - started) / EXCHANGES * 1e6


@contextmanager
def _noting(blocks: list[tuple[int, bytes]]) -> Iterator[None]:
    decode = HeaderDecoder.decode

    def note(decoder: HeaderDecoder, coded: bytes) -> FieldBlock:
        blocks.append((id(decoder), coded))
        return decode(decoder, coded)

    HeaderDecoder.decode = note  # type: ignore[method-assign]
    try:
        yield
    finally:
        HeaderDecoder.decode = decode  # type: ignore[method-assign]
