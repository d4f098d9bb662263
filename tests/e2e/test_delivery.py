"""Spans at a real OTLP receiver: the same as in the file, over gRPC and HTTP, also when it comes late."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from tests.e2e.conftest import Server, curl
from tests.nginx import free_port
from tests.otlp_receiver import OtlpReceiver
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Server]

REQUESTS = 13


def send_requests(api: Server) -> None:
    for number in range(REQUESTS):
        curl(
            "--data",
            f'{{"number":{number}}}',
            "-H",
            "content-type: application/json",
            f"{api.url}/orders/{number}",
        )


def by_span_id(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each span with its resource, whatever the batches were."""
    return {
        span["spanId"]: (group["resource"], scope["scope"], span)
        for group in groups
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    }


def written(spans_file: Path) -> dict[str, Any]:
    lines = spans_file.read_text().splitlines()
    return by_span_id([group for line in lines for group in json.loads(line)["resourceSpans"]])


def received(receiver: OtlpReceiver) -> dict[str, Any]:
    """Return the spans that arrived, in the form of OTLP/JSON, whose ids are in hexadecimal."""
    groups = [as_otlp_json(group) for group in receiver.resource_spans]
    for group in groups:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return by_span_id(groups)


def as_otlp_json(group: ResourceSpans) -> dict[str, Any]:
    return MessageToDict(group, use_integers_for_enums=True)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_arrives_equals_what_is_written_to_the_file(
    agent: StartAgent, server: StartServer, tmp_path: Path, protocol: str
) -> None:
    api = server()
    spans_file = tmp_path / "spans.jsonl"
    with OtlpReceiver(protocol="grpc" if protocol == "grpc" else "http") as receiver:
        running = agent(
            *("run", "--port", str(api.port), "--spans-file", str(spans_file)),
            *("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", protocol),
        )
        send_requests(api)
        receiver.wait_for_spans(2 * REQUESTS)
        running.stop()
        arrived = received(receiver)
    assert len(arrived) == 2 * REQUESTS
    assert arrived == written(spans_file)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_receiver_that_comes_up_late_misses_nothing(
    agent: StartAgent, server: StartServer, tmp_path: Path, protocol: str
) -> None:
    api = server()
    spans_file = tmp_path / "spans.jsonl"
    receiver = OtlpReceiver(protocol="grpc" if protocol == "grpc" else "http", port=free_port())
    running = agent(
        *("run", "--port", str(api.port), "--spans-file", str(spans_file)),
        *("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", protocol),
    )
    send_requests(api)
    assert running.process.stderr is not None
    for line in running.process.stderr:  # the backend is away, and the agent has found out
        running.log.append(line)
        if "will try again" in line:
            break
    with receiver:
        receiver.wait_for_spans(2 * REQUESTS)
        running.stop()
        arrived = received(receiver)
    assert arrived == written(spans_file)


def test_the_export_is_not_captured_itself(agent: StartAgent, server: StartServer, tmp_path: Path) -> None:
    """Each captured export would cause another one, for ever."""
    api = server()
    spans_file = tmp_path / "spans.jsonl"
    with OtlpReceiver(protocol="http") as receiver:
        running = agent(
            *("run", "--spans-file", str(spans_file)),
            *("--otlp-endpoint", receiver.endpoint, "--otlp-protocol", "http/protobuf"),
        )
        for _ in range(3):
            before = len(receiver.spans)
            send_requests(api)
            receiver.wait_for_spans(before + 2 * REQUESTS)
        running.stop()
        ours = [span for span in receiver.spans if span.attributes]
    exported_about_exports = [
        span for span in ours if any("/v1/traces" in each.value.string_value for each in span.attributes)
    ]
    assert exported_about_exports == []
