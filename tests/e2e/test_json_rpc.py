"""JSON-RPC over HTTP: calls, errors, notifications and batches, told at both ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server, curl, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

JSON_RPC = ("rpc.", "jsonrpc.", "wirespan.jsonrpc.")
VERSION = {"rpc.system.name": "jsonrpc", "jsonrpc.protocol.version": "2.0"}


def call(method: str, params: list[int], identity: int | str | None = None) -> dict[str, Any]:
    members: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return members if identity is None else {**members, "id": identity}


def test_calls_and_their_errors_are_told_at_both_ends(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server(program="json_rpc_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))

    def post(value: Any, *options: str) -> str:
        content_type = "Content-Type: application/json"
        return curl(*options, "--header", content_type, "--data-raw", json.dumps(value), api.url)

    assert json.loads(post(call("add", [2, 3], "first")))["result"] == 5
    assert json.loads(post(call("divide", [1, 0], 7)))["error"]["code"] == -32000
    assert post(call("add", [1, 1])) == ""
    batch = [call("add", [1, 2], 1), call("missing", [], 2), call("add", [0, 0]), call("divide", [1, 0], 3)]
    assert [each["id"] for each in json.loads(post(batch))] == [3, 2, 1]
    assert post(call("missing", [], 9), "--header", "Accept: text/event-stream").startswith("event: ")
    running.stop()

    expected = [
        {**VERSION, "rpc.method": "add", "jsonrpc.request.id": "first"},
        {
            **VERSION,
            "rpc.method": "divide",
            "jsonrpc.request.id": "7",
            "rpc.response.status_code": "-32000",
            "wirespan.jsonrpc.error_message": "division by zero",
        },
        {**VERSION, "rpc.method": "add"},
        {
            "rpc.system.name": "jsonrpc",
            "wirespan.jsonrpc.methods": ["add", "missing", "add", "divide"],
            "wirespan.jsonrpc.call_count": 4,
            "wirespan.jsonrpc.error_codes": ["-32601", "-32000"],
        },
        {
            **VERSION,
            "rpc.method": "missing",
            "jsonrpc.request.id": "9",
            "rpc.response.status_code": "-32601",
            "wirespan.jsonrpc.error_message": "Method not found",
        },
    ]
    spans = read_spans(spans_file)
    assert len(spans) == 2 * len(expected)
    for kind in {span.kind for span in spans}:
        told = [
            {name: value for name, value in span.attributes.items() if name.startswith(JSON_RPC)}
            for span in spans
            if span.kind == kind
        ]
        assert told == expected
    for span in spans:
        assert span.attributes["http.response.status_code"] == 200
        assert span.name.split()[0] == "POST"
        assert "error.type" not in span.attributes
        assert "wirespan.incomplete" not in span.attributes
