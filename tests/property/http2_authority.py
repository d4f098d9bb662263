"""Conversations in which two state machines of h2 do all that they can, and what each of them says of it.

What the receiving end of h2 reports is the truth: nothing here knows what was meant to be sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from h2 import events
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hypothesis import strategies as st

from parsers.http_exchange import Headers
from tests.unit.parsers.http2_peers import Dialogue, build_request

MAX_STREAMS = 12


@dataclass(slots=True)
class Half:
    """What one end received on a stream."""

    headers: Headers = field(default_factory=list)
    interim: tuple[int, ...] = ()
    content: bytes = b""
    trailers: Headers = field(default_factory=list)
    has_ended: bool = False


@dataclass(slots=True)
class Truth:
    """What both ends received on a stream."""

    request: Half = field(default_factory=Half)
    response: Half = field(default_factory=Half)
    pushed: bool = False
    reset: tuple[bool, int] | None = None
    """Whether the client gave the stream up, and the code."""
    untaken: bool = False
    """The server went away without it."""

    @property
    def answered_early(self) -> bool:
        """Whether the answer was over before the rest of the request was given up (RFC 9113 §8.1)."""
        codes = (ErrorCodes.NO_ERROR, ErrorCodes.CANCEL)
        return self.response.has_ended and self.reset is not None and self.reset[1] in codes


class Conversation(Dialogue):
    """A dialogue that notes what h2 reports, by stream."""

    def __init__(self, random: Random) -> None:
        self.truths: dict[int, Truth] = {}
        super().__init__(push=True)
        self._random = random
        self._heads: set[int] = set()

    def flush(self) -> list[events.Event]:
        """Carry what is to be sent, and note what either end reports."""
        while True:
            sent, answered = self.client.data_to_send(), self.server.data_to_send()
            if sent:
                self.calls.append((True, sent))
                for event in self.server.receive_data(sent):
                    self._note(event, from_client=True)
            if answered:
                self.calls.append((False, answered))
                for event in self.client.receive_data(answered):
                    self._note(event, from_client=False)
            if not sent and not answered:
                return []

    def _note(self, event: events.Event, *, from_client: bool) -> None:
        if isinstance(event, events.PushedStreamReceived):
            pushed = Truth(pushed=True)
            pushed.request.headers = list(event.headers)
            pushed.request.has_ended = True
            self.truths[event.pushed_stream_id] = pushed
        elif isinstance(event, events.ConnectionTerminated):
            for number, each in self.truths.items():
                each.untaken = not from_client and number % 2 == 1 and number > event.last_stream_id
        if not isinstance(
            event,
            events.RequestReceived
            | events.ResponseReceived
            | events.InformationalResponseReceived
            | events.DataReceived
            | events.TrailersReceived
            | events.StreamEnded
            | events.StreamReset,
        ):
            return
        truth = self.truths.setdefault(event.stream_id, Truth())
        half = truth.request if from_client else truth.response
        match event:
            case events.RequestReceived() | events.ResponseReceived():
                half.headers = list(event.headers)
            case events.InformationalResponseReceived():
                half.interim += (int(dict(event.headers)[b":status"]),)
            case events.DataReceived():
                half.content += event.data
                receiver = self.server if from_client else self.client
                receiver.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.TrailersReceived():
                half.trailers = list(event.headers)
            case events.StreamEnded():
                half.has_ended = True
            case events.StreamReset():
                truth.reset = (from_client, int(event.error_code))

    def act(self) -> None:
        """Let either end do something that its state machine allows."""
        actions: list[Callable[[], None]] = [self._manage]
        if self.client.get_next_available_stream_id() < 2 * MAX_STREAMS:
            actions += [self._open] * 3
        for number, truth in self.truths.items():
            if truth.reset is not None:
                continue
            if not truth.request.has_ended:
                actions += [lambda number=number: self._continue(self.client, number)] * 2  # type: ignore[misc]
            if not truth.response.has_ended:
                actions += [lambda number=number: self._answer(number)] * 3  # type: ignore[misc]
            if not (truth.request.has_ended and truth.response.has_ended):
                actions.append(lambda number=number: self._reset(number))  # type: ignore[misc]
        self._random.choice(actions)()
        self.flush()

    def end(self) -> None:
        """Finish every stream that is open, or go away without the newest ones."""
        newest = max((number for number in self.truths if number % 2), default=0)
        leaves = self._random.random() < 0.3
        for number, truth in list(self.truths.items()):
            while not leaves or number != newest:
                if truth.reset is not None or (truth.request.has_ended and truth.response.has_ended):
                    break
                if not truth.request.has_ended:
                    self._continue(self.client, number)
                else:
                    self._answer(number)
                self.flush()
        if leaves and newest and newest not in self._heads:
            self.server.close_connection(last_stream_id=newest - 2 if newest > 1 else 0)
        elif self._random.random() < 0.5:
            self._random.choice([self.client, self.server]).close_connection()
        self.flush()
        if leaves and newest in self._heads:
            # It is not left after all: the server has begun with it.
            del self.truths[newest]

    def _open(self) -> None:
        random = self._random
        number = self.client.get_next_available_stream_id()
        is_long = random.random() < 0.15
        fields = self._fields(number, is_long=is_long)
        head = build_request(b"/%d" % number, *fields, method=random.choice([b"GET", b"POST"]))
        priority = {"priority_weight": random.randint(1, 256), "priority_depends_on": 0}
        self.client.send_headers(
            number,
            head,
            end_stream=random.random() < 0.5,
            # h2 makes a frame too long that has a priority and is full of fields; so with a push.
            **({} if is_long or random.random() < 0.7 else priority),  # type: ignore[arg-type]
        )

    def _fields(self, number: int, *, is_long: bool = False) -> Headers:
        random = self._random
        fields = [(b"x-id", b"%d" % number), (b"user", random.choice([b"alice", b"bob", b"carol"]))]
        if random.random() < 0.2:
            fields += [(b"cookie", b"a=%d" % number), (b"cookie", b"b=2")]
        if is_long:
            fields.append((b"x-long", b"%d:" % number + b"v" * random.choice([40, 24_000, 40_000])))
        return fields

    def _continue(self, peer: H2Connection, number: int) -> None:
        """Send content, trailers or nothing more."""
        random = self._random
        kind = random.choice(["data", "data", "end", "trailers"])
        if kind == "trailers":
            peer.send_headers(number, [(b"x-sum", b"%d" % random.randint(0, 3))], end_stream=True)
            return
        padding = random.choice([None, None, 0, 7, 255])
        room = min(peer.local_flow_control_window(number), peer.max_outbound_frame_size) - 256
        data = random.randbytes(max(0, min(room, random.choice([0, 5, 700, 16_000, 20_000]))))
        peer.send_data(number, data, end_stream=kind == "end", pad_length=padding)

    def _answer(self, number: int) -> None:
        random = self._random
        truth = self.truths[number]
        if number in self._heads:
            self._continue(self.server, number)
        elif random.random() < 0.2 and not truth.pushed:
            self.server.send_headers(
                number, [(b":status", random.choice([b"100", b"103"])), (b"link", b"<a>")]
            )
        elif random.random() < 0.15 and number % 2 and not truth.request.has_ended:
            self._push(number)
        else:
            self._heads.add(number)
            head = [
                (b":status", random.choice([b"200", b"204", b"404", b"503"])),
                *self._fields(number, is_long=random.random() < 0.1),
            ]
            self.server.send_headers(number, head, end_stream=random.random() < 0.3)

    def _push(self, number: int) -> None:
        promised = self.server.get_next_available_stream_id()
        self.server.push_stream(number, promised, build_request(b"/%d" % promised, *self._fields(promised)))

    def _reset(self, number: int) -> None:
        random = self._random
        if random.random() < 0.6:
            return
        self._heads.add(number)
        random.choice([self.client, self.server]).reset_stream(
            number, random.choice([ErrorCodes.CANCEL, ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR, 0x99])
        )

    def _manage(self) -> None:
        """Do what concerns no exchange."""
        random = self._random
        peer = random.choice([self.client, self.server])
        match random.choice(["ping", "window", "settings", "settings", "priority"]):
            case "ping":
                peer.ping(random.randbytes(8))
            case "window":
                peer.increment_flow_control_window(random.randint(1, 70_000))
            case "settings":
                setting, values = random.choice(
                    [
                        (SettingCodes.HEADER_TABLE_SIZE, (0, 64, 200, 4_096, 16_384)),
                        (SettingCodes.MAX_FRAME_SIZE, (16_384, 20_000, 65_536)),
                        (SettingCodes.INITIAL_WINDOW_SIZE, (65_535, 100_000)),
                    ]
                )
                peer.update_settings({setting: random.choice(values)})
            case "priority":
                self.client.prioritize(random.choice([1, 3, 5, 201]), weight=random.randint(1, 256))


@cache
def converse(seed: int) -> Conversation:
    """Return conversation number `seed`, played once: h2 takes longer to speak than it takes to listen."""
    random = Random(seed)
    conversation = Conversation(random)
    for _ in range(random.choice([5, 20, 40, 80])):
        conversation.act()
    conversation.end()
    return conversation


CONVERSATIONS = 60
conversations = st.integers(0, CONVERSATIONS - 1).map(converse)
"""One of the conversations."""
