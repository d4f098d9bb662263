"""Server-sent events: one span from the request to the end of the stream, its content within the limit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Server, curl, read_spans
from tests.e2e.servers.event_server import PAUSE_SECONDS, build_event
from tests.otlp_receiver import OtlpReceiver
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

LIMIT = 131_072


@pytest.mark.parametrize("framing", ["chunked", "until-close"])
def test_a_short_stream_is_kept_whole(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path, framing: str
) -> None:
    events = server("127.0.0.1", "event_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(events.port), "--spans-file", str(spans_file))
    stream = curl("--no-buffer", f"{events.url}/{framing}/500")
    running.stop()
    assert stream == b"".join(map(build_event, range(500))).decode()
    spans = read_spans(spans_file)
    assert len(spans) == 2
    for span in spans:
        attributes = span.attributes
        assert attributes["http.response.header.content-type"] == ["text/event-stream"]
        assert attributes["http.response.body.content"] == stream
        assert attributes["http.response.body.size"] == len(stream)
        assert "wirespan.response.body.truncated" not in attributes
        assert "wirespan.incomplete" not in attributes


def test_a_long_stream_is_cut_at_the_limit_and_ends_with_the_connection(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    count = 100_000
    events = server("127.0.0.1", "event_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent(
        "run", "--port", str(events.port), "--direction", "ingress", "--spans-file", str(spans_file)
    )
    stream = curl("--no-buffer", f"{events.url}/until-close/{count}")
    running.stop()
    (span,) = read_spans(spans_file)
    attributes = span.attributes
    assert len(stream) > 30 * LIMIT
    assert attributes["http.response.body.size"] == len(stream)
    assert attributes["http.response.body.content"] == stream[:LIMIT]
    assert attributes["wirespan.response.body.truncated"] == "limit"
    assert "wirespan.incomplete" not in attributes


def test_a_long_chunked_stream_with_pauses_is_one_whole_span(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    pauses = 3
    events = server("127.0.0.1", "event_server")
    spans_file = tmp_path / "spans.jsonl"
    with OtlpReceiver() as receiver:
        running = agent(
            *("run", "--port", str(events.port), "--spans-file", str(spans_file)),
            *("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", "grpc"),
        )
        stream = curl("--no-buffer", f"{events.url}/chunked/30000?pauses={pauses}")
        # Only the end of the connection ends such a stream, and curl is gone before the server has noticed.
        receiver.wait_for_spans(2)
        running.stop()
    assert len(stream) > 1_000_000
    spans = read_spans(spans_file)
    assert len(spans) == 2
    for span in spans:
        attributes = span.attributes
        assert attributes["http.response.body.content"] == stream[:LIMIT]
        assert attributes["wirespan.response.body.truncated"] == "limit"
        assert "http.response.body.size" not in attributes
        assert "wirespan.incomplete" not in attributes
        assert span.end_unix_ns - span.start_unix_ns >= pauses * PAUSE_SECONDS * 1e9
