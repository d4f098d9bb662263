"""The sender in simulated time: when it sends, when it pauses, what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from otel_bridge.delivery.queue import MAX_BATCH_AGE_SECONDS, SpanQueue
from otel_bridge.delivery.sender import (
    BACKOFF_FACTOR,
    FIRST_BACKOFF_SECONDS,
    MAX_BACKOFF_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    Sender,
)
from otel_bridge.delivery.transport import Delivered, Outcome, Refused, TooLarge, TryAgain
from otel_bridge.delivery.trouble_log import LOG_INTERVAL_SECONDS
from tests.unit.otel_bridge.delivery.simulation import SIZE, ScriptedBackend, SimulatedTime, encoded

AWAY = TryAgain("away")


@dataclass
class Delivery:
    """Queue, sender and backend in a time of their own."""

    time: SimulatedTime
    queue: SpanQueue
    backend: ScriptedBackend
    sender: Sender

    def put(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.queue.put(*encoded(number))
            self.queue.check()

    def flush(self, timeout_seconds: float = 1_000.0) -> bool:
        """Flush, with the sender at work."""
        self.time.sender, self.time.queue = self.sender, self.queue
        flushed = self.queue.flush(timeout_seconds)
        self.time.sender = None
        self.queue.check()
        return flushed

    def answer(self, *answers: Outcome | Callable[[], Outcome]) -> None:
        self.backend.answers += answers

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.queue.counters().items() if count}

    @property
    def attempts(self) -> list[float]:
        """The seconds of each, from the beginning."""
        return [seconds for seconds, _ in self.backend.attempts]


def delivery(*, spans_per_batch: int = 100, jitter: Callable[[], float] = lambda: 1.0) -> Delivery:
    time = SimulatedTime()
    queue = SpanQueue(time, max_bytes=1_000 * SIZE, max_batch_bytes=spans_per_batch * SIZE)
    backend = ScriptedBackend(time)
    sender = Sender(queue, backend, time, timeout_seconds=7, backend="the backend", jitter=jitter)
    return Delivery(time, queue, backend, sender)


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


def test_spans_arrive_once_and_in_order() -> None:
    made = delivery(spans_per_batch=7)
    made.put(range(1, 51))
    assert made.flush()
    assert made.backend.delivered == list(range(1, 51))
    assert len(made.backend.attempts) == 8
    assert made.backend.timeouts == {7}
    assert made.counts == {"submitted": 50, "exported": 50}


def test_a_lonely_span_leaves_at_its_age_and_the_sender_ends_with_the_queue() -> None:
    made = delivery()
    made.put([1])
    made.time.at(0.5, lambda: made.put([2]))
    made.time.at(3, lambda: made.put([3]))
    made.time.at(3.25, lambda: made.queue.close() and None)
    made.sender.run()
    assert made.backend.attempts == [(MAX_BATCH_AGE_SECONDS, [1, 2]), (3.25, [3])]
    made.queue.check()


def test_an_outage_loses_nothing_and_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    made = delivery(spans_per_batch=5)
    made.backend.answers.extend([AWAY] * 20)
    made.put(range(1, 21))
    assert not made.flush(0.3)
    assert made.counts == {"submitted": 20, "queued": 20}
    assert made.flush()
    assert made.backend.delivered == list(range(1, 21))
    assert made.counts == {"submitted": 20, "exported": 20}
    assert made.attempts[-1] > LOG_INTERVAL_SECONDS
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["the backend is not available, will try again: away"] * 2


def test_pauses_grow_to_their_bound_and_begin_anew_after_an_answer() -> None:
    made = delivery()
    made.answer(*[AWAY] * 6, Delivered(), AWAY)
    made.put([1])
    assert made.flush()
    pauses = [later - earlier for earlier, later in zip(made.attempts, made.attempts[1:], strict=False)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pauses[:2] == [FIRST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * BACKOFF_FACTOR]
    assert max(pauses) == MAX_BACKOFF_SECONDS
    made.put([2])
    assert made.flush()
    assert made.attempts[-1] - made.attempts[-2] == FIRST_BACKOFF_SECONDS


def test_the_agents_of_a_cluster_come_back_at_different_times() -> None:
    factors = iter([0.8, 1.2, 1.1])
    made = delivery(jitter=lambda: next(factors))
    made.answer(AWAY, AWAY)
    made.put([1])
    assert made.flush()
    first, second, third = made.attempts
    assert (second - first, third - second) == (pytest.approx(0.4), pytest.approx(1.2))


def test_the_jitter_of_a_real_sender_is_a_fifth() -> None:
    made = delivery()
    real = Sender(made.queue, made.backend, made.time, timeout_seconds=7, backend="the backend")
    made.sender = real
    made.answer(*[AWAY] * 200)
    made.put([1])
    assert made.flush(10_000)
    pauses = [later - earlier for earlier, later in zip(made.attempts, made.attempts[1:], strict=False)]
    assert all(MAX_BACKOFF_SECONDS * 0.8 <= pause <= MAX_BACKOFF_SECONDS * 1.2 for pause in pauses[4:])
    assert len(set(pauses[4:])) > 100


@pytest.mark.parametrize(
    ("asked", "kept"), [(2.0, 2.0), (0.0, 0.0), (-5.0, 0.0), (1e9, MAX_RETRY_AFTER_SECONDS)]
)
def test_the_backends_own_pause_is_kept_within_its_bound(asked: float, kept: float) -> None:
    made = delivery()
    made.answer(TryAgain("later", asked))
    made.put([1])
    assert made.flush()
    assert made.attempts == [0, kept]


def test_nothing_is_sent_during_a_pause_however_much_comes() -> None:
    made = delivery(spans_per_batch=2)
    made.answer(TryAgain("later", 30))
    made.put([1])
    for second in range(1, 29):
        made.time.at(second, lambda second=second: made.put([second + 1]))  # type: ignore[misc]
    assert made.flush()
    assert made.attempts[:2] == [0, 30]
    assert made.backend.attempts[1][1] == [1]


def test_a_batch_over_the_backends_limit_is_split_until_it_fits() -> None:
    made = delivery()
    made.put(range(1, 9))
    too_large = TooLarge("over the limit")
    # 1 to 8, then 1 to 4, which passes; then 5 to 8, 5 and 6, and 5 alone, which is too large even so.
    made.answer(too_large, Delivered(), too_large, too_large, too_large)
    assert not made.flush()
    assert [numbers for _, numbers in made.backend.attempts] == [
        [*range(1, 9)],
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [5, 6],
        [5],
        [6],
        [7, 8],
    ]
    # A pause stands between a refusal and the next half, and grows as long as nothing passes.
    assert made.attempts == [0, 0.5, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert made.backend.delivered == [1, 2, 3, 4, 6, 7, 8]
    assert made.counts == {"submitted": 8, "exported": 7, "dropped_too_large": 1}


def test_an_outage_between_two_halves_loses_and_repeats_none() -> None:
    made = delivery()
    made.put(range(1, 5))
    made.answer(TooLarge("over the limit"), AWAY, Delivered(), AWAY, AWAY)
    assert made.flush()
    assert made.backend.delivered == [1, 2, 3, 4]
    assert made.counts == {"submitted": 4, "exported": 4}


def test_refusals_for_good_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    made = delivery()
    made.answer(Refused("no key"), Refused("no key"))
    for number in (1, 2):
        made.put([number])
        assert not made.flush()
    assert made.counts == {"submitted": 2, "dropped_refused": 2}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "the backend did not take 1 spans (refused): no key"


def test_a_partial_success_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    made = delivery()
    made.answer(Delivered(2, "too old"), Delivered(99), Delivered(-3))
    made.put([1, 2, 3])
    assert not made.flush()
    assert made.counts == {"submitted": 3, "exported": 1, "dropped_rejected": 2}
    made.put([4])
    assert not made.flush()
    made.put([5])
    assert made.flush()
    assert made.counts == {"submitted": 5, "exported": 2, "dropped_rejected": 3}
    assert caplog.messages == ["the backend did not take 2 spans (rejected): too old"]


def test_a_message_beside_a_full_success_is_said(caplog: pytest.LogCaptureFixture) -> None:
    made = delivery()
    made.answer(Delivered(0, "a deprecated field"))
    made.put([1])
    assert made.flush()
    assert caplog.messages == ["the backend took 1 spans, but: a deprecated field"]


def test_closing_does_not_sit_out_a_long_pause() -> None:
    made = delivery()
    made.answer(*[AWAY] * 4)
    made.put([1])
    assert not made.flush(3.5)
    # The fourth attempt is followed by four seconds.
    assert made.attempts == [0, 0.5, 1.5, 3.5]
    made.time.seconds += 0.25
    made.queue.close()
    assert made.flush(2)
    assert made.attempts[-1] == 3.5 + FIRST_BACKOFF_SECONDS
    assert made.counts == {"submitted": 1, "exported": 1}


def test_closing_keeps_to_a_pause_that_the_backend_asked_for() -> None:
    made = delivery()
    made.answer(TryAgain("later", 8))
    made.put([1])
    assert not made.flush(1)
    made.queue.close()
    assert not made.flush(6)
    assert made.flush(2)
    assert made.attempts == [0, 8]


def test_a_queue_that_is_abandoned_in_a_pause_ends_the_sender() -> None:
    made = delivery()
    made.answer(*[AWAY] * 100)
    made.put([1])
    made.time.at(12, made.queue.abandon)  # type: ignore[arg-type] # how many they were is of no interest here
    made.sender.run()
    assert made.time.now() == SimulatedTime().now() + 12
    assert made.counts == {"submitted": 1, "dropped_closed": 1}


@pytest.mark.parametrize("outcome", [Delivered(1, "odd"), AWAY, TooLarge("over"), Refused("no")])
def test_an_answer_after_the_queue_was_abandoned_changes_no_books(outcome: Outcome) -> None:
    made = delivery()

    def abandon() -> Outcome:
        assert made.queue.abandon() == 2
        return outcome

    made.answer(abandon)
    made.put([1, 2])
    made.sender.run()
    made.queue.check()
    assert made.counts == {"submitted": 2, "dropped_closed": 2}
    assert len(made.attempts) == 1


def test_an_answer_after_the_queue_was_abandoned_is_no_loss_to_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = delivery()
    made.answer(lambda: Refused("no") if made.queue.abandon() else Delivered())
    made.put([1])
    made.sender.run()
    assert caplog.messages == []


def test_a_transport_that_raises_costs_no_span_and_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    made = delivery(spans_per_batch=2)

    def fail() -> Outcome:
        raise ZeroDivisionError("odd")

    made.answer(Delivered(), fail, fail)
    made.put(range(1, 6))
    made.time.at(0, lambda: made.queue.close() and None)
    made.sender.run()
    assert made.backend.delivered == [1, 2, 3, 4, 5]
    assert made.counts == {"submitted": 5, "exported": 5}
    assert made.attempts == [0, 0, 0.5, 1.0, 1.0]
    (message,) = caplog.messages
    assert message.startswith("the backend is not available, will try again: a bug of wirespan")
    assert message.endswith("ZeroDivisionError: odd")


@pytest.mark.parametrize("outcome", [TryAgain, Refused, lambda text: Delivered(1, text)])
def test_what_a_backend_says_forges_no_line(
    caplog: pytest.LogCaptureFixture, outcome: Callable[[str], Outcome]
) -> None:
    made = delivery()
    made.answer(outcome("\x1b[31mred\r\n12:00:00 info forged\u202e" + "x" * 1_000))
    made.put([1])
    made.flush()
    (message,) = caplog.messages
    assert message.isprintable()
    assert "\\x1b[31mred\\x0d\\x0a12:00:00 info forged\\u202exxx" in message
    assert len(message) < 400


def test_batches_stay_below_the_size_that_a_backend_called_too_large() -> None:
    time = SimulatedTime()
    queue = SpanQueue(time, max_batch_bytes=2 * 1024 * 1024)
    backend = ScriptedBackend(time)
    made = Delivery(
        time, queue, backend, Sender(queue, backend, time, timeout_seconds=7, backend="the backend")
    )
    for number in range(100):
        queue.put(*encoded(number, filler="x" * 4_000))
    made.answer(TooLarge("over the limit"))
    assert made.flush()
    for number in range(100):
        queue.put(*encoded(number, filler="x" * 4_000))
    assert made.flush()
    assert [len(numbers) for _, numbers in backend.attempts] == [100, 50, 50, 50, 50]


def test_one_span_too_large_does_not_make_all_batches_small() -> None:
    made = delivery(spans_per_batch=8)
    made.put(range(1, 9))
    made.answer(*[TooLarge("over the limit")] * 2)
    assert made.flush()
    made.put(range(9, 17))
    assert made.flush()
    assert len(made.backend.attempts[-1][1]) == 8
