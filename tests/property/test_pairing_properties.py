from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from ebpf.events import EventKind, Role, SocketEvent
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import Conversation, describe, run_events
from tests.property.dialogues import (
    Exchange,
    assert_no_wrong_pair_unflagged,
    batches,
    drop,
    number_of,
    perform,
)

roles = st.sampled_from([Role.SERVER, Role.CLIENT])
cut_lists = st.lists(st.integers(1, 10_000), max_size=6)
either = st.booleans().flatmap(lambda pipelined: batches(pipelined=pipelined))


def summarise(exchanges: list[HttpExchange]) -> list[str]:
    return [describe(exchange) for exchange in exchanges]


@given(either, cut_lists, roles)
def test_any_cutting_gives_the_same_exchanges(
    conversation: list[list[Exchange]], cuts: list[int], role: Role
) -> None:
    whole, cut = Conversation(role=role), Conversation(role=role)
    perform(whole, conversation, [])
    perform(cut, conversation, cuts)
    exchanges = whole.run(finish=False)
    assert summarise(cut.run(finish=False)) == summarise(exchanges)
    assert len(exchanges) == sum(len(batch) for batch in conversation)
    assert all(exchange.incomplete is None for exchange in exchanges)
    assert_no_wrong_pair_unflagged(exchanges)


@given(either, cut_lists, roles, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_exchanges(
    conversation: list[list[Exchange]], cuts: list[int], role: Role, random: object
) -> None:
    talk = Conversation(role=role)
    perform(talk, conversation, cuts)
    # Pieces of calls that ran at the same time change places; what follows an answer does not.
    events = talk.events[:1]
    run: list[SocketEvent] = []
    for event in [*talk.events[1:], None]:
        if run and (event is None or event.direction is not run[-1].direction):
            random.shuffle(run)  # type: ignore[attr-defined]  # hypothesis types its randoms as Random
            events += run
            run = []
        if event is not None:
            run.append(event)
    assert summarise(run_events(events, finish=False)) == summarise(talk.run(finish=False))


@given(batches(pipelined=False), cut_lists, st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_response_reported_before_its_request_is_paired_on_a_connection_seen_from_birth(
    conversation: list[list[Exchange]], cuts: list[int], flips: list[bool]
) -> None:
    events: list[SocketEvent] = []
    talk = Conversation(role=Role.CLIENT)
    for batch, flip in zip(conversation, flips, strict=False):
        before = len(talk.events)
        perform(talk, [batch], cuts)
        added = talk.events[before:]
        events += sorted(added, key=lambda event: event.direction) if flip else added
    exchanges = run_events([talk.events[0], *events], finish=False)
    assert len(exchanges) == len(conversation)
    assert all(exchange.incomplete is None for exchange in exchanges)
    assert_no_wrong_pair_unflagged(exchanges)


def one_at_a_time(*methods: bytes) -> list[list[Exchange]]:
    """Return bodiless exchanges, one after the other."""
    return [
        [
            Exchange(
                b"%s /%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n\r\n" % (method, number, number),
                b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: %d\r\n\r\n" % (number, number == 2),
            )
        ]
        for number, method in enumerate(methods, 1)
    ]


@given(either, cut_lists, roles, st.sets(st.integers(1, 60), max_size=8), st.booleans())
# Both directions jump, and the requests' loss is decided while responses wait behind theirs.
@example(
    one_at_a_time(b"GET", b"HEAD", b"HEAD", b"HEAD", b"POST", b"GET"), [17, 18], Role.SERVER, {1, 11}, False
)
def test_lost_events_never_give_a_wrong_pair_unflagged(
    conversation: list[list[Exchange]],
    cuts: list[int],
    role: Role,
    dropped: set[int],
    told: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role)
    # A pipelining client shows itself before anything is lost.
    perform(talk, conversation[:1], cuts)
    spared = len(talk.events)
    perform(talk, conversation[1:], cuts)
    lost = {spared + index for index in dropped}
    events = drop(talk.events, lost) if told else [e for i, e in enumerate(talk.events) if i not in lost]
    assert_no_wrong_pair_unflagged(run_events(events))


@given(either, cut_lists, roles, st.sets(st.integers(1, 60), max_size=6), st.integers(0, 40))
def test_cut_payloads_never_give_a_wrong_pair_unflagged(
    conversation: list[list[Exchange]], cuts: list[int], role: Role, shortened: set[int], keep: int
) -> None:
    talk = Conversation(role=role)
    perform(talk, conversation[:1], cuts)
    spared = len(talk.events)
    perform(talk, conversation[1:], cuts)
    events = [
        replace(event, payload=event.payload[:keep]) if index - spared in shortened else event
        for index, event in enumerate(talk.events)
    ]
    exchanges = run_events(events)
    assert_no_wrong_pair_unflagged(exchanges)
    for exchange in exchanges:
        for message in (exchange.request, exchange.response):
            assert (
                message is None or message.body.size is None or len(message.body.content) <= message.body.size
            )


@given(batches(pipelined=False), cut_lists, roles, st.integers(0, 60), st.booleans())
def test_joining_late_never_gives_a_wrong_pair_unflagged(
    conversation: list[list[Exchange]],
    cuts: list[int],
    role: Role,
    missed: int,
    role_known: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(
        role=role, joined_late=True, opened=False, kernel_role=role if role_known else Role.UNKNOWN
    )
    perform(talk, conversation, cuts)
    events = talk.events[missed:]
    first: dict[int, int] = {}
    for event in events:
        first.setdefault(event.direction, event.position)
    opened = [replace(e, kind=EventKind.OPENED, payload=b"", length=0, position=0) for e in talk.events[:1]]
    numbered = [replace(event, position=event.position - first[event.direction]) for event in events]
    exchanges = run_events(opened + numbered)
    assert_no_wrong_pair_unflagged(exchanges)
    if missed == 0:
        assert [number_of(e.request) for e in exchanges if e.request and e.incomplete is None] or cuts


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.binary(max_size=80),
                st.sampled_from(
                    [
                        b"GET / HTTP/1.1\r\n",
                        b"Host: a\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\n",
                        b"\r\n",
                        b"Content-Length: 5\r\n",
                    ]
                ),
                st.sampled_from(
                    [b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"HTTP/1.1 "]
                ),
            ),
            st.integers(-20, 40),
        ),
        max_size=30,
    ),
    roles,
    st.booleans(),
    st.booleans(),
)
def test_garbage_never_raises_and_the_memory_bound_holds(
    pieces: list[tuple[bool, bytes, int]],
    role: Role,
    joined_late: bool,  # noqa: FBT001 - drawn
    closes: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role, joined_late=joined_late)
    for is_request, data, jump in pieces:
        direction = talk.requests if is_request else talk.responses
        talk.positions[direction] = max(0, talk.positions[direction] + (jump if jump > 20 else 0))
        talk.add(EventKind.DATA, direction, data, length=max(0, len(data) + min(jump, 0)))
    if closes:
        talk.close()
    limits = ParserLimits(max_total_buffer=300, max_stream_buffer=100, max_header_block=120, max_body=50)
    tracker = ConnectionTracker(limits)
    for event in talk.events:
        tracker.feed(event)
        assert tracker.buffered_bytes <= limits.max_total_buffer
    run_events(talk.events, limits)
