"""JSON-RPC and GraphQL whose responses are streams, over HTTP/1.1 and HTTP/2: their errors at both ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets import Subprotocol
from websockets.sync.client import connect

from tests.e2e.conftest import Server, curl, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

END_SECONDS = 20
VERSIONS = [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")]
COUNTDOWN = {"query": "subscription Countdown { countdown(from: 3) }"}


def call(method: str, identity: int | str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "id": identity}


@pytest.mark.parametrize(("option", "version"), VERSIONS)
def test_errors_of_calls_and_subscriptions_are_read_out_of_streams(
    option: str, version: str, agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server(program="streaming_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))

    def post(path: str, value: Any, accepted: str) -> str:
        content_type = "Content-Type: application/json"
        content = json.dumps(value)
        return curl(
            *(option, "--header", content_type, "--header", f"Accept: {accepted}"),
            *("--data-raw", content, f"{api.url}{path}"),
        )

    framings = ("text/event-stream", "application/x-ndjson", "application/json-seq")
    for accepted in framings:
        assert "Method not found" in post("/mcp", call("tools/none", "a"), accepted)
        assert "tools" in post("/mcp", call("tools/list", 7), accepted)
        batch = [call("tools/list", 1), call("tools/none", 2), call("tools/none", "2")]
        assert "-32601" in post("/mcp", batch, accepted)
    for accepted in ("text/event-stream", "multipart/mixed"):
        assert "ignition" in post("/graphql", COUNTDOWN, accepted)
    running.stop()

    spans = read_spans(spans_file)
    assert len(spans) == 2 * (3 * len(framings) + 2)
    for kind in {span.kind for span in spans}:
        told = [span.attributes for span in spans if span.kind == kind]
        for failed, listed, batched in zip(told[0:9:3], told[1:9:3], told[2:9:3], strict=True):
            assert failed["rpc.response.status_code"] == "-32601"
            assert failed["wirespan.jsonrpc.error_message"] == "Method not found: tools/none"
            assert failed["jsonrpc.request.id"] == "a"
            assert "rpc.response.status_code" not in listed
            assert batched["wirespan.jsonrpc.error_codes"] == ["-32601", "-32601"]
            assert batched["wirespan.jsonrpc.call_count"] == 3
        for counted in told[9:]:
            assert counted["graphql.operation.name"] == "Countdown"
            assert counted["wirespan.graphql.error_count"] == 1
        for attributes in told:
            assert attributes["network.protocol.version"] == version
            assert "wirespan.incomplete" not in attributes
            assert "wirespan.response.body.truncated" not in attributes
            assert isinstance(attributes["http.response.body.content"], str)


def test_errors_are_read_out_of_websockets(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server(program="streaming_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
    url = api.url.replace("http", "ws")
    with connect(f"{url}/mcp") as socket:
        socket.send(json.dumps(call("tools/none", 4)))
        while "error" not in socket.recv(timeout=END_SECONDS):
            pass
    with connect(f"{url}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        socket.send(json.dumps({"type": "subscribe", "id": "a", "payload": COUNTDOWN}))
        while "complete" not in socket.recv(timeout=END_SECONDS):
            pass
    running.stop()

    spans = read_spans(spans_file)
    assert len(spans) == 4
    for kind in {span.kind for span in spans}:
        called, subscribed = [span.attributes for span in spans if span.kind == kind]
        assert called["rpc.method"] == "tools/none"
        assert called["rpc.response.status_code"] == "-32601"
        assert subscribed["graphql.operation.name"] == "Countdown"
        assert subscribed["wirespan.graphql.error_count"] == 1


def test_codings_and_types_that_are_odd_cost_no_content(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    echo = server()
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(echo.port), "--spans-file", str(spans_file))
    content = '{"name": "kettle", "password": "hunter2"}'
    half = len(content) // 2
    signature = ";chunk-signature=" + "ad" * 32
    upload = "".join(
        f"{len(part):x}{signature}\r\n{part}\r\n" for part in (content[:half], content[half:], "")
    )
    for encoding, content_type, body in (
        ("aws-chunked", "application/json", upload),
        ("dcb", "application/json", content),
        ("gzip", "application/json", content),
        ("UTF-8", "application/json", content),
        ("identity", "application/x-ndjson", content + "\n"),
        ("identity", "", content),
    ):
        curl(
            *("--header", f"Content-Encoding: {encoding}", "--header", f"Content-Type: {content_type}"),
            *("--data-binary", body, echo.url),
        )
    running.stop()

    redacted = content.replace("hunter2", "REDACTED")
    spans = [span.attributes for span in read_spans(spans_file) if span.kind == 2]
    kept = [
        (
            attributes["http.request.body.content"],
            attributes.get("wirespan.request.body.coding"),
            attributes.get("wirespan.request.body.coding_mismatch"),
        )
        for attributes in spans
    ]
    unknown, _, _ = kept[1]
    assert kept == [
        (redacted, None, None),
        (unknown, "dcb", None),
        (redacted, None, "gzip"),
        (redacted, None, None),
        (redacted + "\n", None, None),
        (redacted, None, None),
    ]
    assert all("wirespan.request.body.truncated" not in attributes for attributes in spans)
    assert all("hunter2" not in str(request_content) for request_content, _, _ in kept)
