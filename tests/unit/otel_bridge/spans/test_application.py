from __future__ import annotations

import pytest

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.span import AttributeValue
from otel_bridge.spans.application import add_application_attributes
from otel_bridge.spans.options import SpanOptions
from parsers.http_exchange import (
    Application,
    GraphQlOperation,
    GraphQlRequest,
    GrpcCall,
    JsonRpcBatch,
    JsonRpcCall,
    MessageFlow,
)
from tests.unit.otel_bridge.exchanges import exchange, span_of

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
FOO = GraphQlOperation("Foo", "query")


def add(application: Application | None) -> tuple[dict[str, AttributeValue], int]:
    given = exchange()
    given.application = application
    attributes: dict[str, AttributeValue] = {}
    return attributes, add_application_attributes(attributes, given, Redactor())


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (None, {}),
        (GrpcCall("a.B/C", 0, None, [], [], MessageFlow(), MessageFlow()), {}),
        (
            GraphQlRequest([FOO], 1, 0),
            {
                "graphql.operation.name": "Foo",
                "graphql.operation.type": "query",
                "wirespan.graphql.operation_count": 1,
                "wirespan.graphql.error_count": 0,
            },
        ),
        (GraphQlRequest([GraphQlOperation(None, None)], 1), {"wirespan.graphql.operation_count": 1}),
        (
            GraphQlRequest(
                [
                    FOO,
                    GraphQlOperation(None, "mutation"),
                    GraphQlOperation("Bar", None),
                    GraphQlOperation(None, None),
                ],
                20,
                3,
            ),
            {
                "wirespan.graphql.operations": ("query Foo", "mutation", "unknown Bar", "unknown"),
                "wirespan.graphql.operation_count": 20,
                "wirespan.graphql.error_count": 3,
            },
        ),
        (
            JsonRpcBatch([JsonRpcCall("add", "7", "2.0", -32601, "Method not found")], 1),
            {
                "rpc.system.name": "jsonrpc",
                "jsonrpc.protocol.version": "2.0",
                "rpc.method": "add",
                "jsonrpc.request.id": "7",
                "rpc.response.status_code": "-32601",
                "wirespan.jsonrpc.error_message": "Method not found",
            },
        ),
        (
            JsonRpcBatch([JsonRpcCall("notify", None, "1.0")], 1, True),
            {"rpc.system.name": "jsonrpc", "jsonrpc.protocol.version": "1.0", "rpc.method": "notify"},
        ),
        (
            JsonRpcBatch([JsonRpcCall("a", "1", "2.0", -1), JsonRpcCall("b", "2", "2.0")], 2, True),
            {
                "rpc.system.name": "jsonrpc",
                "wirespan.jsonrpc.methods": ("a", "b"),
                "wirespan.jsonrpc.call_count": 2,
                "wirespan.jsonrpc.error_codes": ("-1",),
            },
        ),
        (
            JsonRpcBatch([JsonRpcCall("a", "1", "2.0"), JsonRpcCall("b", "2", "2.0")], 2, True),
            {
                "rpc.system.name": "jsonrpc",
                "wirespan.jsonrpc.methods": ("a", "b"),
                "wirespan.jsonrpc.call_count": 2,
            },
        ),
    ],
)
def test_attributes(application: Application | None, expected: dict[str, AttributeValue]) -> None:
    assert add(application) == (expected, 0)


def test_what_a_sender_wrote_is_redacted() -> None:
    attributes, redacted = add(
        JsonRpcBatch([JsonRpcCall(f"call {JWT}", JWT, "2.0", 1, f"bad token {JWT}")], 1)
    )
    assert attributes["rpc.method"] == "call REDACTED"
    assert attributes["jsonrpc.request.id"] == "REDACTED"
    assert attributes["wirespan.jsonrpc.error_message"] == "bad token REDACTED"
    assert redacted == 3
    attributes, redacted = add(
        JsonRpcBatch([JsonRpcCall(JWT, None, "2.0"), JsonRpcCall("a", None, "2.0")], 2)
    )
    assert attributes["wirespan.jsonrpc.methods"] == ("REDACTED", "a")
    assert redacted == 1


def test_name_and_status_of_the_span_stay_those_of_http() -> None:
    given = exchange()
    plain = span_of(given)
    given.application = JsonRpcBatch([JsonRpcCall("add", JWT, "2.0", -32000, "no")], 1)
    span = span_of(given)
    assert (span.name, span.kind, span.is_error) == (plain.name, plain.kind, False)
    assert "error.type" not in span.attributes
    assert span.attributes["rpc.response.status_code"] == "-32000"
    assert span.attributes["wirespan.redacted"] == 1
    assert span_of(given, SpanOptions(redaction=False)).attributes["jsonrpc.request.id"] == JWT
