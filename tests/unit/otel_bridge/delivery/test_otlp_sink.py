"""The sink at a real receiver. Times and pauses are the matter of test_sender.py, which simulates them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from otel_bridge.delivery.options import ExportOptions
from otel_bridge.delivery.otlp_sink import OtlpSink
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
    """The counters that are not 0, after checking that they balance and agree with what is held."""
    sink._queue.check()
    return {name: count for name, count in sink.counters().items() if count}


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


def test_closing_flushes_and_later_spans_are_counted(receiver: OtlpReceiver) -> None:
    sink = sink_to(receiver)
    for number in range(1, 11):
        sink.submit(span(number))
    sink.close(10)
    sink.close(10)
    sink.submit(span(11))
    assert numbers(receiver) == list(range(1, 11))
    assert books(sink) == {"submitted": 11, "exported": 10, "dropped_closed": 1}


def test_submit_does_not_wait_for_the_network_and_a_full_queue_refuses_the_newest(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    receiver.answers.append(Answer(wait_for=gate))
    sink = sink_to(receiver, max_queue_bytes=20_000, max_batch_bytes=1_000)
    with caplog.at_level(logging.WARNING):
        for number in range(1, 1_001):
            sink.submit(span(number))
    receiver.wait_until(lambda: bool(receiver.received_at))
    # The backend still holds its first answer back.
    kept = books(sink)["queued"]
    assert books(sink) == {"submitted": 1_000, "queued": kept, "dropped_queue_full": 1_000 - kept}
    assert caplog.messages == ["the OTLP queue is full (0 MiB): newest spans are dropped"]
    gate.set()
    assert sink.flush(20)
    assert numbers(receiver) == list(range(1, kept + 1))
    assert books(sink) == {"submitted": 1_000, "exported": kept, "dropped_queue_full": 1_000 - kept}
    sink.close(5)


def test_closing_without_a_backend_and_without_time_says_what_is_lost(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.stop()
    sink = sink_to(receiver)
    for number in range(1, 8):
        sink.submit(span(number))
    with caplog.at_level(logging.WARNING):
        sink.close(0)
    assert books(sink) == {"submitted": 7, "dropped_closed": 7}
    assert any("7 spans could not be delivered" in message for message in caplog.messages)


def test_closing_while_an_answer_is_awaited_does_not_wait_for_it(receiver: OtlpReceiver) -> None:
    gate = threading.Event()
    receiver.always = Answer(wait_for=gate)
    sink = sink_to(receiver, max_batch_bytes=1)
    sink.submit(span())
    receiver.wait_until(lambda: bool(receiver.received_at))
    sink.close(0)
    # The receiver gives its answer up after 30 s; until then there is none.
    assert not gate.is_set()
    assert not receiver.requests
    assert books(sink) == {"submitted": 1, "dropped_closed": 1}
    gate.set()


def test_no_message_tells_the_credentials_of_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    options = ExportOptions.from_environment(
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20cAnArY"},
        endpoint=f"http://user:cAnArY@localhost:{free_port()}",
    )
    assert "Bearer" not in repr(options)
    refused = threading.Event()
    # Of the root logger, behind the handler of caplog, which has the message by then.
    logger, listener = logging.getLogger(), logging.Handler()
    listener.addFilter(logging.Filter("otel_bridge.delivery"))
    listener.emit = lambda _: refused.set()  # type: ignore[method-assign]
    logger.addHandler(listener)
    try:
        with caplog.at_level(logging.DEBUG, logger="otel_bridge"):
            sink = OtlpSink(options, max_batch_bytes=1)
            sink.submit(span())
            assert refused.wait(20)
            sink.close(0)
    finally:
        logger.removeHandler(listener)
    assert len(caplog.messages) == 2
    assert "cAnArY" not in caplog.text


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
    assert books(sink) == {"submitted": 800, "exported": 800}
    sink.close(5)
