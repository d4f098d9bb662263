"""Delivery under any sequence of calls and answers: nothing lost, nothing twice, order, bound, balance."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_bridge.delivery.books import Drop
from otel_bridge.delivery.queue import MAX_BATCH_AGE_SECONDS, Batch, SpanQueue
from otel_bridge.delivery.sender import Sender
from otel_bridge.delivery.transport import Delivered, Outcome, Refused, TooLarge, TryAgain
from otel_bridge.otlp.encoding import OVERHEAD_PER_SPAN
from tests.unit.otel_bridge.delivery.simulation import SIZE, ScriptedBackend, SimulatedTime, encoded
from tests.unit.otel_bridge.exchanges import RESOURCE

MAX_BYTES, MAX_BATCH_BYTES = 600, 100


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a model of it: where each span is, by its number."""

    def __init__(self) -> None:
        super().__init__()
        self.time = SimulatedTime()
        self.queue = SpanQueue(self.time, max_bytes=MAX_BYTES, max_batch_bytes=MAX_BATCH_BYTES)
        self.sizes: dict[int, int] = {}
        """Of every span that was put and not turned away."""
        self.submitted = 0
        self.to_send: list[int] = []
        """Held and not being sent, in the order of their numbers."""
        self.in_flight: list[tuple[Batch, list[int]]] = []
        self.exported: list[int] = []
        self.drops: dict[Drop, list[int]] = {cause: [] for cause in Drop}
        self.is_closed = False
        self.former: list[Batch] = []
        """Batches that are no longer being sent."""

    def held_bytes(self) -> int:
        held = [*self.to_send, *(number for _, numbers in self.in_flight for number in numbers)]
        return sum(self.sizes[number] for number in held)

    @rule(length=st.integers(4, 150))
    def put(self, length: int) -> None:
        number = self.submitted
        self.submitted += 1
        size = length + OVERHEAD_PER_SPAN
        expected = None
        if self.is_closed:
            expected = Drop.CLOSED
        elif self.held_bytes() + size > MAX_BYTES:
            expected = Drop.QUEUE_FULL
        assert self.queue.put(RESOURCE, number.to_bytes(length, "big")) is expected
        if expected is None:
            self.sizes[number] = size
            self.to_send.append(number)
        else:
            self.drops[expected].append(number)

    @rule()
    def take(self) -> None:
        batch = self.queue.take()
        if batch is None:
            assert not self.to_send
            return
        numbers = [int.from_bytes(encoded, "big") for _, encoded in batch.spans]
        # What is taken are the first spans of all that are to be sent, none skipped.
        assert numbers == self.to_send[: len(numbers)]
        assert numbers
        assert batch.size == sum(self.sizes[number] for number in numbers)
        assert batch.size <= MAX_BATCH_BYTES or len(numbers) == 1
        del self.to_send[: len(numbers)]
        self.in_flight.append((batch, numbers))

    def leave(self, data: st.DataObject) -> tuple[Batch, list[int]]:
        """Choose a batch that is being sent; answers come in any order."""
        batch, numbers = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        self.former.append(batch)
        return batch, numbers

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), cause=st.sampled_from([Drop.REJECTED, Drop.REFUSED, Drop.TOO_LARGE]))
    def acknowledge(self, data: st.DataObject, cause: Drop) -> None:
        batch, numbers = self.leave(data)
        exported = data.draw(st.integers(0, len(numbers)))
        assert self.queue.acknowledge(batch, exported, cause)
        # Which spans of a batch a backend rejects it does not say; their number is what counts.
        self.exported += numbers[:exported]
        self.drops[cause] += numbers[exported:]

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        batch, numbers = self.leave(data)
        self.queue.put_back(batch)
        self.to_send = sorted(self.to_send + numbers)

    @precondition(lambda self: any(len(numbers) > 1 for _, numbers in self.in_flight))
    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        batch, numbers = self.leave(data)
        if len(numbers) > 1:
            self.queue.split(batch)
        else:
            self.queue.put_back(batch)
        self.to_send = sorted(self.to_send + numbers)

    @precondition(lambda self: self.former)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        """A batch that is no longer being sent can't be acknowledged, put back or split."""
        batch = data.draw(st.sampled_from(self.former))
        assert not self.queue.acknowledge(batch, len(batch.spans))
        self.queue.put_back(batch)
        self.queue.split(batch)

    @rule(seconds=st.floats(0, 2 * MAX_BATCH_AGE_SECONDS))
    def let_time_pass(self, seconds: float) -> None:
        self.time.seconds += seconds

    @rule()
    def close(self) -> None:
        assert self.queue.close() is not self.is_closed
        self.is_closed = True

    @precondition(lambda self: self.submitted > 12)
    @rule()
    def abandon(self) -> None:
        left = [*self.to_send, *(number for _, numbers in self.in_flight for number in numbers)]
        assert self.queue.abandon() == len(left)
        self.drops[Drop.CLOSED] += left
        self.former += [batch for batch, _ in self.in_flight]
        self.to_send, self.in_flight, self.is_closed = [], [], True

    @invariant()
    def the_books_balance_and_say_what_the_model_says(self) -> None:
        self.queue.check()
        in_flight = sum(len(numbers) for _, numbers in self.in_flight)
        assert self.queue.counters() == {
            "submitted": self.submitted,
            "exported": len(self.exported),
            "queued": len(self.to_send) + in_flight,
            **{f"dropped_{cause}": len(numbers) for cause, numbers in self.drops.items()},
        }

    @invariant()
    def every_span_is_in_one_place(self) -> None:
        in_flight = [number for _, numbers in self.in_flight for number in numbers]
        dropped = [number for numbers in self.drops.values() for number in numbers]
        everywhere = [*self.to_send, *in_flight, *self.exported, *dropped]
        assert sorted(everywhere) == list(range(self.submitted))

    @invariant()
    def the_bound_holds(self) -> None:
        assert self.held_bytes() <= MAX_BYTES

    @invariant()
    def what_is_to_be_sent_becomes_due(self) -> None:
        due = self.queue.seconds_until_due()
        assert (due is None) is (not self.to_send)
        assert due is None or 0 <= due <= MAX_BATCH_AGE_SECONDS
        assert not (self.is_closed and due)

    def teardown(self) -> None:
        """At the end, what is held comes out in order, and all of it."""
        for _, numbers in self.in_flight:
            self.to_send += numbers
        for batch, _ in self.in_flight:
            self.queue.put_back(batch)
        self.to_send.sort()
        self.in_flight.clear()
        while self.to_send:
            self.take()
        assert self.queue.take() is None


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(stateful_step_count=30)


ANSWERS = st.sampled_from(
    [
        Delivered(),
        Delivered(1, "one is odd"),
        TryAgain("away"),
        TryAgain("later", 7.0),
        TooLarge("over the limit"),
        Refused("no"),
    ]
)


@given(st.lists(ANSWERS, max_size=30), st.integers(1, 40), st.integers(1, 10))
def test_whatever_the_backend_answers_each_span_is_delivered_or_dropped_once(
    answers: list[Outcome], count: int, spans_per_batch: int
) -> None:
    time = SimulatedTime()
    queue = SpanQueue(time, max_batch_bytes=spans_per_batch * SIZE)
    backend = ScriptedBackend(time)
    backend.answers += answers
    sender = Sender(queue, backend, time, timeout_seconds=5, backend="the backend")
    for number in range(1, count + 1):
        queue.put(*encoded(number))
    queue.close()
    sender.run()
    queue.check()
    counters = queue.counters()
    assert counters["submitted"] == count
    assert counters["dropped_closed"] == counters["queued"] == 0
    # In order, and none twice; a rejected span is among those that the backend took.
    assert backend.delivered == sorted(set(backend.delivered))
    assert len(backend.delivered) == counters["exported"] + counters["dropped_rejected"]
