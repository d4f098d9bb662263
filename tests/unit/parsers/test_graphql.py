from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from parsers.counters import new_counters
from parsers.graphql import count_errors, parse_graphql_json, parse_graphql_parameters, parse_graphql_text
from parsers.http_exchange import GraphQlOperation, GraphQlRequest
from parsers.json_text import CutText, JsonReading
from parsers.limits import ParserLimits

LIMITS = ParserLimits()
HASH = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38"
PERSISTED = {"persistedQuery": {"version": 1, "sha256Hash": HASH}}
FOO = GraphQlOperation("Foo", "query")
UNKNOWN = GraphQlOperation(None, None)


def parse(value: Any, *, whole: bool = True, limits: ParserLimits = LIMITS) -> GraphQlRequest | None:
    return parse_graphql_json(JsonReading(value, whole), limits, new_counters())


def one(operation: GraphQlOperation) -> GraphQlRequest:
    return GraphQlRequest([operation], 1)


@pytest.mark.parametrize(
    ("members", "operation"),
    [
        ({"query": "query Foo { a }"}, FOO),
        ({"query": "query Foo { a }", "operationName": None, "variables": {}}, FOO),
        ({"query": "query Foo { a }", "operationName": ""}, FOO),
        ({"query": "query Foo { a }", "operationName": 1}, FOO),
        ({"query": "{ a }"}, GraphQlOperation(None, "query")),
        ({"query": "query Foo { a } mutation Bar { b }", "operationName": "Foo"}, FOO),
        ({"query": "query Foo { a } mutation Bar { b }"}, UNKNOWN),
        ({"extensions": PERSISTED}, UNKNOWN),
        ({"extensions": PERSISTED, "operationName": "Foo", "query": None}, GraphQlOperation("Foo", None)),
        ({"extensions": PERSISTED, "operationName": "no name"}, UNKNOWN),
        ({"extensions": PERSISTED, "query": "query Foo { a }"}, FOO),
        ({"documentId": f"sha256:{HASH}", "operationName": "Foo"}, GraphQlOperation("Foo", None)),
    ],
)
def test_a_request_asks_for_one_operation(members: dict[str, Any], operation: GraphQlOperation) -> None:
    assert parse(members) == one(operation)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "query Foo { a }",
        [],
        {},
        [{}],
        ["{ a }"],
        {"query": "shoes"},
        {"query": "shoes", "operationName": "Foo", "extensions": PERSISTED},
        {"query": {"match": "a"}},
        {"operationName": "Foo"},
        {"extensions": {"persistedQuery": {"sha256Hash": "short"}}},
        {"extensions": {"persistedQuery": {"sha256Hash": 1}}},
        {"extensions": {"persistedQuery": HASH}},
        {"extensions": HASH},
        {"documentId": HASH},
        {"documentId": 17},
        [{"query": "{ a }"}, {"query": "shoes"}],
        [{"query": "{ a }"}, 1],
    ],
)
def test_what_asks_for_no_operation_is_no_request(value: Any) -> None:
    assert parse(value) is None


def test_a_batch_asks_for_several() -> None:
    batch = [{"query": "query Foo { a }"}, {"query": "mutation { b }"}, {"extensions": PERSISTED}]
    expected = [FOO, GraphQlOperation(None, "mutation"), UNKNOWN]
    assert parse(batch) == GraphQlRequest(expected, 3)


def test_of_a_long_batch_the_first_operations_are_named() -> None:
    counts = new_counters()
    batch = JsonReading([{"query": "query Foo { a }"}] * (LIMITS.max_operations + 3), True)
    request = parse_graphql_json(batch, LIMITS, counts)
    assert request == GraphQlRequest([FOO] * LIMITS.max_operations, LIMITS.max_operations + 3)
    assert counts["operations_unnamed"] == 3


@pytest.mark.parametrize(
    ("members", "operation"),
    [
        ({"operationName": "Foo", "query": CutText("query Foo { a ")}, FOO),
        ({"operationName": None, "query": CutText("query Foo { a ")}, FOO),
        ({"query": CutText("query Foo { a ")}, UNKNOWN),
        ({"query": CutText("{ a { b")}, GraphQlOperation(None, "query")),
        ({"query": "query Foo { a }", "variables": CutText("")}, FOO),
        ({"query": "query Foo { a } query Bar { b }"}, GraphQlOperation(None, "query")),
        ({"query": "query Foo { a }", "operationName": CutText("Fo")}, FOO),
        ({"extensions": PERSISTED}, UNKNOWN),
    ],
)
def test_of_a_cut_request_only_what_is_certain_is_told(
    members: dict[str, Any], operation: GraphQlOperation
) -> None:
    assert parse(members, whole=False) == one(operation)


