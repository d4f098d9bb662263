"""What GraphQL and JSON-RPC add to the span of the HTTP exchange that carries them.

Owns their attributes. Name, status and `error.type` of the span stay those of HTTP (SPANS: one exchange, one
span): a GraphQL error or a JSON-RPC error is a fact about the content. It must not parse content.

Contract: pure. Methods, ids and messages are text of the sender, so they are redacted as bodies are; names of
GraphQL operations have no room for a credential.

| attribute | type | when |
|---|---|---|
| `graphql.operation.name`, `graphql.operation.type` | string | one operation; as far as they are known |
| `wirespan.graphql.operations` | string[] | a batch; type (or `unknown`) and name of the first ones |
| `wirespan.graphql.operation_count` | int | always; operations seen |
| `wirespan.graphql.error_count` | int | the response says it; its `errors` |
| `rpc.system.name` = `jsonrpc` | string | JSON-RPC |
| `rpc.method`, `jsonrpc.protocol.version` | string | one call |
| `jsonrpc.request.id` | string | one call; not a notification |
| `rpc.response.status_code` | string | one call; `error.code` of its response |
| `wirespan.jsonrpc.error_message` | string | one call; `error.message` of its response |
| `wirespan.jsonrpc.methods` | string[] | a batch; methods of the first calls |
| `wirespan.jsonrpc.call_count` | int | a batch; calls seen |
| `wirespan.jsonrpc.error_codes` | string[] | a batch; codes of those of the first calls that failed |

The first ones are at most `ParserLimits.max_operations`.
"""

from __future__ import annotations

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.span import AttributeValue
from parsers.http_exchange import (
    Application,
    GraphQlOperation,
    GraphQlRequest,
    HttpExchange,
    JsonRpcBatch,
    JsonRpcCall,
    WebSocketSession,
)


def add_application_attributes(
    attributes: dict[str, AttributeValue], exchange: HttpExchange, redactor: Redactor | None
) -> int:
    """Add what is known of the GraphQL operations or JSON-RPC calls; return how many values were redacted."""
    application: Application | None = exchange.application
    if isinstance(application, WebSocketSession):
        application = application.carried
    if isinstance(application, GraphQlRequest):
        _add_graphql(attributes, application)
    elif isinstance(application, JsonRpcBatch):
        return _add_json_rpc(attributes, application, redactor)
    return 0


def _add_graphql(attributes: dict[str, AttributeValue], request: GraphQlRequest) -> None:
    if request.count == 1:
        operation = request.operations[0]
        if operation.name is not None:
            attributes["graphql.operation.name"] = operation.name
        if operation.type is not None:
            attributes["graphql.operation.type"] = operation.type
    else:
        attributes["wirespan.graphql.operations"] = tuple(map(_describe, request.operations))
    attributes["wirespan.graphql.operation_count"] = request.count
    if request.error_count is not None:
        attributes["wirespan.graphql.error_count"] = request.error_count


def _describe(operation: GraphQlOperation) -> str:
    kind = operation.type or "unknown"
    return kind if operation.name is None else f"{kind} {operation.name}"


def _add_json_rpc(
    attributes: dict[str, AttributeValue], batch: JsonRpcBatch, redactor: Redactor | None
) -> int:
    attributes["rpc.system.name"] = "jsonrpc"
    calls = batch.calls
    if batch.count == 1:
        return _add_call(attributes, calls[0], redactor)
    redacted = 0
    methods = []
    for call in calls:
        method, count = _redact(call.method, redactor)
        methods.append(method)
        redacted += count
    attributes["wirespan.jsonrpc.methods"] = tuple(methods)
    attributes["wirespan.jsonrpc.call_count"] = batch.count
    codes = tuple(str(call.error_code) for call in calls if call.error_code is not None)
    if codes:
        attributes["wirespan.jsonrpc.error_codes"] = codes
    return redacted


def _add_call(attributes: dict[str, AttributeValue], call: JsonRpcCall, redactor: Redactor | None) -> int:
    attributes["jsonrpc.protocol.version"] = call.version
    redacted = 0
    for name, value in (
        ("rpc.method", call.method),
        ("jsonrpc.request.id", call.identity),
        ("rpc.response.status_code", None if call.error_code is None else str(call.error_code)),
        ("wirespan.jsonrpc.error_message", call.error_message),
    ):
        if value is not None:
            attributes[name], count = _redact(value, redactor)
            redacted += count
    return redacted


def _redact(text: str, redactor: Redactor | None) -> tuple[str, int]:
    return (text, 0) if redactor is None else redactor.text(text, "", truncated=False)
