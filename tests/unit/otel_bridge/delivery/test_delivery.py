from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from otel_bridge.delivery.delivery import MAX_BACKOFF_SECONDS, MAX_BATCH_AGE_SECONDS, OtlpSink
from otel_bridge.delivery.options import ExportOptions
from tests.otlp_receiver import Answer, OtlpReceiver, free_port
from tests.unit.otel_bridge.exchanges import span


@pytest.fixture(params=["grpc", "http/protobuf"])
def receiver(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(protocol=request.param) as running:
        yield running


def sink_to(receiver: OtlpReceiver, **bounds: int) -> OtlpSink:
    options = ExportOptions.from_environment({}, endpoint=receiver.endpoint, protocol=receiver.protocol)
    return OtlpSink(options, **bounds)


def books(sink: OtlpSink) -> dict[str, int]:
    """The counters that are not 0, after checking that they balance."""
    counters = sink.counters()
    assert counters["submitted"] == counters["exported"] + counters["queued"] + sum(
        count for name, count in counters.items() if name.startswith("dropped_")
    )
    return {name: count for name, count in counters.items() if count}


def numbers(receiver: OtlpReceiver) -> list[int]:
    return [int.from_bytes(one.span_id, "big") for one in receiver.spans]


def test_spans_arrive_once_and_in_order(receiver: OtlpReceiver) -> None:
    sink = sink_to(receiver, max_batch_bytes=2_000)
    for number in range(1, 501):
        sink.submit(span(number))
    assert sink.flush(20)
    assert numbers(receiver) == list(range(1, 501))
    assert len(receiver.requests) > 5
    assert books(sink) == {"submitted": 500, "exported": 500}
    sink.close(5)


def test_a_lonely_span_leaves_within_its_age(receiver: OtlpReceiver) -> None:
    sink = sink_to(receiver)
    submitted_at = monotonic()
    sink.submit(span())
    receiver.wait_for_spans(1)
    assert receiver.received_at[0] - submitted_at >= MAX_BATCH_AGE_SECONDS * 0.9
    sink.close(5)


def test_no_batch_exceeds_its_bound() -> None:
    with OtlpReceiver(max_message_bytes=300_000) as receiver:
        sink = sink_to(receiver, max_batch_bytes=250_000)
        for number in range(1, 41):
            sink.submit(span(number, filler="x" * 50_000))
        assert sink.flush(20)
        assert numbers(receiver) == list(range(1, 41))
        assert max(request.ByteSize() for request in receiver.requests) <= 250_000 + 1_000
        assert len(receiver.headers) == len(receiver.requests)
        sink.close(5)


def test_nothing_is_lost_while_the_backend_is_away(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    away = OtlpReceiver(protocol=receiver.protocol, port=free_port())
    sink = sink_to(away, max_batch_bytes=5_000)
    with caplog.at_level(logging.WARNING):
        for number in range(1, 201):
            sink.submit(span(number))
        assert not sink.flush(0.3)
        assert books(sink) == {"submitted": 200, "queued": 200}
        with away:
            away.wait_for_spans(200, MAX_BACKOFF_SECONDS * 1.5 + 10)
            assert sink.flush(10)
            assert numbers(away) == list(range(1, 201))
            sink.close(5)
    assert books(sink) == {"submitted": 200, "exported": 200}
    assert (
        len(
            [record for record in caplog.records if "is not available, will try again" in record.getMessage()]
        )
        == 1
    )


def test_the_backend_may_vanish_and_return(receiver: OtlpReceiver) -> None:
    sink = sink_to(receiver)
    sink.submit(span(1))
    assert sink.flush(10)
    receiver.stop()
    sink.submit(span(2))
    assert not sink.flush(0.2)
    receiver.start()
    assert sink.flush(20)
    assert numbers(receiver) == [1, 2]
    sink.close(5)


def test_transient_refusals_are_repeated_with_the_same_spans(receiver: OtlpReceiver) -> None:
    transient = "UNAVAILABLE" if receiver.protocol == "grpc" else 503
    receiver.answers += [Answer(code=transient), Answer(code=transient)]
    sink = sink_to(receiver)
    sink.submit(span(9))
    assert sink.flush(20)
    assert numbers(receiver) == [9]
    first, second, third = receiver.received_at
    # Half a second, then twice as much, each give or take a fifth.
    assert 0.3 < second - first < third - second
    sink.close(5)


def test_the_backends_own_pause_is_honoured(receiver: OtlpReceiver) -> None:
    code = "RESOURCE_EXHAUSTED" if receiver.protocol == "grpc" else 429
    receiver.answers.append(Answer(code=code, retry_after_seconds=2))
    sink = sink_to(receiver)
    sink.submit(span())
    assert sink.flush(20)
    assert receiver.received_at[1] - receiver.received_at[0] >= 2
    sink.close(5)


def test_a_batch_over_the_backends_limit_is_split_until_it_fits() -> None:
    for protocol in ("grpc", "http/protobuf"):
        with OtlpReceiver(protocol=protocol, max_message_bytes=30_000) as receiver:
            sink = sink_to(receiver)
            for number in range(1, 33):
                sink.submit(span(number, filler="x" * (100_000 if number == 7 else 5_000)))
            assert not sink.flush(20)
            assert numbers(receiver) == [number for number in range(1, 33) if number != 7]
            assert books(sink) == {"submitted": 32, "exported": 31, "dropped_too_large": 1}
            sink.close(5)


def test_permanent_refusals_are_counted_and_said_once(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.always = Answer(
        code="PERMISSION_DENIED" if receiver.protocol == "grpc" else 403, message="no key"
    )
    sink = sink_to(receiver)
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            sink.submit(span(number))
            assert not sink.flush(10)
    assert books(sink) == {"submitted": 2, "dropped_refused": 2}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "did not take 1 spans (refused)" in message
    assert "no key" in message
    sink.close(5)


def test_a_partial_success_is_counted(receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers += [Answer(rejected=2, message="too old"), Answer(rejected=99)]
    sink = sink_to(receiver)
    with caplog.at_level(logging.WARNING):
        for number in (1, 2, 3):
            sink.submit(span(number))
        assert not sink.flush(10)
        assert books(sink) == {"submitted": 3, "exported": 1, "dropped_rejected": 2}
        sink.submit(span(4))
        assert not sink.flush(10)
    assert books(sink) == {"submitted": 4, "exported": 1, "dropped_rejected": 3}
    assert "did not take 2 spans (rejected): too old" in caplog.records[0].getMessage()
    sink.close(5)


def test_a_full_queue_refuses_the_newest_counts_and_says_it(caplog: pytest.LogCaptureFixture) -> None:
    away = OtlpReceiver(port=free_port())
    sink = sink_to(away, max_queue_bytes=20_000, max_batch_bytes=1_000)
    with caplog.at_level(logging.WARNING):
        for number in range(1, 1_001):
            sink.submit(span(number))
    kept = books(sink)["queued"]
    assert books(sink) == {"submitted": 1_000, "queued": kept, "dropped_queue_full": 1_000 - kept}
    assert len([record for record in caplog.records if "queue is full" in record.getMessage()]) == 1
    with away:
        assert sink.flush(30)
        assert numbers(away)[: kept // 2] == list(range(1, kept // 2 + 1))
    sink.close(5)
    assert books(sink) == {"submitted": 1_000, "exported": kept, "dropped_queue_full": 1_000 - kept}


def test_submit_does_not_wait_for_the_network() -> None:
    gate = threading.Event()
    with OtlpReceiver() as receiver:
        receiver.always = Answer(wait_for=gate)
        sink = sink_to(receiver, max_batch_bytes=500)
        started_at = monotonic()
        for number in range(1, 101):
            sink.submit(span(number))
        receiver.wait_until(lambda: bool(receiver.received_at))
        # The backend still holds its first answer back.
        assert sink.counters()["exported"] == 0
        assert monotonic() - started_at < 10
        gate.set()
        assert sink.flush(20)
        sink.close(5)


def test_closing_flushes_and_later_spans_are_counted(receiver: OtlpReceiver) -> None:
    sink = sink_to(receiver)
    for number in range(1, 11):
        sink.submit(span(number))
    sink.close(10)
    sink.close(10)
    sink.submit(span(11))
    assert numbers(receiver) == list(range(1, 11))
    assert books(sink) == {"submitted": 11, "exported": 10, "dropped_closed": 1}


def test_closing_without_a_backend_keeps_to_its_time_and_says_what_is_lost(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.stop()
    sink = sink_to(receiver)
    for number in range(1, 8):
        sink.submit(span(number))
    started_at = monotonic()
    with caplog.at_level(logging.WARNING):
        sink.close(0.5)
    assert monotonic() - started_at < 3
    assert books(sink) == {"submitted": 7, "dropped_closed": 7}
    assert "7 spans could not be delivered" in caplog.records[-1].getMessage()


def test_no_message_tells_the_credentials_of_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    options = ExportOptions.from_environment(
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20cAnArY"},
        endpoint=f"http://user:cAnArY@localhost:{free_port()}",
    )
    assert "Bearer" not in repr(options)
    sink = OtlpSink(options)
    with caplog.at_level(logging.DEBUG, logger="otel_bridge"):
        sink.submit(span())
        sink.close(0.3)
    assert caplog.records
    assert "cAnArY" not in caplog.text


def test_closing_does_not_sit_out_a_long_pause(receiver: OtlpReceiver) -> None:
    transient = "UNAVAILABLE" if receiver.protocol == "grpc" else 503
    receiver.answers += [Answer(code=transient)] * 4
    sink = sink_to(receiver)
    sink.submit(span(3))
    # The next pause is about four seconds.
    assert not sink.flush(0.1)
    receiver.wait_until(lambda: len(receiver.received_at) == 4)
    sink.close(2)
    assert numbers(receiver) == [3]
    assert books(sink) == {"submitted": 1, "exported": 1}


def test_closing_while_an_answer_is_awaited_keeps_to_its_time(receiver: OtlpReceiver) -> None:
    gate = threading.Event()
    receiver.always = Answer(wait_for=gate)
    sink = sink_to(receiver)
    sink.submit(span())
    assert not sink.flush(0.3)
    started_at = monotonic()
    sink.close(0.3)
    assert monotonic() - started_at < 3
    assert books(sink) == {"submitted": 1, "dropped_closed": 1}
    gate.set()


def test_several_threads_may_submit(receiver: OtlpReceiver) -> None:
    sink = sink_to(receiver, max_batch_bytes=3_000)

    def submit_from(base: int) -> None:
        for number in range(200):
            sink.submit(span(base + number))

    threads = [threading.Thread(target=submit_from, args=[base]) for base in (1, 1_001, 2_001, 3_001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.flush(20)
    assert sorted(numbers(receiver)) == [
        base + number for base in (1, 1_001, 2_001, 3_001) for number in range(200)
    ]
    sink.close(5)
