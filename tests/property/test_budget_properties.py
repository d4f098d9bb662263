"""Bodies beyond the kernel's byte budget: what claims to be whole lacks at most what is cut, and its size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import Role, SocketEvent
from parsers.http_exchange import HttpExchange, HttpRequest, HttpResponse
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import SECOND_NS, Conversation, run_events
from tests.property.budgets import LONGEST_HEAD, LongExchange, long_batches, perform_in_calls, withhold
from tests.property.dialogues import assert_no_wrong_pair_unflagged, drop, number_of

roles = st.sampled_from([Role.SERVER, Role.CLIENT])
either = st.booleans().flatmap(lambda pipelined: long_batches(pipelined=pipelined))
moments = st.sets(st.integers(1, 60), max_size=6)


def assert_body(message: HttpRequest | HttpResponse, body: bytes) -> None:
    """Fail when a body has content or a size that the true one has not."""
    seen = message.body
    is_chunked = (b"Transfer-Encoding", b"chunked") in message.headers
    assert seen.size == len(body) or (is_chunked and seen.size is None)
    assert body.startswith(seen.content)
    assert seen.truncation is not None or (seen.content, seen.size) == (body, len(body))


def assert_true(seen: list[HttpExchange], conversation: list[list[LongExchange]]) -> None:
    """Fail when an exchange that claims to be whole differs from the truth by more than what is cut."""
    assert_no_wrong_pair_unflagged(seen)
    said = [exchange for batch in conversation for exchange in batch]
    for exchange in seen:
        if exchange.incomplete is None:
            assert exchange.request is not None
            assert exchange.response is not None
            true = said[int(number_of(exchange.request)) - 1]
            assert_body(exchange.request, true.request_body)
            assert_body(exchange.response, true.response_body)


def times(exchanges: list[HttpExchange]) -> list[tuple[int, int, int, int]]:
    """Return when the messages of exchanges with both began and ended."""
    return [
        (
            exchange.request.start_ktime_ns,
            exchange.request.end_ktime_ns,
            exchange.response.start_ktime_ns,
            exchange.response.end_ktime_ns,
        )
        for exchange in exchanges
        if exchange.request and exchange.response
    ]


@given(
    long_batches(pipelined=False),
    st.integers(LONGEST_HEAD, 900),
    st.integers(LONGEST_HEAD, 700),
    roles,
    moments,
    st.booleans(),
)
def test_one_request_at_a_time_all_exchanges_are_whole_and_right(
    conversation: list[list[LongExchange]],
    call: int,
    budget: int,
    role: Role,
    asked: set[int],
    ends: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role)
    perform_in_calls(talk, conversation, call)
    if ends:
        talk.end_responses()
    talk.close()
    exchanges = run_events(withhold(talk.events, budget, asked))
    assert [exchange.incomplete for exchange in exchanges] == [None] * len(conversation)
    assert_true(exchanges, conversation)
    assert times(exchanges) == times(run_events(talk.events))


@given(either, st.integers(1, 900), st.integers(1, 700), roles, moments, st.booleans())
def test_whatever_the_budget_leaves_out_nothing_wrong_is_unflagged(
    conversation: list[list[LongExchange]],
    call: int,
    budget: int,
    role: Role,
    asked: set[int],
    joined_late: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role, joined_late=joined_late)
    # A pipelining client shows itself before anything is left out.
    perform_in_calls(talk, conversation[:1], call)
    spared = len(talk.events)
    perform_in_calls(talk, conversation[1:], call)
    rest = withhold(talk.events[spared:], budget, asked)
    assert_true(run_events(talk.events[:spared] + rest), conversation)


@given(either, st.integers(1, 900), st.integers(1, 700), roles, moments, moments)
def test_losses_besides_the_budget_leave_nothing_wrong_unflagged(
    conversation: list[list[LongExchange]],
    call: int,
    budget: int,
    role: Role,
    asked: set[int],
    dropped: set[int],
) -> None:
    talk = Conversation(role=role)
    perform_in_calls(talk, conversation[:1], call)
    spared = len(talk.events)
    perform_in_calls(talk, conversation[1:], call)
    rest = drop(withhold(talk.events[spared:], budget, asked), dropped)
    assert_no_wrong_pair_unflagged(run_events(talk.events[:spared] + rest))


def run_with_pauses(
    events: list[SocketEvent], pauses: dict[int, int]
) -> tuple[list[HttpExchange], dict[str, int]]:
    """Feed events with so many seconds of quiet behind those of these numbers, the time passing in steps."""
    tracker = ConnectionTracker(ParserLimits())
    exchanges: list[HttpExchange] = []
    for index, event in enumerate(events):
        exchanges += tracker.feed(event)
        for step in range(2 * pauses.get(index, 0)):
            exchanges += tracker.advance(event.ktime_ns + step * SECOND_NS // 2)
            tracker.awaiting()
    exchanges += tracker.flush()
    assert tracker.last_bug is None, tracker.last_bug
    assert tracker.buffered_bytes == 0
    return exchanges, tracker.counters()


@given(
    long_batches(pipelined=False),
    st.integers(LONGEST_HEAD, 700),
    roles,
    st.dictionaries(st.integers(1, 30), st.integers(1, 12), max_size=4),
)
def test_quiet_never_makes_a_wrong_pair(
    conversation: list[list[LongExchange]], budget: int, role: Role, pauses: dict[int, int]
) -> None:
    talk = Conversation(role=role)
    for batch in conversation:
        perform_in_calls(talk, [batch], 500)
        talk.wait(20 * SECOND_NS)
    exchanges, _ = run_with_pauses(withhold(talk.events, budget, set(range(100))), pauses)
    assert_true(exchanges, conversation)
