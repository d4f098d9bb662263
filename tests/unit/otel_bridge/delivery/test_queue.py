from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from otel_bridge.delivery.books import Drop
from otel_bridge.delivery.queue import MAX_BATCH_AGE_SECONDS, Batch, SpanQueue
from tests.unit.otel_bridge.delivery.simulation import SIZE, SimulatedTime, encoded


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime()


def queue_of(
    time: SimulatedTime, count: int = 0, *, max_spans: int = 1_000, spans_per_batch: int = 100
) -> SpanQueue:
    """A queue with the spans 1 to `count`, whose bounds are in spans of one size."""
    made = SpanQueue(time, max_bytes=max_spans * SIZE, max_batch_bytes=spans_per_batch * SIZE)
    for number in range(1, count + 1):
        assert made.put(*encoded(number)) is None
    made.check()
    return made


def take(queue: SpanQueue) -> Batch:
    batch = queue.take()
    assert batch is not None
    queue.check()
    return batch


def numbers(batch: Batch) -> list[int]:
    known = {encoded(number)[1]: number for number in range(1, 50)}
    return [known[span] for _, span in batch.spans]


def counts(queue: SpanQueue) -> dict[str, int]:
    """The counters that are not 0."""
    queue.check()
    return {name: count for name, count in queue.counters().items() if count}


def test_spans_are_taken_in_order_in_batches_within_their_bound(time: SimulatedTime) -> None:
    queue = queue_of(time, 7, spans_per_batch=3)
    batches = [take(queue) for _ in range(3)]
    assert [numbers(batch) for batch in batches] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [batch.number for batch in batches] == [0, 3, 6]
    assert [batch.size for batch in batches] == [3 * SIZE, 3 * SIZE, SIZE]
    assert queue.take() is None


def test_a_span_over_the_bound_of_a_batch_makes_one_alone(time: SimulatedTime) -> None:
    queue = queue_of(time, 1, spans_per_batch=3)
    queue.put(*encoded(2, filler="x" * 10 * SIZE))
    queue.put(*encoded(3))
    assert [len(take(queue).spans) for _ in range(3)] == [1, 1, 1]


def test_a_batch_is_due_when_it_is_old(time: SimulatedTime) -> None:
    queue = queue_of(time)
    assert queue.seconds_until_due() is None
    queue.put(*encoded(1))
    assert queue.seconds_until_due() == MAX_BATCH_AGE_SECONDS
    time.seconds += 0.75
    queue.put(*encoded(2))
    assert queue.seconds_until_due() == MAX_BATCH_AGE_SECONDS - 0.75
    time.seconds += 5
    assert queue.seconds_until_due() == 0


def test_a_batch_is_due_when_it_is_full(time: SimulatedTime) -> None:
    queue = queue_of(time, 2, spans_per_batch=3)
    assert queue.seconds_until_due() == MAX_BATCH_AGE_SECONDS
    queue.put(*encoded(3))
    assert queue.seconds_until_due() == 0
    queue.put(*encoded(4))
    take(queue)
    # The rest has a second of its own.
    assert queue.seconds_until_due() == MAX_BATCH_AGE_SECONDS


def test_a_closed_queue_has_its_spans_due_and_takes_no_more(time: SimulatedTime) -> None:
    queue = queue_of(time, 1)
    assert not queue.is_closed
    assert queue.close()
    assert not queue.close()
    assert queue.is_closed
    assert queue.seconds_until_due() == 0
    assert queue.put(*encoded(2)) is Drop.CLOSED
    batch = take(queue)
    # While it is being sent, it may yet have to be sent again.
    time.at(1, lambda: queue.put_back(batch))
    again = queue.wait_and_take(lambda: 0)
    assert again is not None
    assert queue.acknowledge(again, 1)
    assert queue.wait_and_take(lambda: 0) is None
    assert counts(queue) == {"submitted": 2, "exported": 1, "dropped_closed": 1}


def test_what_is_being_sent_counts_towards_the_bound_until_it_is_acknowledged(time: SimulatedTime) -> None:
    queue = queue_of(time, 4, max_spans=4, spans_per_batch=4)
    batch = take(queue)
    assert queue.put(*encoded(5)) is Drop.QUEUE_FULL
    queue.put_back(batch)
    assert queue.put(*encoded(6)) is Drop.QUEUE_FULL
    assert counts(queue) == {"submitted": 6, "queued": 4, "dropped_queue_full": 2}
    assert queue.acknowledge(take(queue), 4)
    assert [queue.put(*encoded(number)) for number in (7, 8, 9, 10, 11)] == [*[None] * 4, Drop.QUEUE_FULL]
    assert counts(queue) == {"submitted": 11, "exported": 4, "queued": 4, "dropped_queue_full": 3}


def test_what_is_put_back_comes_first_and_at_once(time: SimulatedTime) -> None:
    queue = queue_of(time, 5, spans_per_batch=2)
    first, second = take(queue), take(queue)
    # The answers may come in any order.
    queue.put_back(second)
    queue.put_back(first)
    queue.check()
    assert queue.seconds_until_due() == 0
    assert [numbers(take(queue)) for _ in range(3)] == [[1, 2], [3, 4], [5]]


def test_a_batch_is_acknowledged_once(time: SimulatedTime) -> None:
    queue = queue_of(time, 2)
    batch = take(queue)
    assert queue.acknowledge(batch, 2)
    assert not queue.acknowledge(batch, 2)
    queue.put_back(batch)
    queue.split(batch)
    assert queue.take() is None
    assert counts(queue) == {"submitted": 2, "exported": 2}


