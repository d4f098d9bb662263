"""Two h2 endpoints that talk to each other, and what a socket between them would show.

`Dialogue` plays both peers with python-hyper's h2, so every byte is real; `Frames` tells frame by frame what
h2 would refuse to say. `watch` lets an `Http2Connection` see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame

from ebpf.events import EventKind, Missing, Role, SocketEvent
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http2.connection import Http2Connection
from parsers.http2.frames import PREFACE
from parsers.http2.search import PROVING_RECORDS
from parsers.http_exchange import Headers, HttpExchange, HttpRequest, HttpResponse
from parsers.limits import ParserLimits
from tests.builders import Conversation, describe

OK: Headers = [(b":status", b"200")]
PING = PingFrame(0, b"12345678")


def build_request(path: bytes, *fields: tuple[bytes, bytes], method: bytes = b"GET") -> Headers:
    """Return the fields of a request."""
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
    return [*pseudo, *fields]


class Dialogue:
    """A client and a server on one connection. Each call of either is one chunk, in `calls`."""

    def __init__(self, *, table_size: int | None = None, push: bool = False) -> None:
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.client.local_settings[SettingCodes.ENABLE_PUSH] = int(push)
        self.calls: list[tuple[bool, bytes]] = []
        """Whether the client sent it, and the bytes."""
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.flush()
        if table_size is not None:
            self.server.update_settings({SettingCodes.HEADER_TABLE_SIZE: table_size})
            self.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: table_size})
            self.flush()

    def flush(self) -> list[Event]:
        """Carry what is to be sent from peer to peer until both are quiet; return what happened."""
        events: list[Event] = []
        while True:
            sent = self.client.data_to_send()
            answered = self.server.data_to_send()
            if not sent and not answered:
                return events
            if sent:
                self.calls.append((True, sent))
                events += self.server.receive_data(sent)
            if answered:
                self.calls.append((False, answered))
                events += self.client.receive_data(answered)

    def ask(
        self,
        headers: Headers,
        body: bytes | None = None,
        trailers: Headers | None = None,
        *,
        flush: bool = True,
    ) -> int:
        """Send a request; return its stream."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, headers, end_stream=body is None and trailers is None)
        _send_rest(self.client, stream_id, body, trailers)
        if flush:
            self.flush()
        return stream_id

    def answer(
        self,
        stream_id: int,
        headers: Headers,
        body: bytes | None = None,
        trailers: Headers | None = None,
        *,
        flush: bool = True,
    ) -> None:
        """Send a response."""
        self.server.send_headers(stream_id, headers, end_stream=body is None and trailers is None)
        _send_rest(self.server, stream_id, body, trailers)
        if flush:
            self.flush()


def _send_rest(peer: H2Connection, stream_id: int, body: bytes | None, trailers: Headers | None) -> None:
    if body is not None:
        step = min(peer.max_outbound_frame_size, peer.local_flow_control_window(stream_id))
        for start in range(0, max(1, len(body)), step):
            last = start + step >= len(body)
            peer.send_data(stream_id, body[start : start + step], end_stream=last and trailers is None)
    if trailers is not None:
        peer.send_headers(stream_id, trailers, end_stream=True)


def tell(
    calls: Iterable[tuple[bool, bytes]],
    *,
    role: Role = Role.SERVER,
    kernel_role: Role | None = None,
    late: bool = False,
) -> Conversation:
    """Return the calls as the events that one of both sockets shows."""
    talk = Conversation(role=role, kernel_role=kernel_role, joined_late=late)
    for from_client, data in calls:
        if from_client:
            talk.request(data)
        else:
            talk.response(data)
    return talk


class Watched:
    """What came of a conversation."""

    def __init__(self, exchanges: list[HttpExchange], counts: dict[str, int], most_held: int) -> None:
        self.exchanges = exchanges
        self.counts = counts
        self.most_held = most_held
        """Most bytes that were held at a time."""


