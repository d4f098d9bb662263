"""The sink in front of an exporter of the SDK, with the SDK's own exporters and some that misbehave."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_bridge.sdk.components import EXPORTERS, SdkSettingError
from otel_bridge.sinks.sdk_exporter import OVERHEAD_BYTES, SdkExporterSink, open_exporter
from otel_bridge.span import SpanEvent
from tests.installed_distribution import install_distribution
from tests.unit.otel_bridge.exchanges import span

SETTING = "--exporter"


class Gate(SpanExporter):
    """An exporter that blocks until its gate is opened, and says when a batch has come."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        self.is_shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.open.wait(60)
        self.batches.append([one.context.span_id for one in spans])
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.is_shut_down = True


class Failing(SpanExporter):
    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert spans
        if self._error is not None:
            raise self._error
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        raise RuntimeError("at the end, too")


@pytest.fixture
def gate() -> Iterator[Gate]:
    exporter = Gate()
    yield exporter
    exporter.open.set()


def books(sink: SdkExporterSink) -> dict[str, int]:
    """The counters that are not 0, after checking that they balance."""
    counters = sink.counters()
    assert counters["submitted"] == counters["exported"] + counters["queued"] + sum(
        count for name, count in counters.items() if name.startswith("dropped_")
    )
    return {name: count for name, count in counters.items() if count}


def test_spans_arrive_once_and_in_order() -> None:
    exporter = InMemorySpanExporter()
    sink = SdkExporterSink("memory", exporter, max_batch_spans=7)
    for number in range(1, 101):
        sink.submit(span(number))
    assert sink.flush(20)
    assert [one.context.span_id for one in exporter.get_finished_spans()] == list(range(1, 101))
    assert books(sink) == {"submitted": 100, "exported": 100}
    assert sink.name == "sdk:memory"
    sink.close(5)


def test_the_sdks_console_exporter_writes_what_was_captured() -> None:
    out = io.StringIO()
    sink = SdkExporterSink("console", ConsoleSpanExporter(out=out))
    sink.submit(span(5))
    sink.close(20)
    document = json.loads(out.getvalue())
    assert document["name"] == "GET"
    assert document["kind"] == "SpanKind.SERVER"
    assert document["context"]["span_id"] == "0x0000000000000005"
    assert books(sink) == {"submitted": 1, "exported": 1}


def test_a_lonely_span_is_exported_without_a_flush(gate: Gate) -> None:
    sink = SdkExporterSink("gate", gate)
    sink.submit(span())
    assert gate.entered.wait(20)
    gate.open.set()
    sink.close(20)
    assert gate.batches == [[1]]
    assert gate.is_shut_down


def test_no_batch_exceeds_its_bounds(gate: Gate) -> None:
    sink = SdkExporterSink("gate", gate, max_batch_spans=4, max_batch_bytes=3 * OVERHEAD_BYTES)
    sink.submit(span(1, filler="x" * 10 * OVERHEAD_BYTES))
    assert gate.entered.wait(20)
    for number in range(2, 10):
        sink.submit(span(number))
    gate.open.set()
    assert sink.flush(20)
    assert gate.batches[0] == [1]
    assert [number for batch in gate.batches for number in batch] == list(range(1, 10))
    assert max(len(batch) for batch in gate.batches) == 2
    sink.close(5)