def test_a_batch_that_was_put_back_is_no_longer_acknowledged(time: SimulatedTime) -> None:
    queue = queue_of(time, 2)
    batch = take(queue)
    queue.put_back(batch)
    assert not queue.acknowledge(batch, 2)
    assert counts(queue) == {"submitted": 2, "queued": 2}


@pytest.mark.parametrize("cause", [Drop.REFUSED, Drop.REJECTED, Drop.TOO_LARGE])
def test_what_did_not_arrive_is_dropped_under_its_cause(time: SimulatedTime, cause: Drop) -> None:
    queue = queue_of(time, 5)
    assert queue.acknowledge(take(queue), 2, cause)
    assert counts(queue) == {"submitted": 5, "exported": 2, f"dropped_{cause}": 3}


def test_halves_are_taken_in_order_before_what_follows(time: SimulatedTime) -> None:
    queue = queue_of(time, 7, spans_per_batch=5)
    queue.split(take(queue))
    queue.check()
    halves = [take(queue), take(queue)]
    assert [numbers(half) for half in halves] == [[1, 2], [3, 4, 5]]
    assert [half.size for half in halves] == [2 * SIZE, 3 * SIZE]
    queue.split(halves[1])
    assert [numbers(take(queue)) for _ in range(3)] == [[3], [4, 5], [6, 7]]


def test_what_is_abandoned_counts_as_closed_wherever_it_was(time: SimulatedTime) -> None:
    queue = queue_of(time, 6, spans_per_batch=2)
    returned, taken = take(queue), take(queue)
    queue.put_back(returned)
    assert queue.abandon() == 6
    assert counts(queue) == {"submitted": 6, "dropped_closed": 6}
    # The answer that comes after all changes nothing.
    assert not queue.acknowledge(taken, 2)
    queue.put_back(taken)
    queue.split(taken)
    assert queue.take() is None
    assert queue.abandon() == 0
    assert counts(queue) == {"submitted": 6, "dropped_closed": 6}


def test_a_flush_of_nothing_returns_at_once(time: SimulatedTime) -> None:
    queue = queue_of(time)
    assert queue.flush(10)
    assert time.now() == SimulatedTime().now()


def test_a_flush_makes_spans_due_and_ends_with_what_was_there(time: SimulatedTime) -> None:
    queue = queue_of(time, 3)

    def deliver() -> None:
        assert queue.seconds_until_due() == 0
        batch = take(queue)
        # One that comes meanwhile is none of this flush's.
        queue.put(*encoded(4))
        assert queue.acknowledge(batch, 3)

    time.at(2, deliver)
    assert queue.flush(10)
    assert time.now() == SimulatedTime().now() + 2
    assert queue.seconds_until_due() is not None
    assert queue.seconds_until_due() != 0
    assert counts(queue) == {"submitted": 4, "exported": 3, "queued": 1}


def test_a_flush_waits_for_what_is_being_sent_and_for_what_was_put_back(time: SimulatedTime) -> None:
    queue = queue_of(time, 4, spans_per_batch=2)
    first, second = take(queue), take(queue)
    time.at(1, lambda: queue.put_back(first))
    time.at(2, lambda: queue.acknowledge(second, 2) or None)
    assert not queue.flush(3)
    time.at(1, lambda: queue.acknowledge(take(queue), 2) or None)
    assert queue.flush(3)
    assert counts(queue) == {"submitted": 4, "exported": 4}


def test_a_flush_is_not_over_because_later_spans_find_no_room(time: SimulatedTime) -> None:
    queue = queue_of(time, 2, max_spans=2)
    time.at(1, lambda: [queue.put(*encoded(number)) for number in range(3, 9)] and None)
    assert not queue.flush(5)
    time.at(1, lambda: queue.acknowledge(take(queue), 2) or None)
    time.at(0.5, lambda: queue.put(*encoded(9)) and None)
    assert queue.flush(5)
    assert counts(queue) == {"submitted": 9, "exported": 2, "dropped_queue_full": 7}


def test_a_flush_whose_spans_are_lost_says_so(time: SimulatedTime) -> None:
    queue = queue_of(time, 2, spans_per_batch=1)
    time.at(1, lambda: queue.acknowledge(take(queue), 0, Drop.REFUSED) or None)
    time.at(2, queue.abandon)  # type: ignore[arg-type] # how many they were is of no interest here
    assert not queue.flush(5)
    assert time.now() == SimulatedTime().now() + 2


def test_what_changes_anything_for_a_sender_or_a_flush_wakes_them(time: SimulatedTime) -> None:
    queue = queue_of(time, spans_per_batch=3)

    def wakes(act: Callable[[], object]) -> bool:
        before = time.notifications
        act()
        return time.notifications > before

    # The first of a batch, and the one that makes it due.
    puts = [wakes(partial(queue.put, *encoded(number))) for number in range(1, 6)]
    assert puts == [True, False, True, False, False]
    batch = take(queue)
    assert wakes(lambda: queue.put_back(batch))
    batch = take(queue)
    assert wakes(lambda: queue.split(batch))
    batch = take(queue)
    assert wakes(lambda: queue.acknowledge(batch, 1))
    assert wakes(lambda: queue.flush(0))
    assert wakes(queue.close)
    assert wakes(queue.abandon)