def watch(
    events: Sequence[SocketEvent],
    limits: ParserLimits | None = None,
    *,
    late: bool | None = None,
    cause: Incomplete = Incomplete.STOPPED,
) -> Watched:
    """Let a connection see events and then end; its books must balance."""
    limits = limits or ParserLimits()
    counts = new_counters()
    first = events[0]
    connection = Http2Connection(
        first, limits, counts, joined_late=first.joined_late if late is None else late
    )
    exchanges: list[HttpExchange] = []
    most_held = 0
    ktime_ns = 0
    for event in events:
        exchanges += connection.feed(event)
        most_held = max(most_held, connection.held_bytes)
        ktime_ns = max(ktime_ns, event.ktime_ns)
    exchanges += connection.expire(ktime_ns + 2 * limits.reorder_ns)
    if not connection.is_finished:
        exchanges += connection.finish(cause)
    assert counts["exchanges"] == len(exchanges)
    assert sum(counts[f"incomplete_{cause}"] for cause in Incomplete) == sum(
        exchange.incomplete is not None for exchange in exchanges
    )
    assert not connection.is_in_message or connection.is_finished
    return Watched(exchanges, counts, most_held)


def lose(events: Sequence[SocketEvent], dropped: set[int]) -> list[SocketEvent]:
    """Lose DATA events by index, without a word: the jump in position tells."""
    return [
        event
        for index, event in enumerate(events)
        if event.kind is not EventKind.DATA or index not in dropped
    ]


def request_of(exchange: HttpExchange) -> HttpRequest:
    """Return the request, which must be there."""
    assert exchange.request is not None
    return exchange.request


def response_of(exchange: HttpExchange) -> HttpResponse:
    """Return the response, which must be there."""
    assert exchange.response is not None
    return exchange.response


class Frames:
    """A conversation told frame by frame, with real HPACK, where h2 would refuse to say it."""

    def __init__(
        self, *, role: Role = Role.SERVER, late: bool = False, kernel_role: Role | None = None
    ) -> None:
        self.talk = Conversation(role=role, joined_late=late, kernel_role=kernel_role)
        self.requests = Encoder()
        self.responses = Encoder()
        if not late:
            self.talk.request(PREFACE + SettingsFrame(0).serialize())
            self.talk.response(SettingsFrame(0).serialize())

    def client(self, *frames: Frame) -> None:
        self.talk.request(b"".join(frame.serialize() for frame in frames))

    def server(self, *frames: Frame) -> None:
        self.talk.response(b"".join(frame.serialize() for frame in frames))

    def lose(self, count: int = 30, *, client: bool) -> None:
        """Let bytes of a direction pass that the kernel side reports as lost."""
        direction = self.talk.requests if client else self.talk.responses
        self.talk.add(EventKind.DATA, direction, length=count, missing=Missing.RING_FULL)

    def prove(self, *, client: bool = True) -> None:
        """Let a direction show that its frames are frames."""
        for _ in range(PROVING_RECORDS):
            (self.client if client else self.server)(PING)

    def ask(
        self, stream_id: int, *fields: tuple[bytes, bytes], ends: bool = True, path: bytes = b"/"
    ) -> None:
        self.client(self.request(stream_id, build_request(path, *fields), ends=ends))

    def request(self, stream_id: int, headers: Headers, *, ends: bool = True) -> HeadersFrame:
        return head(stream_id, self.requests.encode(headers), ends=ends)

    def answer(self, stream_id: int, headers: Headers = OK, *, ends: bool = True) -> None:
        self.server(head(stream_id, self.responses.encode(headers), ends=ends))

    def watch(self, limits: ParserLimits | None = None, cause: Incomplete = Incomplete.STOPPED) -> Watched:
        return watch(self.talk.events, limits, cause=cause)

    def describe(self, limits: ParserLimits | None = None) -> list[str]:
        return [describe(exchange) for exchange in self.watch(limits).exchanges]


def head(stream_id: int, block: bytes, *, ends: bool = True) -> HeadersFrame:
    return HeadersFrame(stream_id, block, flags=["END_HEADERS", "END_STREAM"] if ends else ["END_HEADERS"])


def ended(stream_id: int, content: bytes = b"") -> DataFrame:
    return DataFrame(stream_id, content, flags=["END_STREAM"])


def ask_and_answer(count: int = 1) -> Dialogue:
    """Return a dialogue of so many plain exchanges, one after the other."""
    dialogue = Dialogue()
    for number in range(count):
        stream_id = dialogue.ask(build_request(b"/%d" % number, (b"user", b"u%d" % (number % 3))))
        dialogue.answer(stream_id, [*OK, (b"x-id", b"%d" % number)], b"body %d" % number)
    return dialogue
