from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import EventKind, Role, SocketEvent
from parsers.limits import ParserLimits
from tests.builders import Conversation
from tests.property.http2_dialogues import Spoken, assert_true, conversations, cut
from tests.unit.parsers.http2_peers import tell, watch

roles = st.sampled_from([Role.SERVER, Role.CLIENT])
cut_lists = st.lists(st.integers(1, 20_000), max_size=6)


@given(conversations, cut_lists, roles)
def test_any_cutting_gives_the_truth(spoken: Spoken, cuts: list[int], role: Role) -> None:
    watched = watch(tell(cut(spoken.calls, cuts), role=role).events)
    assert len(watched.exchanges) == len(spoken.truths)
    for exchange in watched.exchanges:
        assert exchange.incomplete is None
        assert exchange.role is role
        assert_true(exchange, spoken.truths)


@given(conversations, cut_lists, roles, st.sets(st.integers(1, 120), max_size=8))
def test_lost_records_never_give_anything_wrong(
    spoken: Spoken, cuts: list[int], role: Role, dropped: set[int]
) -> None:
    events = tell(cut(spoken.calls, cuts), role=role).events
    kept = [event for index, event in enumerate(events) if index not in dropped]
    for exchange in watch(kept).exchanges:
        assert_true(exchange, spoken.truths)


@given(conversations, cut_lists, roles, st.integers(2, 9), st.integers(0, 8))
def test_every_kth_record_lost_never_gives_anything_wrong(
    spoken: Spoken, cuts: list[int], role: Role, step: int, phase: int
) -> None:
    events = tell(cut(spoken.calls, cuts), role=role).events
    kept = [event for index, event in enumerate(events) if not index or (index + phase) % step]
    for exchange in watch(kept).exchanges:
        assert_true(exchange, spoken.truths)


@given(conversations, cut_lists, roles, st.sets(st.integers(1, 60), max_size=6), st.integers(0, 60))
def test_cut_payloads_never_give_anything_wrong(
    spoken: Spoken, cuts: list[int], role: Role, shortened: set[int], keep: int
) -> None:
    events = [
        replace(event, payload=event.payload[:keep]) if index in shortened else event
        for index, event in enumerate(tell(cut(spoken.calls, cuts), role=role).events)
    ]
    for exchange in watch(events).exchanges:
        assert_true(exchange, spoken.truths)


def join(events: list[SocketEvent], missed: int) -> list[SocketEvent]:
    """Return what a capture shows that begins after `missed` events; positions begin anew."""
    seen = [event for event in events[missed:] if event.kind is EventKind.DATA]
    first: dict[int, int] = {}
    for event in seen:
        first.setdefault(event.direction, event.position)
    return [replace(event, position=event.position - first[event.direction]) for event in seen]


@given(conversations, cut_lists, roles, st.integers(0, 60), st.booleans())
def test_joining_anywhere_never_gives_anything_wrong(
    spoken: Spoken,
    cuts: list[int],
    role: Role,
    missed: int,
    role_known: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = tell(
        cut(spoken.calls, cuts), role=role, kernel_role=role if role_known else Role.UNKNOWN, late=True
    )
    events = join(talk.events, missed)
    if events:
        for exchange in watch(events, late=True).exchanges:
            assert_true(exchange, spoken.truths)
            assert exchange.role is role


@given(conversations, cut_lists, roles, st.booleans())
def test_one_direction_alone_is_flagged_and_right(
    spoken: Spoken,
    cuts: list[int],
    role: Role,
    from_client: bool,  # noqa: FBT001 - drawn
) -> None:
    calls = [call for call in spoken.calls if call[0] == from_client]
    watched = watch(tell(cut(calls, cuts), role=role).events)
    assert len(watched.exchanges) == len(spoken.truths)
    for exchange in watched.exchanges:
        assert (exchange.request is None) != from_client
        assert exchange.incomplete == "one_side"
        assert_true(exchange, spoken.truths)


@given(conversations, cut_lists, roles, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_truth(
    spoken: Spoken, cuts: list[int], role: Role, random: object
) -> None:
    events = tell(cut(spoken.calls, cuts), role=role).events
    shuffled: list[SocketEvent] = events[:1]
    rest = events[1:]
    while rest:
        some, rest = rest[:5], rest[5:]
        random.shuffle(some)  # type: ignore[attr-defined]  # hypothesis types its randoms as Random
        shuffled += some
    watched = watch(shuffled)
    assert len(watched.exchanges) == len(spoken.truths)
    for exchange in watched.exchanges:
        assert exchange.incomplete is None
        assert_true(exchange, spoken.truths)


frame_starts = st.builds(
    lambda length, kind, flags, stream_id: (
        length.to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    ),
    st.integers(0, 40),
    st.integers(0, 12),
    st.sampled_from([0, 1, 4, 5, 8, 13, 0x24, 0x2D]),
    st.sampled_from([0, 1, 2, 3, 1 << 31]),
)
garbage = st.one_of(st.binary(max_size=60), frame_starts, st.just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))


@given(
    st.lists(st.tuples(st.booleans(), st.lists(garbage, max_size=4), st.integers(-20, 40)), max_size=20),
    roles,
    st.booleans(),
)
def test_garbage_never_raises_and_the_bounds_hold(
    pieces: list[tuple[bool, list[bytes], int]],
    role: Role,
    late: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role, joined_late=late)
    for from_client, parts, jump in pieces:
        data = b"".join(parts)
        direction = talk.requests if from_client else talk.responses
        talk.positions[direction] += max(0, jump - 20)
        talk.add(EventKind.DATA, direction, data, length=max(0, len(data) + min(jump, 0)))
    limits = ParserLimits(
        max_stream_buffer=200,
        max_reorder_pieces=4,
        max_header_block=100,
        max_body=50,
        max_header_table=200,
        max_http2_streams=3,
        max_ended_streams=3,
        max_http2_content=300,
    )
    watched = watch(talk.events, limits, late=late)
    assert watched.most_held <= 2_000


@given(
    conversations,
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5_000), st.binary(min_size=1, max_size=4))),
)
def test_overwritten_bytes_never_raise(spoken: Spoken, changes: list[tuple[int, int, bytes]]) -> None:
    events = tell(spoken.calls).events
    for index, at, data in changes:
        event = events[index % len(events)]
        if event.payload:
            at %= len(event.payload)
            payload = (event.payload[:at] + data + event.payload[at + len(data) :])[: event.length]
            events[index % len(events)] = replace(event, payload=payload)
    watch(events)