@pytest.mark.parametrize("members", [{}, {"query": CutText("query Foo")}, {"query": CutText("")}, {"a": 1}])
def test_a_cut_request_that_may_be_anything_is_none(members: dict[str, Any]) -> None:
    assert parse(members, whole=False) is None
    assert parse([members], whole=False) is None


def test_of_a_cut_batch_the_operations_seen_are_told() -> None:
    first = {"query": "query Foo { a }"}
    assert parse([first, {"query": CutText("query F")}], whole=False) == one(FOO)
    assert parse([first, {"query": CutText("{ a { b")}], whole=False) == GraphQlRequest(
        [FOO, GraphQlOperation(None, "query")], 2
    )
    assert parse([{"query": "shoes"}, first], whole=False) is None


def test_all_documents_of_a_request_share_one_bound() -> None:
    counts = new_counters()
    limits = ParserLimits(max_document=100)
    short, long = "query Foo { a }", "query Foo { " + "a " * 100 + "}"
    batch = JsonReading([{"query": short}, {"query": long}, {"query": long}], True)
    assert parse_graphql_json(batch, limits, counts) == GraphQlRequest([FOO] * 3, 3)
    assert counts["documents_cut"] == 2
    # Too little to tell what it is.
    assert parse({"query": long}, limits=ParserLimits(max_document=8)) is None


@pytest.mark.parametrize(
    ("parameters", "operation"),
    [
        ({"query": "query Foo { a }"}, FOO),
        ({"page": "1", "query": "query Foo{a(b:\"c&d=e\")} query Bar{a}", "operationName": "Foo"}, FOO),
        ({"operationName": "Foo", "extensions": f'{{"persistedQuery":{{"sha256Hash":"{HASH}"}}}}'},
         GraphQlOperation("Foo", None)),
        ({"documentId": f"sha256:{HASH}"}, UNKNOWN),
    ],
)  # fmt: skip
def test_a_url_asks_for_an_operation(parameters: dict[str, str], operation: GraphQlOperation) -> None:
    request = parse_graphql_parameters(urlencode(parameters), LIMITS, new_counters())
    assert request == one(operation)


@pytest.mark.parametrize(
    "query_string",
    [
        "",
        "query=",
        "query=shoes&page=2",
        "subquery=%7Ba%7D",
        "query=%7Ba%7D&query=%7Bb%7D",
        "extensions=%7B",
        "extensions=%5B%5D",
        "#query=%7Ba%7D",
    ],
)
def test_a_url_that_asks_for_none(query_string: str) -> None:
    assert parse_graphql_parameters(query_string, LIMITS, new_counters()) is None


def test_a_document_as_body() -> None:
    def parse_text(text: str, query_string: str = "", *, cut: bool = False) -> GraphQlRequest | None:
        return parse_graphql_text(text, query_string, LIMITS, new_counters(), cut=cut)

    assert parse_text("query Foo { a }") == one(FOO)
    assert parse_text("query Bar { b } query Foo { a }", "x=1&operationName=Foo") == one(FOO)
    assert parse_text("query Foo { a ", cut=True) == one(FOO)
    assert parse_text("query Foo { a ", "operationName=A&operationName=B", cut=True) == one(UNKNOWN)
    assert parse_text("query Foo { a ") is None


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b'{"data":{"a":1}}', 0),
        (b'\xef\xbb\xbf {\n"data" :null}', 0),
        (b'{"data":{"note":"\\u00e9"}}', 0),
        (b'{"extensions":{},"data":null}', 0),
        (b'{"data":{"errors":[1]}}', 0),
        (b'{"errors":[{},{}],"data":null}', 2),
        (b'{"data":null,"\\u0065rrors":[{}]}', 1),
        (b'{"errors":null,"data":{}}', 0),
        (b'{"errors":[]}', 0),
        (b'{"errors":"denied"}', None),
        (b'{"message":"no route"}', None),
        (b'[{"data":{}},{"errors":[{}]},{"errors":[{},{}]}]', 3),
        (b'[{"data":{}},{"message":"no route"}]', None),
        (b"[1]", None),
        (b'"data"', None),
        (b"<html>", None),
        (b'{"data":{"errors":', None),
        (b"", None),
    ],
)
def test_errors_of_a_response_are_counted(content: bytes, count: int | None) -> None:
    assert count_errors(content, "utf-8", cut=False) == count


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b'{"errors":[{},{}],"data":{"a', 2),
        (b'{"errors":[{},{', None),
        (b'{"data":{"a":1', None),
        (b'{"data":{"a":1},"errors":[{}', None),
        (b'[{"errors":[{}]},{"data', None),
    ],
)
def test_errors_of_a_cut_response_are_counted_where_they_come_first(
    content: bytes, count: int | None
) -> None:
    assert count_errors(content, "utf-8", cut=True) == count
