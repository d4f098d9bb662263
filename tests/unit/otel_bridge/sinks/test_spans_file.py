from __future__ import annotations

import base64
import errno
import json
import logging
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ebpf.events import Role
from otel_bridge.otlp.encoding import RequestEncoder, encode_span
from otel_bridge.sinks import spans_file
from otel_bridge.sinks.spans_file import (
    MAX_BATCH_BYTES,
    MAX_BATCH_SPANS,
    SpansFileError,
    SpansFileSink,
    encode_span_json,
    spans_to_json_line,
)
from otel_bridge.span import Span, SpanEvent
from tests.unit.otel_bridge.exchanges import body, exchange, request, response, span, span_of


def official_json(spans: list[Span]) -> Any:
    """The JSON mapping of protobuf's own library, with ids in hexadecimal as OTLP wants them."""
    message = ExportTraceServiceRequest.FromString(
        RequestEncoder().encode((one.resource, encode_span(one)) for one in spans)
    )
    data = MessageToDict(message, use_integers_for_enums=True)
    for resource_spans in data["resourceSpans"]:
        for one in resource_spans["scopeSpans"][0]["spans"]:
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in one:
                    one[name] = base64.b64decode(one[name]).hex()
    return data


def test_a_line_equals_protobufs_own_json_with_hexadecimal_ids() -> None:
    headers = [
        (b"Host", b"h"),
        (b"X", 'quote " backslash \\ é \u2028'.encode()),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (b"tracestate", b"a=1"),
    ]
    spans = [
        span_of(exchange(Role.SERVER, request(headers=headers, content=body(b'line\nbreak\t"\x00')))),
        span_of(exchange(Role.CLIENT, request(), response(500, content=body(b"\x00\xff", None)))),
        span(3),
    ]
    spans[2].dropped_attributes_count = 4
    spans[1].events = [SpanEvent("message", 5, {"size": 3, "content": b"\x00"}), SpanEvent("é", 6, {}, 2)]
    spans[1].dropped_events_count = 7
    line = spans_to_json_line(spans)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == official_json(spans)


def test_values_that_python_calls_equal_are_told_apart_in_any_order() -> None:
    values: list[Any] = [1, True, 0, False, "1", ("1",), b"1", True, 1, False, 0]
    fields = ["int", "bool", "int", "bool", "string", "array", "bytes", "bool", "int", "bool", "int"]
    for value, field in zip(values, fields, strict=True):
        one = span()
        one.attributes = {"equal": value}
        assert list(json.loads(encode_span_json(one))["attributes"][0]["value"]) == [f"{field}Value"]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.dictionaries(
        text.filter(bool),
        text
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.binary()
        | st.lists(text, min_size=1).map(tuple),
        min_size=1,
        max_size=5,
    )
)
def test_attributes_of_every_type_equal_protobufs_own_json(attributes: dict[str, Any]) -> None:
    one = span()
    one.attributes = attributes
    assert json.loads(spans_to_json_line([one])) == official_json([one])


def read_spans(path: Path) -> list[Any]:
    lines = path.read_text().splitlines()
    return [
        one
        for line in lines
        for group in json.loads(line)["resourceSpans"]
        for one in group["scopeSpans"][0]["spans"]
    ]


