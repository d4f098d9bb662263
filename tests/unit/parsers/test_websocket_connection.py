from __future__ import annotations

import pytest

from ebpf.events import Direction, EventKind, Missing, Role
from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange, MessageFlow, Truncation, WebSocketSession
from parsers.limits import ParserLimits
from parsers.tracker import QUIET_NS, ConnectionTracker
from tests.builders import SECOND_NS, Conversation, describe, run_events, split_bytes
from tests.websocket_peers import UPGRADE, Peers, accept, frame, masked

CLOSE = b"\x03\xe8"
WHOLE = "GET /chat 1.1 (0) -> 101 1.1 (0) upgraded"


def upgraded(role: Role = Role.SERVER, *fields: bytes) -> Conversation:
    talk = Conversation(role=role)
    talk.request(UPGRADE)
    talk.response(accept(*fields))
    return talk


def session_of(exchange: HttpExchange) -> WebSocketSession:
    assert isinstance(exchange.application, WebSocketSession)
    return exchange.application


def flow(exchange: HttpExchange, direction: Direction) -> MessageFlow:
    session = session_of(exchange)
    return session.ingress if direction is Direction.INGRESS else session.egress


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_chat_is_one_whole_exchange_in_both_roles(role: Role, compressed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    peers = Peers(compressed=compressed)
    talk = upgraded(role, peers.agreed)
    for number in range(10):
        text = b"message %d of many" % number
        talk.request(peers.send(from_client=True, opcode=1, payload=text))
        talk.response(peers.send(from_client=False, opcode=1, payload=text[:9], fin=False))
        talk.response(peers.send(from_client=False, opcode=9, payload=b"!"))
        talk.request(peers.send(from_client=True, opcode=10, payload=b"!"))
        talk.response(peers.send(from_client=False, opcode=0, payload=text[9:]))
    talk.request(peers.send(from_client=True, opcode=8, payload=CLOSE + b"done"))
    last = talk.response(peers.send(from_client=False, opcode=8, payload=CLOSE))
    for events in (talk.events, [part for event in talk.events for part in split_bytes(event)]):
        (exchange,) = run_events(events, finish=False)
        assert describe(exchange) == WHOLE
        session = session_of(exchange)
        assert [message.content for message in session.messages if message.opcode == 1] == [
            b"message %d of many" % number for number in range(10) for _ in range(2)
        ]
        assert flow(exchange, talk.requests).count == flow(exchange, talk.responses).count == 10
        assert (session.close_code, session.close_reason) == (1000, "done")
        assert session.closed_by is talk.requests
        assert session.end_ktime_ns == last.ktime_ns
        assert session.dropped_messages == 0
        assert len(session.messages) == 42


def test_frames_behind_the_head_in_the_same_call_belong_to_the_session() -> None:
    talk = Conversation()
    talk.request(UPGRADE)
    talk.response(accept() + frame(1, b"welcome")[:4])
    talk.response(frame(1, b"welcome")[4:] + frame(8, CLOSE))
    talk.request(masked(8, CLOSE))
    (exchange,) = talk.run(finish=False)
    assert session_of(exchange).messages[0].content == b"welcome"


def test_the_client_may_speak_before_its_handshake_was_seen_to_end() -> None:
    talk = Conversation()
    talk.request(UPGRADE + masked(1, b"early"))
    talk.response(accept())
    talk.request(masked(8, CLOSE))
    talk.response(frame(8, CLOSE))
    (exchange,) = talk.run(finish=False)
    assert [message.content for message in session_of(exchange).messages] == [b"early", CLOSE, CLOSE]


def test_what_follows_both_close_frames_is_passed_over() -> None:
    talk = upgraded()
    talk.request(masked(8, CLOSE))
    talk.response(frame(8, CLOSE))
    talk.request(b"GET / HTTP/1.1\r\n\r\n")
    talk.end_requests()
    talk.close()
    assert [describe(exchange) for exchange in talk.run()] == [WHOLE]


@pytest.mark.parametrize(
    ("steps", "incomplete"),
    [
        ("close > close <", None),
        ("close > closed", None),
        ("close < end < closed", None),
        ("close < end > closed", None),
        ("end > end <", None),
        ("end < closed", None),
        ("closed", Incomplete.CLOSED),
        ("half closed", Incomplete.CLOSED),
        ("half end > end <", Incomplete.CLOSED),
        ("half close <", Incomplete.STOPPED),
        ("close >", Incomplete.STOPPED),
        ("", Incomplete.STOPPED),
        ("wrong close <", Incomplete.INVALID),
        ("wrong", Incomplete.INVALID),
        ("lost close > close <", Incomplete.LOST_BYTES),
        ("over budget close > close <", Incomplete.STOPPED),
        ("over budget close > close < closed", None),
    ],
)
def test_how_a_session_ends(steps: str, incomplete: Incomplete | None) -> None:
    talk = upgraded()
    talk.response(frame(1, b"hi"))
    actions = {
        "close >": lambda: talk.request(masked(8, CLOSE)),
        "close <": lambda: talk.response(frame(8, CLOSE)),
        "end >": talk.end_requests,
        "end <": talk.end_responses,
        "half": lambda: talk.request(masked(1, b"hello")[:-1]),
        "wrong": lambda: talk.request(frame(1, b"hello")),
        "lost": lambda: talk.request(b"", length=3, missing=Missing.RING_FULL),
        "over budget": lambda: talk.request(b"", length=3, missing=Missing.BUDGET),
        "closed": talk.close,
    }
    while steps:
        action = next(name for name in actions if steps.startswith(name))
        actions[action]()
        steps = steps[len(action) :].lstrip()
    tracker = ConnectionTracker(ParserLimits())
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    exchanges += tracker.advance(talk.ktime_ns + SECOND_NS) + tracker.flush()
    (exchange,) = exchanges
    assert exchange.incomplete is incomplete
    assert session_of(exchange).messages[0].content == b"hi"
    counts = tracker.counters()
    assert sum(counts[name] for name in counts if name.startswith("incomplete_")) == (incomplete is not None)
    assert tracker.buffered_bytes == 0


def test_the_end_of_the_connection_ends_the_session() -> None:
    talk = upgraded()
    talk.response(frame(1, b"hi"))
    talk.wait(60 * SECOND_NS)
    talk.end_responses()
    talk.wait(SECOND_NS)
    talk.close()
    (exchange,) = talk.run()
    assert session_of(exchange).end_ktime_ns == talk.ktime_ns


def test_a_doubtful_handshake_stays_flagged() -> None:
    talk = Conversation(joined_late=True)
    talk.response(accept())
    talk.response(frame(1, b"hi") + frame(8, CLOSE))
    talk.request(masked(8, CLOSE))
    (exchange,) = talk.run()
    assert describe(exchange) == "? -> 101 1.1 (0) upgraded incomplete joined_late"
    assert session_of(exchange).messages[0].content == b"hi"


def test_joined_in_the_middle_of_a_session_nothing_is_known() -> None:
    talk = Conversation(joined_late=True)
    talk.response(frame(1, b"GET / HTTP/1.1\r\n\r\n"))
    talk.request(masked(1, b"x"))
    assert talk.run() == []


@pytest.mark.parametrize("upgrade", [b"Upgrade: example/1", b"X: 1"])
def test_another_protocol_is_left_alone(upgrade: bytes) -> None:
    talk = Conversation()
    talk.request(UPGRADE)
    talk.response(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n\r\n")
    talk.response(frame(1, b"hi"))
    (exchange,) = talk.run(finish=False)
    assert exchange.upgraded
    assert exchange.application is None


def test_a_gap_in_a_payload_is_flagged_on_its_message_only() -> None:
    talk = upgraded()
    data = masked(1, b"0123456789")
    talk.request(data[:8])
    talk.lose_request(4)
    event = talk.request(data[12:])
    event.missing = Missing.RING_FULL
    talk.request(masked(8, CLOSE))
    talk.response(frame(8, CLOSE))
    (exchange,) = talk.run()
    assert exchange.incomplete is None
    message = session_of(exchange).messages[0]
    assert (message.content, message.size, message.truncation) == (b"01", 10, Truncation.GAP)


def test_a_push_beyond_the_budget_goes_on_when_the_client_has_spoken() -> None:
    talk = upgraded()
    for number in range(3):
        data = frame(2, bytes(100_000))
        talk.response(data[:5000], length=len(data), missing=Missing.BUDGET)
        talk.response(b"", length=300_000 + number, missing=Missing.BUDGET)
        talk.request(masked(1, b"next"))
        talk.response(frame(1, b"hello") + frame(1, b"again"))
    talk.response(frame(8, CLOSE))
    talk.request(masked(8, CLOSE))
    talk.close()
    (exchange,) = talk.run()
    assert exchange.incomplete is None
    session = session_of(exchange)
    assert [message.content for message in session.messages if message.opcode == 1] == [
        b"next",
        b"hello",
        b"again",
    ] * 3
    assert [message.truncation for message in session.messages if message.opcode == 2] == [
        Truncation.LIMIT
    ] * 3
    assert session.egress == MessageFlow(9, 300_030, uncounted=True)
    assert session.ingress == MessageFlow(3, 12)


def tracked(talk: Conversation, limits: ParserLimits | None = None) -> ConnectionTracker:
    tracker = ConnectionTracker(limits or ParserLimits())
    for event in talk.events:
        assert tracker.feed(event) == []
    return tracker


def is_asked_for(talk: Conversation) -> bool:
    tracker = tracked(talk)
    tracker.advance(talk.ktime_ns + 2 * QUIET_NS)
    return bool(tracker.awaiting())


def test_a_tail_that_the_budget_left_out_is_asked_for_when_there_may_be_one() -> None:
    talk = upgraded()
    talk.response(frame(1, b"hi"))
    assert not is_asked_for(talk)
    talk.response(frame(1, b"half")[:4])
    assert is_asked_for(talk)
    talk.response(frame(1, b"half")[4:])
    assert not is_asked_for(talk)
    for _ in range(8):
        talk.response(frame(2, bytes(4096)))
    assert is_asked_for(talk)
    talk.request(masked(1, b"x"))
    assert not is_asked_for(talk)


def test_a_quiet_session_lasts_until_the_idle_bound() -> None:
    talk = upgraded()
    talk.response(frame(1, b"hi"))
    tracker = tracked(talk)
    assert tracker.advance(talk.ktime_ns + 299 * SECOND_NS) == []
    talk.wait(299 * SECOND_NS)
    assert tracker.feed(talk.response(frame(9))) == []
    assert tracker.advance(talk.ktime_ns + 299 * SECOND_NS) == []
    (exchange,) = tracker.advance(talk.ktime_ns + 300 * SECOND_NS)
    assert exchange.incomplete is Incomplete.TIMED_OUT
    assert len(session_of(exchange).messages) == 2


def test_a_long_session_holds_bounded_memory() -> None:
    limits = ParserLimits(max_body=10_000)
    peers = Peers()
    talk = upgraded(Role.SERVER, peers.agreed)
    tracker = tracked(talk, limits)
    most = 0
    for number in range(2000):
        text = b"%d " % number * 50
        for event in (
            talk.request(peers.send(from_client=True, opcode=1, payload=text)),
            talk.response(peers.send(from_client=False, opcode=1, payload=text)),
        ):
            assert tracker.feed(event) == []
            most = max(most, tracker.buffered_bytes)
    assert most < 2 * 10_000 + 128 * 200 + 2 * 40_000 + 1000
    (exchange,) = tracker.flush()
    session = session_of(exchange)
    assert session.ingress.count == session.egress.count == 2000
    assert session.dropped_messages == 4000 - len(session.messages)
    assert tracker.buffered_bytes == 0


def test_a_session_may_be_evicted_for_memory() -> None:
    talk = upgraded()
    talk.response(frame(1, b"x" * 2000))
    tracker = ConnectionTracker(ParserLimits(max_total_buffer=1000))
    exchanges = [exchange for event in talk.events for exchange in tracker.feed(event)]
    (exchange,) = exchanges
    assert exchange.incomplete is Incomplete.EVICTED
    assert session_of(exchange).messages[0].size == 2000


def test_late_pieces_are_put_in_order_also_at_the_end() -> None:
    talk = upgraded()
    data = frame(1, b"hello") + frame(1, b"world")
    events = [talk.response(data[at : at + 3]) for at in range(0, len(data), 3)]
    del talk.events[-len(events) :]
    talk.events += reversed(events)
    assert [message.content for message in session_of(talk.run()[0]).messages] == [b"hello", b"world"]
    # One that never comes is a gap once its time is up, or the capture ends.
    del talk.events[-1]
    (exchange,) = talk.run()
    assert exchange.incomplete is Incomplete.LOST_BYTES
    (exchange,) = run_events([*talk.events, talk.add(EventKind.CLOSED, Direction.INGRESS)])
    assert exchange.incomplete is Incomplete.LOST_BYTES


def test_the_last_close_frame_may_end_only_when_the_capture_does() -> None:
    talk = upgraded()
    talk.response(frame(8, CLOSE))
    data = masked(8, CLOSE + b"because")
    talk.request(data[:10])
    talk.lose_request(2)
    talk.request(data[12:])
    (exchange,) = tracked(talk).flush()
    assert exchange.incomplete is None
    assert session_of(exchange).messages[1].truncation is Truncation.GAP


def test_the_role_told_again_changes_nothing() -> None:
    talk = Conversation(kernel_role=Role.UNKNOWN)
    talk.request(UPGRADE)
    talk.response(accept())
    talk.kernel_role = Role.SERVER
    talk.request(masked(8, CLOSE))
    talk.response(frame(8, CLOSE))
    assert [describe(exchange) for exchange in talk.run()] == [WHOLE]