@pytest.mark.parametrize("bounds", [{"max_queue_spans": 3}, {"max_queue_bytes": 4 * OVERHEAD_BYTES}])
def test_a_full_queue_refuses_the_newest_while_the_exporter_blocks(
    gate: Gate, bounds: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    sink = SdkExporterSink("gate", gate, max_batch_spans=1, **bounds)
    sink.submit(span(1))
    assert gate.entered.wait(20)
    for number in range(2, 7):
        sink.submit(span(number))
    assert books(sink) == {"submitted": 6, "queued": 4, "dropped_queue_full": 2}
    assert not sink.flush(0)
    gate.open.set()
    assert sink.flush(20)
    assert gate.batches == [[1], [2], [3], [4]]
    assert books(sink) == {"submitted": 6, "exported": 4, "dropped_queue_full": 2}
    assert [record.message for record in caplog.records] == [
        "the queue of exporter gate is full: newest spans are dropped"
    ]
    sink.close(5)


def test_long_events_count_in_the_queue(gate: Gate) -> None:
    one = span()
    one.events = [SpanEvent("message", 1, {"content": "x" * 100_000, "tags": ("a", "b"), "size": 1})]
    sink = SdkExporterSink("gate", gate, max_queue_bytes=100_000)
    sink.submit(one)
    assert books(sink) == {"submitted": 1, "dropped_queue_full": 1}
    sink.close(5)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "it says that it failed"),
        (OSError("no route\nto host"), "OSError: no route to host"),
        (OSError("http://me:s3cret@host/ refused"), "OSError: http://"),
        (SystemExit("exporter wants to end"), "SystemExit: exporter wants to end"),
    ],
)
def test_a_batch_that_an_exporter_does_not_take_is_counted_and_said_once(
    error: BaseException | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = SdkExporterSink("failing", Failing(error), max_batch_spans=2)
    for number in range(6):
        sink.submit(span(number + 1))
    assert not sink.flush(20)
    assert books(sink) == {"submitted": 6, "dropped_failed": 6}
    (message,) = [record.message for record in caplog.records]
    assert message.startswith(f"exporter failing did not take 2 spans: {said}")
    assert "s3cret" not in message
    sink.close(20)
    assert "exporter failing could not be shut down: at the end, too" in caplog.text


def test_close_gives_up_on_an_exporter_that_does_not_return(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    sink = SdkExporterSink("gate", gate, max_batch_spans=1)
    sink.submit(span(1))
    sink.submit(span(2))
    assert gate.entered.wait(20)
    sink.close(0.05)
    assert books(sink) == {"submitted": 2, "dropped_closed": 2}
    assert "exporter gate did not take 2 spans in time" in caplog.text
    sink.submit(span(3))
    sink.close(5)
    gate.open.set()
    sink._thread.join(20)
    assert not sink._thread.is_alive()
    assert books(sink) == {"submitted": 3, "dropped_closed": 3}


def test_an_exporter_that_holds_spans_back_is_flushed_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    class Holding(InMemorySpanExporter):
        flushed = 0

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            self.flushed += 1
            assert timeout_millis > 0
            return False

    exporter = Holding()
    sink = SdkExporterSink("holding", exporter)
    sink.submit(span())
    sink.close(20)
    assert exporter.flushed == 1
    assert "exporter holding could not flush what it holds" in caplog.text
    assert books(sink) == {"submitted": 1, "exported": 1}


def test_an_installed_exporter_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_distribution(
        tmp_path,
        "tape_exporter",
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "class Broken:\n"
        "    def __init__(self):\n        raise ValueError('TAPE_DEVICE is not set')\n",
        {
            EXPORTERS: {
                "tape": "tape_exporter:InMemorySpanExporter",
                "tape_broken": "tape_exporter:Broken",
            }
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "none")
    with pytest.raises(SdkSettingError, match="OTEL_BSP_MAX_QUEUE_SIZE is 'none'"):
        open_exporter("tape", SETTING)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "7")
    sink = open_exporter("tape", SETTING)
    assert sink._max_queue_spans == 7
    sink.submit(span())
    sink.close(20)
    assert books(sink) == {"submitted": 1, "exported": 1}
    with pytest.raises(
        SdkSettingError, match="`tape_broken` cannot be used: ValueError: TAPE_DEVICE is not set"
    ):
        open_exporter("tape_broken", SETTING)
    with pytest.raises(
        SdkSettingError, match=r"--exporter: `tapes` is not installed; installed are: console, otlp, .*tape"
    ):
        open_exporter("tapes", SETTING)