def test_spans_are_appended_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    for number in (1, 2):
        sink = SpansFileSink(str(path))
        sink.submit(span(number))
        assert sink.flush(1)
        sink.close(1)
        sink.close(1)
    assert [int(one["spanId"], 16) for one in read_spans(path)] == [1, 2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_batch_is_written_at_once_and_the_rest_on_close(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    sink = SpansFileSink(str(path))
    for number in range(1, MAX_BATCH_SPANS + 2):
        sink.submit(span(number))
    assert len(read_spans(path)) >= MAX_BATCH_SPANS
    sink.close(1)
    assert len(read_spans(path)) == MAX_BATCH_SPANS + 1
    sink.submit(span())
    assert sink.counters() == {
        "submitted": MAX_BATCH_SPANS + 2,
        "exported": MAX_BATCH_SPANS + 1,
        "queued": 0,
        "dropped_write_failed": 0,
        "dropped_closed": 1,
    }


def test_large_bodies_fill_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    sink = SpansFileSink(str(path))
    large = span()
    large.attributes["http.response.body.content"] = "x" * MAX_BATCH_BYTES
    sink.submit(large)
    assert len(read_spans(path)) == 1
    large = span()
    messages = [
        {"size": 9, "content": "x" * (MAX_BATCH_BYTES // 2)},
        {"size": 0},
        {"content": b"x" * 600_000},
    ]
    large.events = [SpanEvent("message", number, dict(values)) for number, values in enumerate(messages)]
    sink.submit(large)
    assert len(read_spans(path)) == 2
    sink.close(1)


def test_a_lonely_span_is_written_when_its_age_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans_file, "MAX_BATCH_AGE_SECONDS", 0.001)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = SpansFileSink(str(fifo))
    os.set_blocking(reader, True)
    sink.submit(span(5))
    with os.fdopen(reader, "rb") as lines:
        # Blocks until the line is there, without a flush.
        assert b'"spanId":"0000000000000005"' in lines.readline()
        sink.close(1)


def test_a_full_disk_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = SpansFileSink("/dev/full")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sink.submit(span())
            assert not sink.flush(1)
    sink.close(1)
    assert sink.counters()["dropped_write_failed"] == 3
    assert sink.counters()["exported"] == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write spans to /dev/full, they are dropped: {os.strerror(errno.ENOSPC)}"
    ]


@pytest.mark.parametrize("removed", [False, True])
def test_a_file_that_was_renamed_or_removed_is_made_anew(tmp_path: Path, removed: bool) -> None:  # noqa: FBT001 - parameter of the test
    path, rotated = tmp_path / "spans.jsonl", tmp_path / "spans.jsonl.1"
    sink = SpansFileSink(str(path))
    for number in (1, 2, 3):
        sink.submit(span(number))
        assert sink.flush(1)
        assert [int(one["spanId"], 16) for one in read_spans(path)] == [number]
        if removed:
            path.unlink()
        else:
            path.rename(rotated)
            assert [int(one["spanId"], 16) for one in read_spans(rotated)] == [number]
    sink.submit(span(4))
    sink.close(1)
    assert [int(one["spanId"], 16) for one in read_spans(path)] == [4]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sink.counters()["exported"] == sink.counters()["submitted"] == 4


def test_a_link_is_followed_once_and_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    sink = SpansFileSink(str(link))
    for number in (1, 2):
        sink.submit(span(number))
        assert sink.flush(1)
    sink.close(1)
    assert link.is_symlink()
    assert len(read_spans(target)) == 2


@pytest.mark.parametrize("trap", ["pipe", "link", "folder", "nothing"])
def test_what_took_the_place_of_the_file_is_not_written_to(
    tmp_path: Path, trap: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "spans.jsonl"
    sink = SpansFileSink(str(path))
    path.unlink()
    victim = tmp_path / "victim"
    victim.write_text("")
    if trap == "pipe":
        os.mkfifo(path)
    elif trap == "link":
        path.symlink_to(victim)
    elif trap == "folder":
        path.mkdir()
    else:
        folder.rmdir()
    with caplog.at_level(logging.WARNING):
        sink.submit(span(1))
        assert not sink.flush(1)
    assert victim.read_text() == ""
    assert "cannot write spans to" in caplog.text
    if trap == "folder":
        path.rmdir()
    elif trap == "nothing":
        folder.mkdir()
    else:
        path.unlink()
    sink.submit(span(2))
    sink.close(1)
    assert [int(one["spanId"], 16) for one in read_spans(path)] == [2]
    counters = sink.counters()
    assert (counters["exported"], counters["dropped_write_failed"]) == (1, 1)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    sink = SpansFileSink(str(path))
    sink.submit(span(1))
    assert sink.flush(1)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, hard))
    try:
        sink.submit(span(2))
        assert not sink.flush(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == whole
    sink.submit(span(3))
    sink.close(1)
    assert [int(one["spanId"], 16) for one in read_spans(path)] == [1, 3]


def test_standard_output_is_written_and_left_open(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = SpansFileSink("-")
    sink.submit(span(6))
    sink.close(1)
    assert b'"spanId":"0000000000000006"' in capfdbinary.readouterr().out


def test_a_file_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(
        SpansFileError, match=r"cannot write spans to .*/missing/spans: No such file or directory"
    ):
        SpansFileSink(str(tmp_path / "missing" / "spans"))
