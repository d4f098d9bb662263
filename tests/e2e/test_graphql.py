"""GraphQL over HTTP: both ends name the operations, and the HTTP span stays as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.conftest import Server, curl, read_spans
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

QUERY = "query Hero($episode: Int) { hero(episode: $episode) { ...Named friends { ...Named } } }"
NAMED = " fragment Named on Hero { name }"
MUTATION = 'mutation Rename { rename(name: "Ben") { name } }'
JSON = "Content-Type: application/json"

GRAPHQL = ("graphql.", "wirespan.graphql.")


def told(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what a span says of GraphQL."""
    return {name: value for name, value in attributes.items() if name.startswith(GRAPHQL)}


def operation(kind: str | None, name: str | None, errors: int = 0) -> dict[str, Any]:
    """Return what a span should say of one operation."""
    expected = {
        "graphql.operation.type": kind,
        "graphql.operation.name": name,
        "wirespan.graphql.operation_count": 1,
        "wirespan.graphql.error_count": errors,
    }
    return {key: value for key, value in expected.items() if value is not None}


def test_operations_are_named_at_both_ends(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server(program="graphql_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))

    def post(value: Any, content_type: str = JSON) -> Any:
        content = value if isinstance(value, str) else json.dumps(value)
        return json.loads(curl("--header", content_type, "--data-raw", content, f"{api.url}/graphql"))

    answer = post({"query": QUERY + NAMED, "variables": {"episode": 5}})
    assert answer["data"]["hero"]["name"] == "Luke 5"
    assert post({"query": MUTATION})["data"]["rename"]["name"] == "Ben"
    assert post({"query": QUERY + NAMED + MUTATION, "operationName": "Rename"})["data"]["rename"]
    assert len(post({"query": "{ broken again: broken }"})["errors"]) == 2
    batch = post([{"query": QUERY + NAMED}, {"query": MUTATION}, {"query": "{ broken }"}])
    assert len(batch) == 3
    assert post("{ hero { name } }", "Content-Type: application/graphql")["data"]["hero"]
    url = f"{api.url}/graphql?{urlencode({'query': QUERY + NAMED, 'operationName': 'Hero'})}"
    assert json.loads(curl(url))["data"]["hero"]["name"] == "Luke 4"
    assert post({"query": "shoes"})["errors"]
    running.stop()

    expected = [
        operation("query", "Hero"),
        operation("mutation", "Rename"),
        operation("mutation", "Rename"),
        operation("query", None, 2),
        {
            "wirespan.graphql.operations": ["query Hero", "mutation Rename", "query"],
            "wirespan.graphql.operation_count": 3,
            "wirespan.graphql.error_count": 1,
        },
        operation("query", None),
        operation("query", "Hero"),
        {},
    ]
    spans = read_spans(spans_file)
    assert len(spans) == 2 * len(expected)
    for kind in {span.kind for span in spans}:
        assert [told(span.attributes) for span in spans if span.kind == kind] == expected
    for span in spans:
        assert span.attributes["http.response.status_code"] == 200
        assert span.name.split()[0] == span.attributes["http.request.method"]
        assert "error.type" not in span.attributes
        assert "wirespan.incomplete" not in span.attributes


def test_of_a_cut_body_only_what_is_certain_is_told(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server(program="graphql_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--max-body", "80", "--spans-file", str(spans_file))
    for members in (
        {"operationName": "Hero", "query": QUERY + NAMED},
        {"query": QUERY + NAMED, "operationName": "Hero"},
    ):
        curl("--header", JSON, "--data-raw", json.dumps(members), f"{api.url}/graphql")
    running.stop()
    certain = {"wirespan.graphql.operation_count": 1}
    named = {**certain, "graphql.operation.name": "Hero"}
    spans = read_spans(spans_file)
    assert len(spans) == 4
    for kind in {span.kind for span in spans}:
        first, second = [told(span.attributes) for span in spans if span.kind == kind]
        assert (first, second) == ({**named, "graphql.operation.type": "query"}, certain)
    assert all(span.attributes["wirespan.request.body.truncated"] == "limit" for span in spans)


def test_without_bodies_nothing_is_told(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server(program="graphql_server")
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--port", str(api.port), "--no-bodies", "--spans-file", str(spans_file))
    curl("--header", JSON, "--data-raw", json.dumps({"query": MUTATION}), f"{api.url}/graphql")
    running.stop()
    spans = read_spans(spans_file)
    assert [told(span.attributes) for span in spans] == [{}, {}]
